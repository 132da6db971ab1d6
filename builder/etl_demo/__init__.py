"""The nightly ETL on sample pings, with all probes and with the hot list: what the hot list saves."""
