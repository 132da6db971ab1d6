"""Computes one missing probe on BigQuery and stores its rows."""
