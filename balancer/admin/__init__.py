"""The admin port: dashboard, API and metrics, served by aiohttp beside the data plane."""
