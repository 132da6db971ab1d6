"""What `probe-builder` can do, a module a command."""
