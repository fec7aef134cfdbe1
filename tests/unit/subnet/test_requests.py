from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.subnet.requests import (
    CreateRequest,
    JoinRequest,
    PeersRequest,
    PortRequest,
    RecordsRequest,
    RemoveRecordsRequest,
    SubnetReply,
    SubnetRequests,
)
from dms.subnet.subnets import Subnets
from dms.testing.network import VirtualNetwork
from dms.testing.subnet import MemoryKernel
from dms.types import gojson
from dms.types.gojson import Wire
from dms.types.ids import PeerID

OTHER = PeerID("other")


class Bench:
    def __init__(self, subnets: Subnets, own: PeerID) -> None:
        self.subnets, self.own = subnets, own
        self.requests = SubnetRequests(subnets)

    async def ask(self, name: str, **members: object) -> SubnetReply:
        data = json.dumps({"SubnetID": "id"} | members).encode()
        return await self.requests.handle(f"subnet/{name}", data)

    async def done(self, name: str, **members: object) -> SubnetReply:
        reply = await self.ask(name, **members)
        assert reply.ok, reply.error
        return reply


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    network = VirtualNetwork(seed=1).node(1)
    subnets = Subnets(network, MemoryKernel(), rng=Random(1), first_port=20000, last_port=20010)
    async with network.run(), subnets.run():
        yield Bench(subnets, network.peer_id)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (
            CreateRequest(subnet_id="id", cidr="10.1.2.0/24", routing_table={"10.1.2.2": OTHER}),
            '{"SubnetID":"id","CIDR":"10.1.2.0/24","RoutingTable":{"10.1.2.2":"other"}}',
        ),
        (CreateRequest(subnet_id="id", routing_table=None), '{"SubnetID":"id","RoutingTable":null}'),
        (
            JoinRequest(subnet_id="id", peer_id=OTHER, ip="10.1.2.2", records={"a": "10.1.2.2"}),
            '{"SubnetID":"id","PeerID":"other","IP":"10.1.2.2","Records":{"a":"10.1.2.2"}}',
        ),
        (
            PeersRequest(subnet_id="id", table={"10.1.2.2": OTHER}),
            '{"SubnetID":"id","PartialRoutingTable":{"10.1.2.2":"other"}}',
        ),
        (
            PortRequest(
                subnet_id="id",
                protocol="TCP",
                source_ip="0.0.0.0",
                source_port="18080",
                dest_ip="10.1.2.2",
                dest_port="80",
            ),
            '{"SubnetID":"id","Protocol":"TCP","SourceIP":"0.0.0.0","SourcePort":"18080","DestIP":"10.1.2.2","DestPort":"80"}',
        ),
        (RecordsRequest(subnet_id="id", records={"<a>": "b"}), r'{"SubnetID":"id","Records":{"\u003ca\u003e":"b"}}'),
        (RemoveRecordsRequest(subnet_id="id", domain_names=("a",)), '{"SubnetID":"id","DomainNames":["a"]}'),
        (SubnetReply(ok=True, error=""), '{"OK":true,"Error":""}'),
        (SubnetReply(ok=False, error="no", port=7, code="x"), '{"OK":false,"Error":"no","Port":7,"Code":"x"}'),
    ],
)
def test_each_structure_has_these_bytes_and_reads_back(request_: Wire, text: str) -> None:
    assert gojson.encode(request_).decode() == text
    assert gojson.decode(text.encode(), type(request_)) == request_
    assert gojson.decode(text.replace("SubnetID", "subnetid").encode(), type(request_)) == request_


async def test_a_network_is_made_used_and_ended_by_requests() -> None:
    async with bench() as b:
        table = {"10.1.2.2": b.own, "10.1.2.3": OTHER}
        await b.done("create", CIDR="10.1.2.0/24", RoutingTable=table)
        await b.done("add-peer", PeerID=b.own, IP="10.1.2.4")
        await b.done("accept-peer", PeerID=OTHER, IP="10.1.2.5")
        await b.done("accept-peers", PartialRoutingTable={"10.1.2.6": OTHER, "10.1.2.7": OTHER})
        await b.done("remove-peer", PeerID=OTHER, IP="10.1.2.5")
        await b.done("remove-peers", PartialRoutingTable={"10.1.2.6": OTHER})
        await b.done("dns/add-records", Records={"web.internal": "10.1.2.2", "db.internal": "10.1.2.3"})
        await b.done("dns/add-record", DomainName="old", IP="10.1.2.7")
        await b.done("join", PeerID=b.own, IP="10.1.2.8", Records={"orchestrator": "10.1.2.8"})
        port = {"Protocol": "TCP", "SourceIP": "0.0.0.0", "DestIP": "10.1.2.2", "DestPort": "80"}
        mapped = await b.done("map-port", SourcePort="18080", **port)
        assert mapped.port == 18080
        chosen = await b.done("map-port", SourcePort="0", **port)
        assert 20000 <= chosen.port <= 20010

        status = b.subnets.get("id").status()
        members = {member.peer: (member.addresses, member.names) for member in status.members}
        assert members == {
            b.own: (("10.1.2.2", "10.1.2.4", "10.1.2.8"), ("web", "orchestrator")),
            OTHER: (("10.1.2.3", "10.1.2.7"), ("db", "old")),
        }
        assert status.attached == ("10.1.2.8",)
        assert [one.public for one in status.ports] == [18080, chosen.port]

        await b.done("unmap-port", SourcePort="18080", **port)
        await b.done("dns/remove-records", DomainNames=["web"])
        await b.done("dns/remove-record", DomainName="db.internal")
        assert b.subnets.get("id").lookup("web") is b.subnets.get("id").lookup("db") is None
        await b.done("destroy")
        assert b.subnets.ids() == ()


async def test_what_cannot_be_done_is_in_the_reply() -> None:
    async with bench() as b:
        for name in b.requests.names:
            members = {"PeerID": b.own, "IP": "10.1.2.2", "CIDR": "wrong", "RoutingTable": {}, "DomainName": "a"}
            reply = await b.ask(
                name.removeprefix("subnet/"),
                Protocol="",
                SourceIP="",
                SourcePort="1",
                DestIP="10.1.2.2",
                DestPort="1",
                **members,
            )
            wanted = "invalid network wrong" if name == "subnet/create" else "subnet with ID id does not exist"
            assert (reply.ok, reply.error) == (False, wanted), name
            assert reply.code
        reply = await b.requests.handle("subnet/create", b"{")
        assert not reply.ok
        assert reply.code == "bad_json"
        with pytest.raises(KeyError):
            await b.requests.handle("subnet/nonsense", b"{}")


@given(st.dictionaries(st.text(), st.text()), st.text())
def test_requests_of_any_content_read_back(records: dict[str, str], subnet_id: str) -> None:
    request = RecordsRequest(subnet_id=subnet_id, records=records)
    assert gojson.decode(gojson.encode(request), RecordsRequest) == request
