"""What a process holds: resident memory and descriptors, as the kernel counts them."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Footprint:
    rss_kib: int
    descriptors: int

    @classmethod
    def of(cls, pid: int) -> "Footprint":
        process = Path(f"/proc/{pid}")
        found = re.search(r"VmRSS:\s+(\d+) kB", (process / "status").read_text())
        assert found is not None, f"process {pid} has ended"
        return cls(int(found.group(1)), len(list((process / "fd").iterdir())))

    def __str__(self) -> str:
        return f"{self.rss_kib / 1024:.1f} MiB, {self.descriptors} descriptors"


@asynccontextmanager
async def watched(pid: int, interval_s: float) -> AsyncIterator[list[Footprint]]:
    """The footprints of a process, one each interval, until the block ends."""
    seen = [Footprint.of(pid)]

    async def look() -> None:
        while True:
            await asyncio.sleep(interval_s)
            seen.append(Footprint.of(pid))

    looking = asyncio.create_task(look())
    try:
        yield seen
    finally:
        looking.cancel()
