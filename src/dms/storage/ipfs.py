"""IPFS without a node of its own: files and directories are put together here out of verified blocks.

Parameters: ``CID``; ``Path`` below it; ``Name`` of a single file in the volume; ``Gateway``, a trustless gateway, or
``API``, the RPC of a Kubo node (uploads need one); ``Format``: ``raw``, a request for each block, or ``car``, one for all.
Gateway and API have defaults that the owner of the machine sets; only those may lie in a private network.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import trio

from dms.storage.blocks import Blocks, GatewayBlocks, KuboBlocks, car_header, car_of, car_section
from dms.storage.cid import CID, DAG_PB, RAW
from dms.storage.content import read_content
from dms.storage.errors import (
    ContentMismatch,
    InvalidStorageSpec,
    InvalidVolumeName,
    ProviderMissing,
    SourceNotFound,
    TooLarge,
    TransferFailed,
)
from dms.storage.spec import StorageParams
from dms.storage.transfer import Gathering, Meter, Part, in_order, one_error
from dms.storage.tree import check_path
from dms.storage.unixfs import DIRECTORY, FILE, SHARD, SYMLINK, Link, Node, decode_node, shard_entry
from dms.storage.web import WebClient, check_url, read_bounded
from dms.types.resources import SpecConfig

TYPE = "ipfs"
_API_HINT = "give API, or set storage.ipfs_api"
AHEAD = 8
"""Blocks that are fetched at the same time."""
HELD = 4 * AHEAD
"""Blocks that are in memory before their turn, in a whole tree."""
MAX_DEPTH = 64
MAX_REPLY_BYTES = 1 << 20
REMEMBERED_BLOCKS = 100_000
"""Blocks that an upload does not send twice; more would cost memory."""


@dataclass(frozen=True, slots=True)
class IpfsParams:
    """What is wanted, and from whom."""

    cid: CID | None
    path: tuple[str, ...]
    name: str
    gateway: str
    api: str
    is_car: bool

    @classmethod
    def read(cls, spec: SpecConfig, *, is_upload: bool = False) -> IpfsParams:
        """Read them.

        :raises InvalidStorageSpec: they cannot work.
        """
        params = StorageParams(spec, TYPE, known=("CID", "Path", "Name", "Gateway", "API", "Format"))
        text = params.text("CID") if is_upload else params.required("CID")
        cid = CID.parse(text.removeprefix("ipfs://").removeprefix("/ipfs/")) if text else None
        path, name = params.text("Path").strip("/"), params.text("Name") or text
        try:
            parts = check_path(path) if path else ()
            name = parts[-1] if parts and not params.text("Name") else name
            if name:
                check_path(name)
        except InvalidVolumeName as exc:
            raise params.error(exc.message) from None
        form = params.text("Format", "raw")
        if form not in ("raw", "car"):
            raise params.error("Format must be raw or car")
        gateway, api = params.text("Gateway"), params.text("API")
        if gateway and api:
            raise params.error("either Gateway or API, not both")
        for url in (gateway, api):
            if url:
                check_url(url)
        return cls(cid, parts, name, gateway, api, form == "car")


class IpfsProvider:
    """Downloads what a content id names; uploads directories as what :mod:`dms.storage.content` calls them."""

    type = TYPE

    def __init__(self, client: WebClient, *, owner: WebClient, gateway: str = "", api: str = "") -> None:
        """``client`` reaches what a specification names, ``owner`` the default ``gateway`` and ``api``."""
        self._client = client
        self._owner = owner
        self._gateway = gateway
        self._api = api

    def check(self, spec: SpecConfig) -> None:
        """See :class:`IpfsParams`."""
        IpfsParams.read(spec)

    def check_target(self, spec: SpecConfig) -> None:
        """See :class:`IpfsParams`."""
        if not (IpfsParams.read(spec, is_upload=True).api or self._api):
            raise ProviderMissing("uploads to IPFS need the RPC of a node", hint=_API_HINT)

    async def size(self, source: SpecConfig) -> int:
        """Bytes of content; what single blocks say of themselves is believed here."""
        params = IpfsParams.read(source)
        meter = Meter()
        blocks, root = await self._root(params)
        return await _Tree(blocks, meter).size(root, 0)

    async def download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        """The file, or what is in the directory; links are links in the volume."""
        params = IpfsParams.read(source)
        await into.prepare()
        async with self._blocks(params, into, meter) as blocks:
            root = await _below(blocks, params)
            tree = _Tree(blocks, meter)
            with one_error():
                await tree.take(root, "", params.name, into, 0)

    async def upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        """To a Kubo node, which keeps it pinned; the id that it tells must be ours."""
        params = IpfsParams.read(target, is_upload=True)
        client, url = (self._client, params.api) if params.api else (self._owner, self._api)
        if not url:
            raise ProviderMissing("uploads to IPFS need the RPC of a node", hint=_API_HINT)
        content = await trio.to_thread.run_sync(read_content, directory)
        if params.cid is not None and not params.cid.same_content(content.cid):
            raise ContentMismatch(f"the content is {content.cid}, not {params.cid}")
        meter.expect(content.size_bytes, content.files)
        with one_error():
            roots = await _import(client, url, directory, content.cid, meter)
        if not any(root.same_content(content.cid) for root in roots):
            raise ContentMismatch("the node has something else than was sent")
        meter.add(content.size_bytes - meter.progress.done_bytes)  # links
        meter.report()
        return SpecConfig(type=TYPE, params={"CID": str(content.cid)})

    async def _root(self, params: IpfsParams) -> tuple[Blocks, Link]:
        blocks = self._single(params)
        return blocks, await _below(blocks, params)

    def _single(self, params: IpfsParams) -> Blocks:
        if params.api:
            return KuboBlocks(self._client, params.api)
        if params.gateway:
            return GatewayBlocks(self._client, params.gateway)
        if self._gateway:
            return GatewayBlocks(self._owner, self._gateway)
        if self._api:
            return KuboBlocks(self._owner, self._api)
        raise ProviderMissing("there is no way to IPFS", hint="give Gateway or API, or set storage.ipfs_gateway")

    @asynccontextmanager
    async def _blocks(self, params: IpfsParams, into: Gathering, meter: Meter) -> AsyncIterator[Blocks]:
        single = self._single(params)
        if not params.is_car or not isinstance(single, GatewayBlocks) or params.cid is None or params.path:
            yield single
            return
        client, url = (self._client, params.gateway) if params.gateway else (self._owner, self._gateway)
        async with car_of(client, url, params.cid, into.root / "blocks", meter) as blocks:
            yield blocks


class _Tree:
    """Puts one tree together; bounds how much of it is looked at, as a few blocks can describe endless trees."""

    def __init__(self, blocks: Blocks, meter: Meter) -> None:
        self._blocks = blocks
        self._meter = meter
        self._looked_at = 0
        self._held = 0

    async def take(
        self, link: Link, folder: str, name: str, into: Gathering, depth: int, block: bytes | None = None
    ) -> None:
        """``link`` as ``folder/name``; a directory at the top is the volume itself. ``block`` is the link's, if it is here."""
        path = f"{folder}/{name}" if folder else name
        node = await self._node(link, depth, block)
        if node is None or node.kind == FILE:
            await self._take_file(link, node, path, into, block)
        elif node.kind == SYMLINK:
            await into.symlink(path, _text(node.data))
        else:
            here = path if depth else ""
            if here:
                await into.directory(here)

            async def fetch(entry: Link) -> bytes | None:
                return await self._get_ahead(entry.cid)

            async def use(entry: Link, found: bytes | None) -> None:
                self._put_down(found)
                if b"/" in entry.name:
                    raise InvalidVolumeName(f"the name {entry.name[:80]!r} cannot be used inside a volume")
                await self.take(entry, here, _text(entry.name), into, depth + 1, found)

            await in_order(await self._entries(node, depth), fetch, use, ahead=AHEAD)

    async def size(self, link: Link, depth: int) -> int:
        """Bytes of content below."""
        if link.cid.codec == RAW and link.total_bytes:
            return link.total_bytes
        node = await self._node(link, depth)
        if node is None:
            return len(await self._blocks.get(link.cid))
        if node.kind in (FILE, SYMLINK):
            return node.file_bytes or len(node.data)
        return sum([await self.size(entry, depth + 1) for entry in await self._entries(node, depth)])

    async def _take_file(self, link: Link, node: Node | None, path: str, into: Gathering, block: bytes | None) -> None:
        if await into.has(path, str(link.cid)):
            self._meter.file()
            return
        async with await into.part(path, str(link.cid)) as part:
            self._meter.add(part.offset)
            if node is None:
                await self._write(part, block if block is not None else await self._blocks.get(link.cid), 0)
            else:
                size = await self._write_node(part, node, 0, 0)
                if size != node.file_bytes:
                    raise ContentMismatch(f"{path[:80]!r} has {size} bytes and not the {node.file_bytes} that it says")
            await part.finish()
        self._meter.file()

    async def _write_node(self, part: Part, node: Node, start: int, depth: int) -> int:
        """The content below a node of a file that begins at ``start``; what is there already is passed over.

        Returns its size.
        """
        if depth > MAX_DEPTH:
            raise TooLarge("a file of too many levels")
        await self._write(part, node.data, start)
        at = start + len(node.data)
        pieces: list[tuple[Link, int, int]] = []
        for link, size in zip(node.links, node.block_bytes, strict=True):
            if size == 0:
                raise ContentMismatch("a file with an empty piece")
            if at + size > part.offset:
                pieces.append((link, at, size))
            at += size

        async def fetch(piece: tuple[Link, int, int]) -> bytes | None:
            return await self._get_ahead(piece[0].cid)

        async def use(piece: tuple[Link, int, int], ahead: bytes | None) -> None:
            link, begin, size = piece
            self._put_down(ahead)
            block = await self._blocks.get(link.cid) if ahead is None else ahead
            found = len(block)
            if link.cid.codec == RAW:
                await self._write(part, block, begin)
            else:
                found = await self._write_node(part, self._decoded(block, link, FILE), begin, depth + 1)
            if found != size:
                raise ContentMismatch(f"a piece has {found} bytes and not the {size} that it says")

        await in_order(pieces, fetch, use, ahead=AHEAD)
        return at - start

    async def _get_ahead(self, cid: CID) -> bytes | None:
        """The block, or ``None`` where too many are waiting already, as they may on every level of a deep tree."""
        if self._held >= HELD or cid.codec not in (RAW, DAG_PB):
            return None
        self._held += 1
        return await self._blocks.get(cid)

    def _put_down(self, block: bytes | None) -> None:
        self._held -= block is not None

    async def _write(self, part: Part, content: bytes, start: int) -> None:
        rest = content[max(0, part.offset - start) :]
        if rest:
            self._meter.add(len(rest))
            await part.write(rest)

    async def _entries(self, node: Node, depth: int) -> list[Link]:
        """What a directory holds, sharded or not."""
        if node.kind == DIRECTORY:
            return list(node.links)
        found: list[Link] = []
        for link in node.links:
            try:
                name = shard_entry(link, node.fanout)
            except ValueError as exc:
                raise ContentMismatch(str(exc)) from None
            if name is not None:
                found.append(Link(link.cid, name, link.total_bytes))
                continue
            below = await self._node(link, depth + 1)
            if below is None or below.kind != SHARD:
                raise ContentMismatch("a shard that is none")
            found += await self._entries(below, depth + 1)
        return found

    async def _node(self, link: Link, depth: int, block: bytes | None = None) -> Node | None:
        """``None``: a raw block, which is content. ``block`` is the link's, if it is here."""
        self._looked_at += 1
        if self._looked_at > 2 * self._meter.limits.max_files + 1 or depth > MAX_DEPTH:
            raise TooLarge(
                f"these are more than the {self._meter.limits.max_files} files that are allowed, or too deep"
            )
        if link.cid.codec == RAW:
            return None
        if link.cid.codec != DAG_PB:
            raise InvalidStorageSpec(f"{link.cid} is neither file nor directory")
        return self._decoded(await self._blocks.get(link.cid) if block is None else block, link)

    @staticmethod
    def _decoded(block: bytes, link: Link, kind: int | None = None) -> Node:
        if link.cid.codec != DAG_PB:
            raise InvalidStorageSpec(f"{link.cid} is neither file nor directory")
        try:
            node = decode_node(block)
        except ValueError as exc:
            raise ContentMismatch(f"the block {link.cid} is damaged: {exc}") from None
        if kind is not None and node.kind != kind:
            raise ContentMismatch(f"the block {link.cid} is of another kind")
        return node


