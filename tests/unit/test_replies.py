"""What an error reply, or one that cannot be read, is reported as."""

import pytest

from bootstrap.core.parsing import ParseError
from bootstrap.errors import CredentialsError, InvariantError, NodeNotReadyError
from bootstrap.net.replies import ReplyError, name_of, reading, stale_view, text


def error(message: str, command: str = "CLUSTER MEET") -> ReplyError:
    """Return an error reply of the first pod."""
    return ReplyError(message, node="redis-app-0", command=command)


@pytest.mark.parametrize(
    ("message", "rule"),
    [
        ("NOPERM User x has no permissions to run the 'cluster' command", "+cluster|meet"),
        ("NOPERM User x has no permissions to run the 'cluster|meet' command", "+cluster|meet"),
        ("NOPERM User x has no permissions to run the 'auth' command", "+auth"),
        ("NOPERM No permissions to access a key", "'~*'"),
        ("NOPERM this user has no permissions", "+cluster|meet"),
    ],
)
def test_a_missing_permission_is_named_as_a_rule(message: str, rule: str) -> None:
    """Before 7.0 a reply does not name the subcommand."""
    declared = error(message).declared("bootstrap")
    assert isinstance(declared, CredentialsError)
    assert declared.cause == f"redis-app-0 refuses CLUSTER MEET: {message}"
    assert declared.remedy == f"allow it: ACL SETUSER bootstrap {rule}"


def test_a_server_that_cannot_serve_is_waited_for() -> None:
    """Other errors end the run, unless a caller expects them."""
    declared = error("CLUSTERDOWN The cluster is down").declared("bootstrap")
    assert isinstance(declared, NodeNotReadyError)
    assert declared.cause == "redis-app-0 is not ready: CLUSTERDOWN The cluster is down"
    other = error("ERR Unknown node")
    assert other.declared("bootstrap") is other
    assert other.cause == "redis-app-0 answered CLUSTER MEET with: ERR Unknown node"


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        ("NOAUTH Authentication required.", "set BOOTSTRAP_PASSWORD"),
        ("WRONGPASS invalid username-password pair", "check BOOTSTRAP_USERNAME"),
        ("DENIED Redis is running in protected mode", "protected-mode no"),
        ("ERR AUTH called without any password configured", "unset BOOTSTRAP_USERNAME"),
    ],
)
def test_each_rejected_login_has_its_remedy(message: str, remedy: str) -> None:
    """The words of the server are kept."""
    rejected = error(message, "AUTH").login_failed()
    assert rejected.cause == f"authentication failed at redis-app-0: {message}"
    assert remedy in rejected.remedy


def test_what_was_sent_is_not_repeated() -> None:
    """A server repeats arguments of a command that it does not know: a password, or a key."""
    reply = error("ERR unknown command 'MIGRATE', with args beginning with: 'secret'")
    assert reply.message == "ERR unknown command 'MIGRATE'"
    assert name_of(("MEMORY", "USAGE", b"secret")) == "MEMORY USAGE"
    assert name_of(("UNLINK", b"secret")) == "UNLINK"


@pytest.mark.parametrize("fault", [ParseError("no list"), KeyError("id"), RecursionError("deep")])
def test_what_a_reply_breaks_is_an_error_that_names_the_node(fault: Exception) -> None:
    """No other exception leaves a reader of replies."""
    with pytest.raises(InvariantError) as caught, reading("redis-app-0", "CLUSTER SHARDS"):
        raise fault
    assert caught.value.cause.startswith("redis-app-0 answered CLUSTER SHARDS with a reply that")


@pytest.mark.parametrize("reply", [None, True, [b"a"], 1.5])
def test_a_reply_that_is_no_text_is_an_error(reply: object) -> None:
    """RESP2 has neither booleans nor fractions."""
    with pytest.raises(ParseError):
        text(reply)  # type: ignore[arg-type]  # what a peer can send


def test_a_changed_cluster_is_observed_again() -> None:
    """The remedy says that nobody has to do anything."""
    stale = stale_view("redis-app-0", "is another node now", command="CLUSTER MEET")
    assert stale.cause == "redis-app-0 is another node now"
    assert stale.remedy == "retried automatically on the next pass"
