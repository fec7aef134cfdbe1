"""The file of known good peers: read at the start, written now and then and at the end, always whole or not at all."""

from __future__ import annotations

import logging
from pathlib import Path

import trio

from dms.identity.files import write_private
from dms.network.known_good import MAX_FILE_BYTES, GoodPeers

log = logging.getLogger(__name__)

WRITE_S = 60.0
"""How often changes are written; what a crash loses is worth no more."""


class PeersFile:
    """Keeps :class:`~dms.network.known_good.GoodPeers` on disk; without a path they live as long as the node."""

    def __init__(self, path: Path | None, peers: GoodPeers) -> None:
        self._path = path
        self._peers = peers
        self._written = b""

    async def load(self, wall_s: float) -> None:
        """Read what was kept; a file that is missing or makes no sense is no reason not to start."""
        path = self._path
        if path is None:
            return
        try:
            data = await trio.to_thread.run_sync(_read, path)
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the known peers in %s cannot be read: %s", path, error)
            return
        self._peers.decode(data, wall_s)
        self._written = data

    async def keep(self, wall_s: float) -> None:
        """Write what changed."""
        path, data = self._path, self._peers.encode(wall_s)
        if path is None or data == self._written:
            return
        try:
            await trio.to_thread.run_sync(write_private, path, data)
            self._written = data
        except OSError as error:
            log.warning("the known peers cannot be written to %s: %s", path, error)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_FILE_BYTES + 1)
