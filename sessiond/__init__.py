"""Web sessions that survive the death of a server, with no database to run."""

__version__ = "0.1.0"
