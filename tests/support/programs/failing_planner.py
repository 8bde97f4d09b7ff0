"""The program with a planner that raises an unforeseen error."""

import sys
from typing import NoReturn

from bootstrap import cli
from bootstrap.core import planner


def fail(*_: object) -> NoReturn:
    """Divide by nothing."""
    raise ZeroDivisionError


planner.plan = fail
sys.exit(cli.main())
