"""The data plane: asyncio protocols that move bytes between clients and nodes as `balancer.core` decides."""
