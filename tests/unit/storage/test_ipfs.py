import io
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dms.storage.blocks import CarReader, car_header, car_section
from dms.storage.cid import CID, DAG_PB, RAW
from dms.storage.content import read_content
from dms.storage.egress import OWNER, Egress
from dms.storage.errors import (
    AddressRefused,
    ContentMismatch,
    InvalidStorageSpec,
    ProviderMissing,
    SourceNotFound,
    StorageError,
    TooLarge,
    TransferFailed,
)
from dms.storage.ipfs import IpfsProvider
from dms.storage.transfer import Gathering, Limits, Meter, Progress
from dms.storage.unixfs import Builder, Layout, Link
from dms.storage.web import WebClient
from dms.testing.ipfs import IpfsNode, ipfs_node
from dms.testing.web import Answer, Asked
from dms.types.resources import SpecConfig

CAR_OF_JAVASCRIPT = Path(__file__).parent / "data/tree.car"
"""Written by ``ipfs-unixfs-importer`` 17.1: a tree with a file of several levels and a sharded directory."""
ROOT_OF_JAVASCRIPT = "bafybeicu4mnufx5bor7lc6wll5zbu2ixw3nbwvzmtzy5jxx3wtqa35ku4i"
LAYOUT = Layout(chunk_bytes=1000, max_links=4, shard_above_bytes=1000)


class Place:
    """A node, and the provider that is tested."""

    def __init__(self, node: IpfsNode, base: Path) -> None:
        self.node = node
        self.base = base
        self.client = WebClient(OWNER)
        self.provider = IpfsProvider(self.client, owner=self.client, gateway=node.url, api=node.url)
        self.progress: list[Progress] = []
        self.gathering = Gathering(base / "gathering")

    async def download(self, cid: CID | str, limits: Limits | None = None, **params: str) -> dict[str, bytes]:
        spec = SpecConfig(type="ipfs", params={"CID": str(cid), **params})
        await self.provider.download(spec, self.gathering, Meter(limits, self.progress.append))
        content = self.gathering.content
        return {str(p.relative_to(content)): p.read_bytes() for p in content.rglob("*") if p.is_file()}

    def tree(self) -> Path:
        root = self.base / "tree"
        (root / "sub/empty").mkdir(parents=True)
        (root / "many").mkdir()
        (root / "sub/large").write_bytes(os.urandom(20_123))
        (root / "ünï").write_bytes(b"")
        for index in range(60):
            (root / f"many/{index}").write_bytes(str(index).encode())
        (root / "link").symlink_to("sub/large")
        return root


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with ipfs_node() as node:
        place = Place(node, tmp_path)
        yield place
        await place.client.aclose()


@pytest.mark.parametrize("way", ["raw", "car", "api"])
async def test_a_tree_is_put_together_out_of_verified_blocks(place: Place, way: str) -> None:
    tree = place.tree()
    cid = place.node.add(tree, LAYOUT)
    params = {"API": place.node.url} if way == "api" else {"Gateway": place.node.url, "Format": way}
    await place.download(cid, None, **params)
    assert read_content(place.gathering.content, layout=LAYOUT).cid == cid
    assert (place.gathering.content / "sub/empty").is_dir()
    assert (place.gathering.content / "link").readlink() == Path("sub/large")
    paths = {asked.path for asked in place.node.server.asked}
    assert ("/api/v0/block/get" in paths) == (way == "api")
    assert (len(place.node.server.asked) == 1) == (way == "car")
    assert not (place.gathering.root / "blocks").exists()


@pytest.mark.parametrize("way", ["raw", "car"])
async def test_a_tree_of_another_implementation_is_read(place: Place, way: str) -> None:
    root = place.node.add_car(CAR_OF_JAVASCRIPT.read_bytes())
    assert str(root) == ROOT_OF_JAVASCRIPT
    pattern = (bytes(range(251)) * 80)[:20_000]
    expected = {f"many/file{i}": f"{i}\n".encode() for i in range(40)}
    expected |= {"a.txt": pattern[:10], "sub/large": pattern, "sub/empty": b"", "ünï": pattern[:3]}
    assert await place.download(root, Format=way) == expected
    assert await place.provider.size(SpecConfig(type="ipfs", params={"CID": str(root)})) == sum(
        map(len, expected.values())
    )


