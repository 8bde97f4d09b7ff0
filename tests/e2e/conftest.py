"""Tests on a real Kubernetes, the one that KUBECONFIG names."""

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import story as stories

Begin = Callable[..., stories.Story]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("kind")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, pytest.TestReport]:
    report: pytest.TestReport = yield
    if report.failed:
        for one in stories.OPEN:
            report.sections.append((f"namespace {one.namespace}", one.diagnosis()))
    return report


@pytest.fixture(scope="session", autouse=True)
def _cluster() -> None:
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    ready = subprocess.run(
        ["kubectl", "get", "--raw", "/readyz"], capture_output=True, text=True, check=False
    )
    if ready.returncode:
        pytest.skip(f"no cluster answers: {ready.stderr.strip()}")


@contextmanager
def beginning(factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Give out stories, and end them all."""
    with ExitStack() as stack:

        def begin(name: str, **changes: object) -> stories.Story:
            return stack.enter_context(stories.story(name, factory.mktemp(name), **changes))

        yield begin


@pytest.fixture
def new_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Begin a story in a namespace of its own; it ends with the test."""
    with beginning(tmp_path_factory) as begin:
        yield begin


@pytest.fixture
def new_story_on_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Begin a story that alone has ports of nodes, and gives them back at its end."""
    path = Path(tempfile.gettempdir()) / f"ports-of-nodes-{os.getuid()}.lock"
    with path.open("w") as lock, beginning(tmp_path_factory) as begin:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = len(stories.OPEN)
        yield begin
        for one in stories.OPEN[before:]:
            one.k("delete", "statefulset,deployment,job", "--all", "--cascade=orphan")
            one.k("delete", "service,pods", "--all", "--grace-period=1", "--timeout=90s")


@pytest.fixture(scope="module")
def long_story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begin]:
    """Begin a story that several tests tell; it ends with the module."""
    with beginning(tmp_path_factory) as begin:
        yield begin
