"""The program, halted with SIGSTOP right before it carries out the first action of a kind.

HALT_BEFORE is the kind. HALT_AT is `action`, or `answer` for the first CLUSTER NODES that a node is
asked for the action: the answer is there then, and nothing has been sent.
"""

import os
import signal
import sys
from collections.abc import Sequence
from unittest import mock

from bootstrap import cli
from bootstrap.core.actions import Action
from bootstrap.core.parsing import Reply
from bootstrap.core.topology import NodeView
from bootstrap.net.connection import RedisNode
from bootstrap.net.executor import Executor
from bootstrap.net.transport import REPLY_LIMIT, Limit

carry_out, ask = Executor._on_node, RedisNode.call
reached: list[bool] = []
halted: list[bool] = []


def halt(at: str) -> None:
    """Halt once, in the place that HALT_AT names."""
    if reached and not halted and os.environ["HALT_AT"] == at:
        halted.append(True)
        os.kill(os.getpid(), signal.SIGSTOP)


async def on_node(self: Executor, node: NodeView, actions: Sequence[Action]) -> None:
    if type(actions[0]).__name__ == os.environ["HALT_BEFORE"]:
        reached.append(True)
        halt("action")
    await carry_out(self, node, actions)


async def call(self: RedisNode, *command: str | bytes | int, limit: Limit = REPLY_LIMIT) -> Reply:
    reply = await ask(self, *command, limit=limit)
    if command == ("CLUSTER", "NODES"):
        halt("answer")
    return reply


mock.patch.object(Executor, "_on_node", on_node).start()
mock.patch.object(RedisNode, "call", call).start()
sys.exit(cli.main())
