"""The commands that ask a running node: one module each, and the client that they share."""
