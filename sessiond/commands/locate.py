"""`sessiond locate`: where one session is."""

import json
import sys

from sessiond.commands.client import ApiClient, Asking, CommandFailed


async def show_location(session: str, asking: Asking, *, as_json: bool) -> None:
    """Write where it is. Raises CommandFailed, also if there is no such session; ConfigurationError."""
    if not session:
        raise CommandFailed("the session id is empty: give a cookie's value, or the key's 32 hex digits")
    async with ApiClient(asking) as client:
        place = (await client.locate(session)).to_json()
    if as_json:
        sys.stdout.write(json.dumps(place) + "\n")
        return
    rows = {**place, "backups": ", ".join(place["backups"]) or "none: the session is not protected"}
    if place["version"] is None:
        rows["version"] = "not known to the node that was asked, which holds no copy"
    sys.stdout.writelines(f"{name:<8} {value}\n" for name, value in rows.items())
