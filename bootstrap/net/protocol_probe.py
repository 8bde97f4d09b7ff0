"""Finds out what answers at an address, without credentials.

A TLS server of Redis answers a plain command by closing the connection, and a plain one waits for
the end of a TLS greeting forever. Both look like a pod in trouble, and waiting fixes neither: one
question in the other protocol tells them apart.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

PROBE_TIMEOUT_S = 2.0
# A server that refuses a connection says so at once, or not at all.
GREETING_TIMEOUT_S = 0.5
_LONGEST_ANSWER = 512


async def answers_tls(ip: str, port: int) -> bool:
    """Return whether a TLS server listens there; nothing is sent but a handshake."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), connected(ip, port, context):
            return True
    except ssl.SSLError as error:
        # One with a certificate speaks TLS. Whether to trust it is asked when TLS is on.
        is_certificate = isinstance(error, ssl.SSLCertVerificationError)
        return is_certificate or "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False


async def answers_plain(ip: str, port: int) -> bool:
    """Return whether a server listens there that answers PING without TLS."""
    answer = await ask(ip, port, "PING", timeout_s=PROBE_TIMEOUT_S)
    return answer[:1] in {"+", "-"}


async def greeting(ip: str, port: int) -> str:
    """Return the error that a server sends before it hangs up, without its `-`; otherwise empty."""
    answer = await ask(ip, port, "", timeout_s=GREETING_TIMEOUT_S)
    return answer[1:] if answer[:1] == "-" else ""


async def ask(ip: str, port: int, command: str, *, timeout_s: float) -> str:
    """Return what answers an inline command: a line with its type, or a short string's content.

    Empty where nothing answers; an empty command is not sent.
    """
    try:
        async with asyncio.timeout(timeout_s), connected(ip, port) as (reader, writer):
            if command:
                writer.write(f"{command}\r\n".encode())
            return await _answer(reader)
    except (OSError, TimeoutError):
        return ""


async def _answer(reader: asyncio.StreamReader) -> str:
    data = b""
    while data.count(b"\n") < 1 + data.startswith(b"$") and len(data) < _LONGEST_ANSWER:
        part = await reader.read(_LONGEST_ANSWER)
        if not part:
            break
        data += part
    first, _, rest = data[:_LONGEST_ANSWER].decode("utf-8", "replace").partition("\r\n")
    return rest.partition("\r\n")[0] if first.startswith("$") else first


@asynccontextmanager
async def connected(
    ip: str, port: int, context: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect for the length of a block.

    Raises:
        OSError: No connection, in time or at all.
    """
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        reader, writer = await asyncio.open_connection(ip, port, ssl=context, limit=_LONGEST_ANSWER)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
