"""The command line, made of the table in `options`.

Only `main` catches broadly, and only `__main__` exits. What a command needs is imported when it
runs, so that `--help`, faulty settings and early signals cost no time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from . import __version__, options
from .errors import ExitCode, SettingsError
from .process import stdio, stop_signal

if TYPE_CHECKING:
    from .settings import Settings

Texts = dict[str, str | None]

_SHORT_HELP = "-h"
_EXAMPLES = {
    "run": (
        "redis-cluster-bootstrap run --nodes 6",
        "redis-cluster-bootstrap run --nodes 6 --expect 0f3a91c2d4e5",
        "redis-cluster-bootstrap run --endpoints 10.0.0.1,10.0.0.2,10.0.0.3 --replicas 0",
    ),
    "reconcile": ("redis-cluster-bootstrap reconcile --nodes 6 --http-listen 0.0.0.0:9102",),
    "plan": (
        "redis-cluster-bootstrap plan --nodes 8",
        "redis-cluster-bootstrap plan --nodes 8 --output json --exit-code",
    ),
    "status": (
        "redis-cluster-bootstrap status --nodes 6",
        "redis-cluster-bootstrap status --nodes 6 --watch",
    ),
    "wait": ("redis-cluster-bootstrap wait --nodes 6 --timeout 120",),
    "sandbox": ("redis-cluster-bootstrap sandbox --nodes 6 --replicas 1",),
}


class _Option(click.Option):
    """A flag and a variable out of the table; its text is checked together with all others."""

    def __init__(self, declared: options.Option[object]) -> None:
        default = declared.default or declared.absent
        # A switch may stand alone; the flag of any other option needs a value.
        alone: dict[str, Any] = {"flag_value": "true"} if declared.is_switch else {}
        known = f"{declared.variable}; default: {default}" if default else declared.variable
        super().__init__(
            [declared.flag],
            type=click.STRING,
            default=declared.default or None,
            envvar=declared.variable,
            metavar=declared.metavar,
            help=f"{declared.meaning} [{known}]",
            is_flag=False,
            **alone,
        )
        self.declared = declared

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the words to choose from, or let the shell complete a file name."""
        if self.declared.metavar == "PATH":
            return [CompletionItem(incomplete, type="file")]
        if self.declared.choices:
            words = self.declared.choices
            return [CompletionItem(word) for word in words if word.startswith(incomplete)]
        return super().shell_complete(ctx, incomplete)


class _Command(click.Command):
    """A command whose `--help` has its options in groups, and examples."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options."""
        params = self.get_params(ctx)
        for group in options.Group:
            if records := [
                record
                for param in params
                if isinstance(param, _Option) and param.declared.group is group
                if (record := param.get_help_record(ctx))
            ]:
                with formatter.section(group.value):
                    formatter.write_dl(records)
        if help_option := self.get_help_option(ctx):
            with formatter.section("Other"):
                formatter.write_dl([record] if (record := help_option.get_help_record(ctx)) else [])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            for example in _EXAMPLES[ctx.info_name or "run"]:
                formatter.write(f"  {example}\n")


class _DefaultToRun(click.Group):
    """A group whose default command is `run`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` in front of flags that are not of the group itself."""
        own = {*ctx.help_option_names, "--version"}
        is_run = args[0].startswith("-") and args[0] not in own if args else True
        if is_run and (args or not ctx.resilient_parsing):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return commands, and the flags of `run` as well, which need no command."""
        items = super().shell_complete(ctx, incomplete)
        if incomplete.startswith("-"):
            known = {item.value for item in items}
            flags = self.commands["run"].shell_complete(ctx, incomplete)
            items += [item for item in flags if item.value not in known]
        return items

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        return list(options.OPTIONS)

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(int(code)), code.meaning) for code in ExitCode])


@click.group(
    cls=_DefaultToRun,
    context_settings={
        "help_option_names": [_SHORT_HELP, "--help"],
        "auto_envvar_prefix": None,
        "max_content_width": 100,
    },
    help="Form a Redis or Valkey Cluster from the pods of a StatefulSet, verify it and exit. "
    "Without a command it is `run`. Every option is a flag and a BOOTSTRAP_* variable; "
    "`COMMAND --help` lists them.",
)
@click.version_option(__version__, package_name="redis-cluster-bootstrap")
def cli() -> None:
    """Hold the commands together."""


def _command(name: str, meaning: str) -> Callable[[Callable[..., None]], click.Command]:
    """Return the decorator that makes a command with the options that the table gives it."""
    params: list[click.Parameter] = [_Option(declared) for declared in options.OPTIONS[name]]
    return cli.command(name, cls=_Command, params=params, help=meaning)


@_command("run", "Form, resize and heal the cluster, verify it and exit (default).")
def run_command(**texts: str | None) -> None:
    """Make the cluster healthy."""
    _converge(texts, may_change=True)


@_command("reconcile", "Keep the cluster healthy: run continuously and serve readiness.")
def reconcile_command(**texts: str | None) -> None:
    """Keep the cluster healthy."""

    def work(settings: Settings) -> Coroutine[Any, Any, int]:
        from .commands import reconcile  # noqa: PLC0415 - see above

        return reconcile.reconcile(settings)

    _show(texts, work=work)


@_command("plan", "Show what run would do; change nothing.")
def plan_command(**texts: str | None) -> None:
    """Show the plan."""

    def work(settings: Settings) -> Coroutine[Any, Any, int]:
        from .commands import inspect  # noqa: PLC0415 - see above

        return inspect.plan(settings, output=settings.output, exit_code=settings.exit_code)

    _show(texts, work=work)


@_command("status", "Show the nodes, shards and findings; exit 0 only when healthy.")
def status_command(**texts: str | None) -> None:
    """Show the state."""

    def work(settings: Settings) -> Coroutine[Any, Any, int]:
        from .commands import inspect  # noqa: PLC0415 - see above

        return inspect.status(settings, output=settings.output, watch=settings.watch)

    _show(texts, work=work)


@_command("wait", "Block until the cluster is healthy; change nothing.")
def wait_command(**texts: str | None) -> None:
    """Wait for the cluster."""
    _converge(texts, may_change=False)


@_command("sandbox", "Run a local demo cluster until Ctrl-C.")
def sandbox_command(**texts: str | None) -> None:
    """Show everything on one machine."""
    from .process import logs  # noqa: PLC0415 - see above
    from .settings import Reader  # noqa: PLC0415 - see above

    logs.configure(log_format=texts["log_format"], level=texts["log_level"])
    reader = Reader(texts)
    nodes, replicas = reader.read(options.SANDBOX_NODES), reader.read(options.REPLICAS)
    server, exits = reader.read(options.SERVER), reader.read(options.EXIT)
    reader.read(options.LOG_LEVEL)
    reader.read(options.LOG_FORMAT)
    reader.check()
    if find_spec(".sandbox", __package__) is None:  # as in the image
        raise SettingsError(
            cause="this installation does not include the sandbox",
            remedy="install redis-cluster-bootstrap[sandbox] with pip on Linux, and run it there",
        )
    from .commands import sandbox  # noqa: PLC0415 - see above

    raise _Exit(sandbox.show(nodes=nodes, replicas=replicas, server=server or None, exits=exits))


class _Exit(Exception):  # noqa: N818 - not an error
    """Carries an exit code out of a command."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def _load(texts: Texts) -> Settings:
    import structlog  # noqa: PLC0415 - see above

    from . import settings  # noqa: PLC0415 - see above
    from .process import logs, redaction  # noqa: PLC0415 - see above

    logs.configure(log_format=texts["log_format"], level=texts["log_level"])
    given = settings.passwords_in(texts["password"] or "")
    redaction.hide(given)
    log = structlog.get_logger()
    if unread := settings.unread_variables():
        log.warning("settings.ignored", variables=unread)
    source = click.get_current_context().get_parameter_source(options.PASSWORD.field)
    if given and source is ParameterSource.COMMANDLINE:
        log.warning(
            "password.exposed",
            detail=f"{options.PASSWORD.flag} is visible in the process list; "
            f"use {options.PASSWORD_FILE.variable} or {options.PASSWORD.variable}",
        )
    loaded = settings.load(texts)
    redaction.hide((*given, *loaded.passwords))
    return loaded


