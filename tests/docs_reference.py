"""Makes docs/configuration.md and docs/metrics.md from the programs themselves: ``python -m tests.docs_reference``."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import docstring_parser
from aiohttp import web

from balancer.admin import metrics
from balancer.core.histogram import BOUNDS_S
from balancer.settings import Settings as BalancerSettings
from sessiond.core.identity import Identity
from sessiond.core.machine import Machine
from sessiond.core.options import Options
from sessiond.core.types import Life
from sessiond.node import Node
from sessiond.node_metrics import samples_of
from sessiond.ports import Sample
from sessiond.settings import RELATIONS
from sessiond.settings import Settings as NodeSettings
from sessiond.web.host import Host

DOCS = Path(__file__).parent.parent / "docs"
PAGE = DOCS / "configuration.md"
METRICS_PAGE = DOCS / "metrics.md"

HEAD = """# Configuration

Every setting but the secret is an option of `sessiond run` or `balancer run`; all are environment variables, and keys of the
TOML file that `--config` (or `SESSIOND_CONFIG`, `BALANCER_CONFIG`) names. An option beats the environment, which beats the
file, which beats the default. Lists are separated by commas, or given several times, or TOML arrays. The application,
MODULE:APP, is the argument of `sessiond run`, `SESSIOND_APP`, or the key `app`; without it the demo shop is hosted.

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


def _rows(settings: type, prefix: str) -> list[str]:
    texts = {
        param.arg_name: " ".join((param.description or "").split())
        for param in docstring_parser.parse_from_object(settings).params
    }
    rows = ["| option | default | what, and how to choose |", "|---|---|---|"]
    for field in fields(settings):
        text = texts[field.name].replace("``", "`").replace("|", "\\|")
        # A secret is no option: everybody on the machine can read command lines.
        name = _option(field.name) if field.repr else f"{prefix}_{field.name.upper()}"
        rows.append(f"| `{name}` | {_default(field)} | {text} |")
    return rows


RELATIONS_HEAD = """
### What has to fit together

A node does not start unless these hold; the error names both options.

| option | at least | because |
|---|---|---|"""


def _relations() -> Iterator[str]:
    for larger, factor, smaller, reason in RELATIONS:
        times = f"{factor} × " if factor > 1 else ""
        yield f"| `{_option(larger)}` | {times}`{_option(smaller)}` | {reason} |"


def _option(setting: str) -> str:
    return f"--{setting.replace('_', '-')}"


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## sessiond run\n", *_rows(NodeSettings, "SESSIOND"), RELATIONS_HEAD, *_relations()]
    parts += ["\n## balancer run\n", *_rows(BalancerSettings, "BALANCER")]
    return "\n".join(parts) + "\n"


METRICS_HEAD = """# Metrics

`GET /metrics` on a node's API port and on the balancer's admin port, in Prometheus' text format, without a token. Counters
start at 0 with the process. Besides these there are the usual `process_…` ones: memory, CPU, descriptors.

To look at them: `deploy/prometheus/` scrapes a balancer and three nodes on this machine and has a few alerts,
`deploy/grafana/sessiond.json` is a dashboard to import. The dashboard at the admin port itself needs neither.

## A node

Those about the store are there with `--store`, those about links with a member.

| metric | type | labels | what |
|---|---|---|---|
{node}

## The balancer

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
    rows += [
        _metric("workers", "gauge", "", "Workers that run (with `--workers`)"),
        _metric(
            "worker_starts_total", "counter", "", "Workers started, the first ones too (with `--workers`)"
        ),
    ]
    bounds = ", ".join(str(bound) for bound in BOUNDS_S)
    return METRICS_HEAD.format(bounds=bounds, node="\n".join(_node_rows())) + "\n".join(rows) + "\n"


def _node_rows() -> Iterator[str]:
    """What a node with everything exports: a store, a link, an application."""
    rows: dict[str, str] = {}
    for sample in (*_node_samples(), *Host(web.Application(), Node(NodeSettings(name="node1"))).samples()):
        labels = ", ".join(f"`{label}`" for label in sample.labels)
        rows.setdefault(
            sample.name, f"| `{sample.name}` | {sample.kind} | {labels} | {sample.help.rstrip('.')} |"
        )
    yield from rows.values()


def _node_samples() -> Iterator[Sample]:
    life = Life("node1", 1)
    identity = Identity(life, b"", "default", http="", cluster="", api="", zone="")
    machine = Machine(identity, Options(store_kind="shared"), (), Random(0), 0.0)
    counts = dict.fromkeys(("frames_out", "frames_in", "bytes_out", "bytes_in", "writes"), 0)
    link = SimpleNamespace(peer=identity, **counts)
    hub, store = SimpleNamespace(links=lambda: [link]), SimpleNamespace(write_seconds=0.0, read_seconds=0.0)
    return samples_of(machine, hub, store)  # type: ignore[arg-type]


def _metric(name: str, kind: str, labels: str, text: str) -> str:
    return f"| `{metrics.PREFIX}{name}` | {kind} | {labels} | {text} |"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    METRICS_PAGE.write_text(metrics_page(), encoding="utf-8")