async def test_single_files_get_a_name(place: Place) -> None:
    builder = Builder(LAYOUT, place.node.put)
    small, large = builder.file(io.BytesIO(b"hello\n")).cid, builder.file(io.BytesIO(b"x" * 5000)).cid
    assert await place.download(small) == {str(small): b"hello\n"}
    assert await place.download(f"ipfs://{large}", Name="large") == {str(small): b"hello\n", "large": b"x" * 5000}
    assert await place.provider.size(SpecConfig(type="ipfs", params={"CID": str(large)})) == 5000
    assert await place.provider.size(SpecConfig(type="ipfs", params={"CID": str(small)})) == 6


async def test_a_path_below_is_followed_also_through_shards(place: Place) -> None:
    cid = place.node.add(place.tree(), LAYOUT)
    assert await place.download(cid, Path="/many/57") == {"57": b"57"}
    assert len(await place.download(cid, Path="many")) == 60
    for absent in ("many/x", "sub/large/x", "nowhere"):
        with pytest.raises(SourceNotFound):
            await place.download(cid, Path=absent)


async def test_identity_blocks_need_nobody(place: Place) -> None:
    cid = CID(1, RAW, 0, b"inline")
    assert await place.download(cid, Name="f") == {"f": b"inline"}
    assert place.node.server.asked == []


async def test_a_node_that_lies_is_found_out(place: Place) -> None:
    cid = place.node.add(place.tree(), LAYOUT)
    for digest in list(place.node.blocks):
        original = place.node.blocks[digest]
        if len(original) > 900:
            place.node.blocks[digest] = original[:-1] + bytes([original[-1] ^ 1])
            break
    for params in ({}, {"Format": "car"}, {"API": place.node.url}):
        with pytest.raises(ContentMismatch):
            await place.download(cid, None, **params)


async def test_what_is_missing_in_a_car_is_asked_for_singly(place: Place) -> None:
    tree = place.tree()
    cid = place.node.add(tree, LAYOUT)
    place.node.left_out_of_cars = set(list(place.node.blocks)[::3])
    await place.download(cid, Format="car")
    assert read_content(place.gathering.content, layout=LAYOUT).cid == cid
    assert len(place.node.server.asked) > 1


async def test_blocks_that_nobody_has_are_told(place: Place) -> None:
    cid = place.node.add(place.tree(), LAYOUT)
    place.node.blocks.pop(cid.digest)
    with pytest.raises(SourceNotFound):
        await place.download(cid)


async def test_an_interrupted_download_goes_on_where_it_ended(place: Place) -> None:
    content = os.urandom(200_000)
    cid = Builder(LAYOUT, place.node.put).file(io.BytesIO(content)).cid
    answer, asked = place.node.answer, 0

    async def fail_late(request: Asked) -> Answer:
        nonlocal asked
        asked += 1
        return Answer(403) if asked > 150 else await answer(request)

    place.node.server.handler = fail_late
    with pytest.raises(StorageError):
        await place.download(cid, Name="f")
    place.node.server.handler = answer
    before = len(place.node.server.asked)
    assert await place.download(cid, Name="f") == {"f": content}
    assert len(place.node.server.asked) - before < 220
    assert await place.download(cid, Name="f") == {"f": content}


async def test_a_server_error_is_tried_again(place: Place, autojump_clock: trio.testing.MockClock) -> None:
    cid = Builder(LAYOUT, place.node.put).file(io.BytesIO(b"x" * 3000)).cid
    answer, failures = place.node.answer, iter(range(2))

    async def fail_first(request: Asked) -> Answer:
        return Answer(502) if next(failures, None) is not None else await answer(request)

    place.node.server.handler = fail_first
    assert await place.download(cid, Name="f") == {"f": b"x" * 3000}


async def test_size_and_number_are_bounded(place: Place) -> None:
    cid = place.node.add(place.tree(), LAYOUT)
    with pytest.raises(TooLarge):
        await place.download(cid, Limits(max_bytes=5_000))
    with pytest.raises(TooLarge):
        await place.download(cid, Limits(max_files=30))
    with pytest.raises(TooLarge):
        await place.download(cid, Limits(max_bytes=1000), Format="car")


