"""Messages that nobody thought of, at the boundary of the parsers."""
