"""The program under a wall clock that jumps by a day, forth and back, now and then."""

import itertools
import sys
import time

from bootstrap import cli

true_time = time.time
looks = itertools.count()


def jumped() -> float:
    """Return a time that is a day ahead for every other hundred looks."""
    return true_time() + 86400 * (next(looks) // 100 % 2)


time.time = jumped
time.time_ns = lambda: int(jumped() * 1e9)
sys.exit(cli.main())
