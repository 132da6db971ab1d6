"""Statistics that the service answers: popularity, time series, sessions, journeys, releases, and the catalogue."""
