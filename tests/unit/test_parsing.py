"""Replies of real servers, recorded in `cases/`, and the corners that they did not show."""

import json
from pathlib import Path
from typing import Any

import pytest

from bootstrap.core import parsing
from bootstrap.core.slots import SlotSet
from bootstrap.core.topology import Address, Flag, NodeId, Place, Role

CASES = Path(__file__).parent / "cases"
SERVERS = ("redis-6.2", "redis-7.0", "redis-8.6", "valkey-9.1")
ONE, TWO, SIX = (NodeId(digit * 40) for digit in "126")


def case(server: str, name: str) -> str:
    return (CASES / f"{server}.{name}.txt").read_text()


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_fresh_server_knows_itself_without_address(server: str) -> None:
    """The hostname is no part of the address."""
    reply = parsing.parse_nodes(case(server, "fresh.nodes"))
    assert [*reply.known] == [reply.node_id]
    mine = reply.known[reply.node_id]
    assert mine.address == Address("", 21000, 31000)
    assert mine.role is Role.PRIMARY
    assert mine.primary_id is None
    assert mine.link_up
    assert not mine.slots
    assert not mine.flags
    assert mine.config_epoch == 0


def test_members_tell_roles_slots_and_open_slots(server: str) -> None:
    """Three views of two primaries and a replica, slot 3 on its way; temporary ids left out."""
    views = [parsing.parse_nodes(case(server, f"member{i}.nodes")) for i in range(3)]
    ids = [view.node_id for view in views]
    for view in views:
        assert view.known.keys() == set(ids)
        assert view.known[ids[0]].slots == SlotSet.parse("0-4")
        assert view.known[ids[1]].slots == SlotSet.parse("5-10")
        assert view.known[ids[2]].role is Role.REPLICA
        assert view.known[ids[2]].primary_id == ids[0]
        assert view.known[ids[1]].config_epoch == 2
    assert views[0].migrating == {3: ids[1]}
    assert views[1].importing == {3: ids[0]}
    assert not views[0].importing
    assert not views[1].migrating
    assert not views[2].migrating


@pytest.mark.parametrize("meeting", SERVERS[1:])
def test_two_lines_with_one_address_stay_two_things(meeting: str) -> None:
    """A handshake to a known node's address is no second node, and takes no node's place."""
    reply = parsing.parse_nodes(case(meeting, "member0.nodes"))
    second = reply.known[parsing.parse_nodes(case(meeting, "member1.nodes")).node_id]
    assert second.address in reply.handshakes
    assert not second.is_handshake
    assert not second.link_up


def test_two_ids_with_one_address_are_both_kept() -> None:
    """A pod that came back empty has the address of the node it was."""
    text = (
        f"{ONE} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-5\n"
        f"{TWO} 10.0.0.2:6379@16379 master,fail - 1 1 2 disconnected 6-9\n"
        f"{SIX} 10.0.0.2:6379@16379 master - 0 0 0 connected\n"
    )
    known = parsing.parse_nodes(text).known
    assert known[TWO].address == known[SIX].address
    assert known[TWO].flags == {Flag.FAIL}
    assert known[TWO].slots


def test_lines_of_members_that_are_not_well() -> None:
    """Lines without an address, and with failed or suspected members, are read."""
    text = (
        f"{ONE} fd00::1:6379@16379,,tls-port=0,shard-id={'9' * 40} myself,master - 0 0 1 connected "
        "0 2-5 7\n"
        f"{TWO} :0@0 master,fail,noaddr - 0 0 2 disconnected\n"
        f"{SIX} 10.0.0.2:6379@16380,a.b.c slave,fail?,nofailover {ONE} 5 0 3 connected\n"
    )
    reply = parsing.parse_nodes(text)
    assert reply.known[ONE].address == Address("fd00::1", 6379, 16379)
    assert reply.known[ONE].slots == SlotSet.parse("0,2-5,7")
    assert reply.known[TWO].address == Address("", 0, 0)
    assert reply.known[TWO].flags == {Flag.FAIL, Flag.NOADDR}
    assert reply.known[SIX].flags == {Flag.PFAIL}
    assert reply.known[SIX].address.cport == 16380


