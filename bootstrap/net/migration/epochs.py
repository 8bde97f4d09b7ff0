"""Makes sure that no claim of an old owner can win over the new one's.

A claim to a slot wins by config epoch, and the loser deletes the keys. SETSLOT NODE gives the new
owner an epoch above all that it knows, without asking anybody. Two ways lead from there to a
source with a higher one, and to lost keys (seen on Redis 7.0, moves back and forth in a row):
the target had not heard of the source's epoch yet; or the source shared its epoch with another
primary, and the servers settle that by raising one of the two at some later time.

So before anything moves the sources have epochs of their own, and the targets higher ones.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...core.topology import NodeId
from ...core.wire import parse_info
from ..connection import ReplyError, text
from .session import Pair, PrimaryNode, rejection, stale

_PATIENCE_S = 10.0
_POLL_S = 0.01


@dataclass(frozen=True, slots=True)
class Epochs:
    """A node's config epoch, and the highest epoch that it has heard of."""

    own: int
    current: int


async def order_epochs(parties: Mapping[NodeId, PrimaryNode], pairs: Sequence[Pair]) -> None:
    """Wait for, or bring about, epochs that let every target win over every source.

    No node may be both.

    Raises:
        StaleViewError: It did not come about in time.
    """
    sources = {pair.source.node_id for pair in pairs}
    targets = {pair.target.node_id for pair in pairs}
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        nodes = list(parties.values())
        answers = await asyncio.gather(*(_ask(party) for party in nodes))
        epochs = {party.node_id: answer for party, answer in zip(nodes, answers, strict=True)}
        shared = Counter(epoch.own for epoch in epochs.values())
        highest = max((epochs[source].own for source in sources), default=0)
        low = [t for t in targets if epochs[t].own <= highest]
        collide = [s for s in sources if shared[epochs[s].own] > 1]
        if not low and not collide:
            return
        for target in low:
            # One that has not heard of the highest yet would take an epoch that is in use.
            if epochs[target].current >= highest and epochs[target].own != highest:
                await _bump(parties[target])
        if time.monotonic() > deadline:
            raise stale(parties[(low or collide)[0]], "has a config epoch that others share")
        await asyncio.sleep(_POLL_S)


async def _ask(party: PrimaryNode) -> Epochs:
    info = parse_info(text(await party.client.call("CLUSTER", "INFO")))
    return Epochs(int(info["cluster_my_epoch"]), int(info["cluster_current_epoch"]))


async def _bump(party: PrimaryNode) -> None:
    try:
        await party.client.write("CLUSTER", "BUMPEPOCH")
    except ReplyError as error:
        raise rejection(party, "CLUSTER BUMPEPOCH", error) from error
