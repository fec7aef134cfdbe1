"""What a node does with files that it is to bring or take: permissions, transfers, and another try when one breaks off."""

from __future__ import annotations

import secrets
from contextlib import closing
from pathlib import Path

import trio

from dms.network.byte_streams import ByteStream, ByteStreams
from dms.network.errors import NetworkError
from dms.observe import get_logger
from dms.storage.controller import VolumeController
from dms.storage.errors import (
    AccessRefused,
    InvalidVolumeName,
    StorageFull,
    TooLarge,
    TransferFailed,
    VolumeLocked,
    VolumeSealed,
)
from dms.storage.passing.protocol import PROTOCOL, STALL_S, Opening, Verdict, hear_opening, tell
from dms.storage.passing.receiving import Partial, receive, require_room
from dms.storage.passing.sending import open_source, send
from dms.storage.passing.tickets import Ticket, Tickets
from dms.storage.passing.transfers import State, Transfer, Transfers
from dms.storage.tree import check_path
from dms.storage.volume import Volume
from dms.types.errors import DMSError
from dms.types.ids import PeerID

MAX_FILE_BYTES = 1 << 40
TRIES, FIRST_PAUSE_S = 5, 1.0
"""A transfer that broke off is tried again so often, after pauses that double."""

log = get_logger(__name__)


