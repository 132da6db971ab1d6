"""HTTP server: its routes parse a request, call one function, and answer."""
