"""A node's view from its replies, as the servers have printed them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bootstrap.core.topology import NodeView, Place
from bootstrap.errors import (
    CredentialsError,
    InvariantError,
    NodeNotReadyError,
    RefusedError,
    SettingsError,
)
from bootstrap.net.connection import Access, RedisNode
from bootstrap.net.node_view import NodeReader
from bootstrap.net.replies import Command, ReplyError
from tests.support.builders import endpoint

CASES = Path(__file__).parent / "cases"
SERVERS = ["redis-6.2", "redis-7.0", "redis-8.6", "valkey-9.1"]
POD = endpoint(0)


def recorded(server: str) -> dict[str, Any]:
    """Return what a server of that version replied."""

    def text(name: str) -> bytes:
        return (CASES / f"{server}.{name}.txt").read_bytes()

    return {
        "INFO": text("info-server"),
        "CLUSTER INFO": text("cluster-info"),
        "CLUSTER NODES": text("member0.nodes"),
        "CONFIG GET": [],
        "CLUSTER HELP": text("cluster-help").splitlines(),
    }


def error(words: str) -> ReplyError:
    return ReplyError(words, node=POD.name, command="CONFIG GET")


def read(
    replies: Mapping[str, Any], *, needs_config: bool = True, shards: bool = False
) -> NodeView:
    """Return the view that a node with these replies gives."""
    client = RedisNode(name=POD.name, host=POD.host, ip="10.0.0.1", port=6379, access=Access())

    async def pipeline(_: RedisNode, commands: Sequence[Command], **_options: object) -> list[Any]:
        return [replies.get(" ".join(map(str, command[:2])), []) for command in commands]

    reader = NodeReader(needs_config=needs_config, patience_s=1.0)
    reader.bound(100)
    with mock.patch.object(RedisNode, "pipeline", pipeline):
        return asyncio.run(reader.read(POD, client, shards=shards))


@pytest.mark.parametrize("server", SERVERS)
def test_each_version_is_read(server: str) -> None:
    """Engine, version, epoch, members and known subcommands are those of the replies."""
    seen = read(recorded(server))
    engine, _, version = server.partition("-")
    assert seen.engine == engine
    assert ".".join(map(str, seen.version)).startswith(f"{version}.")
    assert seen.node_id in seen.known
    assert seen.address.ip == "10.0.0.1"
    assert seen.cluster_enabled
    assert not seen.state_ok
    assert read({**recorded(server), "CLUSTER INFO": b"cluster_state:ok"}).state_ok
    assert "MEET" in seen.commands
    assert seen.no_failover is None


def test_fields_come_from_info_and_settings() -> None:
    """A replica reports its own offset, and the settings add place, address and limits."""
    replies = recorded("redis-7.0")
    replies["INFO"] += (
        b"\r\nrole:slave\r\nmaster_link_status:down\r\nmaster_host:10.0.0.7\r\n"
        b"slave_repl_offset:11\r\nmaster_repl_offset:22\r\nused_memory:1000\r\n"
        b"maxmemory:2000\r\nmaxmemory_policy:allkeys-lru\r\nnumber_of_libraries:2\r\n"
        b"db0:keys=5,expires=0\r\n"
    )
    replies["CONFIG GET"] = [
        *("cluster-announce-ip", "10.9.9.9", "cluster-replica-no-failover", "yes"),
        *("cluster-announce-human-nodename", "zone-a/node-1"),
    ]
    seen = read(replies)
    assert (seen.link_up, seen.primary_ip, seen.replication_offset) == (False, "10.0.0.7", 11)
    assert (seen.used_memory, seen.max_memory, seen.keys) == (1000, 2000, 5)
    assert (seen.eviction_policy, seen.libraries, seen.no_failover) == ("allkeys-lru", 2, True)
    assert (seen.address.ip, seen.announced_ip) == ("10.9.9.9", "10.9.9.9")
    assert seen.place == Place(zone="zone-a", node="node-1")


def test_a_server_outside_cluster_mode_has_a_view() -> None:
    """The run id stands for a node id, so that the refusal can name the server."""
    run_id = "5" * 40
    info = f"redis_version:7.0.15\r\ncluster_enabled:0\r\nrun_id:{run_id}\r\ndb0:keys=3,x=0"
    seen = read({"INFO": info.encode()})
    assert not seen.cluster_enabled
    assert (seen.node_id, seen.run_id, seen.keys) == (run_id, run_id, 3)
    assert seen.version == (7, 0, 15)


def test_a_primary_that_loads_its_data_is_waited_for() -> None:
    """The counts of such a primary are not complete; a replica that loads is read."""
    replies = recorded("valkey-9.1")
    loading = replies["INFO"] + b"\r\nloading:1\r\nrole:"
    with pytest.raises(NodeNotReadyError, match="LOADING"):
        read({**replies, "INFO": loading + b"master"})
    assert read({**replies, "INFO": loading + b"slave"}).engine == "valkey"


def test_settings_may_be_hidden_but_not_forbidden() -> None:
    """A command that is disabled is no mistake; whoever only reads needs no CONFIG GET."""
    replies = recorded("redis-7.0")
    renamed = {**replies, "CONFIG GET": error("ERR unknown command 'CONFIG'")}
    assert read(renamed).no_failover is None
    denied = {
        **replies,
        "CONFIG GET": error("NOPERM this user has no permissions to run the 'config|get'"),
    }
    assert read(denied, needs_config=False).no_failover is None
    with pytest.raises(CredentialsError):
        read(denied)


def test_replies_that_cannot_be_read_name_the_pod() -> None:
    """Other servers, malformed replies and host names as addresses are declared errors."""
    replies = recorded("redis-7.0")
    announced = {**replies, "CONFIG GET": ["cluster-announce-ip", "my-host"]}
    # As a server prints it: what it announces is its own address in its own view.
    announced["CLUSTER NODES"] = replies["CLUSTER NODES"].replace(b"127.0.77.1", b"my-host")
    for wrong, kind in (
        ({**replies, "INFO": b"nginx:1"}, SettingsError),
        ({**replies, "CLUSTER NODES": b"nonsense"}, InvariantError),
        ({**replies, "CLUSTER INFO": None}, InvariantError),
        (announced, RefusedError),
    ):
        with pytest.raises(kind) as caught:
            read(wrong)
        assert getattr(caught.value, "node", None) == POD.name


@pytest.mark.parametrize("server", SERVERS)
def test_shard_ids_are_asked_for_where_they_exist(server: str) -> None:
    """Servers before 7.2 do not know the command."""
    replies = {**recorded(server), "CLUSTER SHARDS": []}
    assert read(replies).shards is None
    knows = server in {"redis-8.6", "valkey-9.1"}
    assert read(replies, shards=True).shards == (frozenset() if knows else None)


def test_shard_ids_are_not_asked_of_a_node_that_sees_a_replica_of_a_replica() -> None:
    """In mid-failover two can seem to follow each other, and a server would never answer."""
    mine, other = "a" * 40, "b" * 40
    lines = (
        f"{mine} 10.0.0.1:6379@16379 myself,slave {other} 0 0 1 connected\n"
        f"{other} 10.0.0.2:6379@16379 {{flags}} {{primary}} 0 0 2 connected 0-16383\n"
    )
    replies = {**recorded("redis-8.6"), "CLUSTER SHARDS": []}

    def shards(flags: str, primary: str) -> object:
        nodes = lines.format(flags=flags, primary=primary).encode()
        return read({**replies, "CLUSTER NODES": nodes}, shards=True).shards

    assert shards("master", "-") == frozenset()
    assert shards("master", mine) is None
    assert shards("slave", mine) is None
