"""The program with a planner that raises an unforeseen error."""

import sys
from typing import NoReturn
from unittest import mock

from bootstrap import cli
from bootstrap.core import planner


def fail(*_: object) -> NoReturn:
    """Divide by nothing."""
    raise ZeroDivisionError


mock.patch.object(planner, "plan", fail).start()
sys.exit(cli.main())
