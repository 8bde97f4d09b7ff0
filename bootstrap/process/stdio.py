"""stdout and stderr that may be closed, full or gone: nothing they do changes how a run ends."""

from __future__ import annotations

import io
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Lenient(io.FileIO):
    """A descriptor that drops what it cannot take.

    Dropped below all buffers, as what stays in one fails again when the interpreter flushes it
    at its end, which then exits with 120.
    """

    def write(self, data: ReadableBuffer, /) -> int:
        """Write, or drop; a descriptor that somebody set to not block is waited for."""
        try:
            while (written := super().write(data)) is None:
                select.select((), (self,), ())
        except OSError:
            return memoryview(data).nbytes
        return written


def make_lenient() -> None:
    """Put streams in place that raise nothing, whatever they were started with."""
    sys.stdout = _lenient(sys.stdout)
    sys.stderr = _lenient(sys.stderr)


def _lenient(stream: TextIO | None) -> TextIO:
    if stream is None:
        # Started closed: the descriptor must not become that of a connection.
        return Path(os.devnull).open("w", encoding="utf-8")
    raw = _Lenient(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=bool(stream.line_buffering),
    )
