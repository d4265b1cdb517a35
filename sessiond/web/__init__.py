"""The HTTP faces of a node: the hosted application, the API port, health."""
