"""How a run ended, in one line that says all: for logs, stdout and the termination message."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace

from .core.findings import Finding, FindingCode
from .core.topology import Absent
from .core.watch import Stuck
from .errors import BootstrapError, ExitCode

MESSAGE_BYTES = 4096
CAUSE_CHARS = 2600
NAMES_CHARS = 1900
USUAL_CAUSES = "usual causes: PVC pending, image not pulled, quota, no room on a node"
POD_REMEDY = "look at the pod: kubectl describe, kubectl logs"
DNS_REMEDY = "check that CoreDNS runs and that a NetworkPolicy allows UDP and TCP 53"
_LONGER = "give BOOTSTRAP_TIMEOUT more seconds"


@dataclass(slots=True)
class Summary:
    """The canonical line of a run."""

    run_id: str = field(default_factory=lambda: secrets.token_hex(4))
    outcome: str = "not_whole"
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


def blame_absent(absent: Sequence[Absent]) -> tuple[str, str, str]:
    """Return pod, cause and remedy where wanted pods gave no view.

    What keeps a pod from having a name tells more than what keeps another from answering, and a
    name server that fails more than a name that is not there.
    """
    unnamed = [a for a in absent if a.phase == "dns"]
    unasked = [a for a in unnamed if a.remedy]
    blamed = unasked or unnamed or absent
    first = blamed[0]
    remedy = first.remedy or (USUAL_CAUSES if unnamed else POD_REMEDY)
    others = [a.name for a in unnamed if a not in blamed]
    also = f"; {_listed(others)}: no address" if others else ""
    return first.name, f"{_listed([a.name for a in blamed])}: {first.cause}{also}", remedy


def blame_silent(names: Sequence[str]) -> tuple[str | None, str, str]:
    """Return pod, cause and remedy where no look was done in time.

    Args:
        names: Pods that were asked and did not answer; none where no pod was asked yet.
    """
    if not names:
        return None, "the name servers gave no answer in time", f"{DNS_REMEDY}, or {_LONGER}"
    return names[0], f"{_listed(names)} gave no answer in time", f"{POD_REMEDY}; or {_LONGER}"


def _listed(names: Sequence[str]) -> str:
    """Return as many names as a message has room for beside the cause itself."""
    shown, room = 0, NAMES_CHARS
    for name in names:
        room -= len(name) + 2
        if room < 0:
            break
        shown += 1
    more = f" and {len(names) - shown} more" if shown < len(names) else ""
    return ", ".join(names[:shown]) + more


def _shortened(cause: str) -> str:
    """Return the beginning and the end of what is too long: the thing and the reason."""
    if len(cause) <= CAUSE_CHARS:
        return cause
    return f"{cause[: CAUSE_CHARS // 2]} … {cause[-CAUSE_CHARS // 2 :]}"


def blame_stuck(stuck: Stuck) -> tuple[str, str, str]:
    """Return pod, cause and remedy where nodes do not reach each other."""
    return (
        stuck.node,
        stuck.detail,
        "open the bus port between the pods (NetworkPolicy, firewall, cluster-announce-bus-port)",
    )


_REMEDIES = {
    FindingCode.REPLICA_LINK_DOWN: "look at the log of that pod; where there are passwords, its "
    "masterauth (primaryauth) must be one that its primary takes",
    FindingCode.MEMBER_UNSEEN: "let the name of its pod lead to it again, and let this program in; "
    "or stop it",
}


def blame_finding(finding: Finding) -> tuple[str | None, str, str]:
    """Return pod, cause and remedy where something does not become right by itself."""
    usual = "run it again; if it stays, look at the log of that pod"
    return finding.node or None, finding.detail, _REMEDIES.get(finding.code, usual)
