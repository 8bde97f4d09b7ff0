"""The reconciler's metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .. import __version__
from ..core.slots import SLOT_COUNT
from ..core.verdict import State

_PREFIX = "redis_cluster_bootstrap_"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Value = float | int | None


def rendered(
    *,
    state: State,
    gauges: Mapping[str, tuple[str, Value]],
    counters: Mapping[str, tuple[str, Value]],
    findings: Mapping[str, int],
    runs: Mapping[str, int],
) -> str:
    """Return all metrics.

    Args:
        state: Of the cluster.
        gauges: Help text and value by name; None is left out.
        counters: The same.
        findings: How many of each code.
        runs: How many ended with each outcome.
    """
    lines = [
        *_metric("info", "gauge", "Version of the program.", {f'version="{__version__}"': 1}),
        *_metric(
            "state",
            "gauge",
            "State of the cluster: 1 for the present one.",
            {f'state="{each.value}"': int(each is state) for each in State},
        ),
        *_metric(
            "findings",
            "gauge",
            "What keeps the cluster from being healthy, by code.",
            {f'code="{code}"': count for code, count in sorted(findings.items())},
        ),
        *_metric(
            "runs_total",
            "counter",
            "Runs that ended, by outcome.",
            {f'outcome="{outcome}"': count for outcome, count in sorted(runs.items())},
        ),
        *_metric("slots", "gauge", "Hash slots of a cluster.", {"": SLOT_COUNT}),
    ]
    for kind, values in (("gauge", gauges), ("counter", counters)):
        for name, (text, value) in values.items():
            if value is not None:
                lines += _metric(name, kind, text, {"": value})
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, text: str, samples: Mapping[str, float]) -> Iterator[str]:
    yield f"# HELP {_PREFIX}{name} {text}"
    yield f"# TYPE {_PREFIX}{name} {kind}"
    for labels, value in samples.items():
        yield f"{_PREFIX}{name}{{{labels}}} {value:g}" if labels else f"{_PREFIX}{name} {value!r}"
