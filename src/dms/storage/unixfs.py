"""How files and directories become blocks: UnixFS in dag-pb, in the layout of ``ipfs add --cid-version=1``.

A file is cut into pieces of 256 KiB that are raw blocks; files of several pieces get a balanced tree of at most 174
links a node above them. A directory is one block of links ordered by name; where it would pass 256 KiB it becomes a
hash array mapped trie of 256 ways (HAMT, by murmur3). So anybody can compute the id of a volume with the usual tools,
with ``--hidden`` where there are hidden files: nothing is left out here.

Only what these formats need of protobuf is spoken here. Everything is pure; reading is bounded by the block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import mmh3

from dms.storage.cid import CID, DAG_PB, RAW, read_varint, varint

KIB = 1024
MAX_BLOCK_BYTES = 2 * KIB * KIB
"""What peers of IPFS exchange at most."""
FILE, DIRECTORY, SYMLINK, SHARD = 2, 1, 4, 5
_RAW_FILE = 0
_MURMUR3 = 0x22
_FANOUT = 256

Emit = Callable[[CID, bytes], None]
"""Takes each block once it is complete: what it stands on comes before it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What decides which id some content gets."""

    chunk_bytes: int = 256 * KIB
    max_links: int = 174
    shard_above_bytes: int = 256 * KIB
    """Directories whose names and ids take more than this together are sharded."""


DEFAULT = Layout()


@dataclass(frozen=True, slots=True)
class Link:
    """From one block to another; ``total_bytes`` counts the blocks below, ``file_bytes`` the content."""

    cid: CID
    name: bytes
    total_bytes: int
    file_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Node:
    """A dag-pb block, read."""

    kind: int
    links: tuple[Link, ...]
    data: bytes = b""
    """Content of a small file, target of a symbolic link."""
    file_bytes: int = 0
    block_bytes: tuple[int, ...] = field(default=())
    """How much content lies below each link of a file."""
    fanout: int = 0


class Builder:
    """Makes blocks out of content; hands them to ``emit`` where one is given."""

    def __init__(self, layout: Layout = DEFAULT, emit: Emit | None = None) -> None:
        self._layout = layout
        self._emit = emit

    def file(self, stream: BinaryIO) -> Link:
        """All of ``stream``, in constant memory."""
        levels: list[list[Link]] = [[]]
        while chunk := _read_full(stream, self._layout.chunk_bytes):
            levels[0].append(self._block(RAW, chunk, 0, len(chunk)))
            for index, level in enumerate(levels):
                if len(level) < self._layout.max_links:
                    break
                if index + 1 == len(levels):
                    levels.append([])
                levels[index + 1].append(self._parent(level))
                level.clear()
        return self._root(levels)

    def symlink(self, target: bytes) -> Link:
        """A symbolic link."""
        return self._block(DAG_PB, _encode_node((), _field(1, SYMLINK) + _bytes(2, target)), 0, len(target))

    def directory(self, entries: Iterable[Link]) -> Link:
        """A directory of named links; sharded where it is large."""
        links = sorted(entries, key=lambda link: link.name)
        size = sum(len(link.name) + len(link.cid.to_bytes()) for link in links)
        if size > self._layout.shard_above_bytes:
            return self._shard([(mmh3.hash_bytes(link.name, x64arch=True), link) for link in links], 0)
        return self._block(DAG_PB, _encode_node(links, _field(1, DIRECTORY)), _total(links))

    def _root(self, levels: list[list[Link]]) -> Link:
        above: Link | None = None
        for index, level in enumerate(levels):
            if above is not None:
                level.append(above)
            is_last = not any(levels[index + 1 :])
            if is_last and len(level) == 1:
                return level[0]
            above = self._parent(level) if level else None
        return above or self._block(RAW, b"", 0, 0)

    def _parent(self, links: Sequence[Link]) -> Link:
        size = sum(link.file_bytes for link in links)
        data = _field(1, FILE) + _field(3, size) + b"".join(_field(4, link.file_bytes) for link in links)
        return self._block(DAG_PB, _encode_node(links, data), _total(links), size)

    def _shard(self, entries: Sequence[tuple[bytes, Link]], depth: int) -> Link:
        ways: dict[int, list[tuple[bytes, Link]]] = {}
        for hashed, link in entries:
            ways.setdefault(_way(hashed, depth), []).append((hashed, link))
        links, bits = [], 0
        for way in sorted(ways):
            bits |= 1 << way
            prefix = b"%02X" % way
            if len(ways[way]) == 1:
                _, link = ways[way][0]
                links.append(Link(link.cid, prefix + link.name, link.total_bytes))
            else:
                below = self._shard(ways[way], depth + 1)
                links.append(Link(below.cid, prefix, below.total_bytes))
        field_bytes = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
        data = _field(1, SHARD) + _bytes(2, field_bytes) + _field(5, _MURMUR3) + _field(6, _FANOUT)
        return self._block(DAG_PB, _encode_node(links, data), _total(links))

    def _block(self, codec: int, content: bytes, below_bytes: int, file_bytes: int = 0) -> Link:
        cid = CID.of(codec, content)
        if self._emit is not None:
            self._emit(cid, content)
        return Link(cid, b"", len(content) + below_bytes, file_bytes)


def decode_node(block: bytes) -> Node:
    """Read a dag-pb block that holds UnixFS.

    :raises ValueError: it is not one.
    """
    links, data = [], b""
    for number, value in _fields(block):
        if number == 2 and isinstance(value, bytes):
            links.append(_decode_link(value))
        elif number == 1 and isinstance(value, bytes):
            data = value
        else:
            raise ValueError("a block of another kind")
    kind, content, size, fanout = -1, b"", 0, 0
    blocks: list[int] = []
    for number, value in _fields(data):
        if number == 2 and isinstance(value, bytes):
            content = value
        elif number == 4 and isinstance(value, bytes):  # packed
            at = 0
            while at < len(value):
                one, at = read_varint(value, at)
                blocks.append(one)
        elif isinstance(value, int):
            kind = value if number == 1 else kind
            size = value if number == 3 else size
            fanout = value if number == 6 else fanout
            if number == 4:
                blocks.append(value)
    if kind == _RAW_FILE:
        kind = FILE
    if kind not in (FILE, DIRECTORY, SYMLINK, SHARD):
        raise ValueError("neither file nor directory")
    if kind == FILE and len(blocks) != len(links):
        raise ValueError("a file whose pieces have no sizes")
    return Node(kind, tuple(links), content, size, tuple(blocks), fanout)


def shard_entry(link: Link, fanout: int) -> bytes | None:
    """The name of an entry of a sharded directory; ``None`` where the link leads to a further shard.

    :raises ValueError: the name has no prefix.
    """
    width = len(f"{max(fanout, 1) - 1:X}")
    if len(link.name) < width:
        raise ValueError("an entry of a shard without its prefix")
    return link.name[width:] or None


def _decode_link(data: bytes) -> Link:
    cid: CID | None = None
    name, size = b"", 0
    for number, value in _fields(data):
        if number == 1 and isinstance(value, bytes):
            cid = CID.from_bytes(value)
        elif number == 2 and isinstance(value, bytes):
            name = value
        elif number == 3 and isinstance(value, int):
            size = value
    if cid is None:
        raise ValueError("a link that leads nowhere")
    return Link(cid, name, size)


def _encode_node(links: Iterable[Link], data: bytes) -> bytes:
    out = bytearray()
    for link in links:
        out += _bytes(2, _bytes(1, link.cid.to_bytes()) + _bytes(2, link.name) + _field(3, link.total_bytes))
    return bytes(out + _bytes(1, data))


def _field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def _bytes(number: int, value: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(value)) + value


def _fields(data: bytes) -> Iterable[tuple[int, int | bytes]]:
    at = 0
    while at < len(data):
        key, at = read_varint(data, at)
        if key & 7 == 0:
            value, at = read_varint(data, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = read_varint(data, at)
            if at + length > len(data):
                raise ValueError("it ends too early")
            yield key >> 3, data[at : at + length]
            at += length
        elif key & 7 == 5:  # the nanoseconds of a time
            at += 4
        else:
            raise ValueError("a field of unknown form")


def _way(hashed: bytes, depth: int) -> int:
    """Eight bits of the hash a level; mmh3 gives its two halves in little-endian order."""
    return hashed[:8][::-1][depth]


def _total(links: Iterable[Link]) -> int:
    return sum(link.total_bytes for link in links)


def _read_full(stream: BinaryIO, size: int) -> bytes:
    """``size`` bytes, fewer at the end only."""
    data = stream.read(size)
    while data and len(data) < size:
        more = stream.read(size - len(data))
        if not more:
            break
        data += more
    return data
