"""What nodes and balancer agree on: id format, placement, names, views and set-up.

The balancer imports this package and nothing else of sessiond, so everything here is a promise between
two programs that may run in different versions for a while: extend, do not reinterpret.
"""
