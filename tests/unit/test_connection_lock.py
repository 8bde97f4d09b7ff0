"""Who holds the lock, by CLIENT LIST."""

import time

import pytest

from bootstrap.core.parsing import ParseError
from bootstrap.net.connection_lock import PREFIX, SILENT_AFTER_S, holder
from bootstrap.net.transport import LISTING_LIMIT


def client(number: int, name: str = "", *, user: str = "bootstrap", idle: int = 0) -> str:
    return f"id={number} addr=10.0.0.1:5 name={name} age=9 idle={idle} db=0 user={user}\n"


def held(*lines: str, own_id: int = 5) -> str | None:
    return holder("".join(lines).encode(), own_id=own_id)


def test_the_oldest_connection_has_the_lock() -> None:
    """The lowest client id, whatever the order of the lines."""
    own = client(5, PREFIX + "own")
    assert held(own) is None
    assert held(own, client(9, PREFIX + "later")) is None
    assert held(client(10, PREFIX + "x", user="bootstrap"), own, own_id=11) == PREFIX + "own"
    assert held(client(4, PREFIX + "b"), client(3, PREFIX + "a"), own) == PREFIX + "a"


def test_a_connection_of_another_user_does_not_count() -> None:
    """Any user may name its connections."""
    assert held(client(3, PREFIX + "a", user="application"), client(5, PREFIX + "own")) is None


def test_a_silent_connection_does_not_count() -> None:
    """A pod that lost power leaves its connection open."""
    own = client(5, PREFIX + "own")
    assert held(client(3, PREFIX + "a", idle=SILENT_AFTER_S - 1), own) == PREFIX + "a"
    assert held(client(3, PREFIX + "a", idle=SILENT_AFTER_S), own) is None


def test_a_name_that_only_contains_ours_does_not_count() -> None:
    """The prefix is at the beginning."""
    assert held(client(3, "x" + PREFIX), client(5, PREFIX + "own")) is None


@pytest.mark.parametrize(
    "listing",
    [None, 7, [b"a"], b"x=1 name=redis-cluster-bootstrap:"],
)
def test_a_reply_of_another_form_is_an_error(listing: object) -> None:
    """Nobody is taken for the holder."""
    with pytest.raises(ParseError):
        holder(listing, own_id=5)


def test_more_holders_than_there_can_be_runs() -> None:
    """Neither their number nor their length makes a listing of any size expensive."""
    own = client(5, PREFIX + "own")
    with pytest.raises(ParseError, match="more than 1000"):
        held(own, client(3, PREFIX + "a") * 1001)
    assert held(own, client(3, PREFIX + "a" * 10000)) is None
    assert held(own, client(3, "a" * 10000 + f" name={PREFIX}a")) is None


@pytest.mark.parametrize(
    "shape",
    [
        b" name=redis-cluster-bootstrap:",
        b"id=3 name=redis-cluster-bootstrap:" + b"a" * 4096 + b"\n",
        b"id=3 name=redis-cluster-bootstrap:" + b" " * 4096 + b"\n",
        b"id=5",
        b"\nid=5",
        b"\n",
        b" name=",
        b"\n name=redis-cluster-bootstrap",
    ],
)
def test_a_listing_of_any_shape_is_read_in_time(shape: bytes) -> None:
    """The time is that of the process: others on the machine do not count."""
    listing = shape * (LISTING_LIMIT.size // len(shape))
    began = time.process_time()
    assert holder(listing, own_id=5) is None
    assert time.process_time() - began < 1


def test_many_lines_of_many_words_are_read_in_time() -> None:
    """The lines are as many and as long as they may be."""
    line = client(3, PREFIX + "a").removesuffix("\n") + " " * 3900 + "\n"
    began = time.process_time()
    assert held(client(5, PREFIX + "own"), line * 999) == PREFIX + "a"
    assert time.process_time() - began < 1
