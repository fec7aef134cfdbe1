"""S3 and what speaks like it, by way of ``obstore`` in worker threads (``spec/execution.md`` 6.4).

Very large objects come in ranges, several at a time and written in order; all others in one stream. An interruption
costs little, memory is bounded, and a cancellation is noticed within a chunk. Every request names the ETag that was
seen first: an object that changes meanwhile is an error and not a mixture. What this program uploaded carries its
SHA-256 and is checked by it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from dms.storage import s3_client
from dms.storage.egress import Egress, Resolve, permitted, resolve
from dms.storage.errors import (
    AddressRefused,
    ContentMismatch,
    InvalidStorageSpec,
    InvalidVolumeName,
    SourceNotFound,
    StorageError,
    TransferFailed,
)
from dms.storage.gate import open_gate
from dms.storage.s3_client import DIRECTORY_TYPE, PART_BYTES, REQUESTS, S3Object
from dms.storage.s3_params import TYPE, S3Params
from dms.storage.transfer import Gathering, Meter, Part, in_order, one_error
from dms.storage.tree import check_path, walk
from dms.storage.web import check_url
from dms.types.resources import SpecConfig

if TYPE_CHECKING:
    from obstore.store import S3Store

T = TypeVar("T")

STREAM_BYTES = 64 << 20
"""What is larger comes in ranges: one connection to S3 carries less than the network does."""
FIRST_WAIT_S = 0.5
THREADS = 4 * REQUESTS
"""For all transfers together."""
ATTEMPTS = 3
_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("s3_threads")
_WILD = re.compile(r"[*?\[]")


class S3Provider:
    """Downloads objects, folders and patterns; uploads directories. ``egress`` says who asks."""

    type = TYPE

    def __init__(
        self,
        egress: Egress,
        *,
        lookup: Resolve = resolve,
        stream_bytes: int = STREAM_BYTES,
        part_bytes: int = PART_BYTES,
    ) -> None:
        """Objects of up to ``stream_bytes`` come in one stream, others in ranges of ``part_bytes``."""
        self._part_bytes = part_bytes
        self._stream_bytes = stream_bytes
        self._egress = egress
        self._lookup = lookup

    def check(self, spec: SpecConfig) -> None:
        """See :class:`~dms.storage.s3_params.S3Params`."""
        S3Params.read(spec, self._egress)

    def check_target(self, spec: SpecConfig) -> None:
        """See :class:`~dms.storage.s3_params.S3Params`; the key is a folder."""
        if _WILD.search(S3Params.read(spec, self._egress).key):
            raise InvalidStorageSpec("invalid s3 storage params: the key of an upload is no pattern")

    async def size(self, source: SpecConfig) -> int:
        """Bytes of all objects that are meant."""
        with one_error():
            async with self._opened(source) as (params, store):
                return sum(found.size for found in await self._find(params, store, Meter()))

    async def download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        """Each object becomes the file of its key."""
        with one_error():
            await self._download(source, into, meter)

    async def _download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        async with self._opened(source) as (params, store):
            if not params.key:
                raise InvalidStorageSpec(
                    "invalid s3 storage params: key cannot be empty", hint="write * for the whole bucket"
                )
            await into.prepare()
            objects = await self._find(params, store, meter)
            meter.expect(sum(found.size for found in objects), len(objects))
            requests = trio.CapacityLimiter(REQUESTS)
            send, receive = trio.open_memory_channel[S3Object](0)
            async with trio.open_nursery() as nursery:
                for _ in range(min(REQUESTS, len(objects))):
                    nursery.start_soon(self._take, store, receive.clone(), into, meter, requests)
                receive.close()
                async with send:
                    for found in objects:
                        await send.send(found)

    async def upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        """Each file becomes an object below ``Key``; large ones that are there already are not sent again."""
        self.check_target(target)
        with one_error():
            return await self._upload(directory, target, meter)

    async def _upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        async with self._opened(target) as (params, store):
            folder = params.key.rstrip("/")
            entries = await trio.to_thread.run_sync(
                lambda: [(entry.path, entry.size) for entry in walk(directory) if entry.kind == "file"]
            )
            meter.expect(sum(size for _, size in entries), len(entries))
            send, receive = trio.open_memory_channel[tuple[str, int]](0)
            async with trio.open_nursery() as nursery:
                for _ in range(min(REQUESTS, len(entries))):
                    nursery.start_soon(self._send_files, store, receive.clone(), directory, folder, meter)
                receive.close()
                async with send:
                    for entry in entries:
                        await send.send(entry)
            return params.public(f"{folder}/" if folder else "*")

    # finding ----------------------------------------------------------------------------------------------------------

    async def _find(self, params: S3Params, store: S3Store, meter: Meter) -> list[S3Object]:
        if params.is_single:
            found, kind = await _in_thread(s3_client.head, store, params.key)
            if kind == DIRECTORY_TYPE:
                raise InvalidStorageSpec(f"{params.key[:80]!r} is a folder", hint=f"write {params.key[:80]}/")
            return [S3Object(found.key, found.size, found.etag, params.sha256 or found.sha256)]
        if params.sha256:
            raise InvalidStorageSpec("invalid s3 storage params: SHA256 is for a single object")
        objects = await _in_thread(s3_client.list_objects, store, params, meter.limits.max_files)
        if not objects:
            raise SourceNotFound(f"the bucket {params.bucket} has nothing at {params.key[:200]!r}")
        return objects

    # receiving --------------------------------------------------------------------------------------------------------

    async def _take(
        self,
        store: S3Store,
        objects: trio.MemoryReceiveChannel[S3Object],
        into: Gathering,
        meter: Meter,
        requests: trio.CapacityLimiter,
    ) -> None:
        async with objects:
            async for found in objects:
                try:
                    check_path(found.key)
                except InvalidVolumeName as exc:
                    raise InvalidStorageSpec(f"the object {found.key[:80]!r} cannot be a file: {exc.message}") from None
                validator = f"{found.etag} {found.size}" if found.etag else ""
                if await into.has(found.key, validator):
                    meter.add(found.size)
                else:
                    async with await into.part(found.key, validator) as part:
                        meter.add(part.offset)
                        await self._receive(store, found, part, meter, requests)
                        await part.finish()
                meter.file()

    async def _receive(
        self, store: S3Store, found: S3Object, part: Part, meter: Meter, requests: trio.CapacityLimiter
    ) -> None:
        """One object: in one stream, or, where it is large, in ranges that come several at a time."""
        told = {"sha256": found.sha256}
        if found.size - part.offset <= self._stream_bytes:
            async with requests:
                sha256 = await self._stream(store, found, part, meter)
            told["sha256"] = told["sha256"] or sha256
        else:
            await self._receive_ranges(store, found, part, meter, requests, told)
        if told["sha256"] and await part.digest("sha256") != told["sha256"]:
            meter.add(-part.offset)
            await part.restart()
            raise ContentMismatch(f"the hash of {found.key[:80]!r} is not {told['sha256']}")

    async def _stream(self, store: S3Store, found: S3Object, part: Part, meter: Meter) -> str:
        """The rest of one object; an attempt that breaks off is followed by another that goes on there."""
        wait_s = FIRST_WAIT_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await _in_thread(s3_client.receive, store, found, part, meter)
            except TransferFailed:
                if attempt == ATTEMPTS:
                    raise
            await trio.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("unreachable")

    async def _receive_ranges(
        self,
        store: S3Store,
        found: S3Object,
        part: Part,
        meter: Meter,
        requests: trio.CapacityLimiter,
        told: dict[str, str],
    ) -> None:
        async def fetch(bounds: tuple[int, int]) -> list[memoryview]:
            async with requests:
                chunks, sha256 = await _retried(s3_client.receive_range, store, found, *bounds)
            told["sha256"] = told["sha256"] or sha256
            return chunks

        async def use(_bounds: tuple[int, int], chunks: list[memoryview]) -> None:
            for chunk in chunks:
                await part.write(chunk)
                meter.add(len(chunk))

        starts = range(part.offset, found.size, self._part_bytes)
        await in_order([(at, min(at + self._part_bytes, found.size)) for at in starts], fetch, use, ahead=REQUESTS)

    # sending ----------------------------------------------------------------------------------------------------------

    async def _send_files(
        self,
        store: S3Store,
        entries: trio.MemoryReceiveChannel[tuple[str, int]],
        directory: Path,
        folder: str,
        meter: Meter,
    ) -> None:
        async with entries:
            async for path, size in entries:
                key = f"{folder}/{path}" if folder else path
                await _send_file(store, directory, path, key, size, meter)
                meter.file()

    # connecting -------------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _opened(self, spec: SpecConfig) -> AsyncIterator[tuple[S3Params, S3Store]]:
        """A store; what it connects to is checked unless the owner asks."""
        params = S3Params.read(spec, self._egress)
        url = check_url(params.url)
        if self._egress.is_open or url.scheme == "http":
            yield params, s3_client.open_store(params, "")
            return
        try:
            await permitted(self._egress, url.host, url.port or 443, self._lookup)
        except OSError as exc:
            raise TransferFailed(f"{url.host} cannot be resolved: {exc.strerror or exc}") from exc
        async with open_gate(self._egress, self._lookup) as gate:
            try:
                with one_error():
                    yield params, s3_client.open_store(params, gate.url)
            except TransferFailed:
                if gate.refused:
                    raise AddressRefused(f"jobs may not reach {gate.refused[-1]} from here") from None
                raise


async def _send_file(store: S3Store, directory: Path, path: str, key: str, size: int, meter: Meter) -> None:
    stopped = threading.Event()
    token = trio.lowlevel.current_trio_token()

    def add(sent: int) -> None:
        try:
            meter.add(sent)
        except StorageError:  # nothing may be raised into the event loop; the total was checked before
            stopped.set()

    def count(sent: int) -> None:
        token.run_sync_soon(add, sent)

    async def watch() -> None:
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    with one_error():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            await _in_thread(s3_client.put, store, directory, path, key, size, count, stopped)
            nursery.cancel_scope.cancel()


async def _in_thread(function: Callable[..., T], *args: object) -> T:
    """In one of a few threads of our own, so that a service that answers slowly takes none from the rest of the node."""
    try:
        limiter = _threads.get()
    except LookupError:
        limiter = trio.CapacityLimiter(THREADS)
        _threads.set(limiter)
    return await trio.to_thread.run_sync(function, *args, limiter=limiter)


async def _retried(function: Callable[..., T], *args: object) -> T:
    wait_s = FIRST_WAIT_S
    for _ in range(ATTEMPTS - 1):
        try:
            return await _in_thread(function, *args)
        except TransferFailed:
            await trio.sleep(wait_s)
            wait_s *= 2
    return await _in_thread(function, *args)
