"""A sticky reverse proxy for session clusters."""
