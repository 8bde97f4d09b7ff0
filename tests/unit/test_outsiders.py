"""Which members are asked, without credentials, whether they live outside of the pods."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from bootstrap.core.topology import Absent, Address, NodeView, Outsider
from bootstrap.net import outsiders
from bootstrap.net.outsiders import Answer, Outsiders
from tests.support.builders import acquaint, endpoint, line, node, node_id

Answers = dict[str, Answer | None]
ELSEWHERE = Address("10.9.9.9", 6379, 16379)


class Asked(list[Address]):
    """Addresses that were asked, and what they answer."""

    answer: Answer | None = Answer()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    record = Asked()

    async def ask(address: Address, *, is_tls: bool) -> Answer | None:
        record.append(address)
        return record.answer

    monkeypatch.setattr(outsiders, "ask", ask)
    return record


def members(
    *numbers: int, unknown: Sequence[int] = (), at: Address | None = None
) -> list[NodeView]:
    gone = [line(n) if at is None else line(n, address=at) for n in unknown]
    return list(acquaint([node(n) for n in numbers], gone=gone).nodes)


def find(
    who: Outsiders, nodes: list[NodeView], *, pods: int = 3, most: int = 6
) -> tuple[list[Outsider], list[Absent]]:
    return asyncio.run(who.find(nodes, [endpoint(n) for n in range(pods)], most=most))


def test_a_member_at_an_address_of_no_pod_is_asked(asked: Asked) -> None:
    """A process that does not say its id may be anybody."""
    nodes = members(0, 1, unknown=[50], at=ELSEWHERE)
    (found,), waiting = find(Outsiders(is_tls=False), nodes)
    assert (found.node_id, found.is_verified, waiting) == (node_id(50), False, [])
    asked.answer = Answer(node_id=node_id(50))
    (found,), _ = find(Outsiders(is_tls=False), nodes)
    assert found.is_verified
    assert asked == [ELSEWHERE, ELSEWHERE]


@pytest.mark.parametrize("answer", [None, Answer(node_id=node_id(51))])
def test_nobody_and_somebody_else_are_no_outsiders(asked: Asked, answer: Answer | None) -> None:
    """Such addresses are not asked again at once."""
    asked.answer = answer
    who = Outsiders(is_tls=False)
    nodes = members(0, 1, unknown=[50], at=ELSEWHERE)
    assert find(who, nodes) == find(who, nodes) == ([], [])
    assert len(asked) == 1


def test_a_pod_that_does_not_answer_is_no_outsider(asked: Asked) -> None:
    """Neither by its address nor, once it was seen, by its id."""
    assert find(Outsiders(is_tls=False), members(0, 1, unknown=[2])) == ([], [])
    who = Outsiders(is_tls=False)
    find(who, members(0, 1, 2))
    assert find(who, members(0, 1, unknown=[2], at=ELSEWHERE)) == ([], [])
    assert asked == []


def test_one_that_loads_is_waited_for(asked: Asked) -> None:
    """A server that loads its data cannot say yet who it is."""
    asked.answer = Answer(is_loading=True)
    found, (waiting,) = find(Outsiders(is_tls=False), members(0, unknown=[50], at=ELSEWHERE))
    assert found == []
    assert str(ELSEWHERE) in waiting.cause


def test_only_so_many_are_asked_in_one_pass(asked: Asked) -> None:
    """The others are waited for, and asked next."""
    asked.answer = None
    who = Outsiders(is_tls=False)
    nodes = members(0, unknown=list(range(50, 60)))
    _, waiting = find(who, nodes, most=6)
    assert len(asked) == 6
    (left,) = waiting
    assert left.named_cause == (
        "redis-app-0 reports 4 members that were not asked yet, at addresses that no pod has"
    )
    _, waiting = find(who, nodes, most=6)
    assert (len(set(asked)), len(waiting)) == (10, 0)


def test_members_that_were_not_asked_are_one_cause_of_who_makes_them_up(asked: Asked) -> None:
    """What a pod with few members knows too is its own, and no lie."""
    asked.answer = None
    one, two, liar = members(0, 1, 2, unknown=[50])
    made_up = {node_id(n): line(n) for n in range(100, 400)}
    liar = replace(liar, known={**liar.known, **made_up})
    _, waiting = find(Outsiders(is_tls=False), [liar, one, two], most=1)
    assert [(each.name, each.cause.split()[2]) for each in waiting] == [("redis-app-2", "300")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that is read, in its only item."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def linked(*numbers: int, to: int, at: Address) -> list[NodeView]:
    """Return members that all have a link to one that is not among them."""
    known = line(to, address=at)
    return [replace(each, known={**each.known, known.node_id: known}) for each in members(*numbers)]


@pytest.mark.parametrize("answer", [None, Answer(is_loading=True)])
@pytest.mark.parametrize("at", [ELSEWHERE, node(1).address])
def test_a_member_with_links_that_never_answers_is_an_outsider(
    asked: Asked, clock: list[float], answer: Answer | None, at: Address
) -> None:
    """Once the others would have flagged a dead one; also at the address of a pod."""
    asked.answer = answer
    who = Outsiders(is_tls=False)
    nodes = linked(0, 1, 2, to=50, at=at)
    assert find(who, nodes)[0] == []
    clock[0] += 15 * 1.5
    assert find(who, nodes)[0] == []
    clock[0] += 6
    (found,), _ = find(who, nodes)
    assert (found.node_id, found.address, found.is_verified) == (node_id(50), at, False)


def test_silence_is_measured_from_when_all_pods_are_there(asked: Asked, clock: list[float]) -> None:
    """Pods that are missing or do not answer, and members without a link, are no outsiders."""
    asked.answer = None
    who = Outsiders(is_tls=False)
    nodes = linked(0, 1, 2, to=50, at=ELSEWHERE)
    find(who, nodes)
    clock[0] += 60
    who.forget_silence()
    assert find(who, nodes)[0] == []
    clock[0] += 60
    assert len(find(who, nodes)[0]) == 1
    for others in (linked(0, 1, to=2, at=node(2).address), members(0, unknown=[50], at=ELSEWHERE)):
        find(who, others)
        clock[0] += 60
        assert find(who, others)[0] == []
