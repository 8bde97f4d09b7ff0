"""Settings are flags and variables; all faults are reported together, and no secret is."""

import json
import os
import pty
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bootstrap.sandbox.binary import ServerBinary
from tests.support import rig
from tests.support.world import World

BAD = {
    "nodes": "none",
    "replicas": "-1",
    "statefulset": "redis.app",
    "service": "redis_service",
    "namespace": "de fault",
    "cluster-domain": "cluster..local",
    "port": "0",
    "nameservers": "coredns",
    "password-file": "/nonexistent/password",
    "tls": "perhaps",
    "timeout": "-1",
    "allow-data-loss": "perhaps",
    "rebalance": "perhaps",
}
LOUD = {"log-level": "loud", "log-format": "xml", "output": "yaml"}
OTHERS = ("endpoints", "username", "password", "tls-ca", "tls-cert", "tls-key", "termination-log")
OLD, RIGHT = "0ld-s3cret-phrase", "r1ght-s3cret-phrase"


def variable(option: str) -> str:
    return "BOOTSTRAP_" + option.replace("-", "_").upper()


@pytest.fixture(scope="module")
def guarded(server: ServerBinary) -> Iterator[World]:
    """Three fresh pods that want a password."""
    with World(nodes=3, server=server, password=RIGHT) as world:
        world.start()
        yield world


def test_help_names_every_option_and_its_variable() -> None:
    """`run --help` shows each setting as flag and as variable."""
    text = rig.run({}, "run", "--help").stdout
    flags = set(re.findall(r"--([a-z-]+)", text))
    for option in (*BAD, *LOUD, *OTHERS):
        assert option in flags
        assert variable(option) in text


@pytest.mark.parametrize("how", ["flags", "variables"])
def test_all_faults_are_reported_together(how: str) -> None:
    """Flags and variables are checked alike, and one sentence names every fault."""
    bad = {**BAD, **LOUD}
    if how == "flags":
        result = rig.run({}, "run", *(f"--{option}={value}" for option, value in bad.items()))
    else:
        result = rig.run({variable(option): value for option, value in bad.items()})
    assert result.code == 2
    cause = str(result.last["cause"])
    assert [option for option in bad if variable(option) not in cause] == []


def test_empty_variables_mean_the_default() -> None:
    """A variable that a manifest leaves empty is the same as none."""
    empty = {variable(option): "" for option in (*BAD, *LOUD, *OTHERS)}
    result = rig.run({**empty, "BOOTSTRAP_NODES": "0", "BOOTSTRAP_LOG_FORMAT": "json"})
    assert result.code == 2
    assert set(re.findall(r"BOOTSTRAP_[A-Z_]+", str(result.last["cause"]))) == {"BOOTSTRAP_NODES"}


@pytest.mark.parametrize("args", [("--nodse", "6"), ("frobnicate",), ("plan", "--outptu", "json")])
def test_unknown_words_are_settings_faults(args: tuple[str, ...]) -> None:
    """A misspelt flag or command exits 2."""
    assert rig.run({"BOOTSTRAP_NODES": "6"}, *args).code == 2


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BOOTSTRAP_ENDPOINTS", "a..b"),
        ("BOOTSTRAP_ENDPOINTS", f"{'a' * 64}.example"),
        ("BOOTSTRAP_ENDPOINTS", ".".join(["a" * 60] * 5)),
        ("BOOTSTRAP_ENDPOINTS", "redis-0.."),
        ("BOOTSTRAP_ENDPOINTS", "redis\udcff"),
        ("BOOTSTRAP_ENDPOINTS", "[::1"),
        ("BOOTSTRAP_ENDPOINTS", "[fd00::2]6379"),
        ("BOOTSTRAP_ENDPOINTS", "redis-0:"),
        ("BOOTSTRAP_ENDPOINTS", "[FD00::2],[fd00:0::2]:6379,redis-0"),
        ("BOOTSTRAP_ENDPOINTS", "redis-0,redis-1,Redis-0."),
        ("BOOTSTRAP_NAMESERVERS", "10.0.0.10,[::1],[0:0:0:0:0:0:0:1]:53"),
        ("BOOTSTRAP_NAMESERVERS", "core..dns"),
        ("BOOTSTRAP_STATEFULSET", "a" * 63),
        ("BOOTSTRAP_CLUSTER_DOMAIN", ".".join("a" * 120)),
        ("BOOTSTRAP_USERNAME", "s3cret\udcff"),
        ("BOOTSTRAP_PASSWORD", "s3cret\udcff"),
    ],
)
def test_names_and_texts_that_cannot_be_sent(variable: str, value: str) -> None:
    """Such values are faults that are reported once, with the others; a secret is not repeated."""
    result = rig.run({"BOOTSTRAP_TIMEOUT": "soon", "BOOTSTRAP_NODES": "6", variable: value})
    cause = str(result.last["cause"])
    assert (result.code, result.last["outcome"]) == (2, "settings"), result.stderr
    assert "Traceback" not in result.stderr
    assert variable in cause
    assert "BOOTSTRAP_TIMEOUT" in cause
    assert "s3cret" not in result.stderr + result.stdout