async def test_a_few_blocks_that_describe_endless_trees_are_refused(place: Place) -> None:
    builder = Builder(emit=place.node.put)
    link = builder.directory([])
    for _ in range(40):
        link = builder.directory([Link(link.cid, b"a", 1), Link(link.cid, b"b", 1)])
    with pytest.raises(TooLarge):
        await place.download(link.cid, Limits(max_files=50))
    with pytest.raises(TooLarge):
        await place.provider.size(SpecConfig(type="ipfs", params={"CID": str(nested(place, 80))}))


def nested(place: Place, depth: int) -> CID:
    builder = Builder(emit=place.node.put)
    link = builder.directory([])
    for _ in range(depth):
        link = builder.directory([Link(link.cid, b"d", 1)])
    return link.cid


def block(place: Place, links: list[Link], data: bytes) -> CID:
    from dms.storage.unixfs import _encode_node

    content = _encode_node(links, data)
    cid = CID.of(DAG_PB, content)
    place.node.put(cid, content)
    return cid


@pytest.mark.parametrize(
    "data",
    [
        b"\x08\x02\x18\x0a\x20\x05\x20\x05",  # says ten bytes in pieces of five; they have three
        b"\x08\x02\x18\x06\x20\x03",  # more pieces than sizes
        b"\x08\x02\x18\x06\x20\x00\x20\x06",  # a piece without a size
        b"\x08\x02\x18\x63\x20\x03\x20\x03",  # says 99 bytes
        b"\x08\x09",  # of no known kind
        b"\x08\x05\x30\x80\x02",  # a shard whose names have no prefix
        b"\xff\xff",
    ],
)
async def test_blocks_that_contradict_themselves_are_refused(place: Place, data: bytes) -> None:
    leaf = Builder(emit=place.node.put).file(io.BytesIO(b"abc")).cid
    cid = block(place, [Link(leaf, b"", 3), Link(leaf, b"", 3)], data)
    with pytest.raises(ContentMismatch):
        await place.download(cid, Name="f")


@pytest.mark.parametrize("name", [b"..", b"a/b", b"/etc/passwd", b"", b"\xff", b"a\0b", b"."])
async def test_names_that_lead_out_are_refused(place: Place, name: bytes) -> None:
    leaf = Builder(emit=place.node.put).file(io.BytesIO(b"abc")).cid
    inner = block(place, [Link(leaf, name, 3)], b"\x08\x01")
    cid = block(place, [Link(inner, b"d", 3)], b"\x08\x01")
    with pytest.raises(StorageError):
        await place.download(cid)
    assert not [path for path in place.gathering.content.rglob("*") if path.is_file()]


async def test_other_codecs_are_refused(place: Place) -> None:
    with pytest.raises(InvalidStorageSpec, match="neither file nor directory"):
        await place.download(CID(1, 0x71, 0x12, bytes(32)))


async def test_a_block_that_is_too_large_is_not_read(place: Place) -> None:
    content = bytes(3 << 20)
    cid = CID.of(RAW, content)
    place.node.put(cid, content)
    with pytest.raises(TooLarge):
        await place.download(cid)


async def test_a_directory_is_uploaded_as_what_its_content_id_says(place: Place) -> None:
    tree = place.tree()
    meter = Meter(None, place.progress.append)
    target = await place.provider.upload(tree, SpecConfig(type="ipfs"), meter)
    assert target.params == {"CID": str(read_content(tree).cid)}
    assert meter.progress.done_bytes == meter.progress.total_bytes
    await place.download(str(target.params["CID"]))
    assert read_content(place.gathering.content) == read_content(tree)
    other = SpecConfig(type="ipfs", params={"CID": str(CID.of(RAW, b""))})
    with pytest.raises(ContentMismatch):
        await place.provider.upload(tree, other, Meter())


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b""),
        Answer(200, b"<html>"),
        Answer(200, b'{"Root":{"Cid":{"/":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"}}}'),
        Answer(
            200,
            b'{"Root":{"Cid":{"/":"bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"},"PinErrorMsg":"full"}}',
        ),
        Answer(500, b"no"),
        Answer(403, b"no"),
    ],
)
async def test_a_node_that_did_not_keep_it_is_not_believed(place: Place, answer: Answer) -> None:
    async def refuse(_asked: Asked) -> Answer:
        return answer

    place.node.server.handler = refuse
    with pytest.raises(StorageError):
        await place.provider.upload(place.tree(), SpecConfig(type="ipfs"), Meter())


