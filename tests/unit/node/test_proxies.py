"""The way to the others for allocations without a device: who may use it, and what it leads to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from dms.identity.ids import ActorID
from dms.node.memberships import Membership
from dms.node.proxies import Proxies, address_of, connect_outside
from dms.storage.errors import AddressRefused
from dms.subnet.connecting import Wanted
from dms.subnet.errors import NotConnected
from dms.subnet.pipes import Pipe, TrioPipe
from dms.types.ids import AllocationID, EnsembleID, PeerID

ENSEMBLE = EnsembleID("e1")
WEB, DB = AllocationID("e1_n.web"), AllocationID("e1_n.db")
KNOWN = Membership(
    ensemble=ENSEMBLE,
    orchestrator=ActorID(pub="x"),
    cidr="10.1.2.0/24",
    table={"10.1.2.2": PeerID("bob"), "10.1.2.3": PeerID("carol")},
    records={"web.internal": "10.1.2.2", "db.internal": "10.1.2.3", "a.b.internal": "10.1.2.3"},
    members={WEB: "10.1.2.2"},
)


class Others:
    """Says whom it was asked for, and ends."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery

    def say(self, text: str) -> Pipe:
        ours, theirs = memory_stream_pair()

        async def play() -> None:
            async with theirs:
                await theirs.send_all(text.encode())

        self.nursery.start_soon(play)
        return TrioPipe(ours)

    async def reach(self, peer: PeerID, wanted: Wanted) -> Pipe:
        if wanted.port == 1:
            raise NotConnected("port 1 is not reached: Connection refused")
        return self.say(f"{peer} {wanted.subnet} {wanted.to} {wanted.port}")

    async def outside(self, host: str, port: int) -> Pipe:
        if host == "unforeseen.example":
            raise ZeroDivisionError
        return self.say(f"outside {host} {port}")


@asynccontextmanager
async def proxies(secret: bytes = b"secret", outward: str = "") -> AsyncIterator[Proxies]:
    async with trio.open_nursery() as nursery:
        others = Others(nursery)
        yield Proxies(
            secret,
            {ENSEMBLE: KNOWN}.get,
            others.reach,
            lambda *call: nursery.start_soon(*call),
            others.outside,
            lambda: outward,
        )
        nursery.cancel_scope.cancel()


def told(variables: tuple[str, ...]) -> dict[str, str]:
    return dict(item.split("=", 1) for item in variables)


async def ask(proxy: str, host: str, port: int, password: str = "") -> bytes:
    """By SOCKS, with the name as it is; the whole of what comes."""
    parts = urlsplit(proxy)
    async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 0) as stream:
        user, word = (parts.username or "").encode(), (password or parts.password or "").encode()
        login = bytes([1, len(user)]) + user + bytes([len(word)]) + word
        name = host.encode()
        where = b"\x05\x01\x00\x03" + bytes([len(name)]) + name + port.to_bytes(2, "big")
        await stream.send_all(b"\x05\x01\x02" + login + where)
        return b"".join([bytes(data) async for data in stream])


FINE = b"\x05\x02\x01\x00\x05\x00\x00\x01" + bytes(6)
REFUSED = b"\x05\x02\x01\x00\x05\x04\x00\x01" + bytes(6)


async def test_members_are_reached_by_name_and_address_and_others_directly() -> None:
    async with proxies() as made:
        variables = told(await made.open(ENSEMBLE, WEB, "127.0.0.1"))
        proxy = variables["ALL_PROXY"]
        assert variables.keys() >= {"all_proxy", "http_proxy", "HTTPS_PROXY", "NO_PROXY"}
        assert proxy.startswith("socks5h://")
        assert await ask(proxy, "db", 5432) == FINE + b"carol e1 10.1.2.3 5432"
        assert await ask(proxy, "A.B.internal.", 80) == FINE + b"carol e1 10.1.2.3 80"
        assert await ask(proxy, "10.1.2.2", 80) == FINE + b"bob e1 10.1.2.2 80"
        assert await ask(proxy, "example.com", 443) == FINE + b"outside example.com 443"
        for host, port in (("nobody", 80), ("no.body.internal", 80), ("10.1.2.9", 80), ("db", 1)):
            assert await ask(proxy, host, port) == REFUSED


