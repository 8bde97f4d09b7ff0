"""The command line: every option is a flag and a BOOTSTRAP_* variable, declared once, here.

Only `main` catches broadly, and only `__main__` exits. What a command needs is imported when it
runs, so that help, faults in settings and signals before the first connection cost no time.
"""

from __future__ import annotations

import asyncio
import functools
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, NoReturn, TypeVar

import click

from . import __version__
from .errors import SettingsError
from .options import FORMATS, LEVELS, OUTPUTS, TERMINATION_LOG
from .process import signals, stdio

if TYPE_CHECKING:
    from .settings import Settings

_Command = TypeVar("_Command", bound=Callable[..., None])
_option = functools.partial(click.option, show_envvar=True)

_CONNECTION = (
    ("--nodes", "", "N", "Pods that the cluster must have (required, unless --endpoints)."),
    ("--replicas", "1", "N", "Replicas per primary."),
    ("--statefulset", "redis-app", "NAME", "StatefulSet; pod i is called NAME-i."),
    ("--service", "redis-service", "NAME", "Its headless Service."),
    ("--namespace", "", "NAME", "Namespace; the pod's own by default."),
    ("--cluster-domain", "", "DOMAIN", "Cluster domain; resolv.conf's by default."),
    ("--port", "6379", "PORT", "Client port; the bus port is what a node announces."),
    ("--nameservers", "", "IP[:PORT],…", "Ask these instead of resolv.conf's."),
    ("--endpoints", "", "HOST[:PORT],…", "Nodes by name instead of DNS discovery."),
    ("--username", "", "NAME", "ACL user."),
    ("--password", "", "TEXT", "Password; several, one a line, are tried in order."),
    ("--password-file", "", "PATH", "The same from a file; one trailing newline is dropped."),
    ("--tls-ca", "", "PATH", "CA certificates in PEM; the system's by default."),
    ("--tls-cert", "", "PATH", "Client certificate in PEM."),
    ("--tls-key", "", "PATH", "Its key in PEM."),
    ("--timeout", "600", "SECONDS", "For the whole run; below the Job's activeDeadlineSeconds."),
)
_SWITCHES = (
    ("--tls", "false", "Verified TLS, against the pod's DNS name."),
    ("--allow-data-loss", "false", "Consent to give uncovered slots to new owners."),
    ("--rebalance", "true", "Move slots to even the primaries out."),
)


def _variable(flag: str) -> str:
    return "BOOTSTRAP_" + flag.removeprefix("--").replace("-", "_").upper()


def _word(
    flag: str, choices: Sequence[str], default: str, text: str
) -> Callable[[_Command], _Command]:
    """Return an option of few words; `settings.load` checks it, together with all others."""
    metavar = f"[{'|'.join(choices)}]"
    return _option(flag, default=default, envvar=_variable(flag), metavar=metavar, help=text)


def _settings_options(command: _Command) -> _Command:
    """Add every setting as an option."""
    for flag, default, text in reversed(_SWITCHES):
        command = _option(
            flag,
            is_flag=False,
            flag_value="true",
            metavar="BOOL",
            default=default,
            envvar=_variable(flag),
            help=text,
        )(command)
    for flag, default, metavar, text in reversed(_CONNECTION):
        command = _option(
            flag, default=default, envvar=_variable(flag), metavar=metavar, help=text
        )(command)
    return _log_options(command)


def _log_options(command: _Command) -> _Command:
    for flag, choices, default, text in (
        ("--log-level", LEVELS, "info", "Least level that is logged."),
        ("--log-format", FORMATS, "auto", "auto: console on a terminal, else json."),
    ):
        command = _word(flag, choices, default, text)(command)
    return command


def _output_option(command: _Command) -> _Command:
    return _word("--output", OUTPUTS, "text", "What stdout carries.")(command)


def _run_options(command: _Command) -> _Command:
    command = _option(
        "--termination-log",
        default=TERMINATION_LOG,
        envvar="BOOTSTRAP_TERMINATION_LOG",
        metavar="PATH",
        help="Where the summary goes as JSON.",
    )(command)
    return _output_option(_settings_options(command))


class _Count(click.IntRange):
    name = "whole number"


