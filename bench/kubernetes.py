"""`python -m bench.kubernetes`: creations, outages and write pauses on a real Kubernetes.

Needs what the end-to-end tests need: KUBECONFIG, and the image of this project on every node.
Prints a line of JSON for each turn, and their summary.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.support.story import MEMBERS, Story, gone_and_back, story

KEYS = 3000
_Turn = dict[str, Any]
_Begin = Callable[[str], AbstractContextManager[Story]]


def _creation(begin: _Begin, runs: int) -> Iterator[_Turn]:
    """From the last pod in DNS to the Job's last line, each in a namespace of its own."""
    for run in range(runs):
        with begin(f"creation-{run}") as cluster:
            cluster.apply()
            while len(cluster.endpoints("redis-service")) < cluster.replicas:
                time.sleep(0.3)
            last = datetime.now(UTC)
            cluster.wait_for_job()
            # Without the seconds until Kubernetes notices that the container has ended.
            line = cluster.k("logs", f"job/{cluster.job()}", "--tail=1", "--timestamps")
            ended = datetime.fromisoformat(line.split()[0])
            seconds = (ended - last).total_seconds()
            yield {"what": "creation", "seconds": seconds, "missing": cluster.missing()}


def _outage(begin: _Begin, runs: int) -> Iterator[_Turn]:
    """All pods are killed at once: from the last address in DNS to a healthy cluster."""
    with begin("outage") as cluster:
        _fill(cluster)
        for _ in range(runs):
            seconds = gone_and_back(cluster)
            yield {"what": "outage", "seconds": seconds, "lost": KEYS - cluster.keys()}
            cluster.wait_until_ready()


def _pauses(begin: _Begin, runs: int) -> Iterator[_Turn]:
    """A rolling restart, then `kubectl delete pods` of all, each while an application writes."""
    with begin("pauses") as cluster:
        _fill(cluster)
        for run in range(runs):
            for step in (_restart, _delete):
                name = step.__name__.strip("_")
                begun = time.monotonic()
                with cluster.writer(f"{name}-{run}") as noticed:
                    step(cluster)
                    cluster.wait_until_healthy(seconds=300)
                yield {
                    "what": name,
                    "seconds": time.monotonic() - begun,
                    "pause": noticed["longest_pause_s"],
                    **{key: noticed[key] for key in ("acknowledged", "failed", "lost", "errors")},
                }
                cluster.wait_until_ready()


def _restart(cluster: Story) -> None:
    cluster.k("rollout", "restart", "statefulset/redis-app")
    cluster.k("rollout", "status", "statefulset/redis-app", "--timeout=300s")


def _delete(cluster: Story) -> None:
    cluster.k("delete", "pods", "-l", MEMBERS)


def _fill(cluster: Story) -> None:
    cluster.apply()
    cluster.wait_until_ready()
    cluster.fill(KEYS)


def _summary(turns: Sequence[_Turn]) -> Iterator[_Turn]:
    for what in dict.fromkeys(turn["what"] for turn in turns):
        these = [turn for turn in turns if turn["what"] == what]
        figure = "pause" if "pause" in these[0] else "seconds"
        values = sorted(turn[figure] for turn in these)
        sums = {
            key: sum(t[key] for t in these) for key in these[0] if isinstance(these[0][key], int)
        }
        median = statistics.median(values)
        yield {"summary of": what, "turns": len(values), "median": median, "all": values, **sums}


def _print(row: _Turn) -> None:
    plain = {k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}
    if "all" in plain:
        plain["all"] = [round(value, 2) for value in row["all"]]
    print(json.dumps(plain), flush=True)


PARTS = {"creation": _creation, "outage": _outage, "pauses": _pauses}


def main() -> None:
    """Measure one part on one server."""
    parser = argparse.ArgumentParser(prog="python -m bench.kubernetes", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--server", default="redis:8.6", help="an image, such as redis:7.0")
    parser.add_argument("--runs", type=int, default=20)
    options = parser.parse_args()
    name, _, tag = options.server.rpartition(":")
    image = {"name": "redis", "newName": name, "newTag": tag}
    suffix = f"{name.rpartition('/')[2]}-{tag.replace('.', '-')}"
    turns: list[_Turn] = []
    with tempfile.TemporaryDirectory() as folder:

        def begin(part: str) -> AbstractContextManager[Story]:
            at = Path(folder) / part
            at.mkdir()
            changes = {"fields": {"images": [image]}, "base": "../manifests"}
            return story(f"{part}-{suffix}", at, **changes)

        for turn in PARTS[options.part](begin, options.runs):
            turns.append(turn)
            _print({"server": options.server, **turn})
    for row in _summary(turns):
        _print({"server": options.server, **row})


if __name__ == "__main__":
    main()
