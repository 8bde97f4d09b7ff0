"""The program, sent SIGTERM by itself right before its event loop starts or after it has closed."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any
from unittest import mock

from bootstrap import cli

run = asyncio.run


def run_with_signal(work: Coroutine[Any, Any, object]) -> object:
    """Run to the end, and send the signal before or after."""
    if os.environ["STOP"] == "before":
        os.kill(os.getpid(), signal.SIGTERM)
    try:
        return run(work)
    finally:
        if os.environ["STOP"] == "after":
            os.kill(os.getpid(), signal.SIGTERM)


mock.patch.object(asyncio, "run", run_with_signal).start()
sys.exit(cli.main())
