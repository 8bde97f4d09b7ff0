"""Asks one node what it sees, and makes a view of its replies.

One look costs one round trip: INFO, CLUSTER INFO, CLUSTER NODES, CONFIG GET and, while the
connection is new, CLUSTER HELP go out in one pipeline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..core import info_fields, wire
from ..core.topology import Address, Endpoint, NodeId, NodeView
from ..core.wire import Reply
from ..errors import NodeNotReadyError
from .connection import RedisNode, ReplyError, text

_LOOK = (
    ("INFO",),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "NODES"),
    ("CONFIG", "GET", "cluster-*"),
    ("CLUSTER", "HELP"),
)


async def read(
    endpoint: Endpoint,
    client: RedisNode,
    *,
    commands: frozenset[str] | None,
    shards: bool,
    cache: wire.LineCache,
    patience_s: float,
) -> NodeView:
    """Return what a node says now.

    Args:
        endpoint: Who it is to us.
        client: The connection to it.
        commands: What CLUSTER HELP told on this connection; None to ask for it.
        shards: Ask for CLUSTER SHARDS too, where shard ids exist (7.2) and the connection is old.
        cache: Lines that were read before.
        patience_s: How long it may take to answer.

    Raises:
        NodeNotReadyError: It loads its data.
        BootstrapError: See `RedisNode.pipeline`.
        ReplyError: It does not know a command, or cannot serve it now.
        WireError: Its reply cannot be read.
    """
    look = list(_LOOK if commands is None else _LOOK[:4])
    if shards and commands is not None and "MYSHARDID" in commands:
        look.append(("CLUSTER", "SHARDS"))
    replies = await client.pipeline(look, timeout_s=patience_s)
    info_reply, cluster_info, nodes_reply, config_reply = replies[:4]
    info = wire.parse_info(text(client.require(look[0], info_reply)))
    if info.get("loading") == "1" and info.get("role") == "master":
        # Valkey answers CLUSTER NODES while it loads, and what it counts is not all it holds.
        raise NodeNotReadyError(
            node=client.name,
            cause=f"{client.name} is not ready: LOADING its data",
            remedy="wait until it has loaded its data, or look at its log",
        )
    if info.get("cluster_enabled") == "0":
        return _outside_cluster(endpoint, info)
    state = wire.parse_info(text(client.require(look[1], cluster_info)))
    nodes = wire.parse_nodes(text(client.require(look[2], nodes_reply)), cache)
    config = {
        **_config(client, config_reply),
        **await _settings(client, info_fields.questions(info), patience_s),
    }
    if commands is None:
        # Redis before 5 has no HELP; its version is refused later.
        help_reply = () if isinstance(replies[4], ReplyError) else replies[4]
        commands = wire.parse_commands(help_reply)
    grouped = (
        wire.parse_shards(client.require(look[-1], replies[-1]))
        if look[-1] == ("CLUSTER", "SHARDS")
        else None
    )
    view = _node_view(endpoint, client.ip, info, state, config, nodes)
    return replace(view, commands=commands, shards=grouped)


async def _settings(
    client: RedisNode, names: Sequence[str], patience_s: float
) -> Mapping[str, str]:
    """Return further settings; one command for each, as several names need 7.0."""
    commands = [("CONFIG", "GET", name) for name in names]
    replies = await client.pipeline(commands, timeout_s=patience_s) if commands else ()
    return dict(pair for reply in replies for pair in _config(client, reply).items())


def _config(client: RedisNode, reply: Reply | ReplyError) -> Mapping[str, str]:
    """Return the settings; none where CONFIG was renamed away, which is no mistake."""
    if isinstance(reply, ReplyError) and reply.code != "NOPERM":
        return {}
    return wire.parse_pairs(client.require(("CONFIG", "GET"), reply))


def _node_view(
    endpoint: Endpoint,
    ip: str,
    info: Mapping[str, str],
    state: Mapping[str, str],
    config: Mapping[str, str],
    nodes: wire.NodesReply,
) -> NodeView:
    engine, version = wire.parse_version(info)
    own = nodes.known[nodes.node_id].address
    announced = config.get("cluster-announce-ip", "")
    no_failover = config.get("cluster-replica-no-failover")
    offset = info.get("slave_repl_offset", info.get("master_repl_offset", "0"))
    return NodeView(
        endpoint=endpoint,
        address=Address(ip=announced or ip, port=own.port, cport=own.cport),
        announced_ip=announced,
        node_id=nodes.node_id,
        run_id=info.get("run_id", ""),
        engine=engine,
        version=version,
        known=nodes.known,
        handshakes=nodes.handshakes,
        migrating=nodes.migrating,
        importing=nodes.importing,
        state_ok=state.get("cluster_state") == "ok",
        current_epoch=int(state.get("cluster_current_epoch", 0)),
        keys=wire.count_keys(info),
        link_up=info.get("master_link_status", "up") == "up",
        primary_ip=info.get("master_host", ""),
        replication_offset=int(offset),
        used_memory=int(info.get("used_memory", 0)),
        data_bytes=info_fields.data_bytes(info),
        max_memory=int(info.get("maxmemory", 0)),
        eviction_policy=info.get("maxmemory_policy", "noeviction"),
        persistence_errors=info_fields.persistence_errors(info, config),
        min_replicas_to_write=int(config.get("min-replicas-to-write", 0)),
        no_failover=None if no_failover is None else no_failover == "yes",
        libraries=int(info.get("number_of_libraries", 0)),
        place=wire.parse_place(info, config),
    )


def _outside_cluster(endpoint: Endpoint, info: Mapping[str, str]) -> NodeView:
    """Return the view of a server without cluster mode, which has no id and knows nobody."""
    engine, version = wire.parse_version(info)
    address = Address(ip=endpoint.addresses[0], port=endpoint.port, cport=0)
    node_id = NodeId(info.get("run_id", endpoint.name))
    own = wire.parse_nodes(f"{node_id} {address}@0 myself,master - 0 0 0 connected")
    return NodeView(
        endpoint=endpoint,
        address=address,
        node_id=node_id,
        run_id=node_id,
        engine=engine,
        version=version,
        known=own.known,
        cluster_enabled=False,
        keys=wire.count_keys(info),
    )
