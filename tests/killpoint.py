"""The program, killed -9 by itself right after write command number KILL_AFTER_WRITES.

Pipelines that write are sent one command at a time, so that every prefix of them can be the end.
"""

import os
import signal
import sys

from bootstrap import cli
from bootstrap.net.node import RedisNode

left = int(os.environ["KILL_AFTER_WRITES"])
send = RedisNode.pipeline


async def pipeline(self, commands, *, writes=False, timeout_s=10.0):
    global left
    if not writes:
        return await send(self, commands, writes=False, timeout_s=timeout_s)
    replies = []
    for command in commands:
        replies += await send(self, [command], writes=True, timeout_s=timeout_s)
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return replies


RedisNode.pipeline = pipeline
sys.exit(cli.main())
