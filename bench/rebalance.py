"""Measures how long a rebalance from three primaries to four takes, against the servers' own CLI.

Both tools move the same slots of the same cluster in turns; in between the fourth primary is
emptied again. Ours is timed from the first command to the last slot, theirs as a process.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from bench import tables
from bench.relay import Relay
from bench.tables import Row
from bootstrap.core.actions import MoveSlots
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SLOT_COUNT, SlotSet, even_counts, even_split
from bootstrap.core.topology import ClusterView, Endpoint, NodeId, NodeView
from bootstrap.net.connection import Access
from bootstrap.net.discovery import Found
from bootstrap.net.migration import migrator
from bootstrap.net.migration.session import MigrationHistory, MigrationSession
from bootstrap.net.observer import Observer
from bootstrap.net.pool import ConnectionPool
from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.pod import Pod
from bootstrap.sandbox.world import World
from tests.support.migration_rig import when_epochs_are_ordered

PRIMARIES = 3
RELAY_PORT = 7379
_FILL_BYTES = 1 << 20
_POLL_S = 0.02


@dataclass(frozen=True, kw_only=True)
class Case:
    """One line of the table."""

    server: str
    round_trip_ms: float = 0.0
    cli_options: tuple[str, ...] = ()
    wanted: float
    is_big: bool = False

    @property
    def name(self) -> str:
        """Return what is compared."""
        parts = [self.server, *(option.removeprefix("--cluster-") for option in self.cli_options)]
        if self.round_trip_ms:
            parts.append(f"{self.round_trip_ms} ms round trip")
        if self.is_big:
            parts.append(f"{BIG_KEYS} keys of 1 MB")
        return ", ".join(parts)


BIG_KEYS, BIG_SIZE = 1000, 1 << 20
ATOMIC = "--cluster-use-atomic-slot-migration"
CASES = (
    Case(server="redis-8.6", wanted=40),
    Case(server="valkey-9.1", cli_options=(ATOMIC,), wanted=1.5),
    Case(server="valkey-9.1", wanted=1),
    Case(server="redis-7.0", wanted=1.8),
    Case(server="redis-7.0", round_trip_ms=0.5, wanted=5),
    Case(server="redis-8.6", is_big=True, wanted=1),
    Case(server="valkey-9.1", cli_options=(ATOMIC,), is_big=True, wanted=1),
    Case(server="redis-7.0", is_big=True, wanted=1),
)


class _Fixed:
    """Discovery of pods that stay where they are."""

    def __init__(self, pods: Sequence[Pod], port: int) -> None:
        self._endpoints = tuple(
            Endpoint(
                name=pod.name, host=pod.fqdn, ordinal=pod.ordinal, addresses=(pod.address,),
                port=port,
            )
            for pod in pods
        )  # fmt: skip

    async def find(self, silent: Collection[str] = ()) -> Found:  # noqa: ARG002 - they are fixed
        return Found(endpoints=self._endpoints, absent=())


@contextmanager
def cluster(server: ServerBinary, *, round_trip_ms: float) -> Iterator[tuple[list[Pod], int]]:
    """Run four primaries, the last one without slots; yield them and the port to talk to."""
    config = {"cluster-allow-replica-migration": "no"}
    if round_trip_ms:
        config |= {"cluster-announce-port": str(RELAY_PORT), "cluster-announce-bus-port": "16379"}
    with ExitStack() as stack:
        world = stack.enter_context(
            World(nodes=PRIMARIES + 1, server=server, node_timeout_ms=15000, config=config)
        )
        world.start()
        for pod, slots in zip(world.pods, (*even_split(PRIMARIES), SlotSet()), strict=True):
            pod.command("CLUSTER", "SET-CONFIG-EPOCH", pod.ordinal + 1)
            for first, last in slots.ranges():
                pod.command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        for pod in world.pods:
            for other in world.pods[pod.ordinal + 1 :]:
                pod.command("CLUSTER", "MEET", other.address, other.port)
        port = world.port
        if round_trip_ms:
            port = RELAY_PORT
            for pod in world.pods:
                stack.enter_context(
                    Relay(
                        pod.address,
                        port=port,
                        server_port=pod.port,
                        round_trip_s=round_trip_ms / 1000,
                    )
                )
        yield world.pods, port


def fill(pods: Sequence[Pod], *, keys: int, size: int) -> None:
    """Write keys, each at the owner of its slot."""
    owners = [(pod, slots) for pod, slots in zip(pods, even_split(PRIMARIES), strict=False)]
    value = b"x" * size
    for pod, slots in owners:
        with redis.Redis(host=pod.address, port=pod.port) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(keys):
                key = b"key:%d" % number
                if redis.crc.key_slot(key) in slots:
                    pipeline.set(key, value)
                if len(pipeline) * size > _FILL_BYTES:
                    pipeline.execute()
            pipeline.execute()


class Ours:
    """This program's way of moving."""

    def __init__(self, pods: Sequence[Pod], port: int) -> None:
        self._found = _Fixed(pods, port)

    async def move(self, choose: Callable[[ClusterView], list[MoveSlots]]) -> float:
        """Observe, move, and return the seconds it took."""
        pool = ConnectionPool(Access(), self._found)
        observer = Observer(pool=pool)
        try:
            began = time.monotonic()
            view, moves = await when_epochs_are_ordered(observer, pool, choose)
            session = MigrationSession(
                pool=pool,
                primaries=view.by_id(),
                stop=asyncio.Event(),
                history=MigrationHistory(),
            )
            await migrator.move(session, moves)
            return time.monotonic() - began
        finally:
            await pool.close()

    def wait_for_agreement(self) -> None:
        """Wait until every node says ok and all agree on who owns what."""
        while not _views_agree(asyncio.run(self._observe())):
            time.sleep(_POLL_S)

    async def _observe(self) -> ClusterView:
        pool = ConnectionPool(Access(), self._found)
        observer = Observer(pool=pool)
        try:
            return await observer.observe()
        finally:
            await pool.close()


