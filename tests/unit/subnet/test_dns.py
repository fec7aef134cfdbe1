from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.addresses import private_prefix, to_ipv6
from dms.subnet.dns import MAX_ANSWER_BYTES, TTL_S, Outcome, Zone, clean_name
from dms.subnet.errors import InvalidIP, InvalidName

NETWORK, PREFIX = IPv4Network("10.1.2.0/24"), private_prefix("id")


def zone(*, forwards: bool = False) -> Zone:
    made = Zone(NETWORK, PREFIX, forwards=forwards)
    made.add({"web.internal": "10.1.2.3", "DB": "10.1.2.4", "a.b": "10.1.2.5", "orchestrator": "10.1.2.6"})
    made.set_ports({"web": [("tcp", 80), ("TCP", 8080), ("udp", 53)]})
    return made


def ask(made: Zone, name: str, kind: str = "A", **options: object) -> tuple[Outcome, dns.message.Message]:
    reply = made.answer(dns.message.make_query(name, kind, **options).to_wire())  # type: ignore[arg-type]
    return reply.outcome, dns.message.from_wire(reply.data)


def texts(message: dns.message.Message) -> list[str]:
    return sorted(item.to_text() for rrset in message.answer for item in rrset)


@pytest.mark.parametrize("name", ["web", "web.", "web.internal", "WEB.Internal.", "wEb."])
def test_a_name_is_found_however_it_is_written(name: str) -> None:
    outcome, message = ask(zone(), name)
    assert outcome is Outcome.ANSWERED
    assert texts(message) == ["10.1.2.3"]
    assert message.flags & dns.flags.AA
    assert message.answer[0].ttl == TTL_S
    assert message.answer[0].name.to_text() == name.removesuffix(".") + ".", "the case of the question is kept"


def test_each_type_of_record() -> None:
    six = to_ipv6(PREFIX, IPv4Address("10.1.2.3"))
    assert texts(ask(zone(), "a.b.internal")[1]) == ["10.1.2.5"]
    assert texts(ask(zone(), "web", "AAAA")[1]) == [str(six)]
    assert texts(ask(zone(), "web", "ANY")[1]) == ["10.1.2.3", str(six)]
    assert texts(ask(zone(), "_80._tcp.web.internal", "SRV")[1]) == ["0 0 80 web.internal."]
    assert texts(ask(zone(), "_tcp.web", "SRV")[1]) == ["0 0 80 web.internal.", "0 0 8080 web.internal."]
    assert texts(ask(zone(), "_udp.web", "SRV")[1]) == ["0 0 53 web.internal."]
    assert texts(ask(zone(), "3.2.1.10.in-addr.arpa", "PTR")[1]) == ["web.internal."]
    assert texts(ask(zone(), six.reverse_pointer, "PTR")[1]) == ["web.internal."]


@pytest.mark.parametrize("kind", ["MX", "TXT", "SRV", "PTR", "HTTPS"])
def test_a_name_without_a_record_of_the_type_is_there_but_empty(kind: str) -> None:
    outcome, message = ask(zone(), "web.internal", kind)
    assert outcome is Outcome.ANSWERED
    assert message.rcode() == dns.rcode.NOERROR
    assert texts(message) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("nobody", "A"),
        ("nobody.internal", "AAAA"),
        ("x.web.internal", "A"),
        ("_81._tcp.web", "SRV"),
        ("_tcp.db.internal", "SRV"),
        ("9.2.1.10.in-addr.arpa", "PTR"),
    ],
)
@pytest.mark.parametrize("forwards", [False, True])
def test_a_name_that_could_only_be_here_and_is_not_does_not_exist(name: str, kind: str, forwards: bool) -> None:
    if name == "_81._tcp.web":
        name += ".internal"
    outcome, message = ask(zone(forwards=forwards), name, kind)
    assert outcome is Outcome.UNKNOWN
    assert message.rcode() == dns.rcode.NXDOMAIN


@pytest.mark.parametrize("name", ["example.com", "1.1.168.192.in-addr.arpa", "internal.example.org"])
def test_a_name_outside_is_forwarded_or_left_to_the_next_server(name: str) -> None:
    outcome, message = ask(zone(), name)
    assert outcome is Outcome.REFUSED
    assert message.rcode() == dns.rcode.REFUSED
    query = dns.message.make_query(name, "A").to_wire()
    assert zone(forwards=True).answer(query) == zone(forwards=True).answer(query)
    assert zone(forwards=True).answer(query).outcome is Outcome.FORWARD


