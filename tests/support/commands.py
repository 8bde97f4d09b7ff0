"""Commands that a runbook names, such as `kubectl`, carried out by functions of a test."""

import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import TypeAlias

_KEY = b"runbook"
_PROGRAM = """#!/bin/sh
exec {python} -c '
import sys
sys.path.insert(0, "{root}")
from tests.support.commands import ask
ask("{socket}", sys.argv[1:])
' {name} "$@"
"""


@dataclass(frozen=True)
class Local:
    """A process that takes the place of the command, with its standard input and output."""

    argv: Sequence[str]
    cwd: Path
    variables: Mapping[str, str] = field(default_factory=dict)


Answer: TypeAlias = str | Local
Command: TypeAlias = Callable[[list[str]], Answer]


@contextmanager
def commands(folder: Path, functions: Mapping[str, Command]) -> Iterator[str]:
    """Yield a PATH that begins with these commands; a text is what they print."""
    folder.mkdir()
    socket = folder / "socket"
    for name in functions:
        program = folder / name
        text = {"python": sys.executable, "root": Path(__file__).resolve().parents[2]}
        program.write_text(_PROGRAM.format(**text, socket=socket, name=shlex.quote(name)))
        program.chmod(0o755)
    with Listener(str(socket), authkey=_KEY) as listener:
        threading.Thread(target=_serve, args=(listener, functions), daemon=True).start()
        yield f"{folder}:{os.environ['PATH']}"


def _serve(listener: Listener, functions: Mapping[str, Command]) -> None:
    while True:
        try:
            connection = listener.accept()
        except OSError:  # it was closed: the test is over
            return
        with connection:
            name, *arguments = connection.recv()
            try:
                connection.send(functions[name](arguments))
            except Exception as error:  # noqa: BLE001 - shown by the command, which then fails
                connection.send(error)


def ask(socket: str, words: list[str]) -> None:
    """Be the command: print its text, or become its process."""
    with Client(socket, authkey=_KEY) as connection:
        connection.send(words)
        answer = connection.recv()
    if isinstance(answer, Exception):
        raise SystemExit(f"{words}: {answer!r}")
    if isinstance(answer, str):
        sys.stdout.write(answer)
        return
    os.chdir(answer.cwd)
    os.execvpe(  # noqa: S606 - the commands of the test
        answer.argv[0], answer.argv, {**os.environ, **answer.variables}
    )
