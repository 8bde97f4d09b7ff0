"""Every kind of bad input: how to make it, and how a run must report it.

A builder prepares a world and returns what to run the program with. Each is one line of the table
that `WRITE_BAD_INPUT=docs/bad-input.md pytest tests/contract/test_bad_input.py` writes.
"""

import http.server
import shutil
import socketserver
import subprocess
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.certificates import Certificate, make_ca, make_leaf, server_config
from tests.support.world import World

SERVICE = "redis-service.default.svc.cluster.local"
SOON = {"BOOTSTRAP_TIMEOUT": "3"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What to run the program with.

    Attributes:
        names: Words that the cause must hold: the pod, the variable.
        pods: Pods that must be as they were afterwards.
        restless: The pods change among themselves; only commands are compared.
    """

    variables: Mapping[str, str]
    names: tuple[str, ...]
    pods: tuple[Pod, ...] = ()
    restless: bool = False


@dataclass(slots=True)
class Stage:
    """Makes worlds that end with the test."""

    server: ServerBinary
    tls_server: Callable[[], ServerBinary]
    tmp_path: Path
    resources: ExitStack = field(default_factory=ExitStack)

    def world(self, *, nodes: int = 3, start: bool = True, **options: Any) -> World:
        """Return started pods that can make a cluster without replicas."""
        options.setdefault("server", self.server)
        world = self.resources.enter_context(World(nodes=nodes, **options))
        if start:
            world.start()
        return world

    def authority(self) -> tuple[Certificate, Certificate]:
        """Return a certificate authority and a certificate of the pods."""
        ca = make_ca(self.tmp_path, "ca")
        return ca, make_leaf(self.tmp_path, ca, "pods", f"*.{SERVICE}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A line of the table."""

    given: str
    code: int
    outcome: str
    build: Callable[[Stage], Given]
    marks: tuple[pytest.MarkDecorator, ...] = ()


CASES: list[Case] = []
_OUTCOMES = {2: "settings", 3: "refused", 5: "not_healthy"}

Builder = Callable[[Stage], Given]


def case(
    given: str, code: int, outcome: str | None = None, *marks: pytest.MarkDecorator
) -> Callable[[Builder], Builder]:
    """Add a builder to the table."""

    def add(build: Builder) -> Builder:
        CASES.append(
            Case(
                given=given, code=code, outcome=outcome or _OUTCOMES[code], build=build, marks=marks
            )
        )
        return build

    return add


def variables(world: World, **more: str) -> dict[str, str]:
    """Return a world's variables for a cluster without replicas, with some of them changed."""
    changed = {f"BOOTSTRAP_{name.upper()}": value for name, value in more.items()}
    return {**world.env(), "BOOTSTRAP_REPLICAS": "0", **changed}


def _settings(given: str, names: tuple[str, ...], **settings: str) -> None:
    changed = {f"BOOTSTRAP_{name.upper()}": value for name, value in settings.items()}
    CASES.append(
        Case(
            given=given,
            code=2,
            outcome="settings",
            build=lambda _: Given(variables=changed, names=names),
        )
    )


_settings("no `BOOTSTRAP_NODES`", ("BOOTSTRAP_NODES",))
_settings("`BOOTSTRAP_NODES=0`", ("BOOTSTRAP_NODES",), nodes="0")
_settings("`BOOTSTRAP_NODES=-6`", ("BOOTSTRAP_NODES",), nodes="-6")
_settings("`BOOTSTRAP_NODES=six`", ("BOOTSTRAP_NODES", "six"), nodes="six")
_settings("5 nodes with 1 replica each", ("BOOTSTRAP_NODES", "BOOTSTRAP_REPLICAS"), nodes="5")
_settings("4 nodes with 1 replica each", ("BOOTSTRAP_NODES", "BOOTSTRAP_REPLICAS"), nodes="4")
_settings("`BOOTSTRAP_REPLICAS=-1`", ("BOOTSTRAP_REPLICAS",), nodes="6", replicas="-1")
_settings("`BOOTSTRAP_PORT=70000`", ("BOOTSTRAP_PORT",), nodes="6", port="70000")
_settings("`BOOTSTRAP_TIMEOUT=soon`", ("BOOTSTRAP_TIMEOUT",), nodes="6", timeout="soon")
_settings("`BOOTSTRAP_TLS=maybe`", ("BOOTSTRAP_TLS",), nodes="6", tls="maybe")
_settings(
    "a password file that is not there",
    ("BOOTSTRAP_PASSWORD_FILE", "/nonexistent/password"),
    nodes="6",
    password_file="/nonexistent/password",
)
_settings(
    "a StatefulSet name of 53 characters",
    ("BOOTSTRAP_STATEFULSET", "52"),
    nodes="6",
    statefulset="a" * 53,
)
_settings(
    "a URL with a password in `BOOTSTRAP_ENDPOINTS`",
    ("BOOTSTRAP_ENDPOINTS", "URL"),
    endpoints="redis://:s3cret@redis-0:6379",
)


@case("a password file without a password", 2)
def _(stage: Stage) -> Given:
    path = stage.tmp_path / "password"
    path.write_text("\n")
    values = {"BOOTSTRAP_NODES": "6", "BOOTSTRAP_PASSWORD_FILE": str(path)}
    return Given(variables=values, names=("BOOTSTRAP_PASSWORD_FILE", str(path)))


@case("a password file that cannot be read", 2)
def _(stage: Stage) -> Given:
    # A directory, as root may read any file.
    values = {"BOOTSTRAP_NODES": "6", "BOOTSTRAP_PASSWORD_FILE": str(stage.tmp_path)}
    return Given(variables=values, names=("BOOTSTRAP_PASSWORD_FILE", str(stage.tmp_path)))


@case("a CA file that holds no certificate", 2)
def _(stage: Stage) -> Given:
    path = stage.tmp_path / "ca.crt"
    path.write_text("not a certificate")
    values = {"BOOTSTRAP_NODES": "6", "BOOTSTRAP_TLS": "true", "BOOTSTRAP_TLS_CA": str(path)}
    return Given(variables=values, names=("BOOTSTRAP_TLS_CA",))


def _client_certificate(stage: Stage, key: Path) -> dict[str, str]:
    """Return variables with the pods' certificate as client certificate, and this key."""
    ca, leaf = stage.authority()
    return {
        "BOOTSTRAP_NODES": "6",
        "BOOTSTRAP_TLS": "true",
        "BOOTSTRAP_TLS_CA": str(ca.cert),
        "BOOTSTRAP_TLS_CERT": str(leaf.cert),
        "BOOTSTRAP_TLS_KEY": str(key),
    }


@case("a client key that does not belong to the certificate", 2)
def _(stage: Stage) -> Given:
    values = _client_certificate(stage, stage.tmp_path / "ca.key")
    return Given(variables=values, names=("BOOTSTRAP_TLS_KEY", "does not match"))


@case("a client key with a passphrase", 2)
def _(stage: Stage) -> Given:
    encrypted = stage.tmp_path / "encrypted.key"
    values = _client_certificate(stage, encrypted)
    subprocess.run(
        ["openssl", "pkey", "-aes256", "-passout", "pass:x", "-in", "pods.key", "-out", encrypted],
        cwd=stage.tmp_path,
        check=True,
        capture_output=True,
    )
    return Given(variables=values, names=("BOOTSTRAP_TLS_KEY", "encrypted"))


@case("a Service name that never resolves", 5)
def _(stage: Stage) -> Given:
    world = stage.world()
    values = {**variables(world, service="redis-servise"), **SOON}
    return Given(variables=values, names=("redis-app-0",), pods=tuple(world.pods))


@case("a static endpoint whose name never resolves", 5)
def _(stage: Stage) -> Given:
    world = stage.world()
    hosts = [pod.fqdn for pod in world.pods[:2]] + ["redis-9.nowhere.cluster.local"]
    values = {**variables(world, endpoints=",".join(hosts)), **SOON}
    return Given(variables=values, names=("redis-9.nowhere.cluster.local",), pods=tuple(world.pods))


@case("a port that is closed", 5)
def _(stage: Stage) -> Given:
    world = stage.world()
    values = {**variables(world, port="6399"), **SOON}
    return Given(variables=values, names=("redis-app-0", "6399"), pods=tuple(world.pods))


@case("a port that takes connections and never answers", 5)
def _(stage: Stage) -> Given:
    world = stage.world()
    world.pods[1].pause()
    stage.resources.callback(world.pods[1].resume)
    values = variables(world, timeout="14")
    return Given(variables=values, names=("redis-app-1",), pods=(world.pods[0], world.pods[2]))


@case("a TLS port spoken to in plain", 2)
def _(stage: Stage) -> Given:
    server = stage.tls_server()
    ca, leaf = stage.authority()
    world = stage.world(server=server, config=server_config(ca, leaf, port=6379, mutual=False))
    values = {name: v for name, v in variables(world).items() if "_TLS" not in name}
    return Given(variables=values, names=("redis-app-", "TLS"), pods=tuple(world.pods))


@case("a port that asks for client certificates spoken to in plain", 2)
def _(stage: Stage) -> Given:
    server = stage.tls_server()
    ca, leaf = stage.authority()
    world = stage.world(server=server, config=server_config(ca, leaf, port=6379, mutual=True))
    values = {name: v for name, v in variables(world).items() if "_TLS" not in name}
    return Given(variables=values, names=("redis-app-", "TLS"), pods=tuple(world.pods))


@case("a port that asks for client certificates, and none given", 2)
def _(stage: Stage) -> Given:
    server = stage.tls_server()
    ca, leaf = stage.authority()
    world = stage.world(server=server, config=server_config(ca, leaf, port=6379, mutual=True))
    left_out = ("BOOTSTRAP_TLS_CERT", "BOOTSTRAP_TLS_KEY")
    values = {name: v for name, v in variables(world).items() if name not in left_out}
    return Given(variables=values, names=("redis-app-", "TLS"), pods=tuple(world.pods))


@case("a certificate of a CA that is not ours", 2)
def _(stage: Stage) -> Given:
    server = stage.tls_server()
    ca, leaf = stage.authority()
    world = stage.world(server=server, config=server_config(ca, leaf, port=6379, mutual=False))
    other = make_ca(stage.tmp_path, "other")
    values = variables(world, tls_ca=str(other.cert))
    return Given(variables=values, names=("redis-app-", "certificate"), pods=tuple(world.pods))


@case("a certificate for another name than the pod's", 2)
def _(stage: Stage) -> Given:
    server = stage.tls_server()
    ca = make_ca(stage.tmp_path, "ca")
    leaf = make_leaf(stage.tmp_path, ca, "pods", "redis.example.com")
    world = stage.world(server=server, config=server_config(ca, leaf, port=6379, mutual=False))
    return Given(
        variables=variables(world), names=("redis-app-", "certificate"), pods=tuple(world.pods)
    )


@case("a plain port spoken to in TLS", 2)
def _(stage: Stage) -> Given:
    world = stage.world()
    return Given(
        variables=variables(world, tls="true"), names=("redis-app-", "TLS"), pods=tuple(world.pods)
    )


@case("a web server behind the port", 2)
def _(stage: Stage) -> Given:
    endpoints = []
    for _ in range(3):
        web = socketserver.ThreadingTCPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
        web.daemon_threads = True
        threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
        stage.resources.callback(web.server_close)
        stage.resources.callback(web.shutdown)
        endpoints.append(f"127.0.0.1:{web.server_address[1]}")
    values = {"BOOTSTRAP_ENDPOINTS": ",".join(endpoints), "BOOTSTRAP_REPLICAS": "0"}
    return Given(variables=values, names=("127.0.0.1:", "other than Redis"))


@case("cluster mode off on one pod", 3)
def _(stage: Stage) -> Given:
    world = stage.world(start=False)
    world.pods[1].config["cluster-enabled"] = "no"
    world.start()
    return Given(variables=variables(world), names=("redis-app-1",), pods=tuple(world.pods))


@case("a wrong password", 2, "credentials")
def _(stage: Stage) -> Given:
    world = stage.world(password="right-password")
    values = variables(world, password="wrong-password")
    return Given(variables=values, names=("redis-app-", "WRONGPASS"), pods=tuple(world.pods))


@case("no password where one is needed", 2, "credentials")
def _(stage: Stage) -> Given:
    world = stage.world(password="right-password")
    values = variables(world, password="")
    return Given(variables=values, names=("redis-app-", "NOAUTH"), pods=tuple(world.pods))


@case("a password where none is needed", 2, "credentials")
def _(stage: Stage) -> Given:
    world = stage.world()
    values = variables(world, password="some-password")
    return Given(variables=values, names=("redis-app-", "AUTH"), pods=tuple(world.pods))


@case("an ACL user that is not there", 2, "credentials")
def _(stage: Stage) -> Given:
    world = stage.world()
    values = variables(world, username="nobody", password="some-password")
    return Given(variables=values, names=("redis-app-", "WRONGPASS"), pods=tuple(world.pods))


def _acl(command: str) -> None:
    @case(f"an ACL user without {command.upper()}", 2, "credentials")
    def _(stage: Stage) -> Given:
        world = stage.world()
        for pod in world.pods:
            rules = ("on", ">some-password", "+@all", f"-{command}")
            pod.command("ACL", "SETUSER", "bootstrap", *rules)
        values = variables(world, username="bootstrap", password="some-password")
        return Given(
            variables=values, names=("redis-app-", command.upper()), pods=tuple(world.pods)
        )


for _command in ("cluster", "config", "client", "info"):
    _acl(_command)


@case("a fresh pod with keys", 3)
def _(stage: Stage) -> Given:
    world = stage.world(start=False, appendonly=True)
    pod = world.pods[1]
    pod.config["cluster-enabled"] = "no"
    pod.start()
    pod.command("SET", "a", "1")
    pod.terminate()
    del pod.config["cluster-enabled"]
    world.start()
    return Given(variables=variables(world), names=("redis-app-1",), pods=tuple(world.pods))


def _introduce(*pods: Pod) -> None:
    for pod in pods[1:]:
        pods[0].command("CLUSTER", "MEET", pod.address, pod.port)
    rig.until(
        lambda: all(
            len(str(pod.command("CLUSTER", "NODES")).splitlines()) == len(pods)
            and "handshake" not in str(pod.command("CLUSTER", "NODES"))
            for pod in pods
        )
    )


@case("a pod of another cluster", 3)
def _(stage: Stage) -> Given:
    ours = stage.world()
    others = stage.world(nodes=2)
    foreign = others.pods[0]
    _introduce(*others.pods)
    foreign.command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    ours.dns.publish("redis-app-2", foreign.address)
    return Given(
        variables=variables(ours),
        names=("redis-app-2",),
        pods=(*ours.pods, *others.pods),
        restless=True,
    )


@case("two clusters that both own slots", 3)
def _(stage: Stage) -> Given:
    world = stage.world(nodes=6)
    for pods in (world.pods[:3], world.pods[3:]):
        _introduce(*pods)
        pods[0].command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    return Given(
        variables=variables(world),
        names=("redis-app-3",),
        pods=tuple(world.pods),
        restless=True,
    )


@case("two pods with one node id (a copied volume)", 3)
def _(stage: Stage) -> Given:
    world = stage.world(start=False)
    first, second, third = world.pods
    first.start()
    first.terminate()
    shutil.copy(first.directory / "nodes.conf", third.directory / "nodes.conf")
    world.start()
    assert second.is_running
    return Given(
        variables=variables(world), names=("redis-app-0", "redis-app-2"), pods=tuple(world.pods)
    )


@case("two pod names with one address", 3)
def _(stage: Stage) -> Given:
    world = stage.world()
    world.dns.publish("redis-app-2", world.pods[0].address)
    return Given(
        variables=variables(world, timeout="6"),  # it may be a cache's old record for half of that
        names=("redis-app-0", "redis-app-2"),
        pods=tuple(world.pods),
    )


@case("a live member that is not one of the configured pods", 3)
def _(stage: Stage) -> Given:
    world = stage.world(nodes=4)
    stray = world.pods[3]
    _introduce(*world.pods)
    world.pods[0].command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    values = variables(world, nodes="3")
    stray.publish(False)
    return Given(variables=values, names=(stray.address,), pods=tuple(world.pods), restless=True)


def _healthy(stage: Stage) -> World:
    """Return four pods of which the first three are a healthy cluster; the last is not started."""
    world = stage.world(nodes=4, start=False)
    for pod in world.pods[:3]:
        pod.start()
    result = rig.run(variables(world, nodes="3"))
    assert result.code == 0, result.stderr
    return world


@case("a copied volume beside a healthy cluster", 3)
def _(stage: Stage) -> Given:
    world = _healthy(stage)
    old, new = world.pods[2:]
    shutil.copy(old.directory / "nodes.conf", new.directory / "nodes.conf")
    new.start()
    return Given(
        variables=variables(world),
        names=("redis-app-2", "redis-app-3"),
        pods=tuple(world.pods),
        restless=True,
    )


@case(
    "a pod of another cluster beside a healthy one",
    3,
)
def _(stage: Stage) -> Given:
    world = _healthy(stage)
    others = stage.world(nodes=2)
    foreign = others.pods[0]
    _introduce(*others.pods)
    foreign.command("CLUSTER", "ADDSLOTSRANGE", 0, 100)
    world.dns.publish("redis-app-3", foreign.address)
    return Given(
        variables=variables(world),
        names=("redis-app-3",),
        pods=(*world.pods[:3], *others.pods),
        restless=True,
    )


class _Web(socketserver.ThreadingTCPServer):
    """Takes an address that a pod has just let go of."""

    allow_reuse_address = True


@case("a web server in place of one pod of a healthy cluster", 2)
def _(stage: Stage) -> Given:
    world = _healthy(stage)
    pod = world.pods[3]
    web = _Web((pod.address, pod.port), http.server.BaseHTTPRequestHandler)
    web.daemon_threads = True
    threading.Thread(target=web.serve_forever, args=(0.02,), daemon=True).start()
    stage.resources.callback(web.server_close)
    stage.resources.callback(web.shutdown)
    world.dns.publish(pod.name, pod.address)
    return Given(variables=variables(world), names=("redis-app-3",), pods=tuple(world.pods[:3]))
