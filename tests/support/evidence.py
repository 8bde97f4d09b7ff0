"""What servers say about what was done to them: states to compare, commands that were counted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bootstrap.sandbox.errors import ReplyError
from bootstrap.sandbox.pod import Pod

# Before 7.0 subcommands are counted together, so that states alone return whether they wrote.
_CONTAINERS = frozenset({"client", "cluster", "config"})
READS = frozenset(
    {
        "acl|whoami",
        "auth",
        "client|id",
        "client|list",
        "client|setname",
        "cluster|countkeysinslot",
        "cluster|help",
        "cluster|info",
        "cluster|myid",
        "cluster|myshardid",
        "cluster|nodes",
        "cluster|shards",
        "cluster|slots",
        "command",
        "config|get",
        "dbsize",
        "hello",
        "info",
        "ping",
        # Sent by replicas to their primary.
        "psync",
        "replconf",
    }
)


def commands_of(pod: Pod) -> dict[str, int]:
    """Return how often each command was called; subcommands are counted apart from 7.0 on."""
    calls = {}
    for line in str(pod.command("INFO", "commandstats")).splitlines():
        if line.startswith("cmdstat_"):
            name, _, fields = line.removeprefix("cmdstat_").partition(":")
            calls[name] = int(fields.partition(",")[0].removeprefix("calls="))
    return calls


def state_of(pod: Pod) -> tuple[str, ...]:
    """Return what a pod holds, without what moves by itself: ping times and link states."""
    try:
        lines = str(pod.command("CLUSTER", "NODES")).splitlines()
    except ReplyError as error:
        lines = [str(error)]
    stable = sorted(
        " ".join((*line.split()[:4], *line.split()[6:7], *line.split()[8:])) for line in lines
    )
    return (*stable, f"keys {pod.command('DBSIZE')}")


def written(before: dict[str, int], after: dict[str, int]) -> set[str]:
    """Return the commands beyond reading that were called in between."""
    return {
        name
        for name, count in after.items()
        if count > before.get(name, 0) and name not in READS | _CONTAINERS
    }


@contextmanager
def untouched(pods: Sequence[Pod], *, moves_by_itself: bool = False) -> Iterator[None]:
    """Check that nothing was done to the pods, by their state and by the commands they counted.

    Args:
        pods: Pods that answer.
        moves_by_itself: Compare commands only; the pods change their states among themselves.
    """
    states = [state_of(pod) for pod in pods]
    counts = [commands_of(pod) for pod in pods]
    yield
    for pod, state, count in zip(pods, states, counts, strict=True):
        assert written(count, commands_of(pod)) == set(), pod.name
        assert moves_by_itself or state_of(pod) == state, pod.name
