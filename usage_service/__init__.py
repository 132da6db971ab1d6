"""Records how GLAM is used and says which probes are worth building."""
