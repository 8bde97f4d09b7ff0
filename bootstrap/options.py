"""Every option of the command line, declared once.

Flags, variables, `--help`, shell completion, the table in README.md, validation and the Settings
value are made from these declarations. Cheap to import, as `--help` needs nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Generic, TypeVar

from . import validation

T_co = TypeVar("T_co", covariant=True)

_PREFIX = "BOOTSTRAP_"
LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "console")
OUTPUTS = ("text", "json")


class Group(StrEnum):
    """Headings under which `--help` lists options, in this order."""

    CLUSTER = "Cluster"
    DISCOVERY = "Discovery"
    ACCESS = "Authentication and TLS"
    BEHAVIOR = "Behavior"
    OUTPUT = "Output"


@dataclass(frozen=True, slots=True, kw_only=True)
class Option(Generic[T_co]):
    """A setting, as a flag and as a variable.

    Attributes:
        name: The flag without its dashes.
        metavar: What `--help` shows for the value; PATH completes to file names.
        meaning: One sentence.
        parse: Returns the value of a text; raises `validation.Fault`.
        default: The text that applies where none is given; empty where there is none.
        absent: What applies where none is given and there is no default text.
        choices: The words to choose from.
        is_switch: The flag may stand alone, which means true.
    """

    name: str
    metavar: str
    meaning: str
    group: Group
    parse: Callable[[str], T_co]
    default: str = ""
    absent: str = ""
    choices: tuple[str, ...] = ()
    is_switch: bool = False

    @property
    def flag(self) -> str:
        """Return the flag."""
        return f"--{self.name}"

    @property
    def field(self) -> str:
        """Return the name as an identifier."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """Return the environment variable."""
        return f"{_PREFIX}{self.field.upper()}"


def _switch(name: str, meaning: str, *, group: Group, default: str = "false") -> Option[bool]:
    return Option(
        name=name,
        metavar="[true|false]",
        meaning=meaning,
        group=group,
        parse=validation.switch,
        default=default,
        choices=("true", "false"),
        is_switch=True,
    )


def _choice(name: str, meaning: str, choices: tuple[str, ...]) -> Option[str]:
    return Option(
        name=name,
        metavar=f"[{'|'.join(choices)}]",
        meaning=meaning,
        group=Group.OUTPUT,
        parse=validation.one_of(choices),
        default=choices[0],
        choices=choices,
    )


def _path(
    name: str, meaning: str, *, group: Group = Group.ACCESS, default: str = "", absent: str = ""
) -> Option[str]:
    return Option(
        name=name,
        metavar="PATH",
        meaning=meaning,
        group=group,
        parse=validation.text,
        default=default,
        absent=absent,
    )


NODES = Option(
    name="nodes",
    metavar="N",
    meaning="Number of pods that the cluster must have. Required, unless --endpoints is given.",
    group=Group.CLUSTER,
    parse=validation.optional(validation.number(least=1)),
)
REPLICAS = Option(
    name="replicas",
    metavar="N",
    meaning="Number of replicas per primary.",
    group=Group.CLUSTER,
    parse=validation.number(least=0),
    default="1",
)
STATEFULSET = Option(
    name="statefulset",
    metavar="NAME",
    meaning="StatefulSet whose pods are NAME-0, NAME-1, …",
    group=Group.CLUSTER,
    parse=validation.label,
    default="redis-app",
)
SERVICE = Option(
    name="service",
    metavar="NAME",
    meaning="Headless Service of the StatefulSet.",
    group=Group.CLUSTER,
    parse=validation.label,
    default="redis-service",
)
NAMESPACE = Option(
    name="namespace",
    metavar="NAME",
    meaning="Namespace of the StatefulSet.",
    group=Group.CLUSTER,
    parse=validation.optional(validation.label),
    absent="the namespace of this pod",
)
CLUSTER_DOMAIN = Option(
    name="cluster-domain",
    metavar="DOMAIN",
    meaning="DNS domain of the Kubernetes cluster.",
    group=Group.CLUSTER,
    parse=validation.optional(validation.domain),
    absent="the one in the search list of resolv.conf",
)
PORT = Option(
    name="port",
    metavar="PORT",
    meaning="Client port of the pods. The bus port is what each node announces.",
    group=Group.CLUSTER,
    parse=validation.number(least=1, most=validation.HIGHEST_PORT),
    default="6379",
)
NAMESERVERS = Option(
    name="nameservers",
    metavar="IP[:PORT],…",
    meaning="DNS servers to query.",
    group=Group.DISCOVERY,
    parse=validation.addresses,
    absent="those of resolv.conf",
)
ENDPOINTS = Option(
    name="endpoints",
    metavar="HOST[:PORT],…",
    meaning="List of nodes to use instead of DNS discovery.",
    group=Group.DISCOVERY,
    parse=validation.hosts,
    absent="DNS discovery",
)
USERNAME = Option(
    name="username",
    metavar="NAME",
    meaning="ACL user.",
    group=Group.ACCESS,
    parse=validation.optional(validation.text),
    absent="the default user",
)
PASSWORD = Option(
    name="password",
    metavar="TEXT",
    meaning="Password. Several may be given, one per line; they are tried in order. "
    "Prefer the variable or a file: a flag is visible in the process list.",
    group=Group.ACCESS,
    parse=validation.text,
    absent="no authentication",
)
PASSWORD_FILE = _path(
    "password-file",
    "File that holds the password or passwords; one trailing newline is dropped.",
    absent="no authentication",
)
TLS = _switch("tls", "Use TLS, verified against the pod's DNS name.", group=Group.ACCESS)
TLS_CA = _path("tls-ca", "CA certificates in PEM.", absent="the CA certificates of the system")
TLS_CERT = _path("tls-cert", "Client certificate in PEM.", absent="no client certificate")
TLS_KEY = _path(
    "tls-key", "Private key of the client certificate in PEM.", absent="no client certificate"
)
TIMEOUT = Option(
    name="timeout",
    metavar="SECONDS",
    meaning="Time limit for the whole run. Keep it below activeDeadlineSeconds of the Job.",
    group=Group.BEHAVIOR,
    parse=validation.seconds,
    default="600",
)
ALLOW_DATA_LOSS = _switch(
    "allow-data-loss",
    "Consent to assign slots whose data is lost to new owners.",
    group=Group.BEHAVIOR,
)
REBALANCE = _switch(
    "rebalance", "Rebalance slots evenly across primaries.", group=Group.BEHAVIOR, default="true"
)
EXPECT = Option(
    name="expect",
    metavar="FINGERPRINT",
    meaning="Run only if the plan has this fingerprint.",
    group=Group.BEHAVIOR,
    parse=validation.optional(validation.text),
    absent="any plan",
)
EXIT_CODE = _switch("exit-code", "Exit 10 when there is work to do.", group=Group.BEHAVIOR)
WATCH = _switch("watch", "Refresh about once a second.", group=Group.BEHAVIOR)
INTERVAL = Option(
    name="interval",
    metavar="SECONDS",
    meaning="Time between two observations of a healthy cluster.",
    group=Group.BEHAVIOR,
    parse=validation.seconds,
    default="5",
)
HTTP_LISTEN = Option(
    name="http-listen",
    metavar="IP:PORT",
    meaning="Address on which readiness and metrics are served over HTTP.",
    group=Group.BEHAVIOR,
    parse=validation.listen_address,
    default="0.0.0.0:9102",
)
OUTPUT = _choice("output", "Output format of stdout.", OUTPUTS)
TERMINATION_LOG = _path(
    "termination-log",
    "File to write the JSON summary to.",
    group=Group.OUTPUT,
    default="/dev/termination-log",
)
LOG_FORMAT = _choice(
    "log-format", "Log format of stderr. auto: console on a terminal, otherwise json.", FORMATS
)
LOG_LEVEL = replace(_choice("log-level", "Minimum log level.", LEVELS), default="info")

SANDBOX_NODES = Option(
    name="nodes",
    metavar="N",
    meaning="Number of servers to start.",
    group=Group.CLUSTER,
    parse=validation.number(least=1),
    default="6",
)
SERVER = _path(
    "server",
    "Path of redis-server or valkey-server.",
    group=Group.CLUSTER,
    absent="the bundled server",
)
EXIT = _switch("exit", "Stop the servers once the cluster is healthy.", group=Group.BEHAVIOR)

_LOG = (LOG_FORMAT, LOG_LEVEL)
_CLUSTER = (NODES, REPLICAS, STATEFULSET, SERVICE, NAMESPACE, CLUSTER_DOMAIN, PORT)
_ACCESS = (USERNAME, PASSWORD, PASSWORD_FILE, TLS, TLS_CA, TLS_CERT, TLS_KEY)
_COMMON = (
    *_CLUSTER,
    NAMESERVERS,
    ENDPOINTS,
    *_ACCESS,
    TIMEOUT,
    ALLOW_DATA_LOSS,
    REBALANCE,
)

OPTIONS: dict[str, tuple[Option[object], ...]] = {
    "run": (*_COMMON, EXPECT, OUTPUT, TERMINATION_LOG, *_LOG),
    "reconcile": (*_COMMON, INTERVAL, HTTP_LISTEN, *_LOG),
    "plan": (*_COMMON, EXIT_CODE, OUTPUT, *_LOG),
    "status": (*_COMMON, WATCH, OUTPUT, *_LOG),
    "wait": (*_COMMON, OUTPUT, TERMINATION_LOG, *_LOG),
    "sandbox": (SANDBOX_NODES, REPLICAS, SERVER, EXIT, *_LOG),
}
VARIABLES = frozenset(option.variable for options in OPTIONS.values() for option in options)


def texts(variables: Mapping[str, str]) -> dict[str, str | None]:
    """Return the texts of variables by field, as `settings.load` takes them."""
    return {name.removeprefix(_PREFIX).lower(): text for name, text in variables.items()}
