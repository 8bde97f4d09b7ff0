"""Asks one node what it sees, and makes a view of its replies.

It costs one round trip: INFO, CLUSTER INFO, CLUSTER NODES, CONFIG GET and, while the connection is
new, CLUSTER HELP go out in one pipeline. CLUSTER SHARDS, where it is wanted, is a second one.

Rule: CLUSTER SHARDS is sent only right after a CLUSTER NODES in which no replica replicates another
one (decision 24). A server looks for the primary of a shard by following replicas; in the middle of
a failover, when a late message shows two nodes as replicas of each other, that never ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ..core import info_fields, parsing
from ..core.parsing import Reply
from ..core.topology import Address, Endpoint, KnownNode, NodeId, NodeView
from ..errors import RefusedError, SettingsError
from .connection import RedisNode
from .replies import ReplyError, reading, text

_COMMANDS = (
    ("INFO",),
    ("CLUSTER", "INFO"),
    ("CLUSTER", "NODES"),
    ("CONFIG", "GET", "cl*"),  # cluster-* and client-output-buffer-limit
    ("CLUSTER", "HELP"),
)


@dataclass(slots=True, kw_only=True)
class NodeReader:
    """Asks nodes, and remembers what need not be asked or read twice.

    Attributes:
        needs_config: Whether CONFIG GET must be allowed; it also reveals passwords, and whoever
            only reads does without announced addresses and places.
        patience_s: How long a node may take to answer.
    """

    needs_config: bool
    patience_s: float
    _commands: dict[str, frozenset[str]] = field(default_factory=dict)
    _cache: parsing.LineCache = field(default_factory=dict)
    _most: int = 0

    def bound(self, most: int) -> None:
        """Set how many nodes one of them may know, and how many lines are remembered."""
        self._most = most
        if len(self._cache) > most:
            self._cache.clear()

    async def read(self, endpoint: Endpoint, client: RedisNode, *, shards: bool) -> NodeView:
        """Return what a node says now.

        `shards` asks for CLUSTER SHARDS too, where shard ids exist (7.2) and it is safe.

        Raises:
            BootstrapError: See `RedisNode.pipeline` and `RedisNode.require`.
        """
        commands = self._commands.get(endpoint.name) if client.is_connected else None
        asked = _COMMANDS if commands is None else _COMMANDS[:4]
        replies = await client.pipeline(asked, timeout_s=self.patience_s)
        with reading(client.name, "INFO"):
            info = parsing.parse_info(text(client.require(replies[0])))
            _check_server(client, info)
            if info.get("cluster_enabled") == "0":
                self._commands[endpoint.name] = frozenset()
                return _outside_cluster(endpoint, info)
        with reading(client.name, "CLUSTER INFO"):
            state = parsing.parse_info(text(client.require(replies[1])))
        with reading(client.name, "CONFIG GET"):
            config = _config(client, replies[3], is_needed=self.needs_config)
            _announced_ip(endpoint, config)  # before CLUSTER NODES, which cannot be read with it
        with reading(client.name, "CLUSTER NODES"):
            lines = text(client.require(replies[2]))
            nodes = parsing.parse_nodes(lines, self._cache, most=self._most)
        if commands is None:
            with reading(client.name, "CLUSTER HELP"):
                # Redis before 5 has no HELP; its version is refused later.
                help_reply = () if isinstance(replies[4], ReplyError) else replies[4]
                commands = parsing.parse_commands(help_reply)
        grouped = None
        if shards and "MYSHARDID" in commands and not _has_chain(nodes.known):
            (reply,) = await client.pipeline([("CLUSTER", "SHARDS")], timeout_s=self.patience_s)
            with reading(client.name, "CLUSTER SHARDS"):
                grouped = parsing.parse_shards(client.require(reply))
        with reading(client.name, "CONFIG GET"):
            if config:
                config |= await self._further_settings(client, info)
        with reading(client.name, "INFO and CLUSTER INFO"):
            view = _node_view(endpoint, client.ip, info, state, config, nodes)
        self._commands[endpoint.name] = commands
        return replace(view, commands=commands, shards=grouped)

    async def _further_settings(self, client: RedisNode, info: Mapping[str, str]) -> dict[str, str]:
        # One command for each, as several names need 7.0.
        asked = [("CONFIG", "GET", name) for name in info_fields.questions(info)]
        found: dict[str, str] = {}
        for reply in await client.pipeline(asked, timeout_s=self.patience_s):
            found |= _config(client, reply, is_needed=True)
        return found


def _has_chain(known: Mapping[NodeId, KnownNode]) -> bool:
    """Return whether a replica replicates a replica."""
    primaries = (known.get(line.primary_id) for line in known.values() if line.primary_id)
    return any(primary is not None and primary.primary_id for primary in primaries)


def _check_server(client: RedisNode, info: Mapping[str, str]) -> None:
    if "redis_version" not in info:
        raise SettingsError(
            node=client.name,
            cause=f"{client.name}: something other than Redis answers on {client.ip} port "
            f"{client.port}: its INFO has no redis_version",
            remedy="check BOOTSTRAP_PORT",
        )
    if info.get("loading") == "1" and info.get("role") == "master":
        # Valkey answers CLUSTER NODES while it loads, and what it counts is not all it holds.
        raise ReplyError("LOADING its data", node=client.name, command="INFO").not_ready()


def _config(client: RedisNode, reply: Reply | ReplyError, *, is_needed: bool) -> dict[str, str]:
    """Return the settings; none where CONFIG was renamed away, which is no mistake."""
    if isinstance(reply, ReplyError) and (reply.code != "NOPERM" or not is_needed):
        return {}
    return parsing.parse_pairs(client.require(reply))


def _node_view(
    endpoint: Endpoint,
    ip: str,
    info: Mapping[str, str],
    state: Mapping[str, str],
    config: Mapping[str, str],
    nodes: parsing.NodesReply,
) -> NodeView:
    engine, version = parsing.parse_version(info)
    announced = _announced_ip(endpoint, config)
    no_failover = config.get("cluster-replica-no-failover")
    offset = "slave_repl_offset" if "slave_repl_offset" in info else "master_repl_offset"
    return NodeView(
        endpoint=endpoint,
        address=replace(nodes.known[nodes.node_id].address, ip=announced or ip),
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
        current_epoch=parsing.number(state, "cluster_current_epoch"),
        keys=parsing.count_keys(info),
        link_up=info.get("master_link_status", "up") == "up",
        primary_ip=info.get("master_host", ""),
        replication_offset=parsing.number(info, offset),
        used_memory=parsing.number(info, "used_memory"),
        data_bytes=info_fields.data_bytes(info),
        max_memory=parsing.number(info, "maxmemory"),
        eviction_policy=info.get("maxmemory_policy", "noeviction"),
        persistence_errors=info_fields.persistence_errors(info, config),
        min_replicas_to_write=parsing.number(config, "min-replicas-to-write"),
        replica_buffer=info_fields.replica_buffer(info, config),
        node_timeout_s=parsing.number(config, "cluster-node-timeout", 15000) / 1000,
        no_failover=None if no_failover is None else no_failover == "yes",
        libraries=parsing.number(info, "number_of_libraries"),
        databases=parsing.number(config, "cluster-databases"),
        highest_database=parsing.highest_database(info),
        place=parsing.parse_place(info, config),
    )


def _announced_ip(endpoint: Endpoint, config: Mapping[str, str]) -> str:
    announced = config.get("cluster-announce-ip", "")
    try:
        return parsing.parse_ip(announced) if announced else ""
    except parsing.ParseError as error:
        raise RefusedError(
            node=endpoint.name,
            cause=f"cluster-announce-ip of {endpoint.name} is {error}",
            remedy="set it to an IP address; a host name belongs in cluster-announce-hostname",
        ) from error


def _outside_cluster(endpoint: Endpoint, info: Mapping[str, str]) -> NodeView:
    """Return the view of a server without cluster mode, which has no id and knows no other node."""
    engine, version = parsing.parse_version(info)
    address = Address(ip=endpoint.addresses[0], port=endpoint.port, cport=0)
    node_id = parsing.parse_id(info.get("run_id", ""))
    own = parsing.parse_nodes(f"{node_id} {address}@0 myself,master - 0 0 0 connected")
    return NodeView(
        endpoint=endpoint,
        address=address,
        node_id=node_id,
        run_id=node_id,
        engine=engine,
        version=version,
        known=own.known,
        cluster_enabled=False,
        keys=parsing.count_keys(info),
    )
