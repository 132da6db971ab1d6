"""The page: how the app is used, what is built and why, as HTML."""
