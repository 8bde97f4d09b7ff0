"""Three primaries with keys of every kind, and the means to move slots between them."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from types import MappingProxyType
from typing import Self, TypeAlias, TypeVar

import redis
from redis.crc import key_slot

from bootstrap.core import config_epochs
from bootstrap.core.actions import GatherKeys, MoveSlots
from bootstrap.core.facts import Facts
from bootstrap.core.findings import FindingCode
from bootstrap.core.slots import SLOT_COUNT, SlotSet, even_split
from bootstrap.core.topology import ClusterView, DesiredTopology, Endpoint, NodeId
from bootstrap.net.connection import Access
from bootstrap.net.discovery import Found
from bootstrap.net.migration import migrator
from bootstrap.net.migration.session import MigrationHistory, MigrationSession, Progress
from bootstrap.net.observer import Observer
from bootstrap.net.pool import ConnectionPool
from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support.world import World

# Short while the cluster forms, which then takes 1 s; long afterwards: the machine may be busy.
FORMING_TIMEOUT_MS = 1000
NODE_TIMEOUT_MS = 15000
_PATIENCE_S = 20.0
_POLL_S = 0.02
Step: TypeAlias = tuple[int, int, SlotSet]
OnProgress: TypeAlias = Callable[[Progress], None]
A = TypeVar("A", MoveSlots, GatherKeys)


@dataclass
class Rig:
    """A cluster without replicas; the last primary owns nothing at first."""

    world: World
    access: Access = field(default_factory=Access)
    port: int | None = None
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    history: MigrationHistory = field(default_factory=MigrationHistory)

    async def find(self, silent: Collection[str] = ()) -> Found:  # noqa: ARG002 - they are fixed
        """Play discovery."""
        return Found(
            endpoints=tuple(
                Endpoint(
                    name=pod.name,
                    host=pod.fqdn,
                    ordinal=pod.ordinal,
                    addresses=(pod.address,),
                    port=self.port or pod.port,
                )
                for pod in self.pods
            ),
            absent=(),
        )

    @property
    def pods(self) -> list[Pod]:
        return self.world.pods

    def ids(self) -> list[str]:
        return [_text(pod.command("CLUSTER", "MYID")) for pod in self.pods]

    def observe(self) -> ClusterView:
        return asyncio.run(self._observe())

    async def _observe(self) -> ClusterView:
        pool = ConnectionPool(self.access, self)
        observer = Observer(pool=pool)
        try:
            return await observer.observe()
        finally:
            await pool.close()

    def move(self, *moves: Step, on_progress: OnProgress = lambda _: None) -> Progress:
        """Move slots, given as (source, target, slots) with ordinals."""
        return asyncio.run(self._move(moves, on_progress))

    def gather(self, *gathers: Step) -> Progress:
        return asyncio.run(self._gather(gathers))

    async def _move(self, steps: Sequence[Step], on_progress: OnProgress) -> Progress:
        self.stop, progress = asyncio.Event(), Progress()
        pool = ConnectionPool(self.access, self)
        observer = Observer(pool=pool)
        left = list(steps)
        try:
            while left:
                choose = partial(_actions, MoveSlots, left)
                view, moves = await when_epochs_are_ordered(observer, pool, choose)
                await migrator.move(self._session(pool, view, progress, on_progress), moves)
                every = zip(left, choose(view), strict=True)
                left = [step for step, action in every if action not in moves]
            return progress
        finally:
            await pool.close()

    async def _gather(self, steps: Sequence[Step]) -> Progress:
        self.stop, progress = asyncio.Event(), Progress()
        pool = ConnectionPool(self.access, self)
        try:
            view = await Observer(pool=pool).observe()
            session = self._session(pool, view, progress, lambda _: None)
            await migrator.gather(session, _actions(GatherKeys, steps, view))
            return progress
        finally:
            await pool.close()

    def _session(
        self,
        pool: ConnectionPool,
        view: ClusterView,
        progress: Progress,
        on_progress: OnProgress,
    ) -> MigrationSession:
        return MigrationSession(
            pool=pool,
            primaries=view.by_id(),
            stop=self.stop,
            on_progress=on_progress,
            history=self.history,
            progress=progress,
        )

    def owners_when_agreed(self) -> dict[int, SlotSet]:
        """Wait until all agree and nothing is open; return who owns what, by ordinal."""
        wait_until(lambda: views_agree(self.observe()))
        return {node.endpoint.ordinal: node.slots for node in self.observe().nodes}

    def client(self, ordinal: int) -> redis.Redis:
        pod = self.pods[ordinal]
        return redis.Redis(host=pod.address, port=pod.port, **pod.options)

    def cluster(self) -> redis.RedisCluster:
        pod = self.pods[0]
        return redis.RedisCluster(host=pod.address, port=pod.port, **pod.options)

    def open_both(self, slot: int, source: int, target: int) -> None:
        ids = self.ids()
        self.pods[target].command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        self.pods[source].command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])

    def migrate(self, key: str, source: int, target: int) -> None:
        to = self.pods[target]
        password = to.options["password"]
        auth = ("AUTH", password) if password else ()
        self.pods[source].command("MIGRATE", to.address, to.port, "", 0, 5000, *auth, "KEYS", key)

    def put(self, ordinal: int, key: str, value: str, *, database: int = 0) -> None:
        """Write a key at a node that imports its slot."""
        with self.client(ordinal) as client:
            pipeline = client.pipeline(transaction=False)
            if database:
                pipeline.execute_command("SELECT", database)
            pipeline.execute_command("ASKING")
            pipeline.execute_command("SET", key, value)
            pipeline.execute()


@contextmanager
def running(
    server: ServerBinary,
    *,
    password: str | None = None,
    appendonly: bool = False,
    config: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Rig]:
    """Start three primaries, two of which own the slots."""
    world = World(
        nodes=3,
        server=server,
        node_timeout_ms=FORMING_TIMEOUT_MS,
        config={"cluster-allow-replica-migration": "no", **config},
        password=password,
        appendonly=appendonly,
    )
    with world:
        world.start()
        for pod, slots in zip(world.pods, (*even_split(2), SlotSet()), strict=True):
            pod.command("CLUSTER", "SET-CONFIG-EPOCH", pod.ordinal + 1)
            for first, last in slots.ranges():
                pod.command("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        bus_port = 10_000 + (int(config["tls-port"]) if _bus_uses_tls(config) else world.port)
        for pod in world.pods:
            for other in world.pods[pod.ordinal + 1 :]:
                pod.command("CLUSTER", "MEET", other.address, other.port, bus_port)
        rig = Rig(world, Access(passwords=(password,) if password else ()))
        rig.owners_when_agreed()
        for pod in world.pods:
            pod.command("CONFIG", "SET", "cluster-node-timeout", NODE_TIMEOUT_MS)
        yield rig


def _bus_uses_tls(config: Mapping[str, str]) -> bool:
    return config.get("tls-cluster") == "yes"


def _actions(kind: type[A], steps: Sequence[Step], view: ClusterView) -> list[A]:
    ids = {node.endpoint.ordinal: node.node_id for node in view.nodes}
    reason = FindingCode.SLOTS_UNEVEN
    return [kind(source=ids[a], target=ids[b], slots=slots, reason=reason) for a, b, slots in steps]


async def when_epochs_are_ordered(
    observer: Observer, pool: ConnectionPool, choose: Callable[[ClusterView], list[MoveSlots]]
) -> tuple[ClusterView, list[MoveSlots]]:
    """Raise config epochs as plans do before they move; return a view and the moves it allows."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        view = await observer.observe()
        facts = Facts(view, DesiredTopology(nodes=len(view.nodes), replicas=0))
        moves = config_epochs.one_way(choose(view))
        if config_epochs.are_ordered(facts, moves):
            return view, moves
        for bump in config_epochs.order_epochs(facts, moves):
            await pool.client(facts.live[bump.node].name).write("CLUSTER", "BUMPEPOCH")
        assert time.monotonic() < deadline, "the config epochs were not ordered in time"
        await asyncio.sleep(_POLL_S)


