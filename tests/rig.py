"""The name under which published reproduction scripts import `tests.support.rig`."""

from tests.support.rig import *  # noqa: F403 - every public name, under its former module
