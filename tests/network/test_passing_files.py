"""Files that nodes pass to each other, over libp2p and in memory alike, with real volumes."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from tests.network.worlds import World

from dms.network import ByteStream, ByteStreamHandler, ByteStreams, Network, StreamEnded
from dms.storage.controller import VolumeController
from dms.storage.errors import InvalidVolumeName, SourceNotFound, StorageFull, TooLarge, VolumeLocked
from dms.storage.passing.desk import MAX_FILE_BYTES, FileDesk
from dms.storage.passing.protocol import PROTOCOL, Opening, Verdict, hear_verdict, tell
from dms.storage.passing.tickets import Ticket
from dms.storage.passing.transfers import State, Transfer
from dms.storage.service import StorageOptions, open_volumes
from dms.storage.volume import Volume
from dms.store import Store
from dms.types.ids import PeerID

TENANT = "did:key:somebody"
MIB = 1 << 20
CONTENT = random.Random(7).randbytes(5 * MIB + 12_345)


@dataclass
class Flaky:
    """Streams that break off after so many bytes each; the last of the list is used again and again."""

    real: ByteStreams
    break_after: list[int | None] = field(default_factory=lambda: [None])
    opened: int = 0

    def handle(self, protocol: str, handler: ByteStreamHandler) -> None:
        self.real.handle(protocol, handler)

    def unhandle(self, protocol: str) -> None:
        self.real.unhandle(protocol)

    async def open(self, peer: PeerID, *protocols: str, timeout_s: float = 10.0) -> ByteStream:
        left = self.break_after[min(self.opened, len(self.break_after) - 1)]
        self.opened += 1
        return Breaking(await self.real.open(peer, *protocols, timeout_s=timeout_s), left)


class Breaking:
    """A stream that is reset once so many bytes were written."""

    def __init__(self, real: ByteStream, left: int | None) -> None:
        self._real = real
        self._left = left
        self.peer, self.protocol, self.is_relayed, self.relay = real.peer, real.protocol, real.is_relayed, real.relay

    async def read(self, max_bytes: int) -> bytes:
        return await self._real.read(max_bytes)

    async def write(self, data: bytes) -> None:
        if self._left is not None and len(data) > self._left:
            await self._real.write(data[: self._left])
            await trio.sleep(0.05)  # what a reset overtakes is lost
            await self._real.reset()
            raise StreamEnded("broken by the test")
        self._left = None if self._left is None else self._left - len(data)
        await self._real.write(data)

    @property
    def room(self) -> int:
        return 0

    def write_nowait(self, data: bytes) -> None:
        raise AssertionError("there was no room")

    async def close(self) -> None:
        await self._real.close()

    async def reset(self) -> None:
        await self._real.reset()


@dataclass
class Site:
    """A node with volumes."""

    network: Network
    controller: VolumeController
    desk: FileDesk
    volume: Volume
    nursery: trio.Nursery

    async def restart(self) -> None:
        """Forget everything that is not on the disk."""
        self.network.streams.unhandle(PROTOCOL)
        self.desk = FileDesk(self.network.streams, self.controller)
        self.nursery.start_soon(self.desk.serve)
        await trio.testing.wait_all_tasks_blocked(0.01)

    @property
    def directory(self) -> Path:
        return self.volume.path

    def partials(self) -> list[Path]:
        return list((self.controller.base / ".staging").iterdir())


@asynccontextmanager
async def site(
    network: Network, base: Path, *, streams: ByteStreams | None = None, max_bytes: int = 0
) -> AsyncIterator[Site]:
    options = StorageOptions(max_volumes_bytes=max_bytes)
    async with (
        await Store.open(None) as store,
        open_volumes(store, base, options) as volumes,
        trio.open_nursery() as nursery,
    ):
        desk = FileDesk(streams or network.streams, volumes.controller, first_pause_s=0.01)
        nursery.start_soon(desk.serve)
        yield Site(network, volumes.controller, desk, await volumes.controller.named(TENANT, "data"), nursery)
        nursery.cancel_scope.cancel()


@dataclass
class Pair:
    sender: Site
    receiver: Site
    flaky: Flaky

    async def permit(self, path: str = "in/file.bin", *, size: int | None = None) -> tuple[Ticket, int]:
        found, version = await self.sender.desk.describe(self.sender.volume, "file.bin")
        return await self.receiver.desk.permit(
            self.receiver.volume,
            path,
            size=found if size is None else size,
            version=version,
            peer=self.sender.network.peer_id,
        )

    async def bring(self, ticket: str, *, path: str = "file.bin") -> Transfer:
        desk, volume = self.sender.desk, self.sender.volume
        size, version = await desk.describe(volume, path)
        transfer = desk.prepare(volume, path, size=size, peer=self.receiver.network.peer_id)
        await desk.bring(transfer, volume, ticket=ticket, version=version)
        return transfer

    def arrived(self, path: str = "in/file.bin") -> bytes:
        return (self.receiver.directory / path).read_bytes()


@pytest.fixture
async def pair(world: World, tmp_path: Path) -> AsyncIterator[Pair]:
    a, b = await world.pair()
    flaky = Flaky(b.streams)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(site(a, tmp_path / "receiver"))
        sender = await stack.enter_async_context(site(b, tmp_path / "sender", streams=flaky))
        (sender.directory / "file.bin").write_bytes(CONTENT)
        yield Pair(sender, receiver, flaky)


async def test_a_file_arrives_whole_and_both_sides_know(pair: Pair) -> None:
    ticket, have = await pair.permit()

    transfer = await pair.bring(ticket.secret)

    assert (transfer.state, transfer.error, transfer.done, have) == (State.DONE, "", len(CONTENT), 0)
    assert pair.arrived() == CONTENT
    (incoming,) = pair.receiver.desk.transfers(TENANT)
    assert (incoming.state, incoming.done, incoming.is_outgoing) == (State.DONE, len(CONTENT), False)
    assert pair.receiver.desk.transfers("did:key:other") == ()
    assert pair.receiver.partials() == []


async def test_an_empty_file_arrives_too(pair: Pair) -> None:
    (pair.sender.directory / "file.bin").write_bytes(b"")
    ticket, _ = await pair.permit()
    assert (await pair.bring(ticket.secret)).state is State.DONE
    assert pair.arrived() == b""


async def test_a_transfer_that_breaks_off_goes_on_where_it_was(pair: Pair) -> None:
    pair.flaky.break_after = [2 * MIB, 2 * MIB, None]
    ticket, _ = await pair.permit()

    transfer = await pair.bring(ticket.secret)

    assert (transfer.state, transfer.error) == (State.DONE, "")
    assert pair.flaky.opened == 3
    assert pair.arrived() == CONTENT


async def test_after_the_receiver_was_killed_the_rest_is_asked_for(pair: Pair) -> None:
    pair.flaky.break_after = [3 * MIB, 0]
    ticket, _ = await pair.permit()
    assert (await pair.bring(ticket.secret)).state is State.FAILED

    await pair.receiver.restart()
    pair.flaky.break_after = [None]
    assert (await pair.bring(ticket.secret)).state is State.FAILED, "tickets do not survive"
    again, have = await pair.permit()
    transfer = await pair.bring(again.secret)

    assert have > MIB
    assert transfer.state is State.DONE
    assert pair.arrived() == CONTENT


async def test_what_is_not_what_was_sent_is_thrown_away(pair: Pair) -> None:
    pair.flaky.break_after = [2 * MIB, 0]
    ticket, _ = await pair.permit()
    await pair.bring(ticket.secret)
    (partial,) = pair.receiver.partials()
    partial.write_bytes(b"!" + partial.read_bytes()[1:])
    pair.flaky.break_after = [None]

    transfer = await pair.bring(ticket.secret)

    assert (transfer.state, transfer.error) == (State.FAILED, "what arrived is not what was sent")
    assert not (pair.receiver.directory / "in/file.bin").exists()
    assert pair.receiver.partials() == []
    again, have = await pair.permit()
    assert have == 0
    assert (await pair.bring(again.secret)).state is State.DONE


async def test_a_ticket_is_good_once_and_for_its_peer_only(pair: Pair) -> None:
    ticket, _ = await pair.permit()
    assert (await pair.bring(ticket.secret)).state is State.DONE
    assert (await pair.bring(ticket.secret)).error == "no such ticket"
    assert (await pair.bring("guessed")).error == "no such ticket"

    size, version = await pair.sender.desk.describe(pair.sender.volume, "file.bin")
    other, _ = await pair.receiver.desk.permit(
        pair.receiver.volume, "other.bin", size=size, version=version, peer=pair.receiver.network.peer_id
    )
    assert (await pair.bring(other.secret)).error == "no such ticket"


async def test_a_ticket_is_for_its_size_and_its_file(pair: Pair) -> None:
    ticket, _ = await pair.permit(size=17)
    assert (await pair.bring(ticket.secret)).error == "the ticket is for a file of another size"

    ticket, _ = await pair.permit()
    transfer = pair.sender.desk.prepare(
        pair.sender.volume, "file.bin", size=len(CONTENT), peer=pair.receiver.network.peer_id
    )
    (pair.sender.directory / "file.bin").write_bytes(CONTENT[::-1])
    await pair.sender.desk.bring(transfer, pair.sender.volume, ticket=ticket.secret, version=ticket.version)
    assert transfer.error == "the file was changed meanwhile"


@pytest.mark.parametrize("path", ["../up", "/abs", "a/../../b", "", "a//b", "a\x00b", "link/x"])
async def test_nothing_is_written_outside_of_the_volume(pair: Pair, path: str, tmp_path: Path) -> None:
    (pair.receiver.directory / "link").symlink_to(tmp_path)
    with pytest.raises(InvalidVolumeName):
        await pair.permit(path)


async def test_a_link_that_is_put_in_the_way_later_is_not_followed(pair: Pair, tmp_path: Path) -> None:
    ticket, _ = await pair.permit("dir/file.bin")
    (pair.receiver.directory / "dir").symlink_to(tmp_path)

    assert (await pair.bring(ticket.secret)).state is State.FAILED
    assert not (tmp_path / "file.bin").exists()


async def test_what_is_there_is_never_overwritten(pair: Pair) -> None:
    ticket, _ = await pair.permit("taken")
    (pair.receiver.directory / "taken").write_text("mine")
    assert (await pair.bring(ticket.secret)).state is State.FAILED
    assert (pair.receiver.directory / "taken").read_text() == "mine"
    with pytest.raises(InvalidVolumeName):
        await pair.permit("taken")


async def test_only_plain_files_of_the_volume_are_sent(pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (pair.sender.directory / "link").symlink_to(tmp_path / "secret")
    (pair.sender.directory / "directory").mkdir()
    for path in ("link", "directory", "absent"):
        with pytest.raises(SourceNotFound):
            await pair.sender.desk.describe(pair.sender.volume, path)


async def test_what_would_not_fit_is_refused_before_it_is_sent(pair: Pair) -> None:
    with pytest.raises(TooLarge):
        await pair.permit(size=MAX_FILE_BYTES + 1)
    with pytest.raises(StorageFull):
        await pair.permit(size=MAX_FILE_BYTES)
    await pair.receiver.controller.lock(pair.receiver.directory)
    pair.receiver.volume = await pair.receiver.controller.get(pair.receiver.directory)
    with pytest.raises(VolumeLocked):
        await pair.permit()


async def test_volumes_that_are_full_take_no_more(world: World, tmp_path: Path) -> None:
    async with site(await world.start(), tmp_path / "small", max_bytes=MIB) as small:
        with pytest.raises(StorageFull):
            await small.desk.permit(small.volume, "file", size=2 * MIB, version="", peer=small.network.peer_id)


async def test_a_reader_who_takes_his_time_gets_the_whole_file(pair: Pair) -> None:
    got = bytearray()

    async def slow(stream: ByteStream) -> None:
        with trio.fail_after(10):
            await stream.read(4096)  # the opening
            await tell(stream, Verdict(ok=True))
            while len(got) < len(CONTENT) + 32:
                got.extend(await stream.read(MIB))
                await trio.sleep(0.005)
            await tell(stream, Verdict(ok=True))

    pair.receiver.network.streams.unhandle(PROTOCOL)
    pair.receiver.network.streams.handle(PROTOCOL, slow)
    assert (await pair.bring("any")).state is State.DONE
    assert bytes(got[:-32]) == CONTENT


async def test_noise_instead_of_a_file_harms_nobody(pair: Pair) -> None:
    for noise in (b"\x00" * 8, b"\xff" * 100, (5).to_bytes(8, "little") + b"{oops", b""):
        stream = await pair.sender.network.streams.open(pair.receiver.network.peer_id, PROTOCOL)
        await stream.write(noise)
        await stream.close()
    assert "handlers failed" not in pair.receiver.network.counters()
    ticket, _ = await pair.permit()
    stream = await pair.sender.network.streams.open(pair.receiver.network.peer_id, PROTOCOL)
    await tell(stream, Opening(ticket=ticket.secret, size=len(CONTENT)))
    assert (await hear_verdict(stream)).ok
    await stream.write(b"short")
    await stream.close()
    verdict = await hear_verdict(stream)
    assert (verdict.ok, verdict.retry) == (False, True)

    assert (await pair.bring(ticket.secret)).error == "what arrived is not what was sent"
