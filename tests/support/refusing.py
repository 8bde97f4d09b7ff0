"""Servers that answer every question and refuse every change, and a clock that runs fast."""

from __future__ import annotations

import asyncio
import selectors
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bootstrap.core.topology import NodeView

_T = TypeVar("_T")
SPEED = 30
REFUSAL = "ERR refused by the test"
_SLOT_KEY = b"key"


@dataclass(slots=True)
class RefusingServer:
    """One primary as its view describes it.

    Attributes:
        view: What it is.
        accepted: Changing commands that it does not refuse.
        refused: How often each command was refused.
    """

    view: NodeView
    accepted: frozenset[str] = frozenset()
    refused: Counter[str] = field(default_factory=Counter)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            while words := await _read_command(reader):
                writer.write(_encode(self._reply(words)))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _reply(self, words: Sequence[bytes]) -> object:
        name = words[0].upper().decode()
        if name in {"CLUSTER", "CONFIG", "FUNCTION", "MEMORY"}:
            name += f" {words[1].upper().decode()}"
        answers: dict[str, object] = {
            "ASKING": b"OK",
            "SELECT": b"OK",
            "MEMORY USAGE": 50,
            "DBSIZE": 0,
            "ROLE": [b"slave"],
            "FUNCTION DUMP": b"functions",
            "CONFIG GET": [b"port", b"%d" % self.view.endpoint.port],
            "INFO": self._info(),
            "CLUSTER MYID": self.view.node_id.encode(),
            "CLUSTER NODES": self._nodes(),
            "CLUSTER MIGRATION": [] if words[-1] == b"ALL" else None,
            "CLUSTER GETSLOTMIGRATIONS": [],
            "CLUSTER COUNTKEYSINSLOT": 1,
            "CLUSTER GETKEYSINSLOT": [_SLOT_KEY],
        }
        answers |= dict.fromkeys(self.accepted, b"OK")
        if (answer := answers.get(name)) is not None:
            return answer
        self.refused[name] += 1
        return Exception(REFUSAL)

    def _info(self) -> bytes:
        return f"run_id:{self.view.run_id}\r\nrole:master\r\nused_memory:1000\r\n".encode()

    def _nodes(self) -> bytes:
        own, at = self.view.myself, self.view.address
        flags = f"myself,{'master' if own.primary_id is None else 'slave'}"
        primary = own.primary_id or "-"
        return (
            f"{own.node_id} {at.ip}:{at.port}@{at.cport} {flags} {primary} 0 0 1 connected "
            f"{'' if own.primary_id else own.slots}\n"
        ).encode()


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    header = await reader.readline()
    words = []
    for _ in range(int(header[1:] or b"0")):
        size = int((await reader.readline())[1:])
        words.append((await reader.readexactly(size + 2))[:-2])
    return words


def _encode(reply: object) -> bytes:
    if isinstance(reply, Exception):
        return b"-%s\r\n" % str(reply).encode()
    if isinstance(reply, int):
        return b":%d\r\n" % reply
    if isinstance(reply, bytes):
        return b"$%d\r\n%s\r\n" % (len(reply), reply)
    assert isinstance(reply, list)
    return b"*%d\r\n%s" % (len(reply), b"".join(map(_encode, reply)))


class _FastSelector(selectors.DefaultSelector):
    """Waits for a part of the time that it is asked for."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for events."""
        return super().select(None if timeout is None else timeout / SPEED)


class FastLoop(asyncio.SelectorEventLoop):
    """A loop whose timers run fast, and whose sockets are real."""

    def __init__(self) -> None:
        super().__init__(_FastSelector())

    def time(self) -> float:
        """Return the time in seconds of which `SPEED` pass in a real one."""
        return time.monotonic() * SPEED


def run_fast(work: Coroutine[object, object, _T]) -> _T:
    """Run to the end."""
    with asyncio.Runner(loop_factory=FastLoop) as runner:
        return runner.run(work)
