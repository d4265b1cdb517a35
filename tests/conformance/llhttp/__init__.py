"""The messages of llhttp's own tests, replayed through the balancer: its authors wrote the expectations."""
