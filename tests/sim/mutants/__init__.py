"""Planted bugs: small faults put into the core by the tests, each to be found by the promise that it breaks."""
