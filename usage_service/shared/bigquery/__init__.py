"""BigQuery for both programs: jobs under ids that are derived from what they do, so that a repeat is adopted."""
