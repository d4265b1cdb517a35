"""Benchmarks: what one request costs here, and what it costs in programs that do the same job.

Run by `make bench`, or by hand: ``python -m tests.bench [--quick]``. A bench is a `measure.Group` of
contenders that take turns on one core, under one load; `proxies` and `sessions` are the two there are.
Nothing here asserts a time: a run fails only if a request was not answered as it should be.
"""
