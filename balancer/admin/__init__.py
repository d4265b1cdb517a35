"""The admin port: API, metrics, dashboard."""
