"""The file of a network key (``p2p.swarm_key_file``): read by the node, written by ``nunet network key new``."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from dms.identity.files import write_private
from dms.network.errors import InvalidSwarmKey
from dms.network.swarm_key import MAX_FILE_BYTES, SwarmKey, decode_swarm_key, encode_swarm_key
from dms.types.errors import Conflict, NotFound


def read_swarm_key(path: Path) -> SwarmKey:
    """The key of a file that only its owner can read.

    :raises InvalidSwarmKey: no such file, others may read it, or it holds no usable key.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidSwarmKey(f"cannot read the network key {path}: {error.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        raise InvalidSwarmKey(f"cannot read the network key {path}: not a file")
    if status.st_mode & 0o077:
        raise InvalidSwarmKey(f"others can read the network key {path}", hint=f"chmod 600 {path}")
    try:
        return decode_swarm_key(data)
    except InvalidSwarmKey as error:
        raise InvalidSwarmKey(f"cannot use the network key {path}: {error.message}", hint=error.hint) from None


def write_swarm_key(path: Path, key: SwarmKey) -> None:
    """Write a new file, mode 0600.

    :raises Conflict: there is a file; the network behind it would be lost.
    :raises NotFound: its directory is missing.
    :raises InvalidSwarmKey: it cannot be written.
    """
    if path.is_symlink() or path.exists():
        raise Conflict(f"there is a file {path} already", hint="name another one, or move it away")
    if not path.parent.exists():
        raise NotFound(f"there is no directory {path.parent}", hint=f"mkdir -p -m 700 {path.parent}")
    try:
        write_private(path, encode_swarm_key(key))
    except OSError as error:
        raise InvalidSwarmKey(f"cannot write {path}: {error.strerror}", hint="name another file") from None