def _views_agree(view: ClusterView) -> bool:
    owned = [{i: known.slots for i, known in node.known.items()} for node in view.nodes]
    complete = sum(len(slots) for slots in owned[0].values()) == SLOT_COUNT
    return (
        complete
        and all(node.state_ok and len(node.known) == len(view.nodes) for node in view.nodes)
        and all(each == owned[0] for each in owned)
        and not any(node.open_slots for node in view.nodes)
    )


def spread(view: ClusterView) -> list[MoveSlots]:
    """Return moves that give the empty primary its share."""
    *full, empty = sorted(view.nodes, key=lambda node: -len(node.slots))
    counts = even_counts(len(view.nodes))
    return [
        _move(node, empty.node_id, node.slots.highest(len(node.slots) - count))
        for node, count in zip(full, counts, strict=False)
    ]


def gather(view: ClusterView) -> list[MoveSlots]:
    """Return moves that empty the last primary again."""
    last = view.nodes[-1]
    moves, slots = [], last.slots
    for node, count in zip(view.nodes[:-1], even_counts(PRIMARIES), strict=True):
        part = slots.lowest(count - len(node.slots))
        slots -= part
        moves.append(_move(last, node.node_id, part))
    return moves


def _move(source: NodeView, target: NodeId, slots: SlotSet) -> MoveSlots:
    return MoveSlots(
        source=source.node_id, target=target, slots=slots, reason=FindingCode.SLOTS_UNEVEN
    )


def rebalance_by_cli(cli: Path, pod: Pod, port: int, options: Sequence[str]) -> float:
    """Run the servers' own tool and return the seconds it took."""
    command = [str(cli), "--cluster", "rebalance", f"{pod.address}:{port}"]
    command += ["--cluster-use-empty-masters", *options]
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.monotonic() - began


def measure(case: Case, *, home: Path, keys: int, size: int, runs: int) -> tuple[float, float]:
    """Return the medians of the CLI and of ours."""
    server = find_server(str(home / case.server / "server"))
    theirs, ours = [], []
    with cluster(server, round_trip_ms=case.round_trip_ms) as (pods, port):
        mover = Ours(pods, port)
        mover.wait_for_agreement()
        fill(pods, keys=keys, size=size)
        for _ in range(runs):
            if server.cli is not None:
                theirs.append(rebalance_by_cli(server.cli, pods[0], port, case.cli_options))
                _empty(mover)
            ours.append(asyncio.run(mover.move(spread)))
            _empty(mover)
    return statistics.median(theirs or [float("nan")]), statistics.median(ours)


def _empty(mover: Ours) -> None:
    mover.wait_for_agreement()
    asyncio.run(mover.move(gather))
    mover.wait_for_agreement()


def main(arguments: Sequence[str] | None = None) -> list[Row]:
    """Measure all cases and print their figures; return the rows of the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(os.environ.get("SERVERS_HOME") or Path.home() / ".cache" / "redis-servers")
    parser.add_argument("--servers", type=Path, default=default)
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--size", type=int, default=100)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a case's name")
    options = parser.parse_args(arguments)
    rows: list[Row] = []
    for case in CASES:
        if options.only not in case.name or not (options.servers / case.server).exists():
            continue
        keys, size = (BIG_KEYS, BIG_SIZE) if case.is_big else (options.keys, options.size)
        theirs, ours = measure(case, home=options.servers, keys=keys, size=size, runs=options.runs)
        print(f"{case.name}: CLI {theirs:.2f} s, ours {ours:.2f} s", file=sys.stderr, flush=True)
        row: Row = {"case": case.name, "cli_s": theirs, "ours_s": ours, "ratio": theirs / ours}
        rows.append(row | {"wanted": case.wanted})
    return rows


if __name__ == "__main__":
    print(tables.markdown("rebalance", tables.rounded("rebalance", main())))
