"""How a run ended, on one line: for logs, stdout and the termination message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TypeAlias

from ..core.verdict import Severity, State, Verdict
from ..errors import BootstrapError, ExitCode, Outcome
from .cleaning import clean

# Of every JSON document; docs/schemas describes them.
SCHEMA_VERSION = 1
MESSAGE_BYTES = 4096
CAUSE_CHARS = 2600
# The cause and the remedy have all that there is to say.
VERDICT_CHARS = 200
_HEALTHY = Verdict(state=State.HEALTHY, severity=Severity.OK, next="nothing to do")
Fields: TypeAlias = dict[str, str | int | float | dict[str, str]]


def utc_now() -> str:
    """Return the time of day, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """How much a run did.

    Attributes:
        passes: Turns of the loop.
        actions: Actions that were applied.
        duration_s: Seconds from start to end.
        commands: Commands that were sent; `write_commands`: those that change a server's state.
        round_trips: Times that a node was waited for; a pipeline counts once.
    """

    passes: int = 0
    actions: int = 0
    slots_moved: int = 0
    keys_moved: int = 0
    duration_s: float = 0.0
    commands: int = 0
    write_commands: int = 0
    round_trips: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The canonical line of a run, cleaned of secrets and control characters.

    Attributes:
        cluster: Name of the cluster; empty where the settings could not be read.
        time: When the run ended, in UTC.
        node: The pod that a failure concerns, when there is one.
        phase: What the run was doing when it failed.
        cause: What is wrong; None for a healthy run.
        remedy: What to do next.
        verdict: The state of the cluster when the run ended.
        error: What ended a run that failed; for a traceback, never part of the line itself.
    """

    run_id: str = ""
    cluster: str = ""
    time: str = field(default_factory=utc_now, compare=False)
    outcome: Outcome = Outcome.HEALTHY
    exit_code: ExitCode = ExitCode.HEALTHY
    counters: Counters = Counters()
    node: str | None = None
    phase: str | None = None
    cause: str | None = None
    remedy: str | None = None
    verdict: Verdict = _HEALTHY
    error: BaseException | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(
        cls,
        error: BaseException | None,
        *,
        phase: str,
        counters: Counters = Counters(),
        run_id: str = "",
        cluster: str = "",
        verdict: Verdict | None = None,
    ) -> Summary:
        """Return the summary of a run that ended with this error, or healthy without one.

        Args:
            error: What ended the run.
            phase: What the run was doing.
            counters: How much it did.
            run_id: Its id.
            cluster: Name of the cluster.
            verdict: What the last observation showed, where there was one.
        """
        if error is None:
            last = verdict or _HEALTHY
            return cls(run_id=run_id, cluster=cluster, counters=counters, verdict=last)
        known = error
        if not isinstance(known, BootstrapError):
            cause = f"{type(error).__name__}: {error}"
            known = BootstrapError(cause=cause, remedy="report this bug with the traceback above")
        cause, remedy = _shortened(clean(known.cause)), _shortened(clean(known.remedy))
        return cls(
            verdict=_last_verdict(verdict, known.outcome, cause=cause, remedy=remedy),
            run_id=run_id,
            cluster=cluster,
            outcome=known.outcome,
            exit_code=known.exit_code,
            counters=counters,
            node=known.node and clean(known.node),
            phase=phase,
            cause=cause,
            remedy=remedy,
            error=error,
        )

    def fields(self) -> Fields:
        """Return what applies, by name."""
        about = {"run_id": self.run_id, "cluster": self.cluster, "time": self.time}
        known = {name: value for name, value in about.items() if value}
        return {**known, **self.reason(), **asdict(self.counters)}

    def reason(self) -> Fields:
        """Return how it ended and why, by name."""
        why = {"node": self.node, "phase": self.phase, "cause": self.cause, "remedy": self.remedy}
        known = {name: value for name, value in why.items() if value is not None}
        verdict = {name: str(value) for name, value in asdict(self.verdict).items()}
        ended: Fields = {"outcome": str(self.outcome), "exit_code": int(self.exit_code)}
        return {**ended, **known, "verdict": verdict}

    def text(self) -> str:
        """Return everything in one sentence, as logs and stdout may be shown in either order."""
        did = self.counters
        line = (
            f"{self.outcome}{self._state()}: exit code {int(self.exit_code)}, {did.passes} passes, "
            f"{did.actions} actions, {did.slots_moved} slots and {did.keys_moved} keys "
            f"moved, {did.duration_s:.1f} s"
        )
        if self.cause is None:
            return line
        pod = f"{self.node}, " if self.node and self.node not in self.cause else ""
        return f"{line}; {pod}phase {self.phase}: {self.cause}; {self.remedy}"

    def _state(self) -> str:
        """Return how bad it is, where a run that was not successful has seen it."""
        if self.error is None or not self.verdict.since:
            return ""
        since = datetime.fromisoformat(self.verdict.since).astimezone()
        known = self.verdict.state.value == self.outcome.value
        state = "" if known else f"{self.verdict.state.words}, "
        return f" ({state}{self.verdict.severity} since {since:%H:%M:%S})"

    def message(self) -> str:
        """Return JSON of at most 4096 bytes; the kubelet truncates a longer termination message."""
        kept = {"schema_version": SCHEMA_VERSION, **self.fields()}
        text = json.dumps(kept)
        while len(text.encode()) > MESSAGE_BYTES:
            longest = max(kept.keys() - {"verdict"}, key=lambda name: len(str(kept[name])))
            kept[longest] = str(kept[longest])[: len(str(kept[longest])) // 2] + "…"
            text = json.dumps(kept)
        return text


def _last_verdict(seen: Verdict | None, outcome: Outcome, *, cause: str, remedy: str) -> Verdict:
    """Return the state at the end of a run that failed, and what a person can do about it."""
    last = seen or Verdict(state=State.UNKNOWN, reason=cause)
    if outcome is Outcome.REFUSED:
        last = replace(last, state=State.REFUSED, reason=cause)
    reason = _shortened(clean(last.reason), VERDICT_CHARS)
    return replace(last, reason=reason, next=_shortened(remedy, VERDICT_CHARS))


def _shortened(cause: str, most: int = CAUSE_CHARS) -> str:
    """Return the beginning and the end of a long text: the thing and the reason."""
    if len(cause) <= most:
        return cause
    return f"{cause[: most // 2]} … {cause[-most // 2 :]}"
