"""Who may come in: TLS verified against the pod's name, ACL users with no more than they need."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from bootstrap.sandbox.errors import ReplyError
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.certificates import Certificate, make_ca, make_leaf, server_config
from tests.support.reconciling import reconciling
from tests.support.rig import alone
from tests.support.world import World

pytestmark = [pytest.mark.redis, pytest.mark.slow]

SERVICE = "redis-service.default.svc.cluster.local"
DOCUMENT = rig.ROOT / "docs" / "acl.md"
PASSWORD = "least-privilege"
KEYS = 60


@pytest.fixture(params=["redis-6.2", "redis-7.0", "redis-8.6", "embedded"])
def acl_server(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """A server of each way to move slots."""
    if request.param == "embedded":
        server: ServerBinary = request.getfixturevalue("server")
        return server
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


def rules_for(version: tuple[int, int, int], *, user: str = "bootstrap") -> list[str]:
    modern, oldest = re.findall(
        rf"```acl\nuser {user} on >PASSWORD (.*)\n```", DOCUMENT.read_text()
    )
    return str(modern if version >= (7, 0, 0) else oldest).split()


def add_user(pod: Pod, rules: list[str]) -> None:
    pod.command("ACL", "SETUSER", "bootstrap", "reset", "on", f">{PASSWORD}", *rules)


def fill(pods: list[Pod]) -> int:
    """Write keys wherever they belong, and a function library where there are some."""
    count = 0
    for number in range(KEYS):
        for pod in pods:
            try:
                pod.command("SET", f"key:{number}", "value")
                count += 1
            except ReplyError:
                continue
    return count


def test_documented_user_is_enough(acl_server: ServerBinary) -> None:
    """The user of docs/acl.md creates, grows and shrinks a cluster, and is denied nothing."""
    with World(nodes=4, server=acl_server) as world:
        world.start()
        for pod in world.pods:
            add_user(pod, rules_for(acl_server.version))
        user = {"username": "bootstrap", "password": PASSWORD}
        assert rig.run(alone(world, nodes="3", **user)).code == 0
        assert fill(world.pods[:3]) == KEYS
        for nodes in ("4", "3"):
            result = rig.run(alone(world, nodes=nodes, **user))
            assert result.code == 0, result.stderr
            assert int(str(result.last["keys_moved"])) > 0
        assert rig.faults(world, replicas=0, pods=world.pods[:3]) == []
        assert sum(int(str(pod.command("DBSIZE"))) for pod in world.pods) == KEYS
        assert [pod.command("ACL", "LOG") for pod in world.pods] == [[]] * 4


def test_documented_observer_is_enough(acl_server: ServerBinary) -> None:
    """Status and wait do with the user that only reads; plan needs CONFIG GET and says so."""
    rules = rules_for(acl_server.version, user="observer")
    with World(nodes=3, server=acl_server) as world:
        world.start()
        for pod in world.pods:
            add_user(pod, rules)
        user = alone(world, username="bootstrap", password=PASSWORD)
        assert rig.run(user, "status").code == 5
        refused = rig.run(user, "plan")
        assert refused.code == 2
        assert "+config|get" in refused.stdout + refused.stderr
        assert rig.run(alone(world)).code == 0
        for command in ("status", "wait"):
            result = rig.run(user, command)
            assert result.code == 0, result.stdout + result.stderr
        for pod in world.pods:
            add_user(pod, [*rules, "+config|get"])
            pod.command("ACL", "LOG", "RESET")
        assert rig.run(user, "plan", "--exit-code").code == 0
        assert [pod.command("ACL", "LOG") for pod in world.pods] == [[]] * 3


def without_rule(world: World, rules: list[str], rule: str, **settings: str) -> str:
    """Run with a user that lacks one rule; return what is wrong with how it ends."""
    for pod in world.pods:
        add_user(pod, [r for r in rules if r != rule])
    result = rig.run(alone(world, username="bootstrap", password=PASSWORD, **settings))
    named = str(result.last.get("remedy", ""))
    if result.code == 2 and rule in named and str(result.last.get("node", "")).startswith("redis-"):
        return ""
    return f"{rule}: {result.code}, {result.last.get('cause')}; {named}"


LIBRARY = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"


def test_every_missing_rule_is_named(acl_server: ServerBinary) -> None:
    """Creating, growing and shrinking end with exit code 2 at the first rule that is missing."""
    rules = rules_for(acl_server.version)
    is_modern = acl_server.version >= (7, 0, 0)
    has_own_migration = acl_server.version >= (8, 4, 0)
    create = ["+info", "+config|get", "+client|setname", "+client|id", "+client|list", "+cluster"]
    functions = ["+function|dump", "+function|restore", "+function|list"] if is_modern else []
    moving = [] if has_own_migration else ["+migrate", "+select", "+restore-asking"]
    with World(nodes=4, server=acl_server, appendonly=True) as world:
        world.start()
        wrong = [without_rule(world, rules, rule, nodes="3") for rule in create]
        for pod in world.pods:
            add_user(pod, rules)
        user = {"username": "bootstrap", "password": PASSWORD}
        assert rig.run(alone(world, nodes="3", **user)).code == 0
        assert fill(world.pods[:3]) == KEYS
        for pod in world.pods[:3] if is_modern else ():
            pod.command("FUNCTION", "LOAD", LIBRARY)
        wrong += [without_rule(world, rules, rule) for rule in (*functions, *moving)]
        for pod in world.pods:
            add_user(pod, rules)
        assert rig.run(alone(world, **user)).code == 0
        leaving = ["+bgrewriteaof"]
        wrong += [without_rule(world, rules, rule, nodes="3") for rule in leaving]
        for pod in world.pods:
            add_user(pod, rules)
        result = rig.run(alone(world, nodes="3", **user))
        assert result.code == 0, result.stderr
    assert [each for each in wrong if each] == []


@pytest.fixture
def authority(tmp_path: Path) -> Certificate:
    return make_ca(tmp_path, "ca")


@pytest.fixture
def encrypted(
    request: pytest.FixtureRequest,
    tls_server: ServerBinary | None,
    authority: Certificate,
    tmp_path: Path,
) -> Iterator[World]:
    """Three pods that speak TLS only, each with a certificate for its own name."""
    if tls_server is None:
        pytest.skip("no installed server speaks TLS")
    mutual = request.param
    with World(
        nodes=3,
        server=tls_server,
        config=server_config(
            authority,
            make_leaf(tmp_path, authority, "any", f"*.{SERVICE}"),
            port=6379,
            mutual=mutual,
        ),
    ) as world:
        for pod in world.pods:
            leaf = make_leaf(tmp_path, authority, pod.name, pod.fqdn)
            pod.config |= {"tls-cert-file": str(leaf.cert), "tls-key-file": str(leaf.key)}
        world.start()
        yield world


@pytest.mark.parametrize("encrypted", [False], indirect=True)
def test_tls_is_verified_against_the_pods_name(encrypted: World, authority: Certificate) -> None:
    """Each pod's own certificate is accepted under its DNS name, without a client certificate."""
    variables = {n: v for n, v in alone(encrypted).items() if n[-5:] not in {"_CERT", "S_KEY"}}
    result = rig.run({**variables, "BOOTSTRAP_TLS_CA": str(authority.cert)})
    assert result.code == 0, result.stderr
    assert rig.faults(encrypted, replicas=0) == []
    assert rig.run(variables, "status").code == 0


