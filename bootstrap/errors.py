"""Every way in which a run can fail, and the exit code that tells a Job what to do next.

The podFailurePolicy of the Job is written from `ExitCode`: 2, 3 and 4 fail the Job at once, 1 and
5 count towards its backoffLimit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Self


class ExitCode(IntEnum):
    """Process exit codes and what they mean; part of the public contract."""

    meaning: str

    def __new__(cls, code: int, meaning: str) -> Self:
        """Make a code that knows what it means, in a few words."""
        member = int.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    HEALTHY = 0, "healthy"
    UNFORESEEN = 1, "unforeseen error, with a traceback"
    SETTINGS = 2, "settings or credentials are wrong"
    REFUSED = 3, "refused, a person must decide"
    INVARIANT = 4, "impossible reply, please report a bug"
    NOT_HEALTHY = 5, "not healthy in time, or a pod is unreachable"
    PLAN_HAS_WORK = 10, "plan --exit-code, and there is work to do"
    STOPPED = 143, "stopped by SIGTERM or SIGINT"


class Outcome(StrEnum):
    """How a run ended, in one word; part of the public contract."""

    HEALTHY = "healthy"
    NOT_HEALTHY = "not_healthy"
    REFUSED = "refused"
    SETTINGS = "settings"
    CREDENTIALS = "credentials"
    INVARIANT = "invariant"
    STOPPED = "stopped"
    UNFORESEEN = "unforeseen"


@dataclass(kw_only=True)
class BootstrapError(Exception):
    """A reason to end a run or a pass, with its remedy.

    Attributes:
        cause: What is wrong, naming the thing.
        remedy: What the reader can do about it.
        node: The pod or endpoint concerned, when there is one.
        command: The command that a server refused, where that is the cause.
    """

    cause: str
    remedy: str
    node: str | None = None
    command: str | None = None

    exit_code = ExitCode.UNFORESEEN
    outcome = Outcome.UNFORESEEN

    def __post_init__(self) -> None:
        """Pass the arguments on to `Exception`, so that `repr` and pickling work."""
        super().__init__(self.cause, self.remedy)

    def __str__(self) -> str:
        """Return cause and remedy on one line, after the pod where the cause does not name it."""
        pod = f"{self.node}: " if self.node and self.node not in self.cause else ""
        return f"{pod}{self.cause}; {self.remedy}"


class SettingsError(BootstrapError):
    """The settings cannot work, whatever state the cluster is in."""

    exit_code = ExitCode.SETTINGS
    outcome = Outcome.SETTINGS


class CredentialsError(SettingsError):
    """A node rejected the credentials or the command (NOAUTH, WRONGPASS, NOPERM)."""

    outcome = Outcome.CREDENTIALS


class RefusedError(BootstrapError):
    """To continue could harm data; a person must decide."""

    exit_code = ExitCode.REFUSED
    outcome = Outcome.REFUSED


class InvariantError(BootstrapError):
    """A reply or a state that should be impossible: a bug of this program."""

    exit_code = ExitCode.INVARIANT
    outcome = Outcome.INVARIANT


class TransientError(BootstrapError):
    """A condition that may pass; the loop tries again until its deadline."""

    exit_code = ExitCode.NOT_HEALTHY
    outcome = Outcome.NOT_HEALTHY


class NodeUnreachableError(TransientError):
    """A node did not answer."""


class NodeNotReadyError(NodeUnreachableError):
    """A node answered that it cannot serve yet (LOADING, BUSY)."""


class WrongNameError(NodeUnreachableError):
    """The certificate at a pod's address has another name: the address may be another pod's."""


class DiscoveryError(TransientError):
    """The name servers did not return the address of every pod."""


class StaleViewError(TransientError):
    """The cluster changed after it was observed; the next pass observes it again."""


class NotConvergedError(TransientError):
    """The deadline passed before the cluster was healthy."""


class StoppedError(BootstrapError):
    """A signal ended the run; moves in flight are closed, and the next run continues."""

    exit_code = ExitCode.STOPPED
    outcome = Outcome.STOPPED
