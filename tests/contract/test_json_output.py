"""What programs read is as docs/schemas describes it, and says of which cluster and when."""

import json
import signal
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig, schemas
from tests.support.rig import alone
from tests.support.world import World

pytestmark = pytest.mark.redis

DEBUG = {"BOOTSTRAP_LOG_LEVEL": "debug"}


def documents(text: str) -> list[dict[str, object]]:
    """Return the JSON documents that stand one after the other."""
    found, decoder = [], json.JSONDecoder()
    while text := text.lstrip():
        document, end = decoder.raw_decode(text)
        found.append(document)
        text = text[end:]
    return found


def checked(
    variables: Mapping[str, str], command: str, *args: str, tmp_path: Path | None = None
) -> rig.Result:
    """Run a command, and check what it left for programs."""
    result = rig.run({**DEBUG, **variables}, command, "--output", "json", *args, tmp_path=tmp_path)
    name = command if command in {"plan", "status"} else "summary"
    (document,) = documents(result.stdout)
    schemas.check(name, document)
    if result.message:
        schemas.check("summary", json.loads(result.message))
    for line in result.logs:
        schemas.check("log-event", line)
    return result


def test_a_run_from_fresh_pods_to_nothing_left_to_do(server: ServerBinary, tmp_path: Path) -> None:
    """Each document and each line of a cluster's life is valid, and names the cluster."""
    with World(nodes=3, server=server) as world:
        world.start()
        results = [
            checked(alone(world), "plan"),
            checked(alone(world), "status"),
            checked(alone(world), "run", tmp_path=tmp_path),
            checked(alone(world), "wait", tmp_path=tmp_path),
            checked(alone(world), "plan"),
            checked(alone(world), "status"),
        ]
        world.add_pod()
        results.append(checked(alone(world), "plan"))
        results.append(checked(alone(world), "run", tmp_path=tmp_path))
    names = set()
    for result in results:
        (document,) = documents(result.stdout)
        names.add(document["cluster"])
        time = datetime.fromisoformat(str(document["time"]))
        assert abs(datetime.now(UTC) - time) < timedelta(minutes=5)
        assert {line["cluster"] for line in result.logs} == {document["cluster"]} or not result.logs
    assert names == {f"redis-app.{world.env()['BOOTSTRAP_SERVICE']}.default.svc.cluster.local"}
    events = {line["event"] for result in results for line in result.logs}
    assert events >= {"action.started", "finding.detected", "plan.computed", "slots.moved"}


def test_pods_that_are_missing(fresh: World, tmp_path: Path) -> None:
    """Absent pods and the wait for them are described."""
    late = {**alone(fresh), "BOOTSTRAP_NODES": "4"}
    status = checked(late, "status")
    assert documents(status.stdout)[0]["absent"]
    run = checked({**late, "BOOTSTRAP_TIMEOUT": "7"}, "run", tmp_path=tmp_path)
    assert "pods.waited" in {line["event"] for line in run.logs}


def test_a_refusal(server: ServerBinary, tmp_path: Path) -> None:
    """Refusals are described, in the plan and in the log."""
    with World(nodes=3, server=server) as world:
        world.start()
        for pod in world.pods[:2]:
            pod.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        plan = checked(alone(world), "plan")
        run = checked(alone(world), "run", tmp_path=tmp_path)
    assert (plan.code, run.code) == (3, 3)
    assert documents(plan.stdout)[0]["refusals"]
    assert "plan.refused" in {line["event"] for line in run.logs}


@pytest.mark.parametrize("command", ["plan", "status", "run", "wait"])
def test_failures(command: str, fresh: World, tmp_path: Path) -> None:
    """What is printed where nothing can be shown is described as well."""
    unreadable = {"BOOTSTRAP_NODES": "none", "BOOTSTRAP_REPLICA": "1"}
    result = checked(unreadable, command, "--password", "s3cret-phrase", tmp_path=tmp_path)
    events = [line["event"] for line in result.logs]
    assert events[:2] == ["settings.ignored", "password.exposed"]
    assert "cluster" not in documents(result.stdout)[0]
    denied = checked({**alone(fresh), "BOOTSTRAP_PASSWORD": "wrong"}, command, tmp_path=tmp_path)
    assert documents(denied.stdout)[0]["outcome"] == "credentials"
    nowhere = {"BOOTSTRAP_NODES": "0", "BOOTSTRAP_TERMINATION_LOG": "/nonexistent/log"}
    lost = checked(nowhere, command)
    warned = "termination_log.failed" in {line["event"] for line in lost.logs}
    assert warned is (command in {"run", "wait"})


def test_watch_and_reconcile(server: ServerBinary) -> None:
    """Commands that run until they are stopped print documents and lines of the same kinds."""
    with World(nodes=3, server=server) as world:
        world.start()
        env = {**alone(world), **DEBUG, "BOOTSTRAP_HTTP_LISTEN": "127.0.0.1:19103"}
        events = []
        with rig.started(env, "reconcile") as running:
            assert running.stderr is not None
            for line in running.stderr:
                schemas.check("log-event", json.loads(line))
                events.append(json.loads(line)["event"])
                if events[-1] == "health.changed" and '"state": "healthy"' in line:
                    break
        assert {"reconcile.started", "run.started", "run.ended"} <= set(events)
        with rig.started(env, "status", "--watch", "--output", "json") as running:
            assert running.stdout is not None
            shown = ""
            while not shown.endswith("\n}\n"):
                shown += running.stdout.readline()
            running.send_signal(signal.SIGTERM)
            shown += running.communicate(timeout=20)[0]
    for document in documents(shown):
        schemas.check("status", document)
