"""``python -m tests.stores.writer URL FIRST``: writes one record after the other until it is killed.

Prints the number of a record when the store has acknowledged it.
"""

import asyncio
import sys

from sessiond.stores import store_for
from tests.stores.places import opened, record


async def write_for_ever(url: str, number: int) -> None:
    async with opened(store_for(url)) as store:
        while True:
            refused = await store.write([record(number, data=b"x" * 3000)])
            assert not refused
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()
            number += 1


if __name__ == "__main__":
    asyncio.run(write_for_ever(sys.argv[1], int(sys.argv[2])))