def _show(texts: Texts, *, work: Callable[[Settings], Coroutine[Any, Any, int]]) -> NoReturn:
    """Print what is there, or why that cannot be shown."""
    phase = "settings"
    try:
        settings = _load(texts)
        phase = "observe"
        code = asyncio.run(work(settings))
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends in an exit code and a report
        from .process import exit_report  # noqa: PLC0415 - see above

        code = exit_report.fail(error, phase=phase, output=texts.get("output"))
    raise _Exit(code)


def _converge(texts: Texts, *, may_change: bool) -> NoReturn:
    """Run the loop; leave its summary on stdout, in the termination log and as the last line."""
    from .commands import run  # noqa: PLC0415 - see above
    from .process import exit_report  # noqa: PLC0415 - see above
    from .process.summary import Counters, Summary  # noqa: PLC0415 - see above

    started = time.monotonic()
    try:
        settings = _load(texts)
        summary = asyncio.run(
            run.converge(
                settings,
                may_change=may_change,
                expect=settings.expect,
                verbose=texts["log_level"] == "debug",
            )
        )
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends in an exit code and a report
        counters = Counters(duration_s=round(time.monotonic() - started, 3))
        summary = Summary.of(error, phase="settings", counters=counters)
    exit_report.finish_run(
        summary,
        output=texts["output"],
        termination_log=texts["termination_log"],
    )
    raise _Exit(summary.exit_code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    stop_signal.listen()
    stdio.make_lenient()
    try:
        return _run(argv)
    finally:
        stop_signal.ignore()


def _run(argv: Sequence[str] | None) -> int:
    try:
        cli.main(args=list(argv) if argv is not None else None, standalone_mode=False)
    except _Exit as end:
        return int(end.code)
    except click.ClickException as error:
        return _report_misuse(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends in an exit code and a report
        from .process import exit_report  # noqa: PLC0415 - see above

        return exit_report.fail(error, phase="start", output=None)
    return 0


def _report_misuse(error: click.ClickException) -> int:
    """Report words that click does not know in the same way as any other faulty setting."""
    from .process import exit_report, logs  # noqa: PLC0415 - see above
    from .process.summary import Summary  # noqa: PLC0415 - see above

    context: click.Context | None = getattr(error, "ctx", None)
    program = context.command_path if context else "redis-cluster-bootstrap"
    command = context.info_name if context and context.parent else "run"
    fault = SettingsError(cause=error.format_message(), remedy=f"see `{program} --help`")
    # click has read nothing else, so only variables can say how to report it.
    given = {name: os.environ.get(f"BOOTSTRAP_{name.upper()}") for name in ("log_format", "output")}
    logs.configure(log_format=given["log_format"], level=None)
    if options.TERMINATION_LOG not in options.OPTIONS[command or "run"]:
        is_read = options.OUTPUT in options.OPTIONS[command or "run"]
        return exit_report.fail(
            fault, phase="settings", output=given["output"] if is_read else None
        )
    summary = Summary.of(fault, phase="settings")
    exit_report.finish_run(
        summary,
        output=given["output"],
        termination_log=os.environ.get(options.TERMINATION_LOG.variable),
    )
    return summary.exit_code
