"""Makes docs/configuration.md and docs/metrics.md from the programs themselves: ``python -m tests.docs_reference``."""

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import docstring_parser

from balancer.admin import metrics
from balancer.core.histogram import BOUNDS_S
from balancer.settings import Settings as BalancerSettings
from sessiond.settings import Settings as NodeSettings

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "configuration.md"
METRICS_PAGE = DOCS / "metrics.md"

HEAD = """# Configuration

Every setting is an option of `sessiond run` or `balancer run`, an environment variable, and a key of the TOML file that
`--config` (or `SESSIOND_CONFIG`, `BALANCER_CONFIG`) names. An option beats the environment, which beats the file, which
beats the default. Lists are separated by commas, or given several times, or TOML arrays.

```
sessiond run --idle-timeout-s 600
SESSIOND_IDLE_TIMEOUT_S=600 sessiond run
echo 'idle_timeout_s = 600' > node.toml && sessiond run --config node.toml
```

A key that the file has and the program does not is an error that names both; so is a value of the wrong type, wherever it
comes from. An unknown environment variable with the program's prefix is a warning in the log. Usage and configuration
errors end with exit code 2; 0 means ended as asked, 1 anything else.

This page is made from the settings themselves (`python -m tests.docs_reference`), and a test keeps it so.
"""


def _default(field: Any) -> str:
    value = field.default if field.default is not MISSING else field.default_factory()
    if value is None or value in ("", ()):
        return "–"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ", ".join(f"`{item}`" for item in value)
    return f"`{value}`"


def _rows(settings: type) -> list[str]:
    texts = {
        param.arg_name: " ".join((param.description or "").split())
        for param in docstring_parser.parse_from_object(settings).params
    }
    rows = ["| option | default | what, and how to choose |", "|---|---|---|"]
    for field in fields(settings):
        text = texts[field.name].replace("``", "`").replace("|", "\\|")
        # A secret is no option: everybody on the machine can read command lines.
        name = f"--{field.name.replace('_', '-')}" if field.repr else f"SESSIOND_{field.name.upper()}"
        rows.append(f"| `{name}` | {_default(field)} | {text} |")
    return rows


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## sessiond run\n", *_rows(NodeSettings), "\n## balancer run\n", *_rows(BalancerSettings)]
    return "\n".join(parts) + "\n"


METRICS_HEAD = """# Metrics of the balancer

`GET /metrics` on the admin port, in Prometheus' text format, without a token. Counters start at 0 with the process. Besides
these there are the usual `process_…` ones: memory, CPU, descriptors.

To look at them: `deploy/prometheus/` scrapes a balancer and three nodes on this machine and has a few alerts,
`deploy/grafana/sessiond.json` is a dashboard to import. The dashboard at the admin port itself needs neither.

A histogram has the samples `…_bucket`, `…_sum` and `…_count`. The bounds of its buckets are the same for all, in seconds:
{bounds}.
A quantile is read from it like this:

```
histogram_quantile(0.99, sum by (node, le) (rate(balancer_node_first_byte_seconds_bucket[1m])))
```

| metric | type | labels | what |
|---|---|---|---|
"""


def metrics_page() -> str:
    """The other whole page."""
    rows = [
        *(_metric(f"{name}_total", "counter", "", text) for name, text, *_ in metrics.COUNTERS),
        *(_metric(name, "gauge", "", text) for name, text, *_ in metrics.GAUGES),
        *(_metric(f"{name}_total", "counter", "`node`", text) for name, text, *_ in metrics.NODE_COUNTERS),
        _metric("node_answers_total", "counter", "`node`, `class`", metrics.ANSWERS),
        *(_metric(name, "gauge", "`node`", text) for name, text, *_ in metrics.NODE_GAUGES),
        _metric("node_state", "gauge", "`node`, `state`", metrics.STATE),
        *(_metric(name, "histogram", "`node`", text) for name, text, _ in metrics.HISTOGRAMS),
    ]
    bounds = ", ".join(str(bound) for bound in BOUNDS_S)
    return METRICS_HEAD.format(bounds=bounds) + "\n".join(rows) + "\n"


def _metric(name: str, kind: str, labels: str, text: str) -> str:
    return f"| `{metrics.PREFIX}{name}` | {kind} | {labels} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