def test_equal_lines_are_one_value() -> None:
    """Ping times apart; the mark of oneself is taken out."""
    cache: parsing.LineCache = {}
    one = parsing.parse_nodes(f"{ONE} 10.0.0.1:1@2 myself,master - 0 0 1 connected 5", cache)
    text = (
        f"{TWO} 10.0.0.2:1@2 myself,master - 0 0 1 connected [5->-{ONE}]\n"
        f"{ONE} 10.0.0.1:1@2 master - 9 9 1 connected 5"
    )
    two = parsing.parse_nodes(text, cache)
    assert one.known[ONE] is two.known[ONE]
    assert two.migrating == {5: ONE}
    assert not two.known[TWO].slots


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        f"{ONE} 10.0.0.1:1@2 master - 0 0 1 connected",  # nobody is myself
        f"{ONE} 10.0.0.1:1@2 myself,handshake - 0 0 1 connected",  # only an introduction
        f"{ONE} 10.0.0.1:x@2 myself,master - 0 0 1 connected",
        f"{ONE} 10.0.0.1:1@2 myself,master - 0 0 one connected",
        f"{ONE} 10.0.0.1:1@2 myself,master - 0 0 1 connected 5-16384",
        f"{ONE} 10.0.0.1:1@2 myself,master - 0 0 1 connected [x->-{TWO}]",
        f"{ONE} 10.0.0.1:1@2 myself,master - 0 0 1 connected [5]",
    ],
)
def test_what_is_not_documented_is_an_error(text: str) -> None:
    """The parser does not guess what an unknown line means."""
    with pytest.raises(parsing.ParseError):
        parsing.parse_nodes(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:6379@16379", Address("10.0.0.1", 6379, 16379)),
        ("10.0.0.1:6379", Address("10.0.0.1", 6379, 0)),
        ("2001:db8::7:6379@16379,host", Address("2001:db8::7", 6379, 16379)),
        (":6379@16379", Address("", 6379, 16379)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    """IPv6 has no brackets here."""
    assert parsing.parse_address(text) == address


def test_cluster_info_and_info_are_fields(server: str) -> None:
    """Comments and bare lines left out."""
    state = parsing.parse_info(case(server, "cluster-info"))
    assert state["cluster_state"] == "fail"
    assert state["cluster_slots_assigned"] == "11"
    info = parsing.parse_info(case(server, "info-server"))
    assert "# Server" not in info
    engine, version = parsing.parse_version(info)
    assert f"{engine}-{version[0]}.{version[1]}" == server
    assert parsing.parse_place(info, {}) == Place()


@pytest.mark.parametrize(
    ("info", "engine", "version"),
    [
        ({"redis_version": "7.4"}, "redis", (7, 4, 0)),
        ({"redis_version": "8.0-rc1"}, "redis", (8, 0, 0)),
    ],
)
def test_versions(info: dict[str, str], engine: str, version: tuple[int, int, int]) -> None:
    """Short versions and those with a suffix are read."""
    assert parsing.parse_version(info) == (engine, version)


def test_keys_of_all_databases_count() -> None:
    """Fields other than the number of keys do not count."""
    info = parsing.parse_info(
        "# Keyspace\r\ndb0:keys=3,expires=0\r\ndb9:keys=4\r\ndbx:keys=1\r\ndb1:\r\n"
    )
    assert parsing.count_keys(info) == 7


@pytest.mark.parametrize(
    ("info", "config", "place"),
    [
        ({}, {"cluster-announce-human-nodename": "zone-a/node-1"}, Place("zone-a", "node-1")),
        ({"availability_zone": "b"}, {"cluster-announce-human-nodename": "name"}, Place("b")),
        ({"availability_zone": "b"}, {"cluster-announce-human-nodename": "a/n"}, Place("a", "n")),
        ({"availability_zone": "b"}, {}, Place("b")),
        ({}, {}, Place()),
    ],
)
def test_places(info: dict[str, str], config: dict[str, str], place: Place) -> None:
    """The nodename where it has a slash, else the zone that Valkey reports."""
    assert parsing.parse_place(info, config) == place


def test_pairs_are_read_from_bytes_and_text() -> None:
    """RESP2 gives the pairs of CONFIG GET as a flat list."""
    assert parsing.parse_pairs([b"a", b"1", "b", "2"]) == {"a": "1", "b": "2"}
    for reply in (None, 3, "text"):
        with pytest.raises(parsing.ParseError):
            parsing.parse_pairs(reply)


def test_commands_that_a_server_knows(server: str) -> None:
    """CLUSTER HELP lists the commands; its explanations begin with a blank."""
    known = parsing.parse_commands(case(server, "cluster-help").splitlines())
    assert {"MEET", "FORGET", "BUMPEPOCH"} <= known
    assert ("ADDSLOTSRANGE" in known) is (server != "redis-6.2")
    assert ("MYSHARDID" in known) is (server in {"redis-8.6", "valkey-9.1"})
    assert ("MIGRATION" in known) is (server == "redis-8.6")
    assert ("MIGRATESLOTS" in known) is (server == "valkey-9.1")


@pytest.mark.parametrize("grouping", SERVERS[1:])
def test_shards_group_ids(grouping: str) -> None:
    """A replica with its primary; handshakes show up as shards of their own."""
    reply = json.loads((CASES / f"{grouping}.shards.json").read_text())
    raw = [
        _flat({**shard, "nodes": [_flat(n) for n in shard["nodes"]]})
        for shard in map(_fields, reply)
    ]
    shards = parsing.parse_shards(raw)
    ids = [parsing.parse_nodes(case(grouping, f"member{i}.nodes")).node_id for i in range(3)]
    grouped = {frozenset(shard & set(ids)) for shard in shards}
    assert frozenset({ids[1]}) in grouped
    assert any(ids[0] in shard for shard in grouped)


def _fields(shard: object) -> dict[str, Any]:
    if isinstance(shard, dict):
        return shard
    assert isinstance(shard, list)
    return dict(zip(shard[::2], shard[1::2], strict=True))


def _flat(fields: object) -> list[Any]:
    return [word for pair in _fields(fields).items() for word in pair]


@pytest.mark.parametrize(
    "address",
    ["garbage", "host.example:6379@16379", "10.0.0.2:70000@1", "fe80::1%eth0:1@2", "1:x@2"],
)
def test_one_address_that_cannot_be_read_is_one_unknown_address(address: str) -> None:
    """The other members and the run are not concerned."""
    reply = parsing.parse_nodes(
        f"{ONE} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected 0-5\n"
        f"{TWO} {address} master - 1 1 2 connected 6-9\n"
    )
    assert reply.known[TWO].address == Address("", 0, 0)
    assert Flag.NOADDR in reply.known[TWO].flags
    assert reply.known[TWO].slots == SlotSet.parse("6-9")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not 10.0.0.1:6379@16379 myself,master - 0 0 1 connected",
        f"{ONE} garbage myself,master - 0 0 1 connected",
        f"{ONE} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected [99999->-{TWO}]",
        f"{ONE} 10.0.0.1:6379@16379 myself,slave not-an-id 0 0 1 connected",
    ],
)
def test_a_reply_that_says_nothing_of_the_node_itself_is_an_error(text: str) -> None:
    """The parser does not guess which node answered."""
    with pytest.raises(parsing.ParseError):
        parsing.parse_nodes(text)


