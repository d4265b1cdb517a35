"""WebSockets through the balancer are what they are without it."""
