"""The reconciler's metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import __version__
from ..core.slots import SLOT_COUNT
from ..core.verdict import State
from ..loop.health import Health

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# By label; None is left out.
Samples = Mapping[str, float | None]


def rendered(health: Health) -> str:
    """Return all metrics."""
    states = {each.value: int(each is health.verdict.state) for each in State}
    gauges: dict[str, tuple[str, Samples]] = {
        "info": ("Version of the program.", _by("version", {__version__: 1})),
        "state": ("State of the cluster: 1 for the present one.", _by("state", states)),
        "findings": (
            "What keeps the cluster from being healthy, by code.",
            _by("code", health.findings),
        ),
        "slots": ("Hash slots of a cluster.", {"": SLOT_COUNT}),
        "healthy": ("Whether the cluster is healthy.", {"": int(health.is_ready)}),
        "pods_wanted": ("Pods that the cluster must have.", {"": health.desired.nodes}),
        "pods_answering": ("Wanted pods that answered.", {"": health.pods}),
        "slots_owned": ("Hash slots that a live node owns.", {"": health.slots}),
        "observation_age_seconds": ("Age of the last observation.", {"": health.age_s}),
        "observation_seconds": ("How long it took.", {"": health.observation_s}),
        "last_run_seconds": ("How long the last run took.", {"": health.run_s}),
        "last_healthy_timestamp_seconds": (
            "When the cluster was last observed healthy.",
            {"": health.healthy_at},
        ),
    }
    counters: dict[str, tuple[str, Samples]] = {
        "runs_total": ("Runs that ended, by outcome.", _by("outcome", health.runs)),
        "slots_moved_total": ("Hash slots moved.", {"": health.slots_moved}),
        "keys_moved_total": ("Keys moved.", {"": health.keys_moved}),
    }
    lines = [*_lines("gauge", gauges), *_lines("counter", counters)]
    return "\n".join(lines) + "\n"


def _by(label: str, values: Mapping[str, int]) -> Samples:
    return {f'{{{label}="{word}"}}': count for word, count in sorted(values.items())}


def _lines(kind: str, metrics: Mapping[str, tuple[str, Samples]]) -> Iterator[str]:
    for name, (text, samples) in metrics.items():
        if None not in samples.values():
            full = f"redis_cluster_bootstrap_{name}"
            yield from (f"# HELP {full} {text}", f"# TYPE {full} {kind}")
            yield from (f"{full}{labels} {value}" for labels, value in samples.items())
