"""Reads what INFO says of memory and persistence, where more than one field counts.

Rules: a field that a server does not print counts as nothing; the names of fields are those of
`INFO`, and reach people as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

# What an empty server uses too, or what comes and goes with its connections: genRedisInfoString.
_NO_DATA = (
    "used_memory_startup",
    "mem_clients_normal",
    "mem_clients_slaves",
    "mem_cluster_links",
    "mem_replication_backlog",
    "mem_aof_buffer",
)
_AOF_ERRORS = ("aof_last_write_status", "aof_last_bgrewrite_status")
RDB_ERROR = "rdb_last_bgsave_status"
_LONG_S = 60


def data_bytes(info: Mapping[str, str]) -> int:
    """Return the bytes of memory that the keys take, as far as INFO shows.

    `used_memory_dataset` leaves out the hash tables of the keys, which move with them.
    """
    other = sum(int(info.get(name) or 0) for name in _NO_DATA)
    return max(0, int(info.get("used_memory") or 0) - other)


def persistence_errors(info: Mapping[str, str], config: Mapping[str, str]) -> frozenset[str]:
    """Return the INFO fields of persistence that say `err`.

    A failed RDB save counts only where the server answers writes with MISCONF because of it
    (writeCommandsDeniedByDiskError): with save points, and unless `stop-writes-on-bgsave-error`
    is `no`. What CONFIG does not show counts as the server's default.
    """
    stops = config.get("stop-writes-on-bgsave-error") != "no" and config.get("save") != ""
    rdb = {RDB_ERROR} if stops and info.get(RDB_ERROR) == "err" else set()
    aof = _AOF_ERRORS if info.get("aof_enabled") == "1" else ()
    return frozenset(rdb | {name for name in aof if info.get(name) == "err"})


def replica_buffer(info: Mapping[str, str], config: Mapping[str, str]) -> int:
    """Return how many bytes of writes may wait for a replica before it is dropped; 0 for no limit.

    A soft limit counts where it is tolerated for less than the default's minute. A limit below the
    replication backlog has no effect (checkClientOutputBufferLimits in networking.c, since 7.0).
    """
    words = config.get("client-output-buffer-limit", "").split()
    for name in ("slave", "replica"):
        if name in words:
            hard, soft, seconds = map(int, words[words.index(name) + 1 :][:3])
            limits = [each for each in (hard, soft if seconds < _LONG_S else 0) if each]
            backlog = int(info.get("repl_backlog_size") or 0)
            return max(min(limits), backlog) if limits else 0
    return 0


def questions(info: Mapping[str, str]) -> tuple[str, ...]:
    """Return the settings that matter for what INFO says; asked only where they do.

    `min_slaves_good_slaves` is printed only where `min-replicas-to-write` is set.
    """
    asked = ["save", "stop-writes-on-bgsave-error"] if info.get(RDB_ERROR) == "err" else []
    if "min_slaves_good_slaves" in info:
        asked.append("min-replicas-to-write")
    return tuple(asked)
