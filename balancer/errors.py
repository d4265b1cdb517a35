"""Every error that the balancer raises on purpose.

    BalancerError
    └── ConfigurationError      the process cannot start as configured

What is wrong with a message of a client or a node is no error of ours: `balancer.core.framing.Refused`.
"""


class BalancerError(Exception):
    """Root of the tree."""


class ConfigurationError(BalancerError):
    """The process cannot start as configured; the text names the setting and the way out. Exit code 2."""
