"""The ids come from ``ipfs-unixfs-importer`` 17.1 (JavaScript, CIDv1, raw leaves) and from the tests of Kubo."""

import contextlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.storage.cid import CID
from dms.storage.unixfs import DIRECTORY, FILE, SHARD, SYMLINK, Builder, Layout, Link, decode_node, shard_entry


def pattern(size: int) -> bytes:
    block = bytes(range(251))
    return (block * (size // 251 + 1))[:size]


@pytest.mark.parametrize(
    ("size", "layout", "expected", "total"),
    [
        (0, Layout(), "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku", 0),
        (1, Layout(), "bafkreidogqfzz75tpkmjzjke425xqcrmpcib2p5tg44hnbirumdbpl5adu", 1),
        (262144, Layout(), "bafkreibruh455iawsviqslif5c7uurdcfdemh22mtnytyzvnzn75kpejxy", 262144),
        (262145, Layout(), "bafybeiexg2oqkfnj56l7fcmawswqbijt5shq4b5rg6a546uwpkqqzwjioi", 262249),
        (1000000, Layout(), "bafybeibx62obrkybp46hx3ivh53q4rnptgkunpgtwiib5lfelfgt2ekihm", 1000208),
        (174 * 1024, Layout(1024), "bafybeiaj2p4hb3eejac7adfxrv5sqyey2fpqsbjhsgzu5tj3nw4oabpnde", 186537),
        (175 * 1024, Layout(1024), "bafybeifjklbwjdpqkj25eebtqn2gil3e2a4svag5wnfxhc6k5aci3cxz4i", 187722),
        (174 * 174 * 64 + 5, Layout(64), "bafybeif4foxlprcnbchi5vdylk5egawutk6h6x32wsnayyry35xdvdtrwm", 3340501),
    ],
)
def test_files_get_the_ids_that_the_other_implementation_gives(
    size: int, layout: Layout, expected: str, total: int
) -> None:
    link = Builder(layout).file(io.BytesIO(pattern(size)))
    assert str(link.cid) == expected
    assert link.total_bytes == total
    assert link.file_bytes == size


def named(builder: Builder, files: dict[str, bytes]) -> list[Link]:
    links = [(name, builder.file(io.BytesIO(content))) for name, content in files.items()]
    return [Link(link.cid, name.encode(), link.total_bytes, link.file_bytes) for name, link in links]


def test_directories_get_the_ids_that_the_other_implementation_gives() -> None:
    builder = Builder()
    inner = builder.directory(named(builder, {"c": pattern(300000)}))
    entries = named(builder, {"ünï": b"", "a.txt": pattern(10), "B": pattern(3)})
    root = builder.directory([*entries, Link(inner.cid, b"b", inner.total_bytes)])
    assert str(root.cid) == "bafybeicklsajhhpb7t33fokupfl7xzzxak2sodqlrk2iqsqtnuxddt3voa"
    assert root.total_bytes == 300366
    assert str(builder.directory([]).cid) == "bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354"


def test_large_directories_are_sharded_as_kubo_does() -> None:
    builder = Builder(Layout(shard_above_bytes=1))
    root = builder.directory(named(builder, {f"file{i}": f"{i}\n".encode() for i in range(1, 2001)}))
    assert str(root.cid) == "bafybeibiemewfzzdyhq2l74wrd6qj2oz42usjlktgnlqv4yfawgouaqn4u"
    assert root.total_bytes == 140794


@pytest.mark.parametrize(
    ("count", "form", "expected"),
    [
        (2000, "file{}", "bafybeia6hghaept4daouirx4mrzlsvagak2f5vd3qm5zir6x2xrkchy36y"),
        (6000, "file{:06}", "bafybeia6bid76icwbqss74w6q6b6vvhrsmi54x2nt4ok3pxentvt3x2pym"),
    ],
)
def test_directories_are_sharded_where_they_pass_256_kib(count: int, form: str, expected: str) -> None:
    builder = Builder()
    files = {form.format(i): f"{i}\n".encode() for i in range(1, count + 1)}
    assert str(builder.directory(named(builder, files)).cid) == expected


def test_blocks_can_be_read_back() -> None:
    blocks: dict[CID, bytes] = {}
    builder = Builder(Layout(chunk_bytes=4, max_links=3), blocks.__setitem__)
    file = builder.file(io.BytesIO(b"0123456789abcdefghij"))
    node = decode_node(blocks[file.cid])
    assert (node.kind, node.file_bytes, node.block_bytes) == (FILE, 20, (12, 8))
    assert all(cid.matches(content) for cid, content in blocks.items())
    link = builder.symlink(b"../target")
    assert (decode_node(blocks[link.cid]).kind, decode_node(blocks[link.cid]).data) == (SYMLINK, b"../target")
    directory = builder.directory([Link(file.cid, b"f", file.total_bytes)])
    read = decode_node(blocks[directory.cid])
    assert read.kind == DIRECTORY
    assert [(entry.name, entry.cid) for entry in read.links] == [(b"f", file.cid)]


def test_entries_of_shards_are_told_from_further_shards() -> None:
    blocks: dict[CID, bytes] = {}
    builder = Builder(Layout(shard_above_bytes=0), blocks.__setitem__)
    root = builder.directory(named(builder, {f"{i}": b"" for i in range(600)}))
    found: set[bytes] = set()
    pending = [root.cid]
    while pending:
        node = decode_node(blocks[pending.pop()])
        assert (node.kind, node.fanout) == (SHARD, 256)
        for entry in node.links:
            name = shard_entry(entry, node.fanout)
            if name is None:
                pending.append(entry.cid)
            else:
                found.add(name)
    assert found == {str(i).encode() for i in range(600)}


@given(st.binary(max_size=300))
def test_no_bytes_whatsoever_harm_the_reader(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_node(data)


@given(st.data())
def test_damaged_blocks_do_not_harm_the_reader(data: st.DataObject) -> None:
    blocks: dict[CID, bytes] = {}
    builder = Builder(Layout(chunk_bytes=4, max_links=3), blocks.__setitem__)
    root = builder.file(io.BytesIO(b"0123456789"))
    block = bytearray(blocks[root.cid])
    index = data.draw(st.integers(0, len(block) - 1))
    block[index] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ValueError):
        decode_node(bytes(block[: data.draw(st.integers(0, len(block)))]))
