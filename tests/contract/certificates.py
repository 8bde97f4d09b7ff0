"""The name under which published reproduction scripts import `tests.support.certificates`."""

from tests.support.certificates import *  # noqa: F403 - every public name, under its former module
