"""The pages that people read: a handler each, their templates, charts and style."""
