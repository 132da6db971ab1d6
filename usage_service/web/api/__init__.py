"""The handlers of the HTTP API, a module a resource; `routes` lists them."""
