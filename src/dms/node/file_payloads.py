"""Payloads of ``/dms/volume/{file,receive,send,transfers}``."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire


class FileRequest(Wire):
    """A file of a volume of one's own."""

    name: str = ""
    path: str = ""


class ReceiveRequest(Wire):
    """A file of that size and version that the node ``peer`` is to bring."""

    name: str = ""
    path: str = ""
    size: int = -1
    version: str = ""
    peer: str = ""


class SendRequest(Wire):
    """A file that is to be brought to the node ``peer``, which gave the ticket; only while it has this version."""

    name: str = ""
    path: str = ""
    version: str = ""
    peer: str = ""
    ticket: str = ""

    def __repr__(self) -> str:
        return f"SendRequest(name={self.name!r}, path={self.path!r}, peer={self.peer!r}, ticket=…)"


class TransferInfo(Wire):
    """One file under way, or the last that were; ``done`` counts bytes."""

    id: str
    direction: str
    peer: str
    volume: str
    path: str
    size: int
    done: int
    state: str
    error: str


class FileReply(Wire):
    """What was asked for: a file, a ticket with how much is there already, a transfer that has begun."""

    ok: bool = msgspec.field(name="OK")
    size: int = 0
    version: str = ""
    ticket: str = ""
    received: int = 0
    id: str = ""
    error: str = ""
    hint: str = ""
    code: str = ""

    def __repr__(self) -> str:
        return f"FileReply(ok={self.ok}, id={self.id!r}, error={self.error!r}, ticket=…)"


class TransfersReply(Wire):
    """The transfers of the sender on this node, the oldest first."""

    ok: bool = msgspec.field(name="OK")
    transfers: tuple[TransferInfo, ...] = ()
    error: str = ""
    hint: str = ""
    code: str = ""
