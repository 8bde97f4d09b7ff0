"""The program, killed -9 by itself right after write command number KILL_AFTER_WRITES.

Pipelines that write are sent one command at a time, so that every prefix of them can be the end.
"""

import os
import signal
import sys
from collections.abc import Sequence

from bootstrap import cli
from bootstrap.core.wire import Reply
from bootstrap.net.node import Command, RedisNode, ReplyError

send = RedisNode.pipeline
points = iter(range(1, int(os.environ["KILL_AFTER_WRITES"])))


async def pipeline(
    self: RedisNode, commands: Sequence[Command], *, writes: bool = False, timeout_s: float = 10.0
) -> list[Reply | ReplyError]:
    if not writes:
        return await send(self, commands, writes=False, timeout_s=timeout_s)
    replies: list[Reply | ReplyError] = []
    for command in commands:
        replies += await send(self, [command], writes=True, timeout_s=timeout_s)
        if next(points, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
    return replies


RedisNode.pipeline = pipeline
sys.exit(cli.main())
