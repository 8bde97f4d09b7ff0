"""What the users of scripts/auth-secret may do and what they may not, on every server."""

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
import yaml
from redis.cluster import ClusterNode, LoadBalancingStrategy, RedisCluster
from redis.exceptions import NoPermissionError, ResponseError

from bootstrap.sandbox.binary import ServerBinary
from bootstrap.sandbox.pod import Pod
from tests.support import rig
from tests.support.world import World

pytestmark = pytest.mark.redis

ADMINISTRATION = (
    ("ACL", "LIST"), ("CLIENT", "KILL", "ID", "1"), ("CLUSTER", "RESET"), ("CONFIG", "GET", "*"),
    ("CONFIG", "SET", "save", ""), ("FLUSHALL",), ("FLUSHDB",),
    ("MODULE", "LIST"), ("SHUTDOWN",), ("SWAPDB", "0", "1"),
)  # fmt: skip
CHANGES = (
    ("CLUSTER", "FORGET", "0" * 40), ("CLUSTER", "MEET", "127.0.0.9", "1"),
    ("REPLICAOF", "NO", "ONE"),
)  # fmt: skip
DATA = (("GET", "key"), ("KEYS", "*"), ("SET", "key", "1"), ("SLOWLOG", "GET"))


def secret_for(server: ServerBinary) -> dict[str, str]:
    """Return what the script prints for this server."""
    args = ["--redis-6.2"] if server.version < (7, 0, 0) else []
    printed = subprocess.run(
        [rig.ROOT / "scripts" / "auth-secret", *args], capture_output=True, text=True, check=True
    ).stdout
    found: dict[str, str] = yaml.safe_load(printed)["stringData"]
    return found


@pytest.fixture(scope="module")
def cluster(
    every_server: ServerBinary, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[World, dict[str, str]]]:
    """Three primaries and three replicas with these users, made by `bootstrap`."""
    folder: Path = tmp_path_factory.mktemp("users")
    secret = secret_for(every_server)
    (folder / "users.acl").write_text(secret["users.acl"])
    name, word = (line.split()[1] for line in secret["replication.conf"].splitlines())
    config = {"aclfile": str(folder / "users.acl"), "masteruser": name, "masterauth": word}
    with World(nodes=6, server=every_server, config=config, password=secret["password"]) as world:
        for pod in world.pods:
            pod.config.pop("requirepass", None)
        world.start()
        result = rig.run({**world.env(), **login("bootstrap", secret["bootstrap-password"])})
        assert result.code == 0, result.stderr
        yield world, {**secret, "replica-password": word}


def login(user: str, password: str) -> dict[str, str]:
    return {"BOOTSTRAP_USERNAME": user, "BOOTSTRAP_PASSWORD": password, "BOOTSTRAP_REPLICAS": "1"}


def allowed(
    pod: Pod, user: str, password: str, commands: Sequence[Sequence[str]]
) -> list[Sequence[str]]:
    """Return the commands that the server does not deny to the user."""
    done = []
    with redis.Redis(
        host=pod.address, port=pod.port, username=user, password=password, protocol=2
    ) as client:
        for command in commands:
            try:
                client.execute_command(*command)
            except NoPermissionError:
                continue
            except ResponseError as error:
                if "unknown" in str(error).lower():
                    continue
            done.append(command)
    return done


def test_applications_use_cluster_clients_and_administer_nothing(
    cluster: tuple[World, dict[str, str]],
) -> None:
    """A cluster client that logs in as `default` and names itself reads and writes."""
    world, secret = cluster
    word = secret["password"]
    nodes = [ClusterNode(pod.address, pod.port) for pod in world.pods]
    client = RedisCluster(
        startup_nodes=nodes,
        password=word,
        load_balancing_strategy=LoadBalancingStrategy.ROUND_ROBIN,
        client_name="shop",
    )
    for number in range(50):
        client.set(f"key:{number}", number)
    assert [client.get(f"key:{number}") for number in (1, 49)] == [b"1", b"49"]
    assert client.eval("return redis.call('GET', KEYS[1])", 1, "key:7") == b"7"
    client.close()
    assert allowed(world.pods[0], "default", word, [*ADMINISTRATION, *CHANGES]) == []


def test_exporter_sees_no_keys_and_no_configuration(cluster: tuple[World, dict[str, str]]) -> None:
    """Who may read `masterauth` could become `replica`."""
    world, secret = cluster
    word = secret["exporter-password"]
    every = [*ADMINISTRATION, *CHANGES, *DATA]
    assert allowed(world.pods[0], "exporter", word, every) == []
    asked = [("INFO", "ALL"), ("CLUSTER", "INFO"), ("LATENCY", "LATEST"), ("SLOWLOG", "LEN")]
    assert allowed(world.pods[0], "exporter", word, asked) == asked


def test_viewer_changes_nothing_and_sees_no_keys(cluster: tuple[World, dict[str, str]]) -> None:
    """CONFIG GET is all that `viewer` has beside questions about the cluster."""
    world, secret = cluster
    word = secret["viewer-password"]
    reads = ("CONFIG", "GET", "*")
    every = [*ADMINISTRATION, *CHANGES, *DATA]
    assert allowed(world.pods[0], "viewer", word, every) == [reads]
    for command, code in (("status", 0), ("wait", 0), ("plan", 0)):
        result = rig.run({**world.env(), **login("viewer", word)}, command)
        assert result.code == code, result.stdout + result.stderr


def test_replica_neither_flushes_nor_administers(cluster: tuple[World, dict[str, str]]) -> None:
    """On servers that move slots themselves `replica` writes, and nothing more."""
    world, secret = cluster
    word = secret["replica-password"]
    assert allowed(world.pods[0], "replica", word, [*ADMINISTRATION, *CHANGES]) == []


def test_program_has_the_rules_of_the_document() -> None:
    """Beside these `bootstrap` has PING, for the probes of the pods."""
    document = (rig.ROOT / "docs" / "acl.md").read_text()
    script = (rig.ROOT / "scripts" / "auth-secret").read_text()
    first = re.findall(r"user bootstrap on >PASSWORD ~\* -@all (.*)", document)[0].split()
    named = re.findall(r'bootstrap_rules="?\'?(?:\$bootstrap_rules )?([^"\'\n]*)', script)
    assert sorted(set(first)) == sorted({*" ".join(named).split()} - {"+ping"})
