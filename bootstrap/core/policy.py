"""What the people who run the cluster allow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What may be done, and what counts as work.

    Attributes:
        allow_data_loss: Consent to assign slots whose keys are lost to new owners.
        rebalance: Move slots until primaries differ by at most one.
        separate: Move replicas of a healthy cluster to where they share no zone or node with their
            shard. That is not part of *healthy*, so no run waits for it.
    """

    allow_data_loss: bool = False
    rebalance: bool = True
    separate: bool = False
