"""Finds out what a port speaks when it does not speak what we speak.

A TLS server of Redis answers a plain command by closing the connection, and a plain one waits for
the end of a TLS greeting for ever. Both look like a pod in trouble, and waiting fixes neither: one
question in the other tongue tells them apart.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

PROBE_TIMEOUT_S = 2.0


async def answers_tls(ip: str, port: int) -> bool:
    """Return whether a TLS server listens there; nothing is sent but a handshake."""
    context = ssl.create_default_context()
    context.check_hostname = False
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            _, writer = await asyncio.open_connection(ip, port, ssl=context)
    except ssl.SSLCertVerificationError:
        # It has a certificate. Whether to trust it is asked when TLS is on.
        return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def answers_plain(ip: str, port: int) -> bool:
    """Return whether a server listens there that answers PING without TLS."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(ip, port)
            writer.write(b"PING\r\n")
            first = await reader.read(1)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return first in {b"+", b"-"}
