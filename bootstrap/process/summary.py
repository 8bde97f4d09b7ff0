"""How a run ended, in one line that says all: for logs, stdout and the termination message."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from ..errors import BootstrapError, ExitCode

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
    """Why a run failed.

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The canonical line of a run.

    Attributes:
        error: What ended a run that failed; for a traceback, never part of the line itself.
    """

    run_id: str = ""
    outcome: str = "healthy"
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
    ) -> Summary:
        """Return the summary of a run that ended with this error, or healthy without one."""
        if error is None:
            return cls(run_id=run_id, counters=counters)
        if isinstance(error, BootstrapError):
            return cls(
                run_id=run_id,
                outcome=error.outcome,
                exit_code=error.exit_code,
                counters=counters,
                error=error,
                failure=Failure(
                    node=error.node, phase=phase, cause=_shortened(error.cause), remedy=error.remedy
                ),
            )
        return cls(
            run_id=run_id,
            outcome="unforeseen",
            exit_code=ExitCode.UNFORESEEN,
            counters=counters,
            error=error,
            failure=Failure(
                phase=phase,
                cause=_shortened(f"{type(error).__name__}: {error}"),
                remedy="report it with the traceback above",
            ),
        )

    def redacted(self, redact: Callable[[str], str]) -> Summary:
        """Return it without secrets in what others have said."""
        texts = {name: text and redact(text) for name, text in asdict(self.failure).items()}
        return replace(self, failure=Failure(**texts))

    def fields(self) -> dict[str, str | int | float]:
        """Return what applies, by name."""
        values = {
            "run_id": self.run_id or None,
            "outcome": self.outcome,
            "exit_code": int(self.exit_code),
            **asdict(self.counters),
            **asdict(self.failure),
        }
        return {name: value for name, value in values.items() if value is not None}

    def text(self) -> str:
        """Return all of it as one sentence, as logs and stdout may come in either order."""
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
        """Return JSON of at most 4096 bytes; the kubelet reads no more of a termination message."""
        kept = self.fields()
        text = json.dumps(kept)
        while len(text.encode()) > MESSAGE_BYTES:
            longest = max(kept, key=lambda name: len(str(kept[name])))
            kept[longest] = str(kept[longest])[: len(str(kept[longest])) // 2] + "…"
            text = json.dumps(kept)
        return text


def _shortened(cause: str) -> str:
    """Return the beginning and the end of what is too long: the thing and the reason."""
    if len(cause) <= CAUSE_CHARS:
        return cause
    return f"{cause[: CAUSE_CHARS // 2]} … {cause[-CAUSE_CHARS // 2 :]}"