async def test_only_what_the_owner_set_may_be_private(place: Place) -> None:
    tenant = WebClient(Egress())
    provider = IpfsProvider(tenant, owner=place.client, gateway=place.node.url)
    cid = Builder(emit=place.node.put).file(io.BytesIO(b"hello\n")).cid
    await provider.download(SpecConfig(type="ipfs", params={"CID": str(cid)}), place.gathering, Meter())
    for params in ({"Gateway": place.node.url}, {"API": place.node.url}, {"Gateway": place.node.url, "Format": "car"}):
        spec = SpecConfig(type="ipfs", params={"CID": str(cid), **params})
        with pytest.raises(AddressRefused):
            await provider.download(spec, Gathering(place.base / "other"), Meter())
    with pytest.raises(ProviderMissing, match="need the RPC"):
        await provider.upload(place.tree(), SpecConfig(type="ipfs"), Meter())
    with pytest.raises(ProviderMissing, match="no way to IPFS"):
        await IpfsProvider(tenant, owner=tenant).size(SpecConfig(type="ipfs", params={"CID": str(cid)}))
    await tenant.aclose()


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "cid cannot be empty"),
        ({"CID": "hello"}, "not a content id"),
        ({"Path": "../x"}, "cannot be used"),
        ({"Name": "../x"}, "cannot be used"),
        ({"Format": "tar"}, "raw or car"),
        ({"Gateway": "ftp://x"}, "no address"),
        ({"Gateway": "https://a.example", "API": "https://b.example"}, "not both"),
    ],
)
async def test_parameters_that_cannot_work_are_refused(place: Place, params: dict[str, object], reason: str) -> None:
    good = {"CID": "bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"} if params else {}
    with pytest.raises(InvalidStorageSpec, match=reason):
        place.provider.check(SpecConfig(type="ipfs", params={**good, **params}))


def test_a_car_is_read_in_whatever_pieces_it_comes() -> None:
    car = CAR_OF_JAVASCRIPT.read_bytes()
    whole = CarReader().feed(car)
    for step in (1, 7, 1000):
        reader = CarReader()
        assert [each for at in range(0, len(car), step) for each in reader.feed(car[at : at + step])] == whole
    root = whole[-1][0]
    assert car.startswith(car_header(root))
    assert car_header(root) + b"".join(car_section(cid, content) for cid, content in whole) == car


@pytest.mark.parametrize(
    "data",
    [
        b"<html>no</html>",
        b"\x0a\xa1gversion\x02",
        b"\x00",
        b"\xff" * 12,
        b"\xff\xff\xff\x7f",
        b"\x0a\xa1gversion\x01\x02ab",
    ],
)
def test_what_is_no_car_is_refused(data: bytes) -> None:
    def read() -> None:
        reader = CarReader()
        reader.feed(data)
        reader.finish()

    with pytest.raises(TransferFailed):
        read()


async def test_a_deep_tree_of_large_blocks_is_not_held_in_memory(place: Place) -> None:
    """Each level has seven files beside the directory that leads on; all would be fetched ahead."""
    builder = Builder(emit=place.node.put)
    most = held = 0
    link = builder.directory([])
    for level in range(20):
        files = [builder.file(io.BytesIO(bytes([level, index]) * 1000)) for index in range(7)]
        entries = [Link(each.cid, f"f{index}".encode(), 2000) for index, each in enumerate(files)]
        link = builder.directory([Link(link.cid, b"d", 1), *entries])
    from dms.storage.ipfs import HELD, _Tree

    class Counting:
        async def get(self, cid: CID) -> bytes:
            return place.node.blocks[cid.digest]

    await place.gathering.prepare()
    tree = _Tree(Counting(), Meter())
    original = tree._get_ahead

    async def counted(cid: CID) -> bytes | None:
        nonlocal most, held
        block = await original(cid)
        held = tree._held
        most = max(most, held)
        return block

    tree._get_ahead = counted  # type: ignore[method-assign]
    await tree.take(link, "", "x", place.gathering, 0)
    assert most == HELD
    assert tree._held == 0
    assert sum(1 for path in place.gathering.content.rglob("*") if path.is_file()) == 140
