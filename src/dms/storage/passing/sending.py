"""The sending side of a file: open it safely, skip what the other side has, send the rest and the digest of the whole."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import trio

from dms.network.byte_streams import ByteStream
from dms.network.errors import NetworkError
from dms.storage.errors import ContentMismatch, SourceNotFound, StorageError, TransferFailed, TransferRefused
from dms.storage.passing.protocol import STALL_S, Opening, Verdict, hear_verdict, tell
from dms.storage.passing.transfers import Transfer
from dms.storage.tree import check_path, open_file

PIECE_BYTES = 1 << 20


def open_source(volume: Path, path: str) -> tuple[BinaryIO, int, str]:
    """The file, its size, and its version: something that changes whenever it is written to.

    :raises SourceNotFound: there is no such plain file.
    """
    check_path(path)
    try:
        file = open_file(volume, path)
    except StorageError as exc:
        raise SourceNotFound(f"no such file: {path[:80]}") from exc
    found = os.fstat(file.fileno())
    return file, found.st_size, f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"


async def send(stream: ByteStream, file: BinaryIO, transfer: Transfer, ticket: str) -> None:
    """Send a file on a stream that was opened for it.

    :raises TransferFailed: the stream broke, or nothing moved for a while; it may be tried again.
    :raises DMSError: what the other side says: it will not work.
    """
    await tell(stream, Opening(ticket=ticket, size=transfer.size))
    answer = _agreed(await _in_time(stream))
    if not 0 <= answer.offset <= transfer.size:
        raise TransferFailed("the other side has more than there is")
    digest = hashlib.sha256()
    await trio.to_thread.run_sync(_skip, file, answer.offset, digest)
    transfer.done = answer.offset
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_write, stream, file, transfer, digest)
        verdict = await _verdict(stream, transfer)
        nursery.cancel_scope.cancel()
    _agreed(verdict)


async def _verdict(stream: ByteStream, transfer: Transfer) -> Verdict:
    """The last word, which may come early; waited for as long as something moves."""
    while True:
        before = transfer.done
        try:
            with trio.fail_after(STALL_S):
                return await hear_verdict(stream)
        except trio.TooSlowError:
            if transfer.done == before:
                return Verdict(error=f"nothing moved for {STALL_S:g} s", retry=True)
        except NetworkError as exc:
            return Verdict(error=exc.message, retry=True)


async def _write(stream: ByteStream, file: BinaryIO, transfer: Transfer, digest: hashlib._Hash) -> None:
    left = transfer.size - transfer.done
    try:
        while left:
            data = await trio.to_thread.run_sync(file.read, min(PIECE_BYTES, left))
            if not data:
                await stream.reset()  # it became shorter; the reader of the verdict learns of the end
                return
            digest.update(data)
            await stream.write(data)
            transfer.done += len(data)
            left -= len(data)
        await stream.write(digest.digest())
        await stream.close()
    except NetworkError:
        return  # so does he here


def _skip(file: BinaryIO, offset: int, digest: hashlib._Hash) -> None:
    left = offset
    while left:
        data = file.read(min(PIECE_BYTES, left))
        if not data:
            raise ContentMismatch("the file became shorter while it was sent")
        digest.update(data)
        left -= len(data)


async def _in_time(stream: ByteStream) -> Verdict:
    try:
        with trio.fail_after(STALL_S):
            return await hear_verdict(stream)
    except trio.TooSlowError:
        raise TransferFailed(f"no answer for {STALL_S:g} s") from None
    except NetworkError as exc:
        raise TransferFailed(exc.message) from exc


def _agreed(verdict: Verdict) -> Verdict:
    if verdict.ok:
        return verdict
    if verdict.retry:
        raise TransferFailed(verdict.error or "the transfer broke off")
    raise TransferRefused(verdict.error or "the other side does not take the file", hint=verdict.hint)
