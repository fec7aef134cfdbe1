"""A way to the other members for allocations to which no device can be given: a proxy that they are told of.

It listens where the container reaches this machine: at the gateway of its tenant's network on the engine, or, where that is
no address of ours (engines without root), at the address by which this machine goes out. Each allocation has a user and a
password of its own, made from a key of the node, so that they are the same after a restart and nobody else can use them.

Members are reached by their names and addresses, whatever machine they are on; of everything else only what is public, as
this machine must not be a way around its own walls.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

import trio

from dms.node.memberships import Membership
from dms.observe import get_logger
from dms.storage.egress import Egress, permitted
from dms.subnet.connecting import Reach, Wanted
from dms.subnet.dns import clean_name
from dms.subnet.errors import InvalidName, NotConnected
from dms.subnet.pipes import Pipe, TrioPipe, join
from dms.subnet.socks import Asked, answer, read_request
from dms.types.errors import DMSError
from dms.types.ids import AllocationID, EnsembleID

HEAD_S = 15.0
CONNECT_S = 15.0
MAX_AT_ONCE = 512
"""Connections at one address; more are refused."""
BACKLOG = 128
USER_CHARS, PASSWORD_CHARS = 16, 32
VARIABLES = ("ALL_PROXY", "all_proxy")
HTTP_VARIABLES = ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY")
NEVER_VARIABLES = ("NO_PROXY", "no_proxy")
NEVER = "localhost,127.0.0.1,::1"

log = get_logger(__name__)

Outside = Callable[[str, int], Awaitable[Pipe]]


@dataclass
class _Listener:
    port: int
    users: set[str] = field(default_factory=set)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class Proxies:
    """Of one node.

    :param find: what is known of the network of an ensemble.
    :param reach: connections with members.
    :param start_soon: runs what listens, for the life of the node.
    :param outward: tells the address by which this machine goes out; empty where it does not.
    """

    def __init__(
        self,
        secret: bytes,
        find: Callable[[EnsembleID], Membership | None],
        reach: Reach,
        start_soon: Callable[..., None],
        outside: Outside | None = None,
        outward: Callable[[], str] | None = None,
    ) -> None:
        self._secret, self._find, self._reach, self._start_soon = secret, find, reach, start_soon
        self._outside, self._outward = outside or connect_outside, outward or outward_address
        self._users: dict[str, tuple[EnsembleID, AllocationID]] = {}
        self._listeners: dict[str, _Listener] = {}
        self._lock = trio.Lock()

    async def open(
        self, ensemble: EnsembleID, allocation: AllocationID, address: str, port: int = 0
    ) -> tuple[str, ...]:
        """The environment that tells an allocation of its proxy; again is fine. ``port``: where it was before a restart.

        :raises NotConnected: it cannot listen anywhere.
        """
        user, password = self._credentials(allocation)
        async with self._lock:
            listener = await self._listening(address, port)
            listener[1].users.add(user)
            self._users[user] = ensemble, allocation
        where = f"{user}:{password}@{listener[0]}:{listener[1].port}"
        return (
            *(f"{name}=socks5h://{where}" for name in VARIABLES),
            *(f"{name}=http://{where}" for name in HTTP_VARIABLES),
            *(f"{name}={NEVER}" for name in NEVER_VARIABLES),
        )

    def close(self, allocation: AllocationID) -> None:
        """It runs no more; with the last of an address nobody listens there."""
        user, _ = self._credentials(allocation)
        self._users.pop(user, None)
        for address, listener in list(self._listeners.items()):
            listener.users.discard(user)
            if not listener.users:
                listener.scope.cancel()
                del self._listeners[address]

    def _credentials(self, allocation: AllocationID) -> tuple[str, str]:
        digest = hmac.digest(self._secret, allocation.encode(), hashlib.sha256).hex()
        return digest[:USER_CHARS], digest[-PASSWORD_CHARS:]

    def _check(self, user: str, password: str) -> bool:
        known = self._users.get(user)
        if known is None:
            return False
        return hmac.compare_digest(self._credentials(known[1])[1].encode(), password.encode(errors="replace"))

    async def _listening(self, wanted: str, port: int) -> tuple[str, _Listener]:
        reason = "it has no address to listen at"
        for address in (wanted, await trio.to_thread.run_sync(self._outward)):
            if address in self._listeners:
                return address, self._listeners[address]
            if not address:
                continue
            try:
                listener = _bound(address, port)
            except OSError as error:
                reason = f"it cannot listen at {address}: {error.strerror}"
                continue
            made = self._listeners[address] = _Listener(listener.getsockname()[1])
            self._start_soon(self._serve, listener, made)
            return address, made
        raise NotConnected(f"this machine has no proxy for its allocations: {reason}")

    async def _serve(self, listener: socket.socket, made: _Listener) -> None:
        places = trio.Semaphore(MAX_AT_ONCE)

        async def on_connection(stream: trio.SocketStream) -> None:
            pipe = TrioPipe(stream)
            try:
                places.acquire_nowait()
            except trio.WouldBlock:  # those who wait would take the files of the whole node
                await pipe.reset()
                return
            try:
                await self._talk(pipe)
            except DMSError as error:
                log.debug("proxy_connection_failed", reason=error.message)
            except Exception:  # whatever an allocation sends must not end the node
                log.exception("proxy_connection_crashed")
            finally:
                places.release()
                with trio.CancelScope(shield=True):
                    await pipe.reset()

        with made.scope:
            await trio.serve_listeners(on_connection, [trio.SocketListener(trio.socket.from_stdlib_socket(listener))])

    async def _talk(self, pipe: Pipe) -> None:
        asked = None
        with trio.move_on_after(HEAD_S):
            asked = await read_request(pipe, self._check)
        if asked is None:
            await pipe.close()
            return
        try:
            other = await self._connect(asked)
        except (DMSError, OSError) as error:
            reason = error.message if isinstance(error, DMSError) else str(error)
            await answer(pipe, asked, ok=False, reason=reason)
            await pipe.close()
            return
        try:
            await answer(pipe, asked, ok=True)
            if asked.first:
                await other.write(asked.first)
        except BaseException:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
                await other.reset()
            raise
        await join(pipe, other)

    async def _connect(self, asked: Asked) -> Pipe:
        ensemble = self._users[asked.user][0] if asked.user in self._users else EnsembleID("")
        known = self._find(ensemble)
        if known is None:
            raise NotConnected("this ensemble has no private network here any more")
        address = address_of(known, asked.host)
        if address is None:
            return await self._outside(asked.host, asked.port)
        peer = known.table.get(address)
        if peer is None:
            raise NotConnected(f"{asked.host} is nobody's address")
        return await self._reach(peer, Wanted(ensemble, address, asked.port))


def address_of(known: Membership, host: str) -> str | None:
    """The address of a member by that or by a name; ``None``: it is none of the network's. Pure.

    :raises NotConnected: it could only be one of them, and is not.
    """
    try:
        return host if IPv4Address(host) in IPv4Network(known.cidr) else None
    except ValueError:
        pass
    try:
        name = clean_name(host)
    except InvalidName:
        return None
    found = next((address for one, address in known.records.items() if clean_name(one) == name), None)
    if found is None and (host.rstrip(".").lower().endswith(".internal") or "." not in name):
        raise NotConnected(f"nobody in this ensemble is called {name}")
    return found


async def connect_outside(host: str, port: int) -> Pipe:
    """A connection with what is no member, where everybody may go.

    :raises DMSError: not there.
    :raises OSError: it is not reached.
    """
    addresses = await permitted(Egress(), host, port)
    failure: OSError | None = None
    with trio.move_on_after(CONNECT_S):
        for address in addresses:
            try:
                return TrioPipe(await trio.open_tcp_stream(address, port))
            except OSError as error:
                failure = error
    if failure is not None:
        raise failure
    raise NotConnected(f"{host} does not answer within {CONNECT_S:g} s")


def outward_address() -> str:
    """By which this machine goes out; empty where it does not."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing
            return str(asking.getsockname()[0])
        except OSError:
            return ""


def _bound(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
