"""Real browser (Chromium or Chrome) for screenshots in the documents, for benchmarks and for tests."""
