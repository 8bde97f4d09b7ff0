"""What INFO says of memory and persistence."""

import pytest

from bootstrap.core.info_fields import data_bytes, persistence_errors, questions, replica_buffer

RDB = {"rdb_last_bgsave_status": "err"}


def test_data_is_what_an_empty_server_does_not_use() -> None:
    """Fields that a server does not print count as nothing."""
    info = {"used_memory": "1000", "used_memory_startup": "300", "mem_replication_backlog": "200"}
    assert data_bytes(info) == 500
    assert data_bytes({"used_memory": "10", "used_memory_startup": "30"}) == 0
    assert data_bytes({}) == 0


def test_a_failed_rdb_save_counts_where_writes_are_refused_because_of_it() -> None:
    """Refusing writes is the server's default, and needs save points."""
    assert persistence_errors(RDB, {}) == {"rdb_last_bgsave_status"}
    assert persistence_errors(RDB, {"save": "3600 1"}) == {"rdb_last_bgsave_status"}
    assert persistence_errors(RDB, {"save": ""}) == frozenset()
    assert persistence_errors(RDB, {"stop-writes-on-bgsave-error": "no"}) == frozenset()
    assert persistence_errors({"rdb_last_bgsave_status": "ok"}, {}) == frozenset()


def test_aof_errors_count_while_the_aof_is_on() -> None:
    """The fields stay behind when it was turned off."""
    info = {"aof_last_write_status": "err", "aof_last_bgrewrite_status": "err"}
    assert persistence_errors({**info, "aof_enabled": "1"}, {}) == info.keys()
    assert persistence_errors({**info, "aof_enabled": "0"}, {}) == frozenset()


def test_settings_are_asked_for_only_where_they_matter() -> None:
    """A server without trouble costs no second round trip."""
    assert questions({"rdb_last_bgsave_status": "ok"}) == ()
    assert questions(RDB) == ("save", "stop-writes-on-bgsave-error")
    assert questions({"min_slaves_good_slaves": "0"}) == ("min-replicas-to-write",)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ("normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60", 268435456),
        ("normal 0 0 0 replica 268435456 2000000 5 pubsub 1 1 1", 2000000),
        ("normal 0 0 0 slave 0 67108864 60 pubsub 1 1 1", 0),
        ("normal 0 0 0 slave 1000 0 0 pubsub 1 1 1", 1048576),
        ("normal 0 0 0", 0),
        ("", 0),
    ],
)
def test_the_buffer_of_a_replica_is_the_limit_that_strikes_first(
    limits: str, expected: int
) -> None:
    """The default's soft limit takes a minute; no limit is below the backlog."""
    config = {"client-output-buffer-limit": limits}
    assert replica_buffer({"repl_backlog_size": "1048576"}, config) == expected