def _count(flag: str, default: int, text: str, *, least: int) -> Callable[[_Command], _Command]:
    """Return an option of `sandbox`, which has no settings that would check it."""
    kind = _Count(min=least)
    return _option(flag, default=default, type=kind, metavar="N", envvar=_variable(flag), help=text)


class _DefaultToRun(click.Group):
    """A group whose default command is `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front when the first word is no command."""
        if not args or (args[0] not in self.commands and args[0] not in {"--help", "--version"}):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=_DefaultToRun,
    context_settings={"show_default": True, "auto_envvar_prefix": None, "max_content_width": 100},
    help="Make one Redis or Valkey Cluster out of the pods of a StatefulSet, prove it, and exit.",
    epilog="Exit codes: 0 healthy, 1 unforeseen, 2 settings or credentials wrong, 3 refused, "
    "4 our bug, 5 not healthy in time, 10 plan has work, 143 stopped.",
)
@click.version_option(__version__, package_name="redis-cluster-bootstrap")
def cli() -> None:
    """Hold the commands together."""


@cli.command("run", help="Observe, plan, apply, verify, until the cluster is healthy (default).")
@_run_options
@_option(
    "--expect",
    default=None,
    envvar="BOOTSTRAP_EXPECT",
    metavar="FINGERPRINT",
    help="Refuse unless the plan is the one with this fingerprint.",
)
def run_command(output: str, termination_log: str, expect: str | None, **raw: str) -> None:
    """Make the cluster healthy."""
    _converge(raw, output=output, termination_log=termination_log, expect=expect)


@cli.command("wait", help="Block until the cluster is healthy; change nothing.")
@_run_options
def wait_command(output: str, termination_log: str, **raw: str) -> None:
    """Wait for the cluster."""
    _converge(raw, output=output, termination_log=termination_log, may_change=False)


@cli.command("plan", help="Show what run would do; change nothing.")
@_settings_options
@_output_option
@_option(
    "--exit-code", is_flag=True, envvar="BOOTSTRAP_EXIT_CODE", help="Exit 10 when there is work."
)
def plan_command(output: str, exit_code: bool, **raw: str) -> None:  # noqa: FBT001 - click's way
    """Show the plan."""

    def work(settings: Settings) -> Coroutine[None, None, int]:
        from .commands import inspect  # noqa: PLC0415 - see above

        return inspect.plan(settings, output=output, exit_code=exit_code)

    _show(raw, output=output, work=work)


@cli.command("status", help="Show what is there; exit 0 only when the cluster is healthy.")
@_settings_options
@_output_option
@_option(
    "--watch", is_flag=True, envvar="BOOTSTRAP_WATCH", help="Draw it again, about every second."
)
def status_command(output: str, watch: bool, **raw: str) -> None:  # noqa: FBT001 - click's way
    """Show the state."""

    def work(settings: Settings) -> Coroutine[None, None, int]:
        from .commands import inspect  # noqa: PLC0415 - see above

        return inspect.status(settings, output=output, watch=watch)

    _show(raw, output=output, work=work)


@cli.command(
    "sandbox", help="Start servers and a DNS server on loopback, bootstrap them, keep them."
)
@_log_options
@_count("--nodes", 6, "Servers to start.", least=1)
@_count("--replicas", 1, "Replicas per primary.", least=0)
@_option(
    "--server",
    default=None,
    envvar="BOOTSTRAP_SERVER",
    metavar="PATH",
    help="A redis-server or valkey-server; the bundled one by default.",
)
@click.option("--exit", "exits", is_flag=True, help="Stop them when the cluster is healthy.")
def sandbox_command(
    nodes: int,
    replicas: int,
    server: str | None,
    exits: bool,  # noqa: FBT001 - click's way
    log_format: str,
    log_level: str,
) -> None:
    """Show the whole thing on one machine."""
    from .commands import sandbox  # noqa: PLC0415 - see above
    from .process import logs  # noqa: PLC0415 - see above

    logs.configure(log_format=log_format, level=log_level)
    raise _Exit(sandbox.show(nodes=nodes, replicas=replicas, server=server, exits=exits))