@pytest.mark.parametrize(
    ("args", "variables", "words"),
    [
        (("plan",), {"BOOTSTRAP_EXIT_CODE": "maybe"}, ("BOOTSTRAP_EXIT_CODE", "maybe")),
        (("status",), {"BOOTSTRAP_WATCH": "maybe"}, ("BOOTSTRAP_WATCH", "maybe")),
        (("sandbox", "--nodes", "six"), {}, ("BOOTSTRAP_NODES", "six")),
        (("sandbox", "--nodes", "-1"), {}, ("BOOTSTRAP_NODES", "-1")),
        (("sandbox", "--replicas", "-1"), {}, ("BOOTSTRAP_REPLICAS", "-1")),
        (("run", "--nodse", "6"), {}, ("--nodse", "Did you mean '--nodes'?")),
        (("stauts",), {}, ("stauts", "Did you mean 'status'?")),
        (("frobnicate",), {}, ("frobnicate",)),
    ],
)
def test_misuse_is_reported_like_other_faults(
    args: tuple[str, ...], variables: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    """One log line has cause and remedy, and `run` leaves a termination message."""
    result = rig.run({"BOOTSTRAP_NODES": "6", **variables}, *args, tmp_path=tmp_path)
    assert (result.code, result.last["exit_code"], result.last["outcome"]) == (2, 2, "settings")
    assert len(result.stderr.splitlines()) == 1
    assert all(word in str(result.last["cause"]) for word in words)
    assert result.last["remedy"]
    is_run = result.last["event"] == "run.failed"
    assert is_run is (args[0] not in {"plan", "status", "sandbox"})
    assert bool(result.message) is is_run


@pytest.mark.parametrize(
    "redirection",
    ["| true", ">/dev/full", ">&-", "2>/dev/full", "2>&-", ">/dev/full 2>&1", ">&- 2>&-"],
)
def test_streams_that_cannot_be_used_change_nothing(redirection: str, tmp_path: Path) -> None:
    """The exit code and the termination message stay, and so does the last line of stderr."""
    log = tmp_path / "termination-log"
    words = f"set -o pipefail; {sys.executable} -m bootstrap {redirection}"
    variables = {"BOOTSTRAP_NODES": "0", "BOOTSTRAP_TERMINATION_LOG": str(log)}
    done = subprocess.run(
        ["bash", "-c", words],
        env=rig.environment(variables),
        cwd=rig.ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert json.loads(log.read_text())["outcome"] == "settings"
    if "2>" not in redirection:
        assert json.loads(done.stderr.splitlines()[-1])["event"] == "run.failed"
    assert "Exception ignored" not in done.stderr + done.stdout


def test_an_unknown_variable_is_reported() -> None:
    """A misspelled variable is named in a warning: nothing else would show that it is not read."""
    result = rig.run({"BOOTSTRAP_NODES": "0", "BOOTSTRAP_REPLICA": "2"})
    assert any("BOOTSTRAP_REPLICA" in str(line.get("variables")) for line in result.logs)


@pytest.mark.parametrize("how", ["flag", "variable"])
def test_a_password_as_a_flag_is_warned_about(how: str) -> None:
    """The process list shows flags to every user of the machine, so that a warning says it."""
    if how == "flag":
        result = rig.run({"BOOTSTRAP_NODES": "0"}, "run", "--password", RIGHT)
    else:
        result = rig.run({"BOOTSTRAP_NODES": "0", "BOOTSTRAP_PASSWORD": RIGHT})
    events = [line["event"] for line in result.logs]
    assert ("password.exposed" in events) is (how == "flag")
    assert RIGHT not in result.stdout + result.stderr


def test_bash_completes_commands_and_options() -> None:
    """The line that the documents give for bash makes the program complete its words."""
    script = """
        eval "$(_REDIS_CLUSTER_BOOTSTRAP_COMPLETE=bash_source redis-cluster-bootstrap)"
        COMP_WORDS=(redis-cluster-bootstrap plan --outp) COMP_CWORD=2
        _redis_cluster_bootstrap_completion redis-cluster-bootstrap
        echo "${COMPREPLY[@]}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script],
        env=rig.environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "--output\n"


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_terminal_shows_an_error_once(command: str) -> None:
    """At a terminal an error is one plain sentence, without a `repr`, JSON or a second copy."""
    ours, its = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "bootstrap", command, "--nodes", "none"],
        env=rig.environment({"BOOTSTRAP_LOG_FORMAT": "auto", "NO_COLOR": "1"}),
        cwd=rig.ROOT,
        stdout=its,
        stderr=its,
        check=False,
    )
    os.close(its)
    shown = " ".join(os.read(ours, 65536).decode().split())
    os.close(ours)
    assert done.returncode == 2
    assert shown.count("BOOTSTRAP_NODES must be a whole number, not 'none'") == 1
    assert not set("{}\x1b\\") & set(shown)


class _Hostile(socketserver.StreamRequestHandler):
    """Answers whatever it is asked with an error that would change what a terminal shows."""

    evil = "\x1b]0;title\x07\x1b[2J\x9b31m\u202e\u2028"

    def handle(self) -> None:
        while count := self.rfile.readline()[1:]:
            for _ in range(int(count)):
                size = int(self.rfile.readline()[1:])
                self.rfile.read(size + 2)
            self.wfile.write(f"-ERR {self.evil}\r\n".encode())


@pytest.mark.parametrize("command", ["run", "plan", "status"])
@pytest.mark.parametrize("log_format", ["json", "console"])
def test_what_a_server_says_is_escaped(command: str, log_format: str) -> None:
    """No control character of a server reaches stdout or stderr."""
    with ExitStack() as servers:
        endpoints = []
        for _ in range(3):
            server = servers.enter_context(
                socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Hostile)
            )
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            servers.callback(server.shutdown)
            endpoints.append(f"127.0.0.1:{server.server_address[1]}")
        variables = {
            "BOOTSTRAP_ENDPOINTS": ",".join(endpoints),
            "BOOTSTRAP_REPLICAS": "0",
            "BOOTSTRAP_TIMEOUT": "3",
            "BOOTSTRAP_LOG_FORMAT": log_format,
        }
        result = rig.run(variables, command)
    assert result.code != 0
    lines = (result.stdout + result.stderr).split("\n")
    assert "title" in result.stdout + result.stderr
    assert [line for line in lines if not line.isprintable()] == []


@pytest.mark.redis
@pytest.mark.parametrize(
    "content",
    [
        f"{RIGHT}\n",
        RIGHT,
        f"{RIGHT}\r\n",
        f"{OLD}\n{RIGHT}\n",
        f"{RIGHT}\n{OLD}",
        f"{OLD}\r\n{RIGHT}\r\n",
    ],
    ids=["newline", "bare", "crlf", "rotation", "rotated", "rotation-crlf"],
)
def test_password_files(content: str, guarded: World, tmp_path: Path) -> None:
    """One trailing newline is dropped; several passwords, one a line, are tried in order."""
    path = tmp_path / "password"
    path.write_bytes(content.encode())
    variables = {**guarded.env(), "BOOTSTRAP_REPLICAS": "0", "BOOTSTRAP_PASSWORD_FILE": str(path)}
    del variables["BOOTSTRAP_PASSWORD"]
    result = rig.run(variables, "status", "--output", "json")
    assert result.code == 5, result.stderr
    assert len(json.loads(result.stdout)["nodes"]) == 3


@pytest.mark.redis
@pytest.mark.parametrize("how", ["variable", "file"])
def test_secrets_are_never_printed(how: str, guarded: World, tmp_path: Path) -> None:
    """Neither an accepted nor a refused password is on stdout, stderr or in the message."""
    path = tmp_path / "password"
    path.write_text(f"{OLD}\nan0ther-s3cret\n")
    given = (
        {"BOOTSTRAP_PASSWORD": f"{OLD}\nan0ther-s3cret"}
        if how == "variable"
        else {"BOOTSTRAP_PASSWORD": "", "BOOTSTRAP_PASSWORD_FILE": str(path)}
    )
    variables = {**guarded.env(), "BOOTSTRAP_REPLICAS": "0", **given}
    result = rig.run({**variables, "BOOTSTRAP_LOG_LEVEL": "debug"}, tmp_path=tmp_path)
    assert result.code == 2
    assert "s3cret" not in result.stdout + result.stderr + result.message


def test_log_format_and_level() -> None:
    """JSON and console lines are logged as asked for, and a level leaves out those below it."""
    as_json = rig.run({"BOOTSTRAP_NODES": "0"})
    assert all(line.startswith("{") for line in as_json.stderr.splitlines())
    assert {"timestamp", "level", "event"} <= as_json.last.keys()
    console = rig.run({"BOOTSTRAP_NODES": "0", "BOOTSTRAP_LOG_FORMAT": "console"})
    assert not any(line.startswith("{") for line in console.stderr.splitlines())
    assert "run.failed" in console.stderr
    auto = rig.run({"BOOTSTRAP_NODES": "0", "BOOTSTRAP_LOG_FORMAT": "auto"})
    assert auto.last["event"] == "run.failed"
    unknown = {"BOOTSTRAP_NODES": "0", "BOOTSTRAP_REPLICA": "1", "BOOTSTRAP_LOG_LEVEL": "error"}
    assert {line["level"] for line in rig.run(unknown).logs} == {"error"}
