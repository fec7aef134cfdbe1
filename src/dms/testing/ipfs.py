"""A stand-in for IPFS on the loopback address: real blocks, by way of a trustless gateway and of Kubo's RPC."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from dms.storage.blocks import CarReader, car_header, car_section
from dms.storage.cid import CID
from dms.storage.content import read_content
from dms.storage.unixfs import DEFAULT, Layout
from dms.testing.web import Answer, Asked, WebServer, web_server

RAW_TYPE = "application/vnd.ipld.raw"
CAR_TYPE = "application/vnd.ipld.car; version=1"
_ROOT = re.compile(rb"eroots\x81\xd8\x2a\x58\x25\x00(.{36})", re.DOTALL)


class IpfsNode:
    """What it keeps; ``url`` serves ``/ipfs/<cid>`` and ``/api/v0/…``. ``blocks`` may be damaged at will."""

    def __init__(self) -> None:
        self.blocks: dict[bytes, bytes] = {}
        self.left_out_of_cars: set[bytes] = set()
        self.server: WebServer

    @property
    def url(self) -> str:
        """Where it is."""
        return self.server.url

    def add(self, directory: Path, layout: Layout = DEFAULT) -> CID:
        """Keep a directory; its content id."""
        return read_content(directory, layout=layout, emit=self.put).cid

    def put(self, cid: CID, content: bytes) -> None:
        """Keep a block."""
        self.blocks[cid.digest] = content

    def add_car(self, car: bytes) -> CID:
        """Keep what is in a CAR; its root."""
        for cid, content in CarReader().feed(car):
            self.put(cid, content)
        found = _ROOT.search(car)
        assert found is not None
        return CID.from_bytes(found[1])

    async def answer(self, asked: Asked) -> Answer:
        """Any request."""
        if asked.path.startswith("/ipfs/"):
            return self._gateway(asked)
        if asked.method != "POST":
            return Answer(405)
        if asked.path == "/api/v0/block/get":
            return self._block(CID.parse(asked.query["arg"]))
        if asked.path == "/api/v0/dag/import":
            boundary = asked.headers["content-type"].partition("boundary=")[2].encode()
            car = asked.body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--" + boundary)[0]
            return Answer(200, b'{"Root":{"Cid":{"/":"%s"},"PinErrorMsg":""}}\n' % str(self.add_car(car)).encode())
        return Answer(404)

    def _gateway(self, asked: Asked) -> Answer:
        cid = CID.parse(asked.path.removeprefix("/ipfs/"))
        if asked.query.get("format") == "raw":
            return self._block(cid)
        if asked.query.get("format") != "car":
            return Answer(406)
        sections = [
            car_section(CID(1, codec, 0x12, digest), content)
            for digest, content in self.blocks.items()
            if digest not in self.left_out_of_cars
            for codec in (0x55, 0x70)
        ]
        return Answer(200, car_header(cid) + b"".join(sections), {"content-type": CAR_TYPE})

    def _block(self, cid: CID) -> Answer:
        content = self.blocks.get(cid.digest)
        return Answer(404) if content is None else Answer(200, content, {"content-type": RAW_TYPE})


@asynccontextmanager
async def ipfs_node() -> AsyncIterator[IpfsNode]:
    """One that runs while the block does."""
    node = IpfsNode()
    async with web_server(node.answer) as node.server:
        yield node
