"""Which settings can change while requests are served, and what becomes of the others.

A reload is all or nothing in its checks and partial in its effect: settings that make no sense change nothing at all;
of those that do, the ones in `LIVE` take effect, and the rest keep their old values until a restart, named in the log.
What an open connection took from the settings when it was made (limits of its messages, trust) stays with it.
"""

from dataclasses import fields, replace

from balancer.errors import ConfigurationError
from balancer.settings import Settings, validated

LIVE = frozenset(
    {
        "node", "discover", "discover_token_file", "discover_interval_s", "discover_forget_s",
        "algorithm", "failover", "placement", "secret", "secret_file", "cluster_name", "cookie_name",
        "zone", "slow_start_s", "panic_threshold",
        "admin_token_file", "insecure",
        "tls_certificate_file", "tls_key_file", "node_tls_ca_file", "node_tls_certificate_file", "node_tls_key_file",
        "trusted_network",
        "request_head_bytes_max", "line_bytes_max", "response_head_bytes_max", "header_count_max", "body_bytes_max",
        "connect_timeout_s", "request_head_timeout_s", "body_idle_timeout_s", "body_rate_min", "response_head_timeout_s",
        "response_idle_timeout_s", "tunnel_idle_timeout_s", "client_keepalive_timeout_s", "node_keepalive_timeout_s",
        "half_close_timeout_s", "node_idle_connections_max", "node_connections_max", "node_queue_max", "node_queue_timeout_s",
        "health_path", "health_status", "health_interval_s", "health_timeout_s", "health_rise", "health_fall",
        "request_fall", "eject_s", "eject_max_s", "eject_share_max",
        "retry_share", "retry_reserve", "replay_bytes_max", "drain_timeout_s",
        "forwarded", "request_id", "request_id_in_answer", "trace_context", "access_log", "log_format", "log_level",
    }
)  # fmt: skip
"""A setting that is not here needs a restart: forgetting one costs a warning, not a setting without effect."""

NEEDS_RESTART = frozenset(
    {
        "listen", "admin", "workers",  # ports and processes are there already
        "node_tls", "proxy_protocol", "tls_handshake_timeout_s",  # what open ports and connections speak
    }
)  # fmt: skip
"""All others. Nothing asks for them; a test sees to it that whoever adds a setting decides."""


def merged(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """The settings to run with from now on, and the names of those whose change has to wait for a restart.

    Raises `ConfigurationError` if the one half does not go with the other.
    """
    waiting = []
    for field in fields(Settings):
        before, after = getattr(old, field.name), getattr(new, field.name)
        # Another certificate is shown from now on; to begin with TLS, or to end it, is another kind of port.
        is_other_port = field.name == "tls_certificate_file" and None in (before, after)
        if before != after and (is_other_port or field.name not in LIVE):
            waiting.append(field.name)
    settings = replace(new, **{name: getattr(old, name) for name in waiting})
    try:
        return validated(settings), waiting
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}; a restart would do, for these cannot change before: {', '.join(waiting)}"
        ) from None
