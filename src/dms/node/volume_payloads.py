"""Payloads of ``/dms/node/volume/*`` and ``/dms/volume/*``."""

from __future__ import annotations

import msgspec

from dms.types.gojson import Wire


class VolumeUse(Wire):
    """Who works with a volume."""

    owner: str
    writing: bool
    target: str


class VolumeInfo(Wire):
    """One volume; ``size_bytes`` is absent where it would have to be counted first."""

    id: str
    name: str
    tenant: str
    source: str
    cid: str
    locked: bool
    private: bool
    encrypted: bool
    size_bytes: int | None
    files: int | None
    created_at: str
    updated_at: str
    used_by: tuple[VolumeUse, ...]
    """The first of them; ``users`` is how many there are."""
    users: int


class ListRequest(Wire):
    """Leave out so many of the oldest."""

    offset: int = 0


class VolumeRequest(Wire):
    """One volume: its id or the beginning of it, its content id, or its name."""

    volume: str = ""


class LockRequest(Wire):
    """The same; with ``cid``, only if that is its content."""

    volume: str = ""
    cid: str = ""


class KeyRequest(Wire):
    """The same, and the key as it stands in a key file."""

    volume: str = ""
    key: str = ""

    def __repr__(self) -> str:
        return f"KeyRequest(volume={self.volume!r}, key=…)"


class CreateRequest(Wire):
    """A named volume; the certificate is for storage providers of GlusterFS, which this node is none of."""

    name: str = ""
    client_pem: str = ""


class NameRequest(Wire):
    """A volume of one's own."""

    name: str = ""


class PruneRequest(Wire):
    """What nobody uses: kept downloads; with ``named`` also tenants' volumes. ``ids``: only of these."""

    named: bool = False
    older_than_s: float = 0.0
    ids: tuple[str, ...] = ()
    dry_run: bool = False


class VolumesReply(Wire):
    """Some volumes, and whether there are more; ``hint`` and ``code`` of the error."""

    ok: bool = msgspec.field(name="OK")
    volumes: tuple[VolumeInfo, ...] = ()
    has_more: bool = False
    error: str = ""
    hint: str = ""
    code: str = ""


class VolumeReply(Wire):
    """One volume; absent after it was deleted."""

    ok: bool = msgspec.field(name="OK")
    volume: VolumeInfo | None = None
    ca_data: str = ""
    """Always empty: see :class:`CreateRequest`."""
    error: str = ""
    hint: str = ""
    code: str = ""
