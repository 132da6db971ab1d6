"""Sample pings: made-up clients of Firefox and Fenix that send real probes."""