async def _below(blocks: Blocks, params: IpfsParams) -> Link:
    """What ``Path`` leads to."""
    assert params.cid is not None
    tree = _Tree(blocks, Meter())
    link = Link(params.cid, b"", 0)
    for depth, part in enumerate(params.path):
        node = await tree._node(link, depth)  # noqa: SLF001  of this module
        entries = await tree._entries(node, depth) if node and node.kind in (DIRECTORY, SHARD) else []  # noqa: SLF001
        found = next((entry for entry in entries if entry.name == part.encode()), None)
        if found is None:
            raise SourceNotFound(f"there is no {'/'.join(params.path)[:200]!r} in {params.cid}")
        link = found
    return link


async def _import(client: WebClient, url: str, directory: Path, root: CID, meter: Meter) -> list[CID]:
    """Send a CAR of ``directory`` to ``POST <url>/api/v0/dag/import``; the roots that the node tells."""
    send, receive = trio.open_memory_channel[bytes](AHEAD)
    boundary = secrets.token_hex(16)
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    address = f"{url.rstrip('/')}/api/v0/dag/import?pin-roots=true&stats=false"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_produce, send, directory, root, boundary, meter)
        async with client.request("POST", address, headers=headers, content=_Sent(receive)) as response:
            answer = await read_bounded(response, MAX_REPLY_BYTES)
        nursery.cancel_scope.cancel()
    roots = []
    for line in answer.splitlines():
        try:
            told = msgspec.json.decode(line)
            if told.get("Root"):
                if told["Root"].get("PinErrorMsg"):
                    raise TransferFailed(f"the node cannot keep it: {str(told['Root']['PinErrorMsg'])[:200]}")
                roots.append(CID.parse(told["Root"]["Cid"]["/"]))
        except (msgspec.MsgspecError, AttributeError, KeyError, TypeError):
            raise TransferFailed("the node answers something else than was expected") from None
    return roots


