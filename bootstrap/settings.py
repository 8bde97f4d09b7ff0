"""Every setting, declared once: attribute, flag, variable, parser, default, help and completion.

`--help`, the table in README.md, validation and `Settings` are made from these declarations. Cheap
to import, as `--help` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

from . import validation
from .validation import Host, number, optional

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_PREFIX = "BOOTSTRAP_"
COMMANDS = ("run", "reconcile", "plan", "status", "wait", "sandbox")
_CLUSTER_COMMANDS = COMMANDS[:-1]


class Group(StrEnum):
    """Headings under which `--help` lists options, in this order."""

    CLUSTER = "Cluster"
    DISCOVERY = "Discovery"
    ACCESS = "Authentication and TLS"
    BEHAVIOR = "Behavior"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """What the text of an option may be.

    Attributes:
        metavar: What `--help` shows for it; PATH completes to file names.
        parse: Returns the value of a text; raises `validation.Fault`.
        choices: The words to choose from.
    """

    metavar: str
    parse: Callable[[str], T_co]
    choices: tuple[str, ...] = ()

    def or_none(self) -> Kind[T_co | None]:
        """Return the kind that is None where no text is given."""
        return Kind(self.metavar, optional(self.parse, None))


def _words(*choices: str) -> Kind[str]:
    return Kind(f"[{'|'.join(choices)}]", validation.one_of(choices), choices)


_SECONDS = Kind("SECONDS", validation.seconds)
_PODS = number(least=1, most=validation.MOST_PODS)
_NAME = Kind("NAME", validation.label)
_PATH = Kind("PATH", validation.text)
SWITCH = Kind("[true|false]", validation.switch, ("true", "false"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """A setting, as a flag and as a variable.

    Attributes:
        name: The flag as an identifier.
        meaning: One sentence.
        default: The text that applies where none is given; empty where there is none.
        absent: What applies where none is given and there is no default text.
        commands: Which commands have it.
    """

    name: str
    group: Group
    kind: Kind[object]
    meaning: str
    default: str = ""
    absent: str = ""
    commands: tuple[str, ...] = _CLUSTER_COMMANDS

    @property
    def flag(self) -> str:
        """Return the flag."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """Return the environment variable."""
        return f"{_PREFIX}{self.name.upper()}"


def _option(
    group: Group, kind: Kind[T], meaning: str, *, default: str = "", **more: str | tuple[str, ...]
) -> T:
    """Return what declares an attribute of `Settings` together with its `Option`."""
    declared = {"group": group, "kind": kind, "meaning": meaning, "default": default, **more}
    return field(default=kind.parse(default), metadata=declared)


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)  # passwords stay out of messages
class Settings:
    """Settings as they are given; `settings.load` returns them checked and completed.

    Attributes:
        nodes: Completed where endpoints are given without a number.
        service: Completed to the absolute name without the last dot; empty with endpoints.
        endpoints: Host and port; DNS discovery when empty.
        nameservers: Address and port; those of resolv.conf when empty.
        passwords: Of the variable or the file, in the order to try.
        tls_context: Verifies; None for plain TCP.
    """

    # A table: kind and meaning of each setting.
    # fmt: off
    nodes: int = _option(Group.CLUSTER, Kind("N", optional(_PODS, 0)),
        "Number of pods that the cluster must have. Required, unless --endpoints is given.")
    replicas: int = _option(Group.CLUSTER, Kind("N", number(least=0, most=validation.MOST_PODS)),
        "Number of replicas per primary.", default="1", commands=COMMANDS)
    statefulset: str = _option(Group.CLUSTER, _NAME,
        "StatefulSet whose pods are NAME-0, NAME-1, …", default="redis-app")
    service: str = _option(Group.CLUSTER, _NAME,
        "Headless Service of the StatefulSet.", default="redis-service")
    namespace: str | None = _option(Group.CLUSTER, _NAME.or_none(),
        "Namespace of the StatefulSet.", absent="the namespace of this pod")
    cluster_domain: str | None = _option(Group.CLUSTER, Kind("DOMAIN", validation.domain).or_none(),
        "DNS domain of the Kubernetes cluster.",
        absent="the one in the search list of resolv.conf")
    port: int = _option(Group.CLUSTER, Kind("PORT", number(least=1, most=validation.HIGHEST_PORT)),
        "Client port of the pods. The bus port is what each node announces.", default="6379")
    server: str = _option(Group.CLUSTER, _PATH,
        "Path of redis-server or valkey-server.", absent="the bundled server",
        commands=("sandbox",))
    nameservers: tuple[Host, ...] = _option(
        Group.DISCOVERY, Kind("IP[:PORT],…", validation.addresses),
        "DNS servers to query.", absent="those of resolv.conf")
    endpoints: tuple[Host, ...] = _option(
        Group.DISCOVERY, Kind("HOST[:PORT],…", validation.hosts),
        "List of nodes to use instead of DNS discovery.", absent="DNS discovery")
    username: str | None = _option(Group.ACCESS, Kind("NAME", validation.text).or_none(),
        "ACL user.", absent="the default user")
    password: str = _option(Group.ACCESS, Kind("TEXT", validation.text),
        "Password. Several may be given, one per line; they are tried in order. "
        "Prefer the variable or a file: a flag is visible in the process list.",
        absent="no authentication")
    password_file: str = _option(Group.ACCESS, _PATH,
        "File that holds the password or passwords; one trailing newline is dropped.",
        absent="no authentication")
    tls: bool = _option(Group.ACCESS, SWITCH,
        "Use TLS, verified against the pod's DNS name.", default="false")
    tls_ca: str = _option(Group.ACCESS, _PATH,
        "CA certificates in PEM.", absent="the CA certificates of the system")
    tls_cert: str = _option(Group.ACCESS, _PATH,
        "Client certificate in PEM.", absent="no client certificate")
    tls_key: str = _option(Group.ACCESS, _PATH,
        "Private key of the client certificate in PEM.", absent="no client certificate")
    timeout_s: float = _option(Group.BEHAVIOR, _SECONDS,
        "Time limit for the whole run. Keep it below activeDeadlineSeconds of the Job.",
        default="600")
    allow_data_loss: bool = _option(Group.BEHAVIOR, SWITCH,
        "Consent to assign slots whose data is lost to new owners.", default="false")
    rebalance: bool = _option(Group.BEHAVIOR, SWITCH,
        "Rebalance slots evenly across primaries.", default="true")
    expect: str | None = _option(Group.BEHAVIOR, Kind("FINGERPRINT", validation.text).or_none(),
        "Run only if the plan has this fingerprint.", absent="any plan", commands=("run",))
    interval_s: float = _option(Group.BEHAVIOR, _SECONDS,
        "Time between two observations of a healthy cluster.", default="5",
        commands=("reconcile",))
    http_listen: tuple[str, int] = _option(
        Group.BEHAVIOR, Kind("IP:PORT", validation.listen_address),
        "Address on which readiness and metrics are served over HTTP.", default="0.0.0.0:9102",
        commands=("reconcile",))
    exit_code: bool = _option(Group.BEHAVIOR, SWITCH,
        "Exit 10 when there is work to do.", default="false", commands=("plan",))
    watch: bool = _option(Group.BEHAVIOR, SWITCH,
        "Refresh about once a second.", default="false", commands=("status",))
    script: str = _option(Group.BEHAVIOR, _PATH,
        "File with orders, one a line.", absent="stdin, at a prompt or from a pipe",
        commands=("sandbox",))
    exit: bool = _option(Group.BEHAVIOR, SWITCH,
        "Stop the servers once the cluster is healthy.", default="false", commands=("sandbox",))
    output: str = _option(Group.OUTPUT, _words("text", "json"),
        "Output format of stdout.", default="text", commands=("run", "plan", "status", "wait"))
    termination_log: str = _option(Group.OUTPUT, _PATH,
        "File to write the JSON summary to.", default="/dev/termination-log",
        commands=("run", "wait"))
    log_format: str = _option(Group.OUTPUT, _words("auto", "json", "console"),
        "Log format of stderr. auto: console on a terminal, otherwise json.", default="auto",
        commands=COMMANDS)
    log_level: str = _option(Group.OUTPUT, _words("debug", "info", "warning", "error"),
        "Minimum log level.", default="info", commands=COMMANDS)
    # fmt: on
    passwords: tuple[str, ...] = ()
    tls_context: ssl.SSLContext | None = None

    @property
    def cluster(self) -> str:
        """Return a name for logs."""
        return self.endpoints[0][0] if self.endpoints else f"{self.statefulset}.{self.service}"


# By attribute of Settings; the option of `timeout_s` is `timeout`.
DECLARED = {
    each.name: Option(name=each.name.removesuffix("_s"), **each.metadata)
    for each in fields(Settings)
    if each.metadata
}
_SANDBOX_NODES = Option(
    name="nodes",
    group=Group.CLUSTER,
    kind=Kind("N", _PODS),
    meaning="Number of servers to start.",
    default="6",
    commands=("sandbox",),
)
OPTIONS = {
    command: tuple(
        option for option in (_SANDBOX_NODES, *DECLARED.values()) if command in option.commands
    )
    for command in COMMANDS
}
VARIABLES = frozenset(option.variable for option in DECLARED.values())


def texts(variables: Mapping[str, str]) -> dict[str, str | None]:
    """Return the texts of variables by name of the option, as `settings.load` takes them."""
    return {name.removeprefix(_PREFIX).lower(): text for name, text in variables.items()}
