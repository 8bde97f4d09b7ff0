"""Asks an address for replies within a limit, on a connection each, and prints what that cost.

Its arguments are the address, the port, the name of the limit and how often to ask; it prints one
line of JSON: the errors, the megabytes that became resident, and the seconds of its own work.
"""

import asyncio
import json
import re
import sys
import time
from pathlib import Path

from bootstrap.errors import BootstrapError
from bootstrap.net import transport
from bootstrap.net.connection import Access, RedisNode


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def _main(ip: str, port: str, limit: str, times: str) -> None:
    errors = []
    before, began = _peak_mb(), time.process_time()
    for _ in range(int(times)):
        node = RedisNode(name="liar", host=ip, ip=ip, port=int(port), access=Access())
        try:
            await node.call("ANY", limit=getattr(transport, limit))
        except BootstrapError as error:
            errors.append(type(error).__name__)
        await node.close()
    cost = {"errors": errors, "mb": _peak_mb() - before, "cpu_s": time.process_time() - began}
    sys.stdout.write(json.dumps(cost) + "\n")


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
