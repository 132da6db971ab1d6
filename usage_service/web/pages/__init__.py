"""HTML pages for people: a handler for each, their templates, charts and style."""
