"""A real browser, for the pictures in the documents, for measurements and for tests: Chromium or one like it."""
