"""What a run takes over from the reconciler that starts it."""

import asyncio

from bootstrap.commands import wiring
from bootstrap.settings import Settings


def test_a_run_knows_what_was_found_out_before() -> None:
    """Caches of DNS, and addresses that do not answer, are not asked about once more."""

    async def work() -> None:
        settings = Settings(nodes=3, replicas=0, nameservers=(("127.0.0.1", 53),))
        async with (
            wiring.connected(settings, acts=True) as before,
            wiring.connected(settings, acts=True, before=before) as nodes,
            wiring.connected(settings, acts=True) as other,
        ):
            assert nodes.discovery is before.discovery
            assert nodes.outsiders is before.outsiders
            assert nodes.pool is not before.pool
            assert other.outsiders is not before.outsiders

    asyncio.run(work())
