"""A proxy before every pod that replaces, delays and cuts some replies at random.

The servers listen on another port and announce the proxy's, so that the program reaches them
through it. What other servers say there is forwarded as it is, and the bus is not touched.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.liars import read_command
from tests.support.peers import Talk, forwarder

REAL_PORT = 6380
PORT = 6379
# Servers connect from their own address (`bind-source-addr`), the program from this one.
PROGRAM = "127.0.0.1"
# What a server might say, and what none says.
LIES = (
    b"$-1\r\n", b"+OK\r\n", b":7\r\n", b"*0\r\n", b"$0\r\n\r\n", b"$7\r\ngarbage\r\n",
    b"-ERR chaos\r\n", b"-LOADING chaos\r\n", b"-MOVED 1 10.0.0.1:1\r\n", b"-TEAPOT chaos\r\n",
    b"-CLUSTERDOWN chaos\r\n", b"-BUSY chaos\r\n",
    b"*2\r\n$3\r\nfoo\r\n*1\r\n:1\r\n", b"?chaos\r\n",
)  # fmt: skip

CONFIG: Mapping[str, str] = {
    "cluster-announce-port": str(PORT),
    "cluster-announce-bus-port": str(REAL_PORT + 10000),
}


@dataclass(slots=True)
class Chaos:
    """How often it strikes, and how often it did.

    Attributes:
        odds: Of one reply.
        limit: Strikes until it is honest.
    """

    seed: int
    odds: float
    limit: int = 40
    replaced: int = 0
    delayed: int = 0
    cut: int = 0
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        """Seed it."""
        self._random = random.Random(self.seed)

    @property
    def struck(self) -> int:
        """Return how many replies were not what the server said."""
        return self.replaced + self.delayed + self.cut

    def talk(self, ip: str) -> Talk:
        """Return what serves a connection to a pod."""

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if writer.get_extra_info("peername")[0] != PROGRAM:
                await forwarder(ip, REAL_PORT)(reader, writer)
                return
            there, back = await asyncio.open_connection(ip, REAL_PORT, limit=1 << 20)
            try:
                while command := await read_command(reader):
                    back.write(b"*%d\r\n" % len(command))
                    for word in command:
                        back.write(b"$%d\r\n%s\r\n" % (len(word), word))
                    reply = await self._changed(await _read_reply(there))
                    if reply is None:
                        return
                    writer.write(reply)
            finally:
                back.close()

        return talk

    async def _changed(self, reply: bytes) -> bytes | None:
        if self.struck >= self.limit or self._random.random() >= self.odds:
            return reply
        kind = self._random.randrange(4)
        if kind == 0:
            self.delayed += 1
            await asyncio.sleep(self._random.random() / 2)
            return reply
        if kind == 1:
            self.cut += 1
            return None
        self.replaced += 1
        return self._random.choice(LIES)


async def _read_reply(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readline()
    if not head:
        raise ConnectionResetError
    count = int(head[1:]) if head[:1] in b"$*" else 0
    if head[:1] == b"$" and count >= 0:
        return head + await reader.readexactly(count + 2)
    if head[:1] == b"*":
        return head + b"".join([await _read_reply(reader) for _ in range(max(count, 0))])
    return head