async def test_a_password_is_of_one_allocation_and_the_same_after_a_restart() -> None:
    async with proxies() as made:
        web, db = [told(await made.open(ENSEMBLE, one, "127.0.0.1"))["ALL_PROXY"] for one in (WEB, DB)]
        assert urlsplit(web).port == urlsplit(db).port
        assert urlsplit(web).password != urlsplit(db).password
        wrong = await ask(web, "db", 80, urlsplit(db).password or "")
        assert wrong == b"\x05\x02\x01\x01"
        made.close(DB)
        assert await ask(db, "db", 80) == b"\x05\x02\x01\x01"
        made.close(WEB)
    async with proxies() as again:
        port = urlsplit(web).port or 0
        assert told(await again.open(ENSEMBLE, WEB, "127.0.0.1", port))["ALL_PROXY"] == web
        assert (await ask(web, "db", 80)).startswith(FINE)
    async with proxies(b"another") as other:
        assert (
            urlsplit(told(await other.open(ENSEMBLE, WEB, "127.0.0.1"))["ALL_PROXY"]).username != urlsplit(web).username
        )


async def test_what_nobody_foresaw_ends_one_connection_and_not_the_node() -> None:
    async with proxies() as made:
        proxy = told(await made.open(ENSEMBLE, WEB, "127.0.0.1"))["ALL_PROXY"]
        assert await ask(proxy, "db", 5432, password="pässword") == b"\x05\x02\x01\x01"
        with pytest.raises(trio.BrokenResourceError):
            await ask(proxy, "unforeseen.example", 80)
        assert await ask(proxy, "db", 5432) == FINE + b"carol e1 10.1.2.3 5432"


async def test_more_connections_than_there_are_places_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dms.node.proxies.MAX_AT_ONCE", 1)
    async with proxies() as made:
        proxy = told(await made.open(ENSEMBLE, WEB, "127.0.0.1"))["ALL_PROXY"]
        async with await trio.open_tcp_stream("127.0.0.1", urlsplit(proxy).port or 0) as silent:
            await silent.send_all(b"\x05")
            with pytest.raises(trio.BrokenResourceError):
                await ask(proxy, "db", 5432)


async def test_where_the_gateway_is_no_address_of_this_machine_it_listens_where_the_machine_goes_out() -> None:
    """As with engines without root, whose networks are in a namespace of their own; or where the engine tells of none."""
    for gateway in ("192.0.2.77", ""):
        async with proxies(outward="127.0.0.2") as made:
            proxy = told(await made.open(ENSEMBLE, WEB, gateway))["ALL_PROXY"]
            assert urlsplit(proxy).hostname == "127.0.0.2"
            assert await ask(proxy, "db", 80) == FINE + b"carol e1 10.1.2.3 80"
            again = told(await made.open(ENSEMBLE, DB, gateway))["ALL_PROXY"]
            assert urlsplit(again).port == urlsplit(proxy).port, "one for all"
            made.close(WEB)
            assert (await ask(again, "db", 80)).startswith(FINE)
        async with proxies(outward="127.0.0.2") as later:
            port = urlsplit(proxy).port or 0
            assert told(await later.open(ENSEMBLE, WEB, gateway, port))["ALL_PROXY"] == proxy, "after a restart"
        async with proxies() as nowhere:
            with pytest.raises(NotConnected, match="this machine has no proxy for its allocations"):
                await nowhere.open(ENSEMBLE, WEB, gateway)


async def test_with_the_last_allocation_nobody_listens() -> None:
    async with proxies() as made:
        proxy = urlsplit(told(await made.open(ENSEMBLE, WEB, "127.0.0.1"))["http_proxy"])
        made.close(WEB)
        await wait_all_tasks_blocked()
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream(proxy.hostname or "", proxy.port or 0)


async def test_what_is_not_public_is_not_reached_from_here() -> None:
    for host in ("127.0.0.1", "169.254.169.254", "192.168.1.1", "::1", "[::ffff:127.0.0.1]"):
        with pytest.raises(AddressRefused):
            await connect_outside(host, 80)


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("web", "10.1.2.2"),
        ("WEB.Internal.", "10.1.2.2"),
        ("a.b", "10.1.2.3"),
        ("10.1.2.200", "10.1.2.200"),
        ("10.1.3.1", None),
        ("example.com", None),
        ("::1", None),
    ],
)
def test_names_mean_members_first(host: str, address: str | None) -> None:
    assert address_of(KNOWN, host) == address
