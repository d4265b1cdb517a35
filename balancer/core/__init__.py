"""What the balancer decides, without I/O, clock or global randomness: parsing, routing, health, retries."""
