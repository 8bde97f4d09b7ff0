"""docs/runbooks/backup.md, followed to the letter: a folder per pod stands for its volume."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary, find_server
from tests.support import rig, runbooks
from tests.support.commands import Answer, Local, commands
from tests.support.scenario import PROMPT, attempt, fill, lost, make_healthy, replicas
from tests.support.world import World

KEYS = 5000
CONFIG = {**PROMPT, "appendonly": "yes"}
NODE_TIMEOUT_MS = 2000

pytestmark = [pytest.mark.redis, pytest.mark.slow]


class Kubectl:
    """The commands of kubectl that the runbook uses, for the pods of a world.

    Attributes:
        results: Runs of the program, one for each start of the reconciler beside a StatefulSet.
    """

    def __init__(self, world: World, folder: Path) -> None:
        self.results: list[rig.Result] = []
        self._world, self._folder = world, folder
        self._reconciles = True
        folder.mkdir()

    def __call__(self, arguments: list[str]) -> Answer:
        """Carry out a command."""
        match arguments:
            case ["get", "pods", *_]:
                return "".join(f"pod/{pod.name}\n" for pod in self._world.pods)
            case ["get", "pvc", *_]:
                kind = "persistentvolumeclaim"
                return "".join(f"{kind}/redis-data-{pod.name}\n" for pod in self._world.pods)
            case ["exec", name, "-c", "redis", "--", "sh", "-c", script, *words]:
                return self._exec(name.removeprefix("pod/"), script, words)
            case ["run", "restore", *options]:
                return self._run(options)
            case ["scale", "deployment/redis-bootstrap", option]:
                self._reconciles = option == "--replicas=1"
            case ["delete", "statefulset", "redis-app"]:
                pass  # which returns while the servers still run
            case ["wait", "pod", *_, "--for=delete", "--timeout=3700s"]:
                for pod in self._world.pods:
                    pod.terminate()
            case ["apply", "-k", "manifests/"]:
                self._world.start()
            case ["rollout", "status", "deployment/redis-bootstrap", *_]:
                assert self._reconciles
                self.results.append(attempt(self._world))
            case ["rollout", "status", "statefulset/redis-app"]:
                pass
            case _:
                raise NotImplementedError(arguments)
        return ""

    def _exec(self, name: str, script: str, words: list[str]) -> Local:
        pod = next(pod for pod in self._world.pods if pod.name == name)
        cli = shlex.quote(str(self._world.server.cli))
        library = self._folder / "lib.sh"
        library.write_text(f'here_ask() {{ {cli} -h {pod.address} -p {pod.port} "$@"; }}\n')
        argv = ["sh", "-c", script.replace("/etc/redis/lib.sh", str(library)), *words]
        return Local(argv, cwd=pod.directory)

    def _run(self, options: list[str]) -> Local:
        prefix = "--overrides="
        overrides = next(o.removeprefix(prefix) for o in options if o.startswith(prefix))
        spec = json.loads(overrides)["spec"]
        claim = spec["volumes"][0]["persistentVolumeClaim"]["claimName"]
        pod = next(p for p in self._world.pods if f"redis-data-{p.name}" == claim)
        assert not pod.is_running
        *shell, script = spec["containers"][0]["command"]
        return Local([*shell, script.replace("/data", str(pod.directory))], cwd=pod.directory)


def follow(name: str, world: World, folder: Path, archive: Path) -> Kubectl:
    """Follow one of the two blocks with the archives in a folder."""
    kubectl = Kubectl(world, folder)
    with commands(folder / "bin", {"kubectl": kubectl}) as path:
        done = subprocess.run(
            ["bash", "-euc", runbooks.block("backup.md", f"runs: {name}")],
            env=rig.environment({"PATH": path}),
            cwd=archive, capture_output=True, text=True, check=False, timeout=90,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if name == "backup":
        assert len(re.findall("^.*myself,master.*$", done.stdout, re.MULTILINE)) == 3, done.stdout
    return kubectl


@pytest.fixture(params=["redis-6.2", "valkey-9.1"])  # one append-only file, and a directory of them
def server_with_cli(request: pytest.FixtureRequest, installed: Mapping[str, str]) -> ServerBinary:
    """A server that came with its command-line tool."""
    if request.param not in installed:
        pytest.skip(f"{request.param} is not installed: run scripts/get-servers")
    return find_server(installed[request.param])


def test_all_keys_are_back_after_a_restore(server_with_cli: ServerBinary, tmp_path: Path) -> None:
    """A backup of the primaries, restored into empty pods at other addresses, has every key."""
    archive = tmp_path / "archive"
    archive.mkdir()

    def new() -> World:
        return World(
            nodes=6, server=server_with_cli, node_timeout_ms=NODE_TIMEOUT_MS, config=CONFIG
        )

    with new() as first, new() as second:  # at once, so that the addresses differ
        first.start()
        make_healthy(first)
        fill(first, KEYS)
        follow("backup", first, tmp_path / "first", archive)
        for pod in first.pods:
            pod.kill()
        second.start()
        make_healthy(second)
        fill(second, 100, prefix="other")

        kubectl = follow("restore", second, tmp_path / "second", archive)

        result = kubectl.results[-1]
        assert result.code == 0, result.stderr
        sys.stdout.write(f"{result.last['duration_s']} s\n")  # for the figures of the runbook
        assert rig.faults(second) == []
        assert lost(second, KEYS) == 0
        assert lost(second, 100, prefix="other") == 100


def test_copies_without_nodes_conf_are_refused(server: ServerBinary) -> None:
    """Data that is restored without nodes.conf is not touched: exit code 3."""
    with World(nodes=6, server=server, node_timeout_ms=NODE_TIMEOUT_MS, config=CONFIG) as world:
        world.start()
        make_healthy(world)
        fill(world, KEYS)
        for pod in world.pods:
            pod.terminate()
        for pod in world.pods:
            (pod.directory / "nodes.conf").unlink()
        for pod in world.pods[3:]:
            pod.wipe()
        world.start()

        result = attempt(world)

        assert result.code == 3
        assert "nodes.conf" in str(result.last["remedy"])
        assert sum(rig.count_keys(pod) for pod in world.pods) == KEYS
        assert replicas(world) == []