@pytest.mark.parametrize("encrypted", [True], indirect=True)
def test_mutual_tls(encrypted: World, authority: Certificate, tmp_path: Path) -> None:
    """A client certificate of its own lets the program in."""
    client = make_leaf(tmp_path, authority, "bootstrap", "bootstrap.example.com")
    files = {"tls_cert": str(client.cert), "tls_key": str(client.key)}
    result = rig.run(alone(encrypted, **files))
    assert result.code == 0, result.stderr
    assert rig.faults(encrypted, replicas=0) == []


@pytest.mark.parametrize("encrypted", [False], indirect=True)
def test_one_pod_with_another_pods_certificate(
    encrypted: World, authority: Certificate, tmp_path: Path
) -> None:
    """A certificate of the right CA for a neighbour's name is refused, and the pod is named."""
    pod = encrypted.pods[1]
    leaf = make_leaf(tmp_path, authority, "neighbour", encrypted.pods[0].fqdn)
    pod.terminate()
    pod.config |= {"tls-cert-file": str(leaf.cert), "tls-key-file": str(leaf.key)}
    pod.start()
    result = rig.run(alone(encrypted, timeout="8"))
    assert (result.code, result.last["node"]) == (2, "redis-app-1")
    assert result.last["duration_s"] >= 4  # it could have been another pod's address in a cache
    assert all(len(rig.nodes_of(pod)) == 1 for pod in encrypted.pods)


