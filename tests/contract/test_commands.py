"""What the commands print, change and return, on a healthy cluster and on fresh pods."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.evidence import commands_of, untouched, written
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

SUMMARY = {
    "outcome",
    "exit_code",
    "passes",
    "actions",
    "slots_moved",
    "keys_moved",
    "duration_s",
}
LIMIT_BYTES = 4096


@pytest.fixture(scope="module")
def healthy(server: ServerBinary) -> Iterator[World]:
    """Six pods that are a cluster; no test may change them."""
    with World(nodes=6, server=server, config={"repl-diskless-sync-delay": "0"}) as world:
        world.start()
        result = rig.run(world.env())
        assert result.code == 0, result.stderr
        yield world


def test_run_makes_the_cluster_healthy(every_server: ServerBinary, tmp_path: Path) -> None:
    """Exit code 0 is healthy on every pod's own view; a second run sends no write command."""
    config = {"repl-diskless-sync-delay": "0"}
    with World(nodes=6, server=every_server, config=config) as world:
        world.start()
        result = rig.run(world.env(), tmp_path=tmp_path)
        assert result.code == 0, result.stderr
        assert rig.faults(world) == []
        assert result.last.keys() >= SUMMARY
        assert json.loads(result.message)["outcome"] == "healthy"
        before = [commands_of(pod) for pod in world.pods]
        with untouched(world.pods):
            again = rig.run(world.env())
        after = [commands_of(pod) for pod in world.pods]
    assert (again.code, again.last["write_commands"], again.last["actions"]) == (0, 0, 0)
    assert [written(one, other) for one, other in zip(before, after, strict=True)] == [set()] * 6


def test_stdout_has_the_result_and_stderr_the_logs(healthy: World) -> None:
    """Stdout has one sentence or one JSON document; stderr has nothing but log lines."""
    text = rig.run(healthy.env())
    assert text.stdout.count("\n") == 1
    assert "{" not in text.stdout
    document = rig.run(healthy.env(), "run", "--output", "json")
    assert json.loads(document.stdout).keys() >= SUMMARY
    for result in (text, document):
        assert len(result.logs) == len(result.stderr.splitlines())
        assert (result.last["event"], result.last["exit_code"]) == ("run.completed", 0)


@pytest.mark.parametrize("level", ["warning", "error"])
def test_the_last_line_is_logged_at_every_level(level: str, healthy: World) -> None:
    """A level leaves out the levels below it, but not the last line of a run."""
    result = rig.run({**healthy.env(), "BOOTSTRAP_LOG_LEVEL": level})
    assert [(line["event"], line["level"]) for line in result.logs] == [("run.completed", "info")]


