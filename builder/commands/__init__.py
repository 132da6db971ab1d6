"""The commands of `probe-builder`."""
