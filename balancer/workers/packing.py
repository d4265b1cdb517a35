"""Settings as they travel to a worker: plain values, and back. No field may hold what MessagePack cannot."""

import dataclasses
from pathlib import Path
from typing import Any, get_args, get_type_hints

from balancer.settings import Settings


def packed_settings(settings: Settings) -> dict[str, Any]:
    return {
        field.name: str(value) if isinstance(value := getattr(settings, field.name), Path) else value
        for field in dataclasses.fields(settings)
    }


def unpacked_settings(values: dict[str, Any]) -> Settings:
    hints = get_type_hints(Settings)
    restored: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list):
            restored[name] = tuple(value)
        elif isinstance(value, str) and (hints[name] is Path or Path in get_args(hints[name])):
            restored[name] = Path(value)
        else:
            restored[name] = value
    return Settings(**restored)
