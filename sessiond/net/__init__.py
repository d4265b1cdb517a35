"""Links between nodes over TCP: handshake, framing, batching."""
