"""The HTTP side: routes parse, call one function, and answer."""
