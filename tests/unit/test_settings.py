"""The table of options agrees with itself and with the command line that is made of it."""

import re

import click
import pytest
from click.testing import CliRunner

from bootstrap import settings, validation
from bootstrap.cli import cli
from bootstrap.settings import DECLARED, OPTIONS, Group, Option

ALL = list(dict.fromkeys(option for each in OPTIONS.values() for option in each))


def help_of(command: str) -> str:
    """Return the help of a command, as one line."""
    result = CliRunner().invoke(cli, [command, "--help"], terminal_width=100)
    assert result.exit_code == 0, result.output
    return re.sub(r"\s+", " ", result.output)


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_a_default_is_valid(option: Option) -> None:
    """An option that is not given, or that is faulty, reads as its default."""
    option.kind.parse(option.default)


@pytest.mark.parametrize("option", ALL, ids=lambda option: option.name)
def test_a_meaning_is_a_sentence(option: Option) -> None:
    """A meaning starts with a capital letter and has an end."""
    assert option.meaning[0].isupper()
    assert option.meaning[-1] in ".…"


@pytest.mark.parametrize("command", OPTIONS)
def test_help_shows_flags_variables_and_true_defaults(command: str) -> None:
    """The help of a command names flag, variable and default of each of its options."""
    # Lines are also broken after hyphens.
    text = help_of(command).replace(" ", "")
    for option in OPTIONS[command]:
        default = option.default or option.absent
        known = f"{option.variable}; default: {default}" if default else option.variable
        shown = f"{option.flag} {option.kind.metavar} {option.meaning} [{known}]"
        assert shown.replace(" ", "") in text


@pytest.mark.parametrize("command", OPTIONS)
def test_help_has_no_empty_default(command: str) -> None:
    """An option without a default does not claim to have an empty one."""
    assert not re.search(r'default: (\]|""|None|\(\))', help_of(command))


@pytest.mark.parametrize("command", OPTIONS)
def test_help_has_groups_and_examples(command: str) -> None:
    """Options stand under the heading of their group, in order, and examples come last."""
    text = help_of(command)
    used = [group for group in Group if any(o.group is group for o in OPTIONS[command])]
    headings = [f" {group.value}: --" for group in used] + [
        f" Examples: redis-cluster-bootstrap {command} "
    ]
    places = [text.index(heading) for heading in headings]
    assert places == sorted(places)


@pytest.mark.parametrize("command", OPTIONS)
def test_examples_can_be_parsed(command: str) -> None:
    """Each example of the help names options that exist, with values that they accept."""
    examples = re.findall(
        r"redis-cluster-bootstrap (\w+ .*?)(?= redis-cluster|$)",
        help_of(command).partition("Examples:")[2].strip(),
    )
    assert examples
    for example in examples:
        name, *args = example.split()
        context = cli.commands[name].make_context(name, args)
        for option in OPTIONS[name]:
            option.kind.parse(context.params[option.name] or option.default)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_both_help_flags_list_the_commands_and_exit_codes(flag: str) -> None:
    """The help of the program lists its commands in the order of the table."""
    text = CliRunner().invoke(cli, [flag], terminal_width=80).output
    assert re.findall(r"^  ([a-z]+)  ", text, re.MULTILINE) == list(OPTIONS)
    assert "..." not in text.partition("Commands:")[2]
    assert "143  stopped" in text


def test_variables_are_read_by_click() -> None:
    """Each parameter of a command has the variable of its option."""
    for name, declared in OPTIONS.items():
        params = {
            p.name: p.envvar for p in cli.commands[name].params if isinstance(p, click.Option)
        }
        assert params == {option.name: option.variable for option in declared}


def test_texts_are_named_by_option() -> None:
    """Variables become the names that `settings_checks.load` reads."""
    given = settings.texts({"BOOTSTRAP_TLS_CA": "/ca.crt", "BOOTSTRAP_NODES": "6"})
    assert given == {DECLARED["tls_ca"].name: "/ca.crt", DECLARED["nodes"].name: "6"}


@pytest.mark.parametrize(
    ("args", "values"),
    [
        (["plan", "--tls"], {"tls": "true", "rebalance": "true", "exit_code": "false"}),
        (["plan", "--exit-code", "--rebalance=no"], {"exit_code": "true", "rebalance": "no"}),
        (["plan", "--output", "json"], {"output": "json", "nodes": None}),
        (["plan", "--replicas", "-1"], {"replicas": "-1"}),
    ],
)
def test_switches_may_stand_alone(args: list[str], values: dict[str, str | None]) -> None:
    """A switch without a value is true; other values are handed on as they are."""
    name, *rest = args
    params = cli.commands[name].make_context(name, rest).params
    assert params.items() >= values.items()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("redis-cluster-bootstrap sta", {"status"}),
        ("redis-cluster-bootstrap plan --out", {"--output"}),
        ("redis-cluster-bootstrap plan --output ", {"text", "json"}),
        ("redis-cluster-bootstrap --nod", {"--nodes"}),
        ("redis-cluster-bootstrap run --tls ", {"true", "false"}),
        ("redis-cluster-bootstrap run --log-level w", {"warning"}),
        ("redis-cluster-bootstrap ", set(OPTIONS)),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_words(
    shell: str, words: str, expected: set[str]
) -> None:
    """Completion offers what may come next in each of the three shells."""
    before, incomplete = words.rsplit(" ", 1)
    env = {"_CLI_COMPLETE": f"{shell}_complete", "COMP_WORDS": words}
    env["COMP_CWORD"] = incomplete if shell == "fish" else str(len(before.split()))
    result = CliRunner().invoke(
        cli, [], env=env, prog_name="redis-cluster-bootstrap", complete_var="_CLI_COMPLETE"
    )
    shown = result.output.splitlines()
    offered = {
        "bash": {line.partition(",")[2] for line in shown},
        "zsh": set(shown[1::3]),
        "fish": {line.partition(",")[2].partition("\t")[0] for line in shown},
    }[shell]
    assert offered == expected


def test_a_path_is_completed_by_the_shell() -> None:
    """The shell is asked to complete file names where an option wants a path."""
    env = {
        "_CLI_COMPLETE": "bash_complete",
        "COMP_WORDS": "redis-cluster-bootstrap run --tls-ca /etc/ss",
        "COMP_CWORD": "3",
    }
    result = CliRunner().invoke(
        cli, [], env=env, prog_name="redis-cluster-bootstrap", complete_var="_CLI_COMPLETE"
    )
    assert result.output == "file,/etc/ss\n"


def test_an_option_fault_does_not_repeat_secrets() -> None:
    """A password that cannot be sent is not part of the fault."""
    with pytest.raises(validation.Fault) as caught:
        DECLARED["password"].kind.parse("s3cret\udcff")
    assert caught.value.problems == ("is not UTF-8 text",)
