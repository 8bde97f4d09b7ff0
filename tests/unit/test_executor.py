"""The order in which actions reach the servers, with servers that are made up."""

import asyncio
from typing import Any, cast

import pytest

from bootstrap.core.actions import Failover, FailoverMode
from bootstrap.core.findings import FindingCode
from bootstrap.errors import StaleViewError
from bootstrap.net.executor import Executor
from bootstrap.net.pool import ConnectionPool
from bootstrap.net.replies import ReplyError
from tests.support.builders import node_id, view

SEEN = view("3x1")
PLAN = [
    Failover(node=node_id(number), mode=FailoverMode.COORDINATED, reason=FindingCode.MEMBER_LEAVING)
    for number in (3, 4, 5)
]


class Servers:
    """A pool whose servers become primary after the second question for their role."""

    def __init__(self, stop: asyncio.Event, refusing: str = "", last: str = "") -> None:
        self.stop, self.refusing, self.last = stop, refusing, last
        self.name, self.said, self.asked = "", [], {}  # type: str, list[str], dict[str, int]

    def client(self, name: str) -> "Servers":
        """Return the connection to a pod."""
        self.name = name
        return self

    async def write(self, *_command: str) -> None:
        """Note a hand-over."""
        self.said.append(f"{self.name} starts")
        if self.name == self.refusing:
            raise ReplyError("ERR no", node=self.name, command="CLUSTER FAILOVER")

    async def call(self, *_command: str) -> list[Any]:
        """Answer what role a server has."""
        name = self.name
        await asyncio.sleep(0)
        self.asked[name] = self.asked.get(name, 0) + 1
        if self.asked[name] < 2:
            return [b"slave"]
        self.said.append(f"{name} ends")
        if name == self.last:
            self.stop.set()
        return [b"master"]


def apply(refusing: str = "", last: str = "") -> tuple[Servers, Executor]:
    stop = asyncio.Event()
    servers = Servers(stop, refusing, last)
    one = Executor(pool=cast("ConnectionPool", servers), stop=stop, on_progress=lambda _: None)
    asyncio.run(one.apply(SEEN, PLAN))
    return servers, one


def test_failovers_come_one_after_the_other() -> None:
    """Of elections at the same time some are lost, so each ends before the next begins."""
    servers, one = apply()
    names = [SEEN.by_id()[action.node].name for action in PLAN]
    assert servers.said == [f"{name} {what}" for name in names for what in ("starts", "ends")]
    assert one.totals.actions == 3


def test_failover_that_fails_does_not_keep_others_waiting() -> None:
    """The others are tried before the failure is raised."""
    first, second, third = (SEEN.by_id()[action.node].name for action in PLAN)
    servers = Servers(asyncio.Event(), first)
    one = Executor(
        pool=cast("ConnectionPool", servers), stop=servers.stop, on_progress=lambda _: None
    )
    with pytest.raises(StaleViewError):
        asyncio.run(one.apply(SEEN, PLAN))
    assert [said for said in servers.said if "ends" in said] == [f"{second} ends", f"{third} ends"]


def test_no_failover_begins_after_a_stop() -> None:
    """What is under way ends; what was not begun is left to the next run."""
    servers, one = apply(last=SEEN.by_id()[PLAN[0].node].name)
    assert len(servers.said) == 2
    assert one.totals.actions == 1
