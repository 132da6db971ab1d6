"""Hot list: the probes worth building for the next day, with reasons."""
