"""MIGRATE goes where the servers speak among themselves, and gives up before it does harm."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap.core.slots import SlotSet
from bootstrap.errors import RefusedError, StaleViewError
from bootstrap.net.connection import Access
from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support.certificates import make_ca, make_leaf
from tests.support.migration_rig import Rig, fill, read, running, wait_until
from tests.support.rig import info_of

pytestmark = pytest.mark.redis

TLS_PORT = 6380
DEAD_PORT = 6999
SLOTS = SlotSet.span(0, 99)


@pytest.fixture
def named(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """The server that the test names."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


@pytest.mark.parametrize("named", ["redis-7.0", "redis-8.0", "valkey-8.1"], indirect=True)
@pytest.mark.parametrize("program", ["plain", "tls"])
@pytest.mark.parametrize("tls_cluster", ["yes", "no"])
# A TLS connection of asyncio is closed after the loop of the test has ended.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_port_and_protocol_are_those_of_the_servers(
    named: ServerBinary, program: str, tls_cluster: str, tmp_path: Path
) -> None:
    """With both ports open, the source's tls-cluster decides, not how this program connects."""
    ca = make_ca(tmp_path, "ca")
    leaf = make_leaf(tmp_path, ca, "pods", "*.redis-service.default.svc.cluster.local")
    config = {
        "tls-port": str(TLS_PORT),
        "tls-cluster": tls_cluster,
        "tls-cert-file": str(leaf.cert),
        "tls-key-file": str(leaf.key),
        "tls-ca-cert-file": str(ca.cert),
        "tls-auth-clients": "no",
    }
    with running(named, config=config) as rig:
        held = fill(rig, SLOTS, each=3)
        if program == "tls":
            rig.access = Access(tls=ssl.create_default_context(cafile=str(ca.cert)))
            rig.port = TLS_PORT
        rig.move((0, 2, SLOTS))
        assert SLOTS - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held


@contextlib.contextmanager
def silent_listener(address: str) -> Iterator[list[socket.socket]]:
    """Take connections to the dead port of an address, and never answer."""
    taken: list[socket.socket] = []
    with socket.create_server((address, DEAD_PORT)) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield taken
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
            for connection in taken:
                connection.close()


def migrates(rig: Rig) -> int:
    """Return how many MIGRATE commands the source was sent."""
    stats = info_of(rig.pods[0], "INFO", "commandstats").get("cmdstat_migrate", "calls=0,")
    return int(stats.partition("calls=")[2].partition(",")[0])


@pytest.mark.parametrize("named", ["redis-6.2", "redis-7.0", "valkey-8.1"], indirect=True)
@pytest.mark.parametrize("is_silent", [True, False])
def test_target_that_cannot_be_reached_is_given_up(named: ServerBinary, *, is_silent: bool) -> None:
    """One MIGRATE is sent a pass, the slots are closed again, and the third pass is refused."""
    with running(named) as rig, contextlib.ExitStack() as stack:
        held = fill(rig, SLOTS, each=3)
        target = rig.pods[2]
        if is_silent:
            stack.enter_context(silent_listener(target.address))
        target.command("CONFIG", "SET", "cluster-announce-port", DEAD_PORT)
        for count, kind in enumerate((StaleViewError, StaleViewError, RefusedError), 1):
            with pytest.raises(kind) as caught:
                rig.move((0, 2, SLOTS))
            assert caught.value.command == "MIGRATE"
            assert caught.value.node == "redis-app-0"
            assert f"{target.address}:{DEAD_PORT}" in caught.value.cause
            assert "redis-app-2" in caught.value.remedy
            assert migrates(rig) == count
        assert not any(node.open_slots for node in rig.observe().nodes)
        target.command("CONFIG", "SET", "cluster-announce-port", 0)
        rig.move((0, 2, SLOTS))
        assert SLOTS - rig.owners_when_agreed()[2] == SlotSet()
        wait_until(lambda: str(DEAD_PORT) not in str(rig.pods[0].command("CLUSTER", "NODES")))
        assert read(rig, held) == held


@pytest.mark.parametrize("named", ["redis-7.0"], indirect=True)
def test_target_without_the_protocol_of_the_source_is_refused(
    named: ServerBinary, tmp_path: Path
) -> None:
    """A source that speaks TLS to its peers cannot send keys to a target without a TLS port."""
    ca = make_ca(tmp_path, "ca")
    leaf = make_leaf(tmp_path, ca, "pods", "*.redis-service.default.svc.cluster.local")
    with running(named) as rig:
        fill(rig, SLOTS, each=1)
        source = rig.pods[0]
        for name, value in (
            ("tls-cert-file", leaf.cert),
            ("tls-key-file", leaf.key),
            ("tls-ca-cert-file", ca.cert),
        ):
            source.command("CONFIG", "SET", name, str(value))
        source.command("CONFIG", "SET", "tls-port", TLS_PORT)
        source.command("CONFIG", "SET", "tls-cluster", "yes")
        with pytest.raises(RefusedError) as caught:
            rig.move((0, 2, SLOTS))
        assert caught.value.node == "redis-app-2"
        assert "tls-port" in caught.value.cause
        assert not any(node.open_slots for node in rig.observe().nodes)


@pytest.mark.parametrize("named", ["redis-6.2", "redis-7.0", "valkey-8.1"], indirect=True)
@pytest.mark.parametrize("password", ["keys", "KEYS"])
def test_password_that_is_a_word_of_migrate(named: ServerBinary, password: str) -> None:
    """A server before 7.0 that takes the password for the word KEYS still sends every key."""
    with running(named, password=password) as rig:
        held = fill(rig, SLOTS, each=3)
        with rig.client(0) as client:
            client.set("", "the key without a name")
        rig.open_both(0, 0, 2)
        rig.move((0, 2, SLOTS))
        assert SLOTS - rig.owners_when_agreed()[2] == SlotSet()
        assert read(rig, held) == held
        with rig.client(2) as client:
            assert client.get("") == b"the key without a name"
