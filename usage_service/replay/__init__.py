"""Replays of the log through an analyst's own analysis, which go on from checkpoints."""
