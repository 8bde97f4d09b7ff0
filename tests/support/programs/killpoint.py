"""The program, struck right after the command that KILL_AFTER names.

KILL_AFTER is the number of the command, or a word of it. KILL_HOW is what happens: `kill` ends the
program with SIGKILL after a write command, `stop` halts it there until SIGCONT, `term` sends it
SIGTERM after any command, and `cut` loses the reply to any command with the connection.
KEEP_ALIVE_S is how often the lock is used in the middle of a plan.

Pipelines that write are sent one command at a time, so that every prefix of them can be the end;
only RESET stays with the command that empties the files: both are in one packet, which the end of
the program does not part.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from itertools import count
from unittest import mock

from bootstrap import cli
from bootstrap.core.parsing import Reply
from bootstrap.errors import NodeUnreachableError
from bootstrap.loop import run_lock
from bootstrap.net.connection import RedisNode
from bootstrap.net.replies import Command, ReplyError
from bootstrap.net.transport import REPLY_LIMIT, Limit
from bootstrap.process import stop_signal

send = RedisNode.pipeline
last = os.environ["KILL_AFTER"]
how = os.environ.get("KILL_HOW", "kill")
SIGNALS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP, "term": signal.SIGTERM}
run_lock.KEEP_ALIVE_EVERY_S = float(os.environ.get("KEEP_ALIVE_S", run_lock.KEEP_ALIVE_EVERY_S))
numbers = count(1)
struck_at: list[float] = []


async def strike(node: RedisNode) -> None:
    """Do what is to be done, once."""
    if struck_at:
        return
    struck_at.append(time.monotonic())
    if how == "cut":
        await node.close()
        raise NodeUnreachableError(node=node.name, cause="the test cut it", remedy="go on")
    os.kill(os.getpid(), SIGNALS[how])


async def pipeline(
    self: RedisNode,
    commands: Sequence[Command],
    *,
    writes: bool = False,
    timeout_s: float = 10.0,
    limit: Limit = REPLY_LIMIT,
) -> list[Reply | ReplyError]:
    is_over = how == "stop" and struck_at
    if not writes or not commands or is_over:
        replies = await send(self, commands, writes=writes, timeout_s=timeout_s, limit=limit)
        if how in ("term", "cut") and str(next(numbers)) == last:
            await strike(self)
        return replies
    is_packet = tuple(commands[0][:2]) == ("CLUSTER", "RESET")
    replies = []
    for part in [commands] if is_packet else [[command] for command in commands]:
        replies += await send(self, part, writes=True, timeout_s=timeout_s, limit=limit)
        if any(str(next(numbers)) == last or last in command for command in part):
            await strike(self)
    return replies


mock.patch.object(RedisNode, "pipeline", pipeline).start()
if how == "term":
    stop_signal.listen()
code = cli.main()
if struck_at:
    print(f"went on for {time.monotonic() - struck_at[0]:.2f} s", file=sys.stderr)
sys.exit(code)
