"""GLAM's own HTTP contract, with GLAM's own names: data requests and the usage log."""
