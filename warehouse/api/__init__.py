"""BigQuery's REST API: requests, jobs, and answers as they are on the wire."""
