"""Presentation of pages: charts, tables and texts, rendered to HTML."""