class _Exit(Exception):  # noqa: N818 - not an error
    """Carries an exit code out of a command."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _load(raw: dict[str, str], *, output: str) -> Settings:
    import structlog  # noqa: PLC0415 - see above

    from . import settings  # noqa: PLC0415 - see above
    from .process import logs, redaction  # noqa: PLC0415 - see above

    known = {field.name for field in fields(settings.RawSettings)}
    texts = {name: value for name, value in raw.items() if name in known}
    given = settings.RawSettings(**texts, output=output)
    logs.configure(log_format=given.log_format, level=given.log_level)
    redaction.hide(settings.passwords_in(given.password))
    if unread := settings.unread_variables(_variables()):
        structlog.get_logger().warning("settings.ignored", variables=unread)
    loaded = settings.load(given)
    redaction.hide(loaded.passwords)
    return loaded


def _variables() -> frozenset[str]:
    """Return every variable that some command reads."""
    return frozenset(
        str(option.envvar) for command in cli.commands.values() for option in command.params
    )


def _show(
    raw: dict[str, str], *, output: str, work: Callable[[Settings], Coroutine[None, None, int]]
) -> NoReturn:
    """Print what is there, or why that cannot be told."""
    phase = "settings"
    try:
        settings = _load(raw, output=output)
        phase = "observe"
        code = asyncio.run(work(settings))
    except Exception as error:  # noqa: BLE001 - whatever it is, stdout and the last line tell
        from .process import exit_report  # noqa: PLC0415 - see above

        code = exit_report.fail(error, phase=phase, output=output)
    raise _Exit(code)


def _converge(
    raw: dict[str, str],
    *,
    output: str,
    termination_log: str,
    may_change: bool = True,
    expect: str | None = None,
) -> NoReturn:
    """Run the loop and leave its summary on stdout, in the termination log and as last line."""
    from .commands import run  # noqa: PLC0415 - see above
    from .process import exit_report  # noqa: PLC0415 - see above
    from .process.summary import Counters, Summary  # noqa: PLC0415 - see above

    started = time.monotonic()
    try:
        settings = _load(raw, output=output)
        verbose = raw["log_level"] == "debug"
        summary = asyncio.run(
            run.converge(settings, may_change=may_change, expect=expect, verbose=verbose)
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, the last line is said
        counters = Counters(duration_s=round(time.monotonic() - started, 3))
        summary = Summary.of(error, phase="settings", counters=counters)
    exit_report.finish_run(summary, output=output, termination_log=termination_log)
    raise _Exit(summary.exit_code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    signals.listen()
    stdio.make_lenient()
    try:
        return _run(argv)
    finally:
        signals.ignore()


def _run(argv: Sequence[str] | None) -> int:
    try:
        cli.main(args=list(argv) if argv is not None else None, standalone_mode=False)
    except _Exit as end:
        return int(end.code)
    except click.ClickException as error:
        return _misused(error)
    except Exception as error:  # noqa: BLE001 - an exit code for everything
        from .process import exit_report  # noqa: PLC0415 - see above

        return exit_report.fail(error, phase="start")
    return 0


def _misused(error: click.ClickException) -> int:
    """Tell what click found wrong as any other fault in the settings."""
    from .process import exit_report, logs  # noqa: PLC0415 - see above
    from .process.summary import Summary  # noqa: PLC0415 - see above

    context: click.Context | None = getattr(error, "ctx", None)
    program = context.command_path if context else "redis-cluster-bootstrap"
    fault = SettingsError(cause=error.format_message(), remedy=f"see `{program} --help`")
    # What was given otherwise is not known, as click parsed none of it.
    given = os.environ.get
    logs.configure(log_format=given("BOOTSTRAP_LOG_FORMAT") or "auto", level="info")
    output = given("BOOTSTRAP_OUTPUT") or "text"
    if context is None or context.info_name not in {"run", "wait"}:
        shows = context is not None and context.info_name in {"plan", "status"}
        return exit_report.fail(fault, phase="settings", output=output if shows else "text")
    summary = Summary.of(fault, phase="settings")
    exit_report.finish_run(
        summary,
        output=output,
        termination_log=given("BOOTSTRAP_TERMINATION_LOG") or TERMINATION_LOG,
    )
    return summary.exit_code
