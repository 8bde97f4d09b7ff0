"""The worst that a peer can send within each limit of `bootstrap.net.transport`.

A run sends some commands only in the middle of a move; so the limits are tried by themselves, each
with the replies that become the most memory.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.support import liars, rig
from tests.support.peers import Talk, listening

MORE_MB = 64
CPU_S = 6.0

# By name: how a reply begins, with the most that is allowed as its length, and what follows.
SHAPES: dict[str, tuple[bytes, bytes]] = {
    "a string": (b"$%d\r\n", b"x"),
    "a string without end": (b"$9999999999\r\n", b"x"),
    "empty arrays": (b"*%d\r\n", b"*0\r\n"),
    "arrays of one": (b"*%d\r\n", b"*1\r\n*0\r\n"),
    "arrays within arrays": (b"", b"*1\r\n"),
    "short strings": (b"*%d\r\n", b"$2\r\nab\r\n"),
    "longer strings": (b"*%d\r\n", b"$17\r\nabcdefghabcdefghi\r\n"),
    "errors": (b"*%d\r\n", b"-a\r\n"),
    "words": (b"", b"+a\r\n"),
    "sets": (b"*%d\r\n", b"~0\r\n"),
    "a line": (b"+", b"x"),
}
LIMITS = {
    "REPLY_LIMIT": 1 << 17,
    "LISTING_LIMIT": (1 << 24) - 64,
    "TASKS_LIMIT": 1 << 16,
    "KEYS_LIMIT": 1 << 14,
    "VALUE_LIMIT": (1 << 24) - 64,
    "ELEMENTS_LIMIT": 1 << 18,
    "LIBRARIES_LIMIT": 1 << 16,
}
SENT_MB = 30


def sends(shapes: Iterator[tuple[bytes, bytes]], limit: int) -> Talk:
    """Answer each connection with the next shape: a head, and its part again and again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, part = next(shapes)
        await liars.read_command(reader)
        writer.write(head % limit if b"%d" in head else head)
        block = part * (65536 // len(part))
        for _ in range((SENT_MB << 20) // len(block)):
            writer.write(block)
            await writer.drain()

    return talk


@pytest.mark.parametrize("limit", LIMITS)
def test_no_reply_costs_more_memory_than_it_may(
    limit: str, record_property: Callable[[str, object], None]
) -> None:
    """Whatever a peer sends, it is refused or read, with bounded memory and work."""
    ip = f"127.{os.getpid() % 50 + 50}.3.{1 + list(LIMITS).index(limit)}"
    with listening(ip, liars.PORT, sends(iter(SHAPES.values()), LIMITS[limit])):
        program = [str(rig.PROGRAMS / "asking.py"), ip, str(liars.PORT), limit, str(len(SHAPES))]
        done = subprocess.run(
            [sys.executable, *program],
            env=rig.environment({}), cwd=rig.ROOT, capture_output=True, check=True, timeout=120,
        )  # fmt: skip
    cost = json.loads(done.stdout)
    record_property("row", f"{limit} | {cost}")
    assert cost["mb"] < MORE_MB
    assert cost["cpu_s"] < CPU_S
