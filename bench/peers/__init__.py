"""Peers that are measured beside ours: event stores and queues that others make."""
