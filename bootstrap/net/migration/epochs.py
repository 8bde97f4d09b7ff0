"""Makes sure that no claim of an old owner can win over the new one's.

A claim to a slot wins by config epoch, and the loser deletes the keys. SETSLOT NODE gives the new
owner an epoch above all that it knows, without asking anybody. Two ways lead from there to a
source with a higher one, and to lost keys (seen on Redis 7.0, moves back and forth in a row):
the target had not heard of the source's epoch yet; or the source shared its epoch with another
primary, and the servers resolve that by raising one of the two at some later time.

So before anything moves the sources have epochs of their own, and the targets higher ones.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...core.topology import NodeId
from ...core.wire import WireError, parse_info
from ..connection import text
from ..polling import GOSSIP, poll
from .reply_errors import call, stale_view, write
from .session import Pair, PrimaryNode

_PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Epochs:
    """A node's config epoch, and the highest epoch that it has heard of."""

    own: int
    current: int


async def order_epochs(primaries: Mapping[NodeId, PrimaryNode], pairs: Sequence[Pair]) -> None:
    """Wait for, or bring about, epochs that let every target win over every source.

    No node may be both.

    Raises:
        StaleViewError: It did not come about in time.
    """
    unordered: list[NodeId] = []

    async def ordered() -> bool | None:
        unordered[:] = await _raise_targets(primaries, pairs)
        return None if unordered else True

    if not await poll(ordered, pause=GOSSIP, for_s=_PATIENCE_S):
        raise stale_view(
            primaries[unordered[0]].name, "has a config epoch that other primaries share"
        )


async def _raise_targets(
    primaries: Mapping[NodeId, PrimaryNode], pairs: Sequence[Pair]
) -> list[NodeId]:
    """Bump targets that would lose; return the nodes whose epochs are not right yet."""
    sources = {pair.source.node_id for pair in pairs}
    targets = {pair.target.node_id for pair in pairs}
    answers = await asyncio.gather(*map(_ask, primaries.values()))
    epochs = dict(zip(primaries, answers, strict=True))
    shared = Counter(epoch.own for epoch in epochs.values())
    highest = max((epochs[source].own for source in sources), default=0)
    low = [target for target in targets if epochs[target].own <= highest]
    for target in low:
        # One that has not heard of the highest yet would take an epoch that is in use.
        if epochs[target].current >= highest and epochs[target].own != highest:
            await write(primaries[target].client, "CLUSTER", "BUMPEPOCH")
    return low + [source for source in sources if shared[epochs[source].own] > 1]


async def _ask(primary: PrimaryNode) -> Epochs:
    info = parse_info(text(await call(primary.client, "CLUSTER", "INFO")))
    try:
        return Epochs(int(info["cluster_my_epoch"]), int(info["cluster_current_epoch"]))
    except (KeyError, ValueError) as error:
        raise WireError("CLUSTER INFO has no epochs") from error
