"""How a run ended, on one line: for logs, stdout and the termination message."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime

from ..errors import BootstrapError, ExitCode, Outcome
from . import redaction

MESSAGE_BYTES = 4096
CAUSE_CHARS = 2600


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
class Failure:
    """Why a run failed, cleaned of secrets and control characters.

    Attributes:
        node: The pod concerned, when there is one.
        phase: What the run was doing.
        cause: What is wrong.
        remedy: What to do next.
    """

    node: str | None = None
    phase: str | None = None
    cause: str | None = None
    remedy: str | None = None

    @classmethod
    def of(cls, error: BaseException, *, phase: str) -> Failure:
        """Return the reason that an error gives."""
        if not isinstance(error, BootstrapError):
            return cls(
                phase=phase,
                cause=_shortened(redaction.clean(f"{type(error).__name__}: {error}")),
                remedy="report this bug with the traceback above",
            )
        return cls(
            node=error.node and redaction.clean(error.node),
            phase=phase,
            cause=_shortened(redaction.clean(error.cause)),
            remedy=_shortened(redaction.clean(error.remedy)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The canonical line of a run.

    Attributes:
        cluster: Name of the cluster; empty where the settings could not be read.
        time: When the run ended, in UTC.
        error: What ended a run that failed; for a traceback, never part of the line itself.
    """

    run_id: str = ""
    cluster: str = ""
    time: str = field(
        default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"), compare=False
    )
    outcome: Outcome = Outcome.HEALTHY
    exit_code: ExitCode = ExitCode.HEALTHY
    counters: Counters = Counters()
    failure: Failure = Failure()
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
        kind = error if isinstance(error, BootstrapError) else BootstrapError
        return cls(
            run_id=run_id,
            cluster=cluster,
            outcome=kind.outcome,
            exit_code=kind.exit_code,
            counters=counters,
            failure=Failure.of(error, phase=phase),
            error=error,
        )

    def fields(self) -> dict[str, str | int | float]:
        """Return what applies, by name."""
        values = {
            "run_id": self.run_id or None,
            "cluster": self.cluster or None,
            "time": self.time,
            "outcome": str(self.outcome),
            "exit_code": int(self.exit_code),
            **asdict(self.counters),
            **asdict(self.failure),
        }
        return {name: value for name, value in values.items() if value is not None}

    def text(self) -> str:
        """Return everything in one sentence, as logs and stdout may be shown in either order."""
        did, failure = self.counters, self.failure
        line = (
            f"{self.outcome}: exit code {int(self.exit_code)}, {did.passes} passes, "
            f"{did.actions} actions, {did.slots_moved} slots and {did.keys_moved} keys "
            f"moved, {did.duration_s:.1f} s"
        )
        if failure.cause is None:
            return line
        pod = f"{failure.node}, " if failure.node else ""
        return f"{line}; {pod}phase {failure.phase}: {failure.cause}; {failure.remedy}"

    def message(self) -> str:
        """Return JSON of at most 4096 bytes; the kubelet truncates a longer termination message."""
        kept = self.fields()
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
