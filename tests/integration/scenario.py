"""The name under which published reproduction scripts import `tests.support.scenario`."""

from tests.support.scenario import *  # noqa: F403 - every public name, under its former module