def test_a_reply_with_too_many_members_is_an_error() -> None:
    """The parser accepts exactly as many members as it is allowed to read."""
    line = f"{ONE} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected\n"
    assert parsing.parse_nodes(line * 3, most=3).known.keys() == {ONE}
    with pytest.raises(parsing.ParseError):
        parsing.parse_nodes(line * 4, most=3)


@pytest.mark.parametrize("text", ["", "banana", "7.\u00b2.0", "9" * 5000])
def test_a_version_that_is_none_is_an_error(text: str) -> None:
    """An INFO of something else is never version 0.0.0."""
    with pytest.raises(parsing.ParseError):
        parsing.parse_version({"redis_version": text})


def test_words_of_a_peer_are_printable() -> None:
    """Control characters of both sets, separators and bidirectional marks are escaped."""
    assert parsing.printable("as it is, é too") == "as it is, é too"
    assert parsing.printable("\x1b[2J\x9b\u2028\u202e\n") == r"\x1b[2J\x9b\u2028\u202e\n"
    assert len(parsing.printable("x" * 10_000)) < 400


@pytest.mark.parametrize("text", ["redis-app-0", "fe80::1%eth0", "10.0.0"])
def test_only_a_numeric_address_without_a_zone_is_an_ip(text: str) -> None:
    """A name or a zone means nothing to another machine."""
    with pytest.raises(parsing.ParseError, match="not an IP address"):
        parsing.parse_ip(text)


def test_a_field_that_is_not_a_number_is_an_error_that_names_it() -> None:
    """A field that is missing has its default."""
    assert parsing.number({"keys": "-7"}, "keys") == -7
    assert parsing.number({}, "keys", 3) == 3
    with pytest.raises(parsing.ParseError, match="keys is not a number: 'many'"):
        parsing.number({"keys": "many"}, "keys")


def test_a_reply_that_is_not_a_list_is_an_error() -> None:
    """The error names the type of the reply, not the words of the peer."""
    with pytest.raises(parsing.ParseError, match="not a list: str"):
        parsing.parse_commands("CLUSTER")


