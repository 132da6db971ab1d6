"""From the bytes of a request to committed events: parsed, judged, appended together."""
