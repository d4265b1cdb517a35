"""The cluster as pure state machines: no sockets, no clock, no global randomness."""
