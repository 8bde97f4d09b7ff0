"""How a run ended, on one line: for logs, stdout and the termination message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from ..errors import BootstrapError, ExitCode, Outcome
from .cleaning import clean

# Of every JSON document; docs/schemas describes them.
SCHEMA_VERSION = 1
MESSAGE_BYTES = 4096
CAUSE_CHARS = 2600


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
    ) -> Summary:
        """Return the summary of a run that ended with this error, or healthy without one."""
        if error is None:
            return cls(run_id=run_id, cluster=cluster, counters=counters)
        known = error
        if not isinstance(known, BootstrapError):
            cause = f"{type(error).__name__}: {error}"
            known = BootstrapError(cause=cause, remedy="report this bug with the traceback above")
        return cls(
            run_id=run_id,
            cluster=cluster,
            outcome=known.outcome,
            exit_code=known.exit_code,
            counters=counters,
            node=known.node and clean(known.node),
            phase=phase,
            cause=_shortened(clean(known.cause)),
            remedy=_shortened(clean(known.remedy)),
            error=error,
        )

    def fields(self) -> dict[str, str | int | float]:
        """Return what applies, by name."""
        about = {"run_id": self.run_id, "cluster": self.cluster, "time": self.time}
        known = {name: value for name, value in about.items() if value}
        return {**known, **self.reason(), **asdict(self.counters)}

    def reason(self) -> dict[str, str | int | float]:
        """Return how it ended and why, by name."""
        why = {"node": self.node, "phase": self.phase, "cause": self.cause, "remedy": self.remedy}
        known = {name: value for name, value in why.items() if value is not None}
        return {"outcome": str(self.outcome), "exit_code": int(self.exit_code), **known}

    def text(self) -> str:
        """Return everything in one sentence, as logs and stdout may be shown in either order."""
        did = self.counters
        line = (
            f"{self.outcome}: exit code {int(self.exit_code)}, {did.passes} passes, "
            f"{did.actions} actions, {did.slots_moved} slots and {did.keys_moved} keys "
            f"moved, {did.duration_s:.1f} s"
        )
        if self.cause is None:
            return line
        pod = f"{self.node}, " if self.node else ""
        return f"{line}; {pod}phase {self.phase}: {self.cause}; {self.remedy}"

    def message(self) -> str:
        """Return JSON of at most 4096 bytes; the kubelet truncates a longer termination message."""
        kept = {"schema_version": SCHEMA_VERSION, **self.fields()}
        text = json.dumps(kept)
        while len(text.encode()) > MESSAGE_BYTES:
            longest = max(kept, key=lambda name: len(str(kept[name])))
            kept[longest] = str(kept[longest])[: len(str(kept[longest])) // 2] + "…"
            text = json.dumps(kept)
        return text


def _shortened(cause: str) -> str:
    """Return the beginning and the end of a long text: the thing and the reason."""
    if len(cause) <= CAUSE_CHARS:
        return cause
    return f"{cause[: CAUSE_CHARS // 2]} … {cause[-CAUSE_CHARS // 2 :]}"
