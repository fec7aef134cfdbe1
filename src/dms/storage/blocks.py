"""Where blocks of IPFS come from: a trustless gateway, Kubo's RPC, or one CAR file. None is trusted: every block is
verified against its id before anybody sees it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import trio

from dms.storage.cid import CID, IDENTITY, read_varint, varint
from dms.storage.errors import ContentMismatch, TooLarge, TransferFailed
from dms.storage.transfer import Meter
from dms.storage.tree import room_watched
from dms.storage.unixfs import MAX_BLOCK_BYTES
from dms.storage.web import WebClient, body, read_bounded

ATTEMPTS = 3
FIRST_WAIT_S = 0.5
MAX_HEADER_BYTES = 64 << 10
MAX_SECTION_BYTES = MAX_BLOCK_BYTES + 256
CAR_OVERHEAD_BYTES = 64 << 20
"""What a CAR may be larger than the content that is allowed."""


class Blocks(Protocol):
    """Gives blocks by their id."""

    async def get(self, cid: CID) -> bytes:
        """The block.

        :raises SourceNotFound: nobody has it.
        :raises ContentMismatch: what came is something else.
        """
        ...


class GatewayBlocks:
    """One request a block to a trustless gateway: ``GET <url>/ipfs/<cid>?format=raw``."""

    def __init__(self, client: WebClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")

    async def get(self, cid: CID) -> bytes:
        """The block."""
        return await _verified(self._client, cid, "GET", f"{self._url}/ipfs/{cid}?format=raw")


class KuboBlocks:
    """One request a block to the RPC of a Kubo node: ``POST <url>/api/v0/block/get``."""

    def __init__(self, client: WebClient, url: str) -> None:
        self._client = client
        self._url = url.rstrip("/")

    async def get(self, cid: CID) -> bytes:
        """The block."""
        return await _verified(self._client, cid, "POST", f"{self._url}/api/v0/block/get?arg={cid}")


class CarBlocks:
    """All blocks below one in a single answer, kept in a file meanwhile; what is missing there is asked for singly."""

    def __init__(self, file: BinaryIO, otherwise: Blocks) -> None:
        self._file = file
        self._otherwise = otherwise
        self._places: dict[bytes, tuple[int, int]] = {}
        self._end = 0

    async def get(self, cid: CID) -> bytes:
        """The block."""
        place = self._places.get(_key(cid))
        if place is None:
            return await self._otherwise.get(cid)
        return await trio.to_thread.run_sync(self._read, *place)

    def add(self, cid: CID, content: bytes) -> None:
        """A block that was verified."""
        if _key(cid) not in self._places:
            self._file.write(content)
            self._places[_key(cid)] = (self._end, len(content))
            self._end += len(content)

    def _read(self, start: int, size: int) -> bytes:
        """In one call, as several threads read at the same time."""
        return os.pread(self._file.fileno(), size, start)


@asynccontextmanager
async def car_of(client: WebClient, url: str, root: CID, room: Path, meter: Meter) -> AsyncIterator[CarBlocks]:
    """Fetch ``GET <url>/ipfs/<root>?format=car`` into the file ``room``, which is removed in the end."""
    with room_watched(room):
        file = await trio.to_thread.run_sync(lambda: room.open("w+b"))
    try:
        found = CarBlocks(file, GatewayBlocks(client, url))
        address = f"{url.rstrip('/')}/ipfs/{root}?format=car&dag-scope=all"
        reader = CarReader()
        headers = {"Accept": "application/vnd.ipld.car; version=1"}
        async with client.request("GET", address, headers=headers) as response, body(response) as chunks:
            most, size = meter.limits.max_bytes + CAR_OVERHEAD_BYTES, 0
            async for chunk in chunks:
                size += len(chunk)
                if size > most:
                    raise TooLarge(f"the answer has more than {most} bytes")
                for cid, content in reader.feed(chunk):
                    with room_watched(room):
                        found.add(cid, content)
            reader.finish()
        with room_watched(room):
            file.flush()
        yield found
    finally:
        file.close()
        room.unlink(missing_ok=True)  # noqa: ASYNC240  at once, also when cancelled


class CarReader:
    """Takes a CARv1 apart as it comes; every block that it hands out is verified."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._has_header = False

    def feed(self, data: bytes) -> list[tuple[CID, bytes]]:
        """The blocks that are complete now.

        :raises TransferFailed: this is no CARv1.
        :raises ContentMismatch: a block is not what it is called.
        """
        self._pending += data
        found = []
        while (section := self._next()) is not None:
            if not self._has_header:
                self._has_header = True
                if b"gversion\x01" not in section or len(section) > MAX_HEADER_BYTES:
                    raise TransferFailed("the answer is no CAR of version 1")
                continue
            try:
                cid, start = CID.read(section, 0)
            except ValueError as exc:
                raise TransferFailed(f"the CAR holds a block without a proper id: {exc}") from None
            found.append((cid, check_block(cid, section[start:])))
        return found

    def finish(self) -> None:
        """There is no more. That the end is missing is no harm: the rest is asked for singly.

        :raises TransferFailed: there was nothing of a CAR.
        """
        if not self._has_header:
            raise TransferFailed("the answer is no CAR")

    def _next(self) -> bytes | None:
        try:
            size, start = read_varint(bytes(self._pending[:10]), 0)
        except ValueError:
            if len(self._pending) >= 10:
                raise TransferFailed("the answer is no CAR") from None
            return None
        if size > MAX_SECTION_BYTES or size == 0:
            raise TransferFailed(f"the CAR holds a block of {size} bytes")
        if len(self._pending) < start + size:
            return None
        section = bytes(self._pending[start : start + size])
        del self._pending[: start + size]
        return section


def car_header(root: CID) -> bytes:
    """How a CARv1 with this root begins: the DAG-CBOR of ``{"roots": [root], "version": 1}``."""
    link = b"\x00" + root.to_bytes()
    head = b"\xa2eroots\x81\xd8\x2a\x58" + bytes([len(link)]) + link + b"gversion\x01"
    return varint(len(head)) + head


def car_section(cid: CID, content: bytes) -> bytes:
    """One block in a CAR."""
    name = cid.to_bytes()
    return varint(len(name) + len(content)) + name + content


def check_block(cid: CID, content: bytes) -> bytes:
    """``content``, if it is what ``cid`` names.

    :raises ContentMismatch: it is not.
    """
    if not cid.matches(content):
        raise ContentMismatch(f"a block is not the {cid} that was asked for")
    return content


async def _verified(client: WebClient, cid: CID, method: str, url: str) -> bytes:
    if cid.hash_code == IDENTITY:
        return cid.digest
    wait_s = FIRST_WAIT_S
    for attempt in range(1, ATTEMPTS + 1):
        try:
            headers = {"Accept": "application/vnd.ipld.raw"}
            async with client.request(method, url, headers=headers) as response:
                return check_block(cid, await read_bounded(response, MAX_BLOCK_BYTES))
        except TransferFailed:
            if attempt == ATTEMPTS:
                raise
        await trio.sleep(wait_s)
        wait_s *= 2
    raise AssertionError("unreachable")


def _key(cid: CID) -> bytes:
    return bytes([cid.codec & 0xFF]) + cid.hash_code.to_bytes(4, "big") + cid.digest