async def _produce(
    send: trio.MemorySendChannel[bytes], directory: Path, root: CID, boundary: str, meter: Meter
) -> None:
    sent: set[bytes] = set()

    def emit(cid: CID, content: bytes) -> None:
        if cid.codec == RAW:
            trio.from_thread.run_sync(meter.add, len(content))
        if cid.digest in sent:
            return
        if len(sent) < REMEMBERED_BLOCKS:
            sent.add(cid.digest)
        trio.from_thread.run(send.send, car_section(cid, content))

    part = (
        'Content-Disposition: form-data; name="file"; filename="volume.car"\r\nContent-Type: application/vnd.ipld.car'
    )
    async with send:
        await send.send(f"--{boundary}\r\n{part}\r\n\r\n".encode() + car_header(root))
        found = await trio.to_thread.run_sync(lambda: read_content(directory, emit=emit))
        if found.cid != root:
            raise ContentMismatch("the volume changed while it was uploaded", hint="lock it first")
        await send.send(f"\r\n--{boundary}--\r\n".encode())


class _Sent:
    """A body out of a channel; not a generator, which nobody would close."""

    def __init__(self, channel: trio.MemoryReceiveChannel[bytes]) -> None:
        self._channel = channel

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._channel


def _text(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise InvalidVolumeName(f"the name {name[:80]!r} is not UTF-8") from None