@pytest.mark.parametrize(("command", "code"), [("run", 0), ("plan", 0), ("status", 0)])
@pytest.mark.parametrize("redirection", ["| true", ">/dev/full", ">&-", "2>/dev/full", ">&- 2>&-"])
def test_streams_that_cannot_be_used_change_nothing(
    command: str, code: int, redirection: str, healthy: World
) -> None:
    """The exit code stays, and so does the last line of stderr."""
    words = f"set -o pipefail; {sys.executable} -m bootstrap {command} {redirection}"
    done = subprocess.run(
        ["bash", "-c", words],
        env=rig.environment(healthy.env()),
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert "Exception ignored" not in done.stderr
    if command == "run" and "2>" not in redirection:
        assert json.loads(done.stderr.splitlines()[-1])["event"] == "run.completed"


def test_an_unforeseen_error_of_the_loop_has_its_phase(fresh: World, tmp_path: Path) -> None:
    """The summary names the phase in which it was raised, not the settings."""
    program = (str(rig.PROGRAMS / "failing_planner.py"),)
    result = rig.run(alone(fresh), tmp_path=tmp_path, program=program)
    assert (result.code, result.last["outcome"]) == (1, "unforeseen"), result.stderr
    assert result.last["phase"] == "observe"
    assert "Traceback" in result.stderr
    assert json.loads(result.message)["phase"] == "observe"


def test_plan_on_a_healthy_cluster_has_no_work(healthy: World) -> None:
    """`plan` says so in text and JSON, and exits 0 also with --exit-code."""
    with untouched(healthy.pods):
        assert rig.run(healthy.env(), "plan").code == 0
        result = rig.run(healthy.env(), "plan", "--output", "json", "--exit-code")
    plan = json.loads(result.stdout)
    assert (result.code, plan["healthy"], plan["has_work"], plan["actions"]) == (0, True, False, [])


def test_plan_changes_nothing(fresh: World) -> None:
    """`plan` on fresh pods lists actions, exits 10 when asked to, and is a dry run."""
    with untouched(fresh.pods):
        text = rig.run(alone(fresh), "plan")
        result = rig.run(alone(fresh), "plan", "--output", "json", "--exit-code")
    plan = json.loads(result.stdout)
    assert (text.code, result.code) == (0, 10)
    assert plan["has_work"]
    assert plan["actions"]
    assert plan["fingerprint"] in text.stdout


def test_plan_is_the_same_every_time(fresh: World) -> None:
    """Equal views give equal fingerprints."""
    plans = [json.loads(rig.run(alone(fresh), "plan", "--output", "json").stdout) for _ in "ab"]
    assert plans[0]["fingerprint"] == plans[1]["fingerprint"]


def test_expect_refuses_another_plan(fresh: World) -> None:
    """`run --expect` with a fingerprint of something else exits 3 before the first change."""
    with untouched(fresh.pods):
        result = rig.run(alone(fresh), "run", "--expect", "0123456789ab")
    assert (result.code, result.last["outcome"]) == (3, "refused")


def test_expect_runs_the_plan_that_was_reviewed(server: ServerBinary) -> None:
    """`run --expect` with the fingerprint of `plan` makes the cluster healthy."""
    with World(nodes=3, server=server) as world:
        world.start()
        plan = json.loads(rig.run(alone(world), "plan", "--output", "json").stdout)
        result = rig.run(alone(world), "run", "--expect", plan["fingerprint"])
        assert result.code == 0, result.stderr
        assert rig.faults(world, replicas=0) == []


def test_expect_of_a_plan_that_was_carried_out_already(healthy: World) -> None:
    """The cluster has changed, so `run --expect` refuses even where nothing is left to do."""
    plan = json.loads(rig.run(healthy.env(), "plan", "--output", "json").stdout)
    stale = rig.run(healthy.env(), "run", "--expect", "0123456789ab")
    same = rig.run(healthy.env(), "run", "--expect", plan["fingerprint"])
    assert (stale.code, same.code) == (3, 0)


def test_status_of_a_healthy_cluster(healthy: World) -> None:
    """`status` exits 0 and shows every pod; its JSON has nodes, shards, slots and findings."""
    with untouched(healthy.pods):
        text = rig.run(healthy.env(), "status")
        result = rig.run(healthy.env(), "status", "--output", "json")
    status = json.loads(result.stdout)
    assert (text.code, result.code) == (0, 0)
    assert all(pod.name in text.stdout and pod.address in text.stdout for pod in healthy.pods)
    assert (status["healthy"], status["findings"], status["absent"]) == (True, [], [])
    assert (status["slots"]["owned"], status["slots"]["total"]) == (16384, 16384)
    assert [len(shard["replicas"]) for shard in status["shards"]] == [1, 1, 1]
    assert {node["name"] for node in status["nodes"]} == {pod.name for pod in healthy.pods}
    assert sorted(node["role"] for node in status["nodes"]) == ["primary"] * 3 + ["replica"] * 3


def test_status_of_fresh_pods(fresh: World) -> None:
    """`status` exits 5 where nothing is healthy yet, and lists findings."""
    with untouched(fresh.pods):
        result = rig.run(alone(fresh), "status", "--output", "json")
    status = json.loads(result.stdout)
    assert (result.code, status["healthy"]) == (5, False)
    assert {"code", "node", "detail"} <= status["findings"][0].keys()


def test_status_of_pods_that_are_not_there(fresh: World) -> None:
    """A pod without an address is in the JSON as absent, with its name and the cause."""
    variables = {**alone(fresh), "BOOTSTRAP_NODES": "4"}
    result = rig.run(variables, "status", "--output", "json")
    absent = json.loads(result.stdout)["absent"]
    assert result.code == 5
    assert "redis-app-3" in {pod["name"] for pod in absent}
    assert all(pod["cause"] for pod in absent)


@pytest.mark.parametrize("command", ["plan", "status"])
def test_an_observation_that_takes_too_long(command: str, fresh: World) -> None:
    """A pod that is paused past the deadline means exit code 5 and no traceback."""
    fresh.pods[1].pause()
    try:
        result = rig.run({**alone(fresh), "BOOTSTRAP_TIMEOUT": "2"}, command)
    finally:
        fresh.pods[1].resume()
    assert result.code == 5, result.stderr
    assert "Traceback" not in result.stderr
    assert "redis-app-1" in result.stdout + result.stderr


def test_status_shows_the_others_while_a_pod_is_paused(fresh: World) -> None:
    """Both observations fit into the deadline: other pods are shown, the silent one is named."""
    fresh.pods[1].pause()
    try:
        variables = {**alone(fresh), "BOOTSTRAP_TIMEOUT": "6"}
        result = rig.run(variables, "status", "--output", "json")
    finally:
        fresh.pods[1].resume()
    status = json.loads(result.stdout)
    assert (result.code, len(status["nodes"])) == (5, 2)
    assert [(pod["name"], pod["phase"]) for pod in status["absent"]] == [("redis-app-1", "connect")]


@pytest.mark.parametrize("command", ["run", "wait"])
def test_a_silent_pod_is_named_however_short_the_time(
    command: str, fresh: World, tmp_path: Path
) -> None:
    """A deadline that passes before the first observation names the pod and a remedy."""
    fresh.pods[1].pause()
    try:
        variables = {**alone(fresh), "BOOTSTRAP_TIMEOUT": "2"}
        result = rig.run(variables, command, tmp_path=tmp_path)
    finally:
        fresh.pods[1].resume()
    assert (result.code, json.loads(result.message)["node"]) == (5, "redis-app-1")
    assert "inspect the pod" in str(result.last["remedy"])


@pytest.mark.parametrize("command", ["plan", "status"])
@pytest.mark.parametrize(
    ("variable", "phase"),
    [
        ("BOOTSTRAP_NODES", "settings"),
        ("BOOTSTRAP_PASSWORD", "observe"),
    ],
)
def test_json_also_where_nothing_can_be_shown(
    command: str, variable: str, phase: str, fresh: World
) -> None:
    """A program that reads stdout gets one document with the cause, as people do on stderr."""
    result = rig.run({**alone(fresh), variable: "wrong"}, command, "--output", "json")
    document = json.loads(result.stdout)
    reported = (document["exit_code"], document["healthy"], document["phase"])
    assert (result.code, *reported) == (2, 2, False, phase)
    assert document["cause"] == result.last["cause"]
    assert document["remedy"]


@pytest.mark.parametrize("output", ["text", "json"])
def test_watch_shows_what_changes_until_it_is_stopped(server: ServerBinary, output: str) -> None:
    """`status --watch` prints at once, again when a pod is gone, and exits 143 when stopped."""
    with World(nodes=3, server=server) as world:
        world.start()
        env = {**alone(world), "BOOTSTRAP_OUTPUT": output}
        with rig.started(env, "status", "--watch") as running:
            assert running.stdout is not None
            shown = _read_until(running.stdout, "redis-app-2")
            world.remove_pod(2)
            shown += _read_until(running.stdout, "pod_absent" if output == "json" else "absent")
            running.terminate()
            _, stderr = running.communicate(timeout=60)
    assert running.returncode == 143, stderr
    if output == "json":
        assert shown.startswith("{")


def _read_until(stream: IO[str], word: str) -> str:
    read = ""
    while word not in read:
        line = stream.readline()
        assert line, read
        read += line
    return read


def test_wait_on_a_healthy_cluster(healthy: World) -> None:
    """`wait` exits 0 and writes nothing."""
    with untouched(healthy.pods):
        result = rig.run(healthy.env(), "wait")
    assert (result.code, result.last["write_commands"]) == (0, 0)


def test_wait_gives_up_at_its_deadline(fresh: World) -> None:
    """`wait` exits 5 when no run makes the cluster, and changes nothing."""
    with untouched(fresh.pods):
        result = rig.run({**alone(fresh), "BOOTSTRAP_TIMEOUT": "2"}, "wait")
    assert (result.code, result.last["write_commands"]) == (5, 0)


def test_wait_blocks_until_a_run_is_done(server: ServerBinary) -> None:
    """`wait` ends by itself, with 0, once another process has made the cluster healthy."""
    with World(nodes=3, server=server) as world:
        world.start()
        with rig.started(alone(world), "wait") as waiting:
            rig.until(lambda: commands_of(world.pods[0]).get("cluster|nodes", 0) > 0)
            assert waiting.poll() is None
            assert rig.run(alone(world)).code == 0
            _, stderr = waiting.communicate(timeout=60)
        assert waiting.returncode == 0
    assert json.loads(stderr.splitlines()[-1])["write_commands"] == 0


def test_termination_message_of_a_long_story(fresh: World, tmp_path: Path) -> None:
    """However many pods a cause names, the message is JSON of at most 4096 bytes."""
    variables = {**alone(fresh), "BOOTSTRAP_NODES": "900", "BOOTSTRAP_TIMEOUT": "2"}
    result = rig.run(variables, tmp_path=tmp_path)
    message = json.loads(result.message)
    assert (result.code, message["exit_code"], message["outcome"]) == (5, 5, "not_healthy")
    assert message.keys() >= SUMMARY | {"node", "phase", "cause", "remedy"}
    assert len(result.message.encode()) <= LIMIT_BYTES


def test_unwritable_termination_log_is_no_failure(healthy: World, tmp_path: Path) -> None:
    """The exit code stays, and one warning names the path."""
    path = str(tmp_path / "nowhere" / "termination-log")
    result = rig.run({**healthy.env(), "BOOTSTRAP_TERMINATION_LOG": path})
    assert result.code == 0
    warnings = [line for line in result.logs if line["level"] == "warning"]
    assert [line["path"] for line in warnings] == [path]
    assert result.last["event"] == "run.completed"


def test_wall_clock_does_not_matter(server: ServerBinary) -> None:
    """A clock that jumps by days changes neither the deadline nor the result."""
    clock = (str(rig.PROGRAMS / "jumping_clock.py"),)
    with World(nodes=3, server=server) as world:
        world.start()
        result = rig.run(alone(world), program=clock)
        assert result.code == 0, result.stderr
        assert rig.faults(world, replicas=0) == []
        assert 0 <= float(str(result.last["duration_s"])) < 90
        late = {**alone(world), "BOOTSTRAP_NODES": "4", "BOOTSTRAP_TIMEOUT": "2"}
        assert rig.run(late, program=clock).code == 5