def test_functions_are_known_by_a_digest_of_engine_and_code() -> None:
    """Equal libraries have equal digests, whatever their order."""
    one = [b"engine", b"LUA", b"library_code", b"#!lua name=one"]
    two = [b"engine", b"LUA", b"library_code", b"#!lua name=two"]
    assert parsing.parse_functions([one, two]) == parsing.parse_functions([two, one])
    assert len(parsing.parse_functions([one, two])) == 2
    assert parsing.parse_functions([]) == frozenset()


def test_info_fields_keep_what_follows_the_first_colon() -> None:
    """Headings and lines without a colon are no fields."""
    text = "# Server: x\r\nexecutable:/a:b \r\nno field\r\nempty:\r\n"
    assert parsing.parse_info(text) == {"executable": "/a:b", "empty": ""}


def test_ranges_around_open_slots_are_read() -> None:
    """A slot in transit may stand between ranges, and the highest one is 16383."""
    me, other = "1" * 40, "2" * 40
    head = f"{me} 10.0.0.1:6379@16379 myself,master - 0 0 1 connected"
    reply = parsing.parse_nodes(f"{head} 0-5 [5->-{other}] 9-10 [16383-<-{other}]")
    assert reply.known[NodeId(me)].slots == SlotSet.parse("0-5,9-10")
    assert (reply.migrating, reply.importing) == ({5: other}, {16383: other})
    with pytest.raises(parsing.ParseError):
        parsing.parse_nodes(f"{head} 0-5 [16384->-{other}]")


def test_values_with_further_separators_are_read() -> None:
    """Only the first slash parts zone and node, and the first equals sign parts name and value."""
    place = {"cluster-announce-human-nodename": "zone/node/1"}
    assert parsing.parse_place({}, place) == Place(zone="zone", node="node/1")
    assert parsing.parse_place({"availability_zone": "a"}, {}) == Place(zone="a")
    assert parsing.parse_place({}, {}) == Place()
    assert parsing.count_keys({"db0": "keys=5,x=y=z", "db1": "keys=2"}) == 7
    with pytest.raises(parsing.ParseError, match="keys is not a number: '1=2'"):
        parsing.count_keys({"db0": "keys=1=2"})
    with pytest.raises(parsing.ParseError, match="''"):
        parsing.parse_version({})


def test_replies_with_an_odd_number_of_words_lose_the_last() -> None:
    """A name without a value is no field."""
    ids = "1" * 40
    assert parsing.parse_pairs(["a", "1", "b"]) == {"a": "1"}
    shard = ["slots", [], "nodes", [["id", ids]], "odd"]
    assert parsing.parse_shards([shard]) == {frozenset({NodeId(ids)})}
    with pytest.raises(parsing.ParseError, match="''"):
        parsing.parse_shards([["nodes", [["ip", "10.0.0.1"]]]])


def test_the_longest_quote_is_not_cut() -> None:
    """One character more is cut, with a mark."""
    longest = parsing.printable("x" * 1000).index("…")
    assert parsing.printable("x" * longest) == "x" * longest
    assert parsing.printable("x" * (longest + 1)) == "x" * longest + "…"


def test_the_highest_port_is_65535() -> None:
    """The next number is no port, so the address is unknown."""
    assert parsing.parse_address("10.0.0.1:65535@65535").port == 65535
    with pytest.raises(parsing.ParseError):
        parsing.parse_address("10.0.0.1:65536@1")


def test_an_empty_line_of_help_is_no_command() -> None:
    """Lines that explain a command are left out as well."""
    assert parsing.parse_commands([b"", b"MEET <ip>", b"    Connect."]) == {"MEET"}


def test_bytes_that_are_no_utf_8_are_replaced() -> None:
    """Words of a peer may be anything, and text is taken as it is."""
    assert parsing.parse_pairs([b"a\xff", "b"]) == {"a\ufffd": "b"}
    assert parsing.parse_pairs([b"\xc3\xa9", 7]) == {"é": "7"}


def test_equal_code_for_two_engines_has_two_digests() -> None:
    """A digest covers the engine and the code."""
    one = [[b"engine", engine, b"library_code", b"code"] for engine in (b"LUA", b"JS")]
    assert len(parsing.parse_functions(one)) == 2


@pytest.mark.parametrize("end", ["\n", "\r", "\x1c", "\x85", "\u2028"])
def test_lines_are_bounded_whatever_ends_them(end: str) -> None:
    """Python ends a line at more characters than the one that is counted."""
    own = f"{'1' * 40} 10.0.0.1:6379@16379 myself,master - 0 0 0 connected"
    others = (f"{n:040x} 10.0.0.1:6379@16379 master - 0 0 0 connected" for n in range(9))
    try:
        known = parsing.parse_nodes(end.join([own, *others]), most=5).known
    except parsing.ParseError:
        return
    assert len(known) == 1
