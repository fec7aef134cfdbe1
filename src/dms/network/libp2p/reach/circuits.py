"""Connections through relays, as either of their ends: dialling ``…/p2p/<relay>/p2p-circuit/p2p/<peer>``, and accepting what
a relay forwards (circuit relay 2, CONNECT and STOP).

What a relay forwards is only bytes: Noise and yamux run over it from end to end, so the relay reads nothing and cannot
pretend to be somebody.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import trio
from libp2p.abc import INetStream, IRawConnection, ITransport
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import THandler, TProtocol
from libp2p.exceptions import BaseLibp2pError
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.network.stream.exceptions import StreamEOF
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from dms.network.addresses import parse_peer_id, split_circuit
from dms.network.errors import BadFrame, InvalidAddress, MessageTooLarge
from dms.network.libp2p.connections.muxer import KeepaliveYamux
from dms.network.libp2p.core import GuardedHost
from dms.network.libp2p.messages.streams import receiver
from dms.network.libp2p.reach.connections import is_relayed, remote_address
from dms.network.libp2p.reach.messages import (
    HOP,
    STOP,
    HopMessage,
    HopType,
    Limit,
    Status,
    StopMessage,
    StopType,
)
from dms.network.libp2p.reach.protobuf import read_message, write_message
from dms.network.libp2p.streams.opening import reset_shielded

log = logging.getLogger(__name__)

ANSWER_S = 10.0
GOODBYE_S = 5.0
"""How long the last bytes of a connection may take before its stream is reset."""
MAX_INBOUND = 128
"""Relayed connections that others opened to us, handshakes included."""

OnRelayed = Callable[[ID], None]


class RelayedStream(ReadWriteCloser):
    """A stream to a relay that carries a connection to somebody else; counts what passes against the relay's limit."""

    def __init__(self, stream: INetStream, limit: Limit, counters: Counter[str]) -> None:
        self._stream = stream
        self._counters = counters
        self.limit_bytes = limit.data_bytes or None
        self._left_out_bytes = self._left_in_bytes = limit.data_bytes or None
        self.is_closed = False

    @property
    def left_bytes(self) -> int | None:
        """What the relay still lets us send; nothing where it sets no limit."""
        return self._left_out_bytes

    async def read(self, n: int | None = None) -> bytes:
        """Up to ``n`` bytes; empty at the end.

        :raises ConnectionClosedError: the relay, or the peer behind it, ended the connection.
        """
        try:
            piece = await self._stream.read(n)
        except StreamEOF:
            return b""
        except BaseLibp2pError as error:
            raise ConnectionClosedError(self._why(self._left_in_bytes, error), transport="relay") from error
        if self._left_in_bytes is not None:
            self._left_in_bytes -= len(piece)
        return piece

    async def write(self, data: bytes) -> None:
        """Send.

        :raises ConnectionClosedError: it ended, or the relay's limit does not let this pass.
        """
        if self._left_out_bytes is not None and len(data) > self._left_out_bytes:
            self._counters["relayed connections used up"] += 1
            raise ConnectionClosedError("the relay lets no more bytes pass on this connection", transport="relay")
        try:
            await self._stream.write(data)
        except BaseLibp2pError as error:
            raise ConnectionClosedError(self._why(self._left_out_bytes, error), transport="relay") from error
        if self._left_out_bytes is not None:
            self._left_out_bytes -= len(data)

    async def close(self) -> None:
        """End it: what was sent may still arrive, what comes is thrown away."""
        if self.is_closed:
            return
        self.is_closed = True
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 1.0):
            try:
                await self._stream.close()
            except (BaseLibp2pError, OSError) as error:
                log.debug("closing a relayed connection: %r", error)
        await reset_shielded(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        """None: the address on the wire is the relay's."""
        return None

    @staticmethod
    def _why(left_bytes: int | None, error: Exception) -> str:
        if left_bytes is not None and left_bytes < 64 * 1024:
            return "the relay ended the connection: its limit of bytes is reached"
        return f"the relayed connection ended: {error!r}"


class Circuits(ITransport):
    """Both ends of relayed connections; a transport of the swarm for addresses with ``/p2p-circuit``."""

    def __init__(self, host: GuardedHost, counters: Counter[str]) -> None:
        self._host = host
        self._counters = counters
        self._inbound = 0
        self._streams: dict[ID, RelayedStream] = {}
        self.on_accepted: OnRelayed = lambda _: None
        self.is_reserved: Callable[[ID], bool] = lambda _: False

    def open(self) -> None:
        """Dial and accept from now on."""
        self._host.swarm.transport_manager.add_transport(self)
        self._host.set_stream_handler(TProtocol(STOP), self.accept)

    def stream_to(self, peer: ID) -> RelayedStream | None:
        """What carries the relayed connection to a peer, where its relay set a limit."""
        stream = self._streams.get(peer)
        return None if stream is None or stream.is_closed else stream

    # dialling, as the swarm wants it ---------------------------------------------------------------------------------

    def listen_order(self) -> int:
        """Before TCP, which would take the relay's part of the address for all of it."""
        return -1

    def protocols(self) -> list[str]:
        """The protocols in an address that are ours."""
        return ["p2p-circuit"]

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Whether the address goes through a relay."""
        return "p2p-circuit" in {protocol.name for protocol in maddr.protocols()}

    def can_listen(self, _maddr: Multiaddr) -> bool:
        """Never: reservations are made elsewhere."""
        return False

    def create_listener(self, _handler_function: THandler) -> object:  # type: ignore[override]
        """Not a thing of this transport."""
        raise OpenConnectionError("nothing listens on a relayed address")

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Bytes to the peer at the end of the address; encryption is the caller's part.

        :raises OpenConnectionError: the relay cannot be reached, or refuses.
        """
        try:
            relay_address, relay, target = split_circuit(str(maddr))
        except InvalidAddress as error:
            raise OpenConnectionError(str(error)) from error
        if target is None:
            raise OpenConnectionError(f"the address names no peer behind the relay: {maddr}")
        relay_id, target_id = ID.from_base58(relay), ID.from_base58(parse_peer_id(target))
        if relay_id == self._host.get_id() or target_id == relay_id:
            raise OpenConnectionError("not a relay for this peer")
        stream: INetStream | None = None
        try:
            with trio.fail_after(ANSWER_S):
                if not self._host.swarm.get_connections(relay_id):
                    await self._host.swarm.dial_at(relay_id, [relay_address])
                stream = await self._host.new_stream(relay_id, [TProtocol(HOP)])
                if is_relayed(stream):
                    raise OpenConnectionError(f"the relay {relay} itself is connected through a relay only")
                await write_message(stream, HopMessage(HopType.CONNECT, peer=target_id.to_bytes()).encode())
                answer = HopMessage.decode(await read_message(receiver(stream)))
            if answer.type != HopType.STATUS or answer.status != Status.OK:
                raise OpenConnectionError(f"the relay {relay} refuses: {status_text(answer.status)}")
        except (BaseLibp2pError, BadFrame, MessageTooLarge, OSError, trio.TooSlowError) as error:
            if stream is not None:
                await reset_shielded(stream)
            if isinstance(error, OpenConnectionError):
                raise
            raise OpenConnectionError(
                f"no way through the relay {relay}: {str(error) or type(error).__name__}"
            ) from error
        except trio.Cancelled:
            if stream is not None:
                await reset_shielded(stream)
            raise
        return self._raw(stream, target_id, answer.limit, is_initiator=True)

    # accepting -------------------------------------------------------------------------------------------------------

    async def accept(self, stream: INetStream) -> None:
        """A relay forwards a connection to us; serves it until it ends. What this raises ends in a reset."""
        with trio.fail_after(ANSWER_S):
            request = StopMessage.decode(await read_message(receiver(stream)))
            refusal = self._refusal(stream, request)
            answer = StopMessage(StopType.STATUS, status=refusal or Status.OK)
            await write_message(stream, answer.encode())
        if refusal is not None or request.peer is None:
            self._counters[f"relayed connections refused: {status_text(refusal)}"] += 1
            await stream.close()
            return
        source = ID(request.peer)
        raw = self._raw(stream, source, request.limit, is_initiator=False)
        self._inbound += 1
        try:
            muxed = await self._upgrade(raw, source)
            if muxed is not None:
                self.on_accepted(source)
                await muxed.event_closed.wait()
        finally:
            self._inbound -= 1
            await raw.close()

    def _refusal(self, stream: INetStream, request: StopMessage) -> Status | None:
        if request.type != StopType.CONNECT or request.peer is None:
            return Status.UNEXPECTED_MESSAGE
        relay = stream.muxed_conn.peer_id
        if is_relayed(stream) or not self.is_reserved(relay) or request.peer == self._host.get_id().to_bytes():
            return Status.PERMISSION_DENIED
        if self._inbound >= MAX_INBOUND:
            return Status.RESOURCE_LIMIT_EXCEEDED
        return None

    async def _upgrade(self, raw: RawConnection, source: ID) -> KeepaliveYamux | None:
        address = raw.get_transport_addresses()[0]
        try:
            with trio.move_on_after(self._host.swarm.limits.handshake_s):
                muxed = await self._host.swarm.upgrade_inbound_raw_conn(raw, address)
                if isinstance(muxed, KeepaliveYamux) and muxed.peer_id == source:
                    return muxed
                await muxed.close()
        except Exception as error:  # noqa: BLE001  whatever somebody sends through a relay
            log.debug("handshake through a relay with %s failed: %r", source, error)
        self._counters["handshakes failed"] += 1
        return None

    def _raw(self, stream: INetStream, peer: ID, limit: Limit | None, *, is_initiator: bool) -> RawConnection:
        bare = remote_address(stream) or Multiaddr("/ip4/0.0.0.0/tcp/0")
        via = Multiaddr(f"{_without_peer(bare)}/p2p/{stream.muxed_conn.peer_id}/p2p-circuit")
        carried = RelayedStream(stream, limit or Limit(), self._counters)
        if limit is not None:
            self._streams = {one: known for one, known in self._streams.items() if not known.is_closed}
            self._streams[peer] = carried
        return RawConnection(carried, is_initiator, ConnectionType.RELAYED, [via])


def status_text(status: int | None) -> str:
    """A status in words."""
    try:
        return Status(status or 0).name.lower().replace("_", " ")
    except ValueError:
        return f"status {status}"


def _without_peer(address: Multiaddr) -> str:
    return str(address).partition("/p2p/")[0]