class FileDesk:
    """Passes files between the volumes of ``controller`` and those of other nodes.

    :param streams: how other nodes are reached; inbound ones are served by :meth:`serve`.
    """

    def __init__(
        self, streams: ByteStreams, controller: VolumeController, *, first_pause_s: float = FIRST_PAUSE_S
    ) -> None:
        self._first_pause_s = first_pause_s
        self._streams = streams
        self._controller = controller
        self._tickets = Tickets(lambda: secrets.token_hex(32))
        self._transfers = Transfers()

    async def serve(self) -> None:
        """Take files from other nodes until cancelled."""
        self._streams.handle(PROTOCOL, self._take)
        try:
            await trio.sleep_forever()
        finally:
            self._streams.unhandle(PROTOCOL)

    def transfers(self, tenant: str) -> tuple[Transfer, ...]:
        """Those of a tenant: under way, and the last that ended."""
        return self._transfers.of(tenant)

    # what tenants ask for --------------------------------------------------------------------------------------------

    async def describe(self, volume: Volume, path: str) -> tuple[int, str]:
        """Size and version of a file that could be sent.

        :raises SourceNotFound: there is none.
        """
        _refuse_sealed(volume)
        file, size, version = await trio.to_thread.run_sync(open_source, volume.path, path)
        await trio.to_thread.run_sync(file.close)
        return size, version

    async def permit(self, volume: Volume, path: str, *, size: int, version: str, peer: PeerID) -> tuple[Ticket, int]:
        """A ticket for ``peer`` to bring a file, and how much of it is here from an earlier attempt.

        :raises InvalidVolumeName: the path cannot be used, or is taken.
        :raises VolumeLocked: the volume changes no more.
        :raises StorageFull: it would not fit.
        """
        check_path(path)
        _refuse_sealed(volume)
        if volume.is_locked:
            raise VolumeLocked(f"the volume {volume.record.label} is locked: it changes no more")
        if not 0 <= size <= MAX_FILE_BYTES:
            raise TooLarge(f"files have at most {MAX_FILE_BYTES} bytes")
        if await trio.to_thread.run_sync(_is_taken, volume.path, path):
            raise InvalidVolumeName(f"there is a {path[:80]!r} already", hint="remove it first, or choose another name")
        ticket = self._tickets.issue(
            peer=peer,
            tenant=volume.record.tenant,
            volume=volume.path,
            label=volume.record.label,
            path=path,
            size=size,
            version=version,
            now_s=trio.current_time(),
        )
        done = await trio.to_thread.run_sync(_size_of, self._staging(ticket))
        require_room(volume.path, size - min(done, size), await self._controller.room_bytes())
        return ticket, min(done, size)

    def prepare(self, volume: Volume, path: str, *, size: int, peer: PeerID) -> Transfer:
        """Note a file that is to be sent; :meth:`bring` sends it.

        :raises TooLarge: too many are under way.
        """
        check_path(path)
        return self._transfers.begin(
            Transfer(
                secrets.token_hex(8),
                volume.record.tenant,
                True,
                peer,
                volume.record.label,
                path,
                size,
            )
        )

    async def bring(self, transfer: Transfer, volume: Volume, *, ticket: str, version: str) -> None:
        """Send a file, trying again when it breaks off; what became of it is in the transfer."""
        pause_s = self._first_pause_s
        try:
            for left in reversed(range(TRIES)):
                try:
                    await self._bring_once(transfer, volume, ticket, version)
                    break
                except (TransferFailed, NetworkError) as exc:
                    if not left:
                        raise
                    log.info("file_transfer_again", transfer=transfer.id, peer=transfer.peer, error=exc.message)
                await trio.sleep(pause_s)
                pause_s *= 2
            transfer.state = State.DONE
        except DMSError as exc:
            transfer.error = exc.message
        finally:
            if transfer.state is State.RUNNING:
                transfer.state = State.FAILED
            log.info("file_sent", transfer=transfer.id, state=transfer.state.value, error=transfer.error)

    async def _bring_once(self, transfer: Transfer, volume: Volume, ticket: str, version: str) -> None:
        file, size, found = await trio.to_thread.run_sync(open_source, volume.path, transfer.path)
        with closing(file):
            if (size, found) != (transfer.size, version):
                raise AccessRefused("the file was changed meanwhile", hint="send it again")
            stream = await self._streams.open(transfer.peer, PROTOCOL)
            try:
                await send(stream, file, transfer, ticket)
            finally:
                with trio.CancelScope(shield=True):
                    await stream.reset()

    # what other nodes bring ------------------------------------------------------------------------------------------

    async def _take(self, stream: ByteStream) -> None:
        with trio.move_on_after(STALL_S) as scope:
            opening = await hear_opening(stream)
        if scope.cancelled_caught:
            raise TransferFailed(f"nothing came for {STALL_S:g} s")
        verdict = Verdict(ok=True)
        try:
            await self._take_file(stream, opening)
        except (TransferFailed, NetworkError) as exc:
            verdict = Verdict(error=exc.message, hint=exc.hint, retry=True)
        except DMSError as exc:
            verdict = Verdict(error=exc.message, hint=exc.hint, retry=isinstance(exc, StorageFull))
        with trio.move_on_after(STALL_S):
            await tell(stream, verdict)

    async def _take_file(self, stream: ByteStream, opening: Opening) -> None:
        ticket = self._tickets.redeem(opening.ticket, stream.peer, trio.current_time())
        transfer: Transfer | None = None
        is_over = False
        try:
            if opening.size != ticket.size:
                raise AccessRefused("the ticket is for a file of another size")
            transfer = self._transfers.begin(
                Transfer(
                    secrets.token_hex(8),
                    ticket.tenant,
                    False,
                    stream.peer,
                    ticket.label,
                    ticket.path,
                    ticket.size,
                )
            )
            await self._write(stream, ticket, transfer)
            is_over = True
            transfer.state = State.DONE
        except (TransferFailed, NetworkError, StorageFull) as exc:
            _note_failure(transfer, exc)
            raise
        except DMSError as exc:
            is_over = True
            _note_failure(transfer, exc)
            raise
        finally:
            if is_over:
                self._tickets.consume(ticket)
            else:
                self._tickets.give_back(ticket, trio.current_time())
            if transfer is not None:
                if transfer.state is State.RUNNING:
                    transfer.state = State.FAILED
                log.info("file_received", transfer=transfer.id, peer=transfer.peer, state=transfer.state.value)

    async def _write(self, stream: ByteStream, ticket: Ticket, transfer: Transfer) -> None:
        staging = self._staging(ticket)
        partial = await trio.to_thread.run_sync(Partial, staging, ticket.size)
        with partial:
            missing = ticket.size - partial.done
            require_room(ticket.volume, missing, await self._controller.room_bytes() if missing else None)
            transfer.done = partial.done
            await tell(stream, Verdict(ok=True, offset=partial.done))
            digest = await receive(stream, partial, transfer)
            await trio.to_thread.run_sync(partial.finish, digest, ticket.volume, ticket.path)

    def _staging(self, ticket: Ticket) -> Path:
        parts = (ticket.tenant, str(ticket.volume), ticket.path, ticket.peer, str(ticket.size), ticket.version)
        return self._controller.staging("\0".join(("passed", *parts)))


def _note_failure(transfer: Transfer | None, exc: DMSError) -> None:
    if transfer is not None:
        transfer.state, transfer.error = State.FAILED, exc.message


def _refuse_sealed(volume: Volume) -> None:
    if volume.is_sealed:
        raise VolumeSealed(f"the volume {volume.record.label} is encrypted", hint="decrypt it first")


def _is_taken(volume: Path, path: str) -> bool:
    """Whether something is there, or in the way; links are not followed."""
    *above, name = path.split("/")
    current = volume
    for part in above:
        current = current / part
        if current.is_symlink():
            return True
    return (current / name).is_symlink() or (current / name).exists()


def _size_of(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
