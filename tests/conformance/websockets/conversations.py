"""What a client says to the echo server. Each is deterministic: it waits for answers wherever order could vary."""

from collections.abc import Awaitable, Callable

from websockets.frames import Frame, Opcode

from tests.conformance.websockets.peers import Client

Conversation = Callable[[Client], Awaitable[None]]

SIZES = (0, 1, 125, 126, 127, 128, 65535, 65536, 70_000)
LARGE = 3 * 1024 * 1024
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)


async def close(client: Client, code: int | None = 1000, reason: str = "") -> None:
    if code is None:
        client.protocol.send_close()
    else:
        client.protocol.send_close(code, reason)
    await client.flush()


async def texts(client: Client) -> None:
    for count, size in enumerate(SIZES, 1):
        client.protocol.send_text("ä".encode() * (size // 2) + b"x" * (size % 2))
        await client.flush()
        await client.frames_reach(count)
    await close(client)


async def binaries(client: Client) -> None:
    for size in SIZES:  # all of them before the first answer is looked at
        client.protocol.send_binary(bytes(range(256)) * (size // 256) + bytes(size % 256))
        await client.flush()
    await client.frames_reach(len(SIZES))
    await close(client)


async def fragments(client: Client) -> None:
    client.protocol.send_text(b"one ", fin=False)
    await client.flush()
    client.protocol.send_continuation(b"", fin=False)
    client.protocol.send_ping(b"between")
    client.protocol.send_continuation("zw\u00f6lf"[:3].encode()[:3], fin=False)  # ends within a character
    await client.flush()
    client.protocol.send_continuation("\u00f6".encode()[1:] + b" end", fin=True)
    await client.flush()
    await client.frames_reach(5)
    await close(client)


async def pings(client: Client) -> None:
    for count, size in enumerate((0, 1, 124, 125), 1):
        client.protocol.send_ping(b"p" * size)
        client.protocol.send_pong(b"nobody asked")
        await client.flush()
        await client.frames_reach(count)
    client.protocol.send_text(b":ping from the server")
    await client.flush()
    await client.frames_reach(5)
    await close(client)


async def large(client: Client) -> None:
    for count in (1, 2):
        client.protocol.send_binary(bytes(LARGE) if count == 1 else b"\x55\xaa\x00\r\n" * (LARGE // 5))
        await client.flush()
        await client.frames_reach(count)
    await close(client)


async def what_looks_like_http(client: Client) -> None:
    client.protocol.send_text(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n0\r\n\r\n")
    client.protocol.send_binary(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    await client.flush()
    await client.frames_reach(2)
    await close(client)


async def half_close(client: Client) -> None:
    client.protocol.send_text(b"last words")
    await client.flush()
    client.writer.write_eof()


def closing(code: int | None, reason: str = "") -> Conversation:
    async def conversation(client: Client) -> None:
        await close(client, code, reason)

    return conversation


def closed_by_server(code: int) -> Conversation:
    async def conversation(client: Client) -> None:
        client.protocol.send_text(b":close %d" % code)
        await client.flush()

    return conversation


def wrong(*frames: Frame, mask: bool = True) -> Conversation:
    """Frames that the server has to fail the connection for."""

    async def conversation(client: Client) -> None:
        for frame in frames:
            await client.raw(_unchecked(frame, mask=mask))

    return conversation


def _unchecked(frame: Frame, *, mask: bool) -> bytes:
    """A frame as it is, sensible or not."""
    first = frame.opcode | frame.fin << 7 | frame.rsv1 << 6 | frame.rsv2 << 5 | frame.rsv3 << 4
    data = bytes(frame.data)
    length = (
        bytes([len(data) | mask << 7])
        if len(data) < 126
        else bytes([126 | mask << 7, *divmod(len(data), 256)])
    )
    return bytes([first]) + length + (bytes(4) if mask else b"") + data  # a mask of zeros changes nothing


CONVERSATIONS: dict[str, Conversation] = {
    "texts of all sizes": texts,
    "binaries of all sizes": binaries,
    "fragments with a ping between them": fragments,
    "pings and pongs, from both ends": pings,
    "large messages": large,
    "messages that look like HTTP": what_looks_like_http,
    "half-close behind a message": half_close,
    "close without code": closing(None),
    "close with the longest reason": closing(1000, "r" * 123),
    **{f"close {code}": closing(code) for code in CODES},
    **{f"close {code} by the server": closed_by_server(code) for code in CODES},
    "bad UTF-8": wrong(Frame(Opcode.TEXT, b"a\xffb")),
    "bad UTF-8, cut within a character": wrong(Frame(Opcode.TEXT, b"\xc3")),
    "bad UTF-8 in a fragment": wrong(Frame(Opcode.TEXT, b"\xc3", fin=False), Frame(Opcode.CONT, b"x")),
    "bad UTF-8 in a reason": wrong(Frame(Opcode.CLOSE, b"\x03\xe8\xff")),
    "a code that is none": wrong(Frame(Opcode.CLOSE, b"\x03\xed")),
    "half a code": wrong(Frame(Opcode.CLOSE, b"\x03")),
    "an unmasked frame": wrong(Frame(Opcode.TEXT, b"a"), mask=False),
    "a reserved bit": wrong(Frame(Opcode.TEXT, b"a", rsv2=True)),
    "a fragmented ping": wrong(Frame(Opcode.PING, b"a", fin=False)),
    "a large ping": wrong(Frame(Opcode.PING, b"a" * 126)),
    "a continuation of nothing": wrong(Frame(Opcode.CONT, b"a")),
    "a new message within one": wrong(Frame(Opcode.TEXT, b"a", fin=False), Frame(Opcode.TEXT, b"b")),
}