class Traffic:
    """An application in a thread that writes keys in some slots, reads them back and counts."""

    def __init__(self, rig: Rig, slots: SlotSet) -> None:
        self.errors: list[str] = []
        self._client = rig.cluster()
        self._keys = [f"{keys_of(slot, 1)[0]}:live" for slot in list(slots)[::20]]
        self._written: dict[str, int] = {}
        self._rounds = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def wait_for(self, rounds: int) -> None:
        """Return after so many more keys were written and read."""
        goal = self._rounds + rounds
        wait_until(lambda: self._rounds >= goal)

    def lost(self) -> int:
        """Count the keys that do not hold what was acknowledged last."""
        return sum(self._number(key) != n for key, n in self._written.items())

    def _number(self, key: str) -> int:
        return int(self._client.get(key) or 0)

    def _work(self) -> None:
        number = 0
        while not self._end.is_set():
            for key in self._keys:
                number += 1
                try:
                    self._client.set(key, number)
                    self._written[key] = number
                    if self._number(key) != number:
                        self.errors.append("a stale read")
                except AttributeError:
                    # redis-py: redirected to a node that it has not read about; it reads again.
                    self._client.nodes_manager.initialize()
                except (redis.RedisError, OSError) as error:
                    self.errors.append(f"{type(error).__name__}: {error}")
                self._rounds += 1


def views_agree(view: ClusterView) -> bool:
    owned: list[Mapping[NodeId, SlotSet]] = [
        {i: known.slots for i, known in node.known.items()} for node in view.nodes
    ]
    return (
        bool(owned)
        and all(each == owned[0] for each in owned)
        and sum(map(len, owned[0].values())) == SLOT_COUNT
        and all(node.state_ok and not node.open_slots for node in view.nodes)
    )


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(_POLL_S)


def keys_of(slot: int, count: int) -> list[str]:
    """Return names that hash to a slot."""
    return [f"{{{_tags()[slot]}}}:{number}" for number in range(count)]


@cache
def _tags() -> dict[int, int]:
    """Return a hash tag for each slot."""
    tags: dict[int, int] = {}
    numbers = itertools.count()
    while len(tags) < SLOT_COUNT:
        number = next(numbers)
        tags.setdefault(key_slot(b"%d" % number), number)
    return tags


def fill(rig: Rig, slots: Iterable[int], *, each: int) -> dict[str, str]:
    """Write keys into slots; return what they hold."""
    held = {key: f"value of {key}" for slot in slots for key in keys_of(slot, each)}
    with rig.cluster() as client:
        pipeline = client.pipeline()
        for key, value in held.items():
            pipeline.set(key, value)
        pipeline.execute()
    return held


def read(rig: Rig, keys: Iterable[str]) -> dict[str, str | None]:
    """Return what a client of the cluster sees."""
    names = list(keys)
    with rig.cluster() as client:
        pipeline = client.pipeline()
        for name in names:
            pipeline.get(name)
        values = pipeline.execute()
    return {
        name: None if value is None else value.decode()
        for name, value in zip(names, values, strict=True)
    }


def _text(reply: object) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
