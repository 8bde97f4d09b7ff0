"""What a peer may send, counted before it is read."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from redis.exceptions import InvalidResponse

from bootstrap.net.transport import (
    ELEMENTS_LIMIT,
    KEYS_LIMIT,
    LIBRARIES_LIMIT,
    LISTING_LIMIT,
    REPLY_LIMIT,
    TASKS_LIMIT,
    VALUE_LIMIT,
    Limit,
    ReplyMeter,
    ReplyTooLongError,
)

READ_AT_ONCE = 65536


def count(limit: Limit, *parts: bytes) -> None:
    meter = ReplyMeter()
    meter.allow(limit)
    for part in parts:
        meter.count(part)


def in_parts(data: bytes, size: int) -> Sequence[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


FUNCTIONS = b"*1\r\n*4\r\n$6\r\nengine\r\n$3\r\nLUA\r\n$9\r\nfunctions\r\n*1\r\n*2\r\n+a\r\n$-1\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("reply", "elements"),
    [
        (b"+OK\r\n-ERR no\r\n:7\r\n$-1\r\n*-1\r\n*0\r\n$0\r\n\r\n", 0),
        (b"$19\r\n*99999999\r\n\r\n*9\r\n*\r\n", 0),
        (b"*2\r\n$5\r\n*7\r\n-\r\n:1\r\n-ERR no\r\n", 2),
        (FUNCTIONS, 8),
    ],
)
def test_replies_are_counted_however_they_are_cut(reply: bytes, elements: int, size: int) -> None:
    """A string is passed, whatever it holds; only elements of arrays count."""
    count(Limit(len(reply), elements), *in_parts(reply, size))
    with pytest.raises(ReplyTooLongError):
        count(Limit(len(reply) - 1, elements), *in_parts(reply, size))
    if elements:
        with pytest.raises(ReplyTooLongError):
            count(Limit(len(reply), elements - 1), *in_parts(reply, size))


@pytest.mark.parametrize(
    "reply",
    [
        b"$16777217\r\n",
        b"*4000000000\r\n",
        b"*1\r\n" * 200000,
        b"*131072\r\n" + b"*1\r\n",
        b"+" + b"a" * 20000,
    ],
)
def test_what_is_announced_is_refused_before_it_comes(reply: bytes) -> None:
    """Lists are made as long as they are announced, so nobody waits for the elements."""
    with pytest.raises(ReplyTooLongError):
        count(REPLY_LIMIT, reply)


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        b"~1\r\n",
        b">1\r\n",
        b"_\r\n",
        b"$-7\r\n",
        b"$1_0\r\n",
        b"*+1\r\n",
        b"$99999999999\r\n",
        b"*2\r\n-ERR no\r\n",
    ],
)
def test_what_resp2_does_not_have_is_no_reply(reply: bytes) -> None:
    """Nobody asks for RESP3, and no command of this program returns an error within an array."""
    with pytest.raises(InvalidResponse):
        count(REPLY_LIMIT, reply)


SHARD = b"*4\r\n+slots\r\n*32\r\n%b+nodes\r\n*0\r\n" % (b":16383\r\n" * 32)


def key_names() -> bytes:
    return b"*128\r\n" + b"$3000\r\n%b\r\n" % (b"k" * 3000) * 128


def tasks() -> bytes:
    words = b"$11\r\nslot_ranges\r\n$3000\r\n%b\r\n" % (b"1" * 3000)
    return b"*1000\r\n" + (b"*22\r\n" + words + b"$2\r\nab\r\n" * 20) * 1000


@pytest.mark.parametrize(
    ("limit", "reply"),
    [
        (REPLY_LIMIT, b":123456\r\n" * 16384),
        (REPLY_LIMIT, b"*1000\r\n" + SHARD * 1000),
        (KEYS_LIMIT, key_names() * 32),
        (TASKS_LIMIT, tasks()),
        (VALUE_LIMIT, b"$12582912\r\n%b\r\n" % (b"\x00*9" * (4 << 20))),
        (LISTING_LIMIT, b"$16000000\r\n%b\r\n" % (b"id=3 name=\n*9" * 1230770)[:16000000]),
        (LIBRARIES_LIMIT, b"*1\r\n*2\r\n+code\r\n$12000000\r\n%b\r\n" % (b"--*\r" * 3000000)),
        (ELEMENTS_LIMIT, b"*262144\r\n" + b"$6\r\n123456\r\n" * 262144),
    ],
    ids=range(8),
)  # fmt: skip
def test_what_honest_servers_send_fits(limit: Limit, reply: bytes) -> None:
    """The largest clusters, keys, values and libraries that the program works with."""
    count(limit, *in_parts(reply, READ_AT_ONCE))
