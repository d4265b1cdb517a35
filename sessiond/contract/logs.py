"""Log set-up of both programs: structlog, an event name and fields, on standard error.

`console` is for people, `json` (one object a line) for machines; `auto` is console on a terminal.

A trace says where something broke, never what was in hand there: local variables hold cookies and passwords.
"""

import logging
import sys
from typing import TextIO

import structlog

FORMATS = ("auto", "console", "json")
LEVELS = ("debug", "info", "warning", "error")

_TRACE = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)


def configure(
    log_format: str = "auto",
    level: str = "info",
    stream: TextIO | None = None,
    *,
    may_change: bool = False,
    **context: str,
) -> None:
    """Set logging up for the process; `context` (``node="node1"``) is bound to every line.

    `may_change`: it will be called again, and loggers in use are to follow, which costs each line 1.5 µs.
    """
    stream = stream or sys.stderr
    if log_format not in FORMATS:
        raise ValueError(f"log format {log_format!r} is none of {', '.join(FORMATS)}")
    if level not in LEVELS:
        raise ValueError(f"log level {level!r} is none of {', '.join(LEVELS)}")
    as_json = log_format == "json" or (log_format == "auto" and not stream.isatty())
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    renderer: list[structlog.typing.Processor] = (
        [structlog.processors.ExceptionRenderer(_TRACE), structlog.processors.JSONRenderer()]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=not may_change,
    )
    structlog.contextvars.bind_contextvars(**context)
    # aiohttp and asyncio log through the standard library; they get the same shape.
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(number, logging.INFO))
