"""The command line, made of the table in `settings`.

Only `main` and the commands catch broadly, and only `__main__` exits. What a command needs is
imported when it runs, so that `--help`, faulty settings and early signals cost no time.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from . import __version__
from .errors import ExitCode, SettingsError
from .process import stdio, stop_signal
from .settings import DECLARED, OPTIONS, SWITCH, Group, Option

if TYPE_CHECKING:
    from .settings import Settings

Texts = dict[str, str | None]


class _Verbatim(click.Command):
    """A command whose `--help` ends with a section as it is written."""

    def format_epilog(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the section."""
        formatter.write(f"\n{self.epilog}\n")


class _Command(_Verbatim):
    """A command whose `--help` has its options in groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group of options."""
        flags = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        records = {flag.name: flag.get_help_record(ctx) for flag in flags}
        for group in Group:
            declared = [option for option in OPTIONS[self.name or ""] if option.group is group]
            found = [record for option in declared if (record := records.pop(option.name))]
            if found:
                with formatter.section(group.value):
                    formatter.write_dl(found)
        with formatter.section("Other"):
            formatter.write_dl([record for record in records.values() if record])


class _Commands(_Verbatim, click.Group):
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
        """Return the commands in the order in which they are declared."""
        return list(self.commands)


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Form a Redis or Valkey Cluster from the pods of a StatefulSet, verify it and exit. "
    "Without a command, `run` is executed. Every option is a flag and a BOOTSTRAP_* variable; "
    "`COMMAND --help` lists them.",
    epilog="Exit codes:\n" + "\n".join(f"  {code:<3}  {code.meaning}" for code in ExitCode),
)
@click.version_option(__version__, package_name="redis-cluster-bootstrap")
def cli() -> None:
    """Hold the commands together."""


