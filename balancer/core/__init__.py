"""Routing, health and retry decisions, without I/O."""
