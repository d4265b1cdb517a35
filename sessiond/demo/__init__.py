"""The shop that a node hosts when it is given no application."""
