"""The program, killed -9 by itself right after the write command that KILL_AFTER names.

KILL_AFTER is the number of the command, or a word of it.

Pipelines that write are sent one command at a time, so that every prefix of them can be the end;
only RESET stays with the command that empties the files: both are in one packet, which the end of
the program does not part.
"""

import os
import signal
import sys
from collections.abc import Sequence
from itertools import count
from unittest import mock

from bootstrap import cli
from bootstrap.core.wire import Reply
from bootstrap.net.connection import RedisNode
from bootstrap.net.replies import Command, ReplyError
from bootstrap.net.transport import REPLY_LIMIT, Limit

send = RedisNode.pipeline
last = os.environ["KILL_AFTER"]
numbers = count(1)


async def pipeline(
    self: RedisNode,
    commands: Sequence[Command],
    *,
    writes: bool = False,
    timeout_s: float = 10.0,
    limit: Limit = REPLY_LIMIT,
) -> list[Reply | ReplyError]:
    if not writes:
        return await send(self, commands, writes=False, timeout_s=timeout_s, limit=limit)
    is_packet = tuple(commands[0][:2]) == ("CLUSTER", "RESET")
    replies: list[Reply | ReplyError] = []
    for part in [commands] if is_packet else [[command] for command in commands]:
        replies += await send(self, part, writes=True, timeout_s=timeout_s, limit=limit)
        if any(str(next(numbers)) == last or last in command for command in part):
            os.kill(os.getpid(), signal.SIGKILL)
    return replies


mock.patch.object(RedisNode, "pipeline", pipeline).start()
sys.exit(cli.main())
