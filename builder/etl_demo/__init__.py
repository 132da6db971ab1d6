"""A demonstration of what the hot list saves: the nightly ETL on sample pings, with all probes and with hot ones."""
