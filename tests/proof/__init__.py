"""Proofs: what the project promises, tried at full size. Each is a program of its own; CI runs short versions."""
