"""How a run ended, in one line that says all: for logs, stdout and the termination message."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace

from ..errors import BootstrapError, ExitCode

MESSAGE_BYTES = 4096
CAUSE_CHARS = 2600


@dataclass(slots=True)
class Summary:
    """The canonical line of a run."""

    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    outcome: str = "not_healthy"
    exit_code: int = 5
    passes: int = 0
    actions: int = 0
    slots_moved: int = 0
    keys_moved: int = 0
    duration_s: float = 0.0
    commands: int = 0
    write_commands: int = 0
    round_trips: int = 0
    node: str | None = None
    phase: str | None = None
    cause: str | None = None
    remedy: str | None = None

    def note_failure(self, error: BaseException, *, phase: str) -> None:
        """Take over why the run ended."""
        if isinstance(error, BootstrapError):
            self.outcome, self.exit_code = error.outcome, int(error.exit_code)
            self.node, self.cause, self.remedy = error.node, error.cause, error.remedy
        else:
            self.outcome, self.exit_code = "unforeseen", int(ExitCode.UNFORESEEN)
            self.cause = f"{type(error).__name__}: {error}"
            self.remedy = "report it with the traceback above"
        self.cause = _shortened(self.cause)
        self.phase = self.phase or phase

    def redacted(self, redact: Callable[[str], str]) -> Summary:
        """Return it without secrets in what others have said."""
        told = (self.node, self.cause, self.remedy)
        node, cause, remedy = (text and redact(text) for text in told)
        return replace(self, node=node, cause=cause, remedy=remedy)

    def fields(self) -> dict[str, str | int | float]:
        """Return what applies, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def text(self) -> str:
        """Return all of it as one sentence, as logs and stdout may come in either order."""
        line = (
            f"{self.outcome}: exit code {self.exit_code}, {self.passes} passes, "
            f"{self.actions} actions, {self.slots_moved} slots and {self.keys_moved} keys "
            f"moved, {self.duration_s:.1f} s"
        )
        if self.cause is None:
            return line
        pod = f"{self.node}, " if self.node else ""
        return f"{line}; {pod}phase {self.phase}: {self.cause}; {self.remedy}"

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
