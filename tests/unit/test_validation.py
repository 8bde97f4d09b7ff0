"""Parsers of settings return values, or say what is wrong."""

from collections.abc import Callable

import pytest

from bootstrap import validation
from bootstrap.validation import Fault


def problems(parse: Callable[[str], object], value: str) -> tuple[str, ...]:
    """Return what is wrong with a text."""
    with pytest.raises(Fault) as caught:
        parse(value)
    return caught.value.problems


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (validation.number(least=0), " 6 ", 6),
        (validation.number(least=1, most=65535), "65535", 65535),
        (validation.seconds, "0.5", 0.5),
        (validation.switch, "Yes", True),
        (validation.switch, " off ", False),
        (validation.one_of(("text", "json")), "json", "json"),
        (validation.label, "redis-app", "redis-app"),
        (validation.label, "a" * 63, "a" * 63),
        (validation.domain, "my.zone.", "my.zone"),
        (validation.optional(validation.label, None), "", None),
        (validation.optional(validation.label, None), "shop", "shop"),
        (validation.text, "päss wörd", "päss wörd"),
        (validation.hosts, "", ()),
        (
            validation.addresses,
            "[FD00:0::A]:5353 10.0.0.10",
            (("fd00::a", 5353), ("10.0.0.10", 0)),
        ),
        (validation.listen_address, "127.0.0.1:9102", ("127.0.0.1", 9102)),
        (validation.listen_address, "[::]:80", ("::", 80)),
    ],
)
def test_a_valid_text_has_a_value(parse: Callable[[str], object], text: str, value: object) -> None:
    """Each parser returns the value of a text that is valid."""
    assert parse(text) == value


def test_hosts_have_one_spelling() -> None:
    """Addresses are spelled as servers announce them; names stand without their last dot."""
    given = "[FD00::2]:7000,[0:0:0:0:0:0:0:1],fd00:0::3,redis_0.example.:7001,bücher.example"
    assert validation.hosts(given) == (
        ("fd00::2", 7000),
        ("::1", 0),
        ("fd00::3", 0),
        ("redis_0.example", 7001),
        ("bücher.example", 0),
    )


@pytest.mark.parametrize(
    ("parse", "text", "problem"),
    [
        (validation.number(least=1), "six", "must be a whole number, not 'six'"),
        (validation.number(least=1), "0", "must be at least 1, not 0"),
        (validation.number(least=1, most=9), "10", "must be from 1 to 9, not 10"),
        (validation.seconds, "soon", "must be a finite number of seconds above 0, not 'soon'"),
        (validation.seconds, "inf", "must be a finite number of seconds above 0, not 'inf'"),
        (validation.seconds, "nan", "must be a finite number of seconds above 0, not 'nan'"),
        (validation.seconds, "-1", "must be a finite number of seconds above 0, not '-1'"),
        (validation.switch, "perhaps", "must be true or false, not 'perhaps'"),
        (validation.one_of(("a", "b")), "c", "must be one of a, b, not 'c'"),
        (validation.label, "de fault", "must be one DNS label"),
        (validation.label, "a" * 64, "must be one DNS label"),
        (validation.domain, "cluster..local", "must be a DNS domain, not 'cluster..local'"),
        (validation.domain, ".", "must be a DNS domain, not '.'"),
        (validation.text, "\udcff", "is not UTF-8 text"),
        (validation.hosts, "a..b", "names 'a..b', which is not host or host:port"),
        (validation.hosts, f"{'a' * 64}.example", "which is not host or host:port"),
        (validation.hosts, ".".join(["a" * 60] * 5), "which is not host or host:port"),
        (validation.hosts, "redis-0..", "names 'redis-0..', which is not host or host:port"),
        (validation.hosts, "redis\udcff", "which is not host or host:port"),
        (validation.hosts, "[::1", "names '[::1', which is not host or host:port"),
        (validation.hosts, "[fd00::2]6379", "which is not host or host:port"),
        (validation.hosts, "redis-0:", "names 'redis-0:', which has no port after the colon"),
        (validation.hosts, "[::1]:", "names '[::1]:', which has no port after the colon"),
        (validation.hosts, "redis-0:0", "names 'redis-0:0', whose port is not from 1 to 65535"),
        (validation.hosts, "redis-0:65536", "whose port is not from 1 to 65535"),
        (validation.hosts, "redis-0:six", "whose port is not from 1 to 65535"),
        (validation.hosts, "redis-0:²", "whose port is not from 1 to 65535"),
        (validation.addresses, "core..dns", "names 'core..dns', which is not host or host:port"),
        (validation.addresses, "coredns", "names 'coredns', which is not a numeric address"),
        (validation.listen_address, "127.0.0.1", "must be ip:port, not '127.0.0.1'"),
        (validation.listen_address, "127.0.0.1:1,127.0.0.2:2", "must be ip:port"),
    ],
)
def test_a_faulty_text_is_named(parse: Callable[[str], object], text: str, problem: str) -> None:
    """Each parser says what must be, and what was given."""
    (message,) = problems(parse, text)
    assert problem in message


def test_all_problems_of_a_list_are_named() -> None:
    """A list with several faults reports each of them."""
    assert len(problems(validation.hosts, "a..b,redis-0,redis-1:0")) == 2
    assert len(problems(validation.addresses, "one,10.0.0.1,two")) == 2


@pytest.mark.parametrize("url", ["redis://:s3cret@redis-0:6379", "user:s3cret@redis-0", "//s3cret"])
def test_a_url_is_not_repeated(url: str) -> None:
    """URLs of Redis carry passwords, so that the fault does not quote them."""
    (message,) = problems(validation.hosts, url)
    assert message == "must name hosts as host or host:port, not as a URL"
