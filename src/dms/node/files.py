"""Files from a volume of one's own on this node to one on another: ``/dms/volume/{file,receive,send,transfers}``.

Whoever may use volumes on both nodes asks the one for a ticket and tells the other to redeem it; the nodes do the rest
(:mod:`dms.storage.passing`). A ticket asked for twice replaces the first; a file sent twice is refused the second time,
as nothing is overwritten.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dms.actor.actor import Actor
from dms.actor.behaviour import Message
from dms.network.addresses import parse_peer_id
from dms.node.file_payloads import (
    FileReply,
    FileRequest,
    ReceiveRequest,
    SendRequest,
    TransferInfo,
    TransfersReply,
)
from dms.node.payloads import Nil
from dms.storage.controller import VolumeController
from dms.storage.errors import VolumeNotFound
from dms.storage.passing.desk import FileDesk
from dms.storage.passing.transfers import Transfer
from dms.storage.volume import Volume
from dms.types.errors import BadInput, DMSError

NAMESPACE = "/dms/volume"
MAX_VERSION_CHARS = 200
MAX_TOLD = 100

Answer = FileReply | TransfersReply
Handler = Callable[[Message[Any]], Awaitable[Answer]]


class FileBehaviours:
    """Answers for files in the volumes of ``controller``."""

    def __init__(self, root: Actor, controller: VolumeController) -> None:
        self._root = root
        self._controller = controller
        self._desk = FileDesk(root.network.streams, controller)

    def register(self) -> None:
        """Answer on the root actor, and take files from peers, for as long as it lives."""
        self._on("file", self._file, FileRequest, FileReply)
        self._on("receive", self._receive, ReceiveRequest, FileReply)
        self._on("send", self._send, SendRequest, FileReply)
        self._on("transfers", self._transfers, Nil, TransfersReply)
        self._root.start_soon(self._desk.serve)

    def _on(self, name: str, handler: Handler, payload: Any, reply: type[FileReply | TransfersReply]) -> None:
        async def answer(message: Message[Any]) -> Answer:
            try:
                return await handler(message)
            except DMSError as exc:
                return reply(ok=False, error=exc.message, hint=exc.hint, code=exc.code)

        def failed(error: str) -> Answer:
            return reply(ok=False, error=error)

        self._root.on(f"{NAMESPACE}/{name}", answer, payload=payload, error_reply=failed)

    async def _file(self, message: Message[FileRequest]) -> FileReply:
        volume = await self._volume(message, message.payload.name)
        size, version = await self._desk.describe(volume, message.payload.path)
        return FileReply(ok=True, size=size, version=version)

    async def _receive(self, message: Message[ReceiveRequest]) -> FileReply:
        """The volume is made when there is none: so it is when a workload names one."""
        asked = message.payload
        if len(asked.version) > MAX_VERSION_CHARS:
            raise BadInput("this is no version of a file")
        volume = await self._controller.named(message.sender.did.uri, asked.name)
        ticket, received = await self._desk.permit(
            volume, asked.path, size=asked.size, version=asked.version, peer=parse_peer_id(asked.peer)
        )
        return FileReply(ok=True, size=asked.size, version=asked.version, ticket=ticket.secret, received=received)

    async def _send(self, message: Message[SendRequest]) -> FileReply:
        asked = message.payload
        volume = await self._volume(message, asked.name)
        size, version = await self._desk.describe(volume, asked.path)
        transfer = self._desk.prepare(volume, asked.path, size=size, peer=parse_peer_id(asked.peer))
        self._root.start_soon(self._bring, transfer, volume, asked.ticket, asked.version or version)
        return FileReply(ok=True, size=size, version=version, id=transfer.id)

    async def _transfers(self, message: Message[Any]) -> TransfersReply:
        found = self._desk.transfers(message.sender.did.uri)
        return TransfersReply(ok=True, transfers=tuple(_info(one) for one in found[-MAX_TOLD:]))

    async def _bring(self, transfer: Transfer, volume: Volume, ticket: str, version: str) -> None:
        await self._desk.bring(transfer, volume, ticket=ticket, version=version)

    async def _volume(self, message: Message[Any], name: str) -> Volume:
        for volume in await self._controller.list():
            if name and volume.record.tenant == message.sender.did.uri and volume.record.label == name:
                return volume
        raise VolumeNotFound(f"volume not found: {name[:80]}")


def _info(transfer: Transfer) -> TransferInfo:
    return TransferInfo(
        id=transfer.id,
        direction="out" if transfer.is_outgoing else "in",
        peer=transfer.peer,
        volume=transfer.volume,
        path=transfer.path,
        size=transfer.size,
        done=transfer.done,
        state=transfer.state.value,
        error=transfer.error,
    )