def test_records_come_and_go() -> None:
    made = zone()
    made.add({"web": "10.1.2.9"})
    assert texts(ask(made, "web")[1]) == ["10.1.2.9"]
    assert ask(made, "3.2.1.10.in-addr.arpa", "PTR")[0] is Outcome.UNKNOWN
    made.add({"www": "10.1.2.9"})
    assert texts(ask(made, "9.2.1.10.in-addr.arpa", "PTR")[1]) == ["web.internal.", "www.internal."]
    made.remove(["WEB.internal.", "never-there"])
    assert ask(made, "web")[0] is Outcome.UNKNOWN
    assert ask(made, "_tcp.web.internal", "SRV")[0] is Outcome.UNKNOWN
    assert texts(ask(made, "9.2.1.10.in-addr.arpa", "PTR")[1]) == ["www.internal."]
    assert made.lookup("Www.") == IPv4Address("10.1.2.9")
    assert made.lookup("web") is made.lookup("") is None
    assert made.records() == {"db": "10.1.2.4", "a.b": "10.1.2.5", "orchestrator": "10.1.2.6", "www": "10.1.2.9"}


@pytest.mark.parametrize("wrong", ["", ".", "a..b", "-a", "a b", "ü", "x" * 64, ".".join(["x" * 60] * 5), "a\0"])
def test_a_name_that_dns_cannot_carry_is_refused_and_nothing_is_added(wrong: str) -> None:
    made = Zone(NETWORK, PREFIX)
    with pytest.raises(InvalidName):
        made.add({"fine": "10.1.2.3", wrong: "10.1.2.4"})
    with pytest.raises(InvalidIP, match="invalid IP address"):
        made.add({"fine": "10.1.2.3", "other": "nowhere"})
    assert made.records() == {}


def many(count: int) -> Zone:
    made = Zone(NETWORK, PREFIX)
    made.add({f"name-{number}": "10.1.2.3" for number in range(count)})
    return made


def test_an_answer_has_no_more_bytes_than_the_asker_takes() -> None:
    pointer = "3.2.1.10.in-addr.arpa"
    outcome, message = ask(many(30), pointer, "PTR", use_edns=False)
    assert outcome is Outcome.ANSWERED
    assert message.flags & dns.flags.TC
    assert len(texts(message)) == 0
    outcome, message = ask(many(30), pointer, "PTR", payload=4096)
    assert not message.flags & dns.flags.TC
    assert len(texts(message)) == 30
    reply = many(500).answer(dns.message.make_query(pointer, "PTR", payload=65535).to_wire())
    assert len(reply.data) <= MAX_ANSWER_BYTES
    assert dns.message.from_wire(reply.data).flags & dns.flags.TC


def test_what_is_not_a_query_is_not_answered() -> None:
    query = dns.message.make_query("web", "A")
    response = dns.message.make_response(query).to_wire()
    for wrong in (b"", b"x", response, query.to_wire() + b"\0", query.to_wire()[:-3], b"\0" * 5000):
        reply = zone().answer(wrong)
        assert (reply.outcome, reply.data) == (Outcome.MALFORMED, b"")


def test_other_operations_and_odd_questions_are_declined() -> None:
    update = dns.message.make_query("web", "A")
    update.set_opcode(dns.opcode.STATUS)
    assert dns.message.from_wire(zone().answer(update.to_wire()).data).rcode() == dns.rcode.NOTIMP
    empty = dns.message.make_query("web", "A")
    empty.question.clear()
    assert dns.message.from_wire(zone().answer(empty.to_wire()).data).rcode() == dns.rcode.FORMERR
    chaos = dns.message.make_query("version.bind.", "TXT", rdclass="CH")
    assert dns.message.from_wire(zone().answer(chaos.to_wire()).data).rcode() == dns.rcode.REFUSED


@given(st.binary(max_size=200))
def test_any_bytes_are_answered_or_dropped(data: bytes) -> None:
    zone().answer(data)


@given(
    st.sampled_from(["web.internal", "_80._tcp.web", "3.2.1.10.in-addr.arpa", "example.com"]),
    st.sampled_from(list(dns.rdatatype.RdataType)),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_a_query_with_some_bytes_changed_is_answered_with_its_own_id_or_dropped(
    name: str, kind: dns.rdatatype.RdataType, changes: list[tuple[int, int]]
) -> None:
    query = bytearray(dns.message.make_query(name, kind).to_wire())
    for at, value in changes:
        query[at % len(query)] = value
    reply = zone().answer(bytes(query))
    if reply.data:
        assert reply.data[:2] == query[:2]
        assert reply.data[2] & 0x80
        assert len(reply.data) <= MAX_ANSWER_BYTES


@given(st.from_regex(r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?(\.[a-z0-9]{1,9}){0,3}", fullmatch=True))
def test_cleaning_a_clean_name_changes_nothing(name: str) -> None:
    once = clean_name(name)
    assert once == clean_name(once + ".internal.") == clean_name(name.swapcase() + ".")
