"""Header, path and cookie names that both programs, and programs of others, rely on."""

import re

COOKIE_NAME = "SESSIONID"
"""Default name of the session cookie; its value is ``<token>.<node>``."""

INTERNAL_PREFIX = "/_sessiond/"
"""Paths of a node's application port that are for the balancer only; it refuses them from outside."""

HEALTH_PATH = "/_sessiond/health"

CHECKER_HEADER = "X-Sessiond-Checker"
"""Of a health check: who asks. Each process that decides by its own checks has a name of its own."""

REPLAY_HEADER = "X-Sessiond-Replay"
"""``1`` from a balancer that can still send the request elsewhere: the node may answer 421."""

OWNER_HEADER = "X-Sessiond-Owner"
"""Name of the node that owns the session, on a 421 answer."""

NODE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
"""A node's name: it is the suffix of a cookie value and a host-name label, so no dots.

Use ``NODE_NAME.fullmatch``."""
