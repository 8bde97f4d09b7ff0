"""Every way a run can end other than healthy, and the exit code that tells a Job what to do next.

The Job's podFailurePolicy is written from `ExitCode`: 2, 3 and 4 fail it at once, 1 and 5 count
as a try.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes; part of the public contract."""

    HEALTHY = 0
    UNFORESEEN = 1
    SETTINGS = 2
    REFUSED = 3
    INVARIANT = 4
    NOT_HEALTHY = 5
    PLAN_HAS_WORK = 10
    STOPPED = 143


@dataclass(kw_only=True)
class BootstrapError(Exception):
    """Something that ends a run, told in one sentence with its remedy.

    Attributes:
        cause: What is wrong, naming the thing.
        remedy: What the reader can do about it.
        node: The pod or endpoint concerned, when there is one.
    """

    cause: str
    remedy: str
    node: str | None = None

    exit_code = ExitCode.UNFORESEEN
    outcome = "failed"

    def __post_init__(self) -> None:
        """Give `Exception` its arguments, so that `repr` and pickling work."""
        super().__init__(self.cause, self.remedy)

    def __str__(self) -> str:
        """Return cause and remedy as one line, the pod first when the cause does not name it."""
        pod = f"{self.node}: " if self.node and self.node not in self.cause else ""
        return f"{pod}{self.cause}; {self.remedy}"


class SettingsError(BootstrapError):
    """The settings cannot work, whatever the cluster does."""

    exit_code = ExitCode.SETTINGS
    outcome = "settings"


class CredentialsError(SettingsError):
    """A node did not accept who we are or what we asked (NOAUTH, WRONGPASS, NOPERM)."""

    outcome = "credentials"


class RefusedError(BootstrapError):
    """Going on could harm data; a person must decide."""

    exit_code = ExitCode.REFUSED
    outcome = "refused"


class InvariantError(BootstrapError):
    """A reply or state that was held impossible: a bug of this program."""

    exit_code = ExitCode.INVARIANT
    outcome = "invariant"


class TransientError(BootstrapError):
    """Not now; the same may work later."""

    exit_code = ExitCode.NOT_HEALTHY
    outcome = "not_healthy"


class NodeUnreachableError(TransientError):
    """A node did not answer."""


class NodeNotReadyError(NodeUnreachableError):
    """A node answered that it cannot serve now (LOADING, BUSY)."""


class DiscoveryError(TransientError):
    """The name servers did not tell every pod's address."""


class StaleViewError(TransientError):
    """The world moved after it was looked at; look again."""


class NotConvergedError(TransientError):
    """The deadline came before the cluster was healthy."""


class StoppedError(BootstrapError):
    """SIGTERM or SIGINT: what was in flight is closed, the next run goes on."""

    exit_code = ExitCode.STOPPED
    outcome = "stopped"
