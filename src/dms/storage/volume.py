"""What is known of a volume, and how it is named (``spec/execution.md`` 6.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path

from dms.types.gojson import Wire


class VolumeSource(Enum):
    """Where the content came from; also how the directory's name begins."""

    S3 = "s3"
    IPFS = "ipfs"
    HTTP = "http"
    JOB = "job"
    """A workload wrote it."""
    LOCAL = "local"
    """A named volume of a tenant."""
    PLUGIN = "plugin"
    """A provider that does not come with the node."""
    UNDEFINED = "volume-source-undefined"


NAME_CHARS = 16
_NAME = re.compile(rf"(?:{'|'.join(source.value for source in VolumeSource)})-[a-z0-9]{{{NAME_CHARS}}}")
_LABEL = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


class IDType(IntEnum):
    """What an identifier is."""

    UNDEFINED = 0
    PATH = 1
    CID = 2


class EncryptionType(Enum):
    """How a volume lies on the disk."""

    NULL = "null"
    """As it is."""
    SECRETSTREAM = "xchacha20poly1305-secretstream"
    """One encrypted file; see :mod:`dms.storage.sealing`."""


class Use(Wire):
    """Somebody who works with a volume."""

    owner: str
    is_writing: bool = False
    target: str = ""
    """Where it is in the owner's sandbox."""


class VolumeRecord(Wire):
    """One volume on disk, under its name."""

    name: str
    source: str
    cid: str = ""
    read_only: bool = False
    private: bool = False
    encryption_type: str = ""
    size_bytes: int = 0
    """Known once it is locked."""
    files: int = 0
    tenant: str = ""
    """Whose named volume it is; empty for all others."""
    label: str = ""
    """The tenant's name for it."""
    uses: tuple[Use, ...] = ()
    origin: str = ""
    """What it was downloaded from, as a hash: equal ones need not be downloaded twice."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume as callers see it; times in nanoseconds since 1970."""

    id: str
    path: Path
    """Always a directory; absent while it is encrypted."""
    record: VolumeRecord
    created_at_ns: int
    updated_at_ns: int

    @property
    def cid(self) -> str:
        """Content id; empty while it may still change."""
        return self.record.cid

    @property
    def is_locked(self) -> bool:
        """Whether it changes no more."""
        return self.record.read_only

    @property
    def is_private(self) -> bool:
        """Not shared with other jobs or nodes, and not kept after the job."""
        return self.record.private

    @property
    def encryption(self) -> EncryptionType:
        """How it lies on the disk."""
        return EncryptionType(self.record.encryption_type or EncryptionType.NULL.value)

    @property
    def is_sealed(self) -> bool:
        """Whether it is encrypted now."""
        return self.encryption is not EncryptionType.NULL


def is_volume_name(text: str) -> bool:
    """Whether it is the name of a volume's directory: its source, a dash and random characters."""
    return _NAME.fullmatch(text) is not None


def is_label(text: str) -> bool:
    """Whether a tenant may call a volume so."""
    return _LABEL.fullmatch(text) is not None