def _parameter(declared: Option) -> click.Option:
    """Return a flag and a variable; the text is checked together with all others."""
    default, kind = declared.default or declared.absent, declared.kind
    known = f"{declared.variable}; default: {default}" if default else declared.variable
    # A switch may stand alone; the flag of any other option needs a value.
    alone: dict[str, Any] = {"flag_value": "true"} if kind is SWITCH else {}

    def complete(
        _ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the words to choose from, or let the shell complete a file name."""
        if kind.metavar == "PATH":
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(word) for word in kind.choices if word.startswith(incomplete)]

    return click.Option(
        [declared.flag],
        default=declared.default or None,
        envvar=declared.variable,
        metavar=kind.metavar,
        help=f"{declared.meaning} [{known}]",
        shell_complete=complete,
        is_flag=False,
        **alone,
    )


def _command(*examples: str) -> Callable[[Callable[..., int]], click.Command]:
    """Return the decorator that makes a command, named and described as the function is.

    The table gives it options; the function gets checked settings and the words of an order, and
    returns the exit code.
    """

    def decorate(work: Callable[..., int]) -> click.Command:
        name = work.__name__.removesuffix("_command")

        @functools.wraps(work)
        def checked(*, order: tuple[str, ...] = (), **texts: str | None) -> int:
            phase = "settings"
            try:
                settings = _load(texts)
                phase = "start" if name == "sandbox" else "observe"
                return work(settings, *order)
            except Exception as error:  # noqa: BLE001 - whatever it is, it ends in an exit code and a report
                return _fail(error, phase, texts)

        lines = (f"  redis-cluster-bootstrap {name} {example}" for example in examples)
        return cli.command(
            cls=_Command,
            params=[_parameter(declared) for declared in OPTIONS[name]],
            short_help=work.__doc__,
            epilog="\n".join(["Examples:", *lines]),
        )(checked)

    return decorate


@_command(
    "--nodes 6",
    "--nodes 6 --expect 0f3a91c2d4e5",
    "--endpoints 10.0.0.1,10.0.0.2,10.0.0.3 --replicas 0",
)
def run_command(settings: Settings) -> int:
    """Form, resize and heal the cluster, verify it and exit (default)."""
    return _converge(settings, may_change=True)


@_command("--nodes 6 --http-listen 0.0.0.0:9102")
def reconcile_command(settings: Settings) -> int:
    """Keep the cluster healthy: run continuously and serve readiness."""
    from .commands import reconcile

    return asyncio.run(reconcile.reconcile(settings))


@_command("--nodes 8", "--nodes 8 --output json --exit-code")
def plan_command(settings: Settings) -> int:
    """Show what run would do; change nothing."""
    from .commands import inspect

    return asyncio.run(inspect.plan(settings, output=settings.output, exit_code=settings.exit_code))


@_command("--nodes 6", "--nodes 6 --watch")
def status_command(settings: Settings) -> int:
    """Show the nodes, shards and findings; exit 0 only when healthy."""
    from .commands import inspect

    return asyncio.run(inspect.status(settings, output=settings.output, watch=settings.watch))


@_command("--nodes 6 --timeout 120")
def wait_command(settings: Settings) -> int:
    """Block until the cluster is healthy; change nothing."""
    return _converge(settings, may_change=False)


@_command("--nodes 6 --replicas 1", "kill 2   # to one that runs; `sandbox help` lists orders")
@click.argument("order", nargs=-1)
def sandbox_command(settings: Settings, *order: str) -> int:
    """Start a local demo cluster with a prompt for orders, or send it one ORDER."""
    if find_spec(".sandbox", __package__) is None:  # as in the image
        raise SettingsError(
            cause="this installation does not include the sandbox",
            remedy="install redis-cluster-bootstrap[sandbox] with pip on Linux, and run it there",
        )
    from .commands import sandbox

    if order:
        return sandbox.give(order)
    return sandbox.show(
        nodes=settings.nodes,
        replicas=settings.replicas,
        server=settings.server or None,
        script=settings.script or None,
        exits=settings.exit,
    )


# What follows an order belongs to it: `sandbox run --timeout 5`.
sandbox_command.allow_interspersed_args = False


def _load(texts: Texts) -> Settings:
    """Return checked settings; configure the log with what was given, faulty or not."""
    from . import settings_checks
    from .process import cleaning, logs

    logs.configure(log_format=texts["log_format"], level=texts["log_level"])
    import structlog  # after `logs`, which keeps it from importing rich

    log, password = structlog.get_logger(), DECLARED["password"]
    given = settings_checks.passwords_in(texts.get(password.name) or "")
    cleaning.hide(given)
    if unread := settings_checks.unread_variables():
        log.warning("settings.ignored", variables=unread)
    source = click.get_current_context().get_parameter_source(password.name)
    if given and source is ParameterSource.COMMANDLINE:
        log.warning(
            "password.exposed",
            detail=f"{password.flag} is visible in the process list; "
            f"use {DECLARED['password_file'].variable} or {password.variable}",
        )
    loaded = settings_checks.load(texts)
    cleaning.hide((*given, *loaded.passwords))
    structlog.contextvars.bind_contextvars(cluster=loaded.cluster)
    return loaded


def _converge(settings: Settings, *, may_change: bool) -> int:
    """Run the loop; leave its summary on stdout, in the termination log and as the last line."""
    from .commands import run
    from .process import exit_report

    summary = asyncio.run(
        run.converge(
            settings,
            may_change=may_change,
            expect=settings.expect,
            verbose=settings.log_level == "debug",
            shows_end=True,
        )
    )
    exit_report.finish_run(
        summary, output=settings.output, termination_log=settings.termination_log
    )
    return summary.exit_code


def _fail(error: Exception, phase: str, texts: Texts) -> int:
    """Report why a command failed, where the texts of its options ask for it."""
    from .process import exit_report

    return exit_report.fail(
        error,
        phase=phase,
        output=texts.get("output"),
        termination_log=texts.get("termination_log"),
    )


def _misuse(error: click.ClickException) -> int:
    """Report words that click does not know in the same way as any other faulty setting."""
    from .process import logs

    context: click.Context | None = getattr(error, "ctx", None)
    program = context.command_path if context else "redis-cluster-bootstrap"
    command = (context.info_name if context and context.parent else None) or "run"
    # click has read nothing else, so only variables can say how to report it.
    texts: Texts = {
        option.name: os.environ.get(option.variable) or option.default
        for option in OPTIONS[command]
    }
    logs.configure(log_format=texts["log_format"], level=None)
    fault = SettingsError(
        cause=error.format_message().rstrip("."), remedy=f"see `{program} --help`"
    )
    return _fail(fault, "settings", texts)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    stop_signal.listen()
    stdio.make_lenient()
    try:
        return int(cli.main(args=argv, standalone_mode=False) or 0)
    except click.ClickException as error:
        return _misuse(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it ends in an exit code and a report
        return _fail(error, "start", {})
    finally:
        stop_signal.ignore()