def swap_records(world: World, one: Pod, other: Pod, *, right: bool) -> None:
    """Publish two pods' addresses, or those of before they have swapped them."""
    world.dns.publish(one.name, one.address if right else other.address)
    world.dns.publish(other.name, other.address if right else one.address)


@pytest.mark.parametrize("encrypted", [False], indirect=True)
def test_addresses_of_before_a_swap_are_waited_out(encrypted: World) -> None:
    """Certificates show that a cache is late: a run waits for it, and a reconciler lives on."""
    assert rig.run(alone(encrypted)).code == 0
    one, other = encrypted.pods[1:]
    swap_records(encrypted, one, other, right=False)
    with rig.started(alone(encrypted, timeout="40"), "run") as process:
        assert process.stderr is not None
        seen = next(line for line in process.stderr if "certificate of redis-app" in line)
        assert process.poll() is None, seen
        swap_records(encrypted, one, other, right=True)
        process.communicate(timeout=60)
    assert process.returncode == 0


@pytest.mark.parametrize("encrypted", [False], indirect=True)
def test_a_reconciler_outlives_a_certificate_with_a_wrong_name(
    encrypted: World, authority: Certificate, tmp_path: Path
) -> None:
    """Readiness gives the reason for as long as it lasts, and the pod is ready again afterwards."""
    assert rig.run(alone(encrypted)).code == 0
    with reconciling(encrypted, tmp_path, replicas=0, timeout="2") as reconciler:
        reconciler.wait_until(ready=True)
        pod = encrypted.pods[1]
        good = dict(pod.config)
        leaf = make_leaf(tmp_path, authority, "neighbour", encrypted.pods[0].fqdn)
        pod.terminate()
        pod.config |= {"tls-cert-file": str(leaf.cert), "tls-key-file": str(leaf.key)}
        pod.start()
        rig.until(lambda: "certificate of redis-app-1" in reconciler.get("/readyz")[1], seconds=30)
        rig.until(lambda: "unknown" in reconciler.get("/readyz")[1], seconds=30)
        pod.terminate()
        pod.config |= good
        pod.start()
        reconciler.wait_until(ready=True)


@pytest.mark.parametrize("command", ["AUTH", "CLUSTER"])
def test_a_renamed_command_is_reported_at_once(
    command: str, acl_server: ServerBinary, tmp_path: Path
) -> None:
    """No retry fixes it; and the server's answer, which repeats what was sent, is not shown."""
    config = {"rename-command": f'{command} ""'}
    with World(nodes=3, server=acl_server, config=config) as world:
        world.start()
        password = {"BOOTSTRAP_PASSWORD": "s3cretPW"} if command == "AUTH" else {}
        result = rig.run({**alone(world, timeout="20"), **password}, tmp_path=tmp_path)
    assert result.code in (2, 3), result.stderr
    assert f"'{command}'" in str(result.last["cause"]) or f"`{command}`" in str(
        result.last["cause"]
    )
    assert "s3cretPW" not in result.stdout + result.stderr + result.message
