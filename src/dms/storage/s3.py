"""S3 and what speaks like it, by way of ``obstore`` in worker threads (``spec/execution.md`` 6.4).

Very large objects come in ranges, several at a time and written in order; all others in one stream. An interruption
costs little, memory is bounded, and a cancellation is noticed within a chunk. Every request names the ETag that was
seen first: an object that changes meanwhile is an error and not a mixture. What this program uploaded carries its
SHA-256 and is checked by it.
"""

from __future__ import annotations

import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import trio

from dms.storage.egress import Egress, Resolve, permitted, resolve
from dms.storage.errors import (
    AccessRefused,
    AddressRefused,
    ContentMismatch,
    InvalidStorageSpec,
    InvalidVolumeName,
    SourceNotFound,
    StorageError,
    TooLarge,
    TransferFailed,
)
from dms.storage.gate import open_gate
from dms.storage.s3_params import TYPE, Credentials, S3Params
from dms.storage.transfer import Gathering, Meter, Part, in_order, one_error
from dms.storage.tree import check_path, open_file, walk
from dms.storage.web import check_url
from dms.types.resources import SpecConfig

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import S3Credential, S3Store

T = TypeVar("T")

PART_BYTES = 8 << 20
STREAM_BYTES = 64 << 20
"""What is larger comes in ranges: one connection to S3 carries less than the network does."""
FIRST_WAIT_S = 0.5
CHUNK_BYTES = 1 << 20
REQUESTS = 6
"""At the same time, for one transfer."""
THREADS = 4 * REQUESTS
"""For all transfers together."""
ATTEMPTS = 3
LIST_CHUNK = 1000
SHA256_ATTRIBUTE = "nunet-sha256"
TIMEOUT = timedelta(seconds=60)
READ_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=10)
DIRECTORY_TYPE = "application/x-directory"
_threads: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("s3_threads")
_REFUSALS = {
    "AccessDenied",
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "ExpiredToken",
    "InvalidToken",
    "AllAccessDisabled",
}
_ABSENT = {"NoSuchKey", "NoSuchBucket"}
_FORBIDDEN = re.compile(r"\b40[13] (?:Forbidden|Unauthorized)")
_WILD = re.compile(r"[*?\[]")
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class _Object:
    key: str
    size: int
    etag: str
    sha256: str = ""


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
            send, receive = trio.open_memory_channel[_Object](0)
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

    async def _find(self, params: S3Params, store: S3Store, meter: Meter) -> list[_Object]:
        if params.is_single:
            found, kind = await _in_thread(_head, store, params.key)
            if kind == DIRECTORY_TYPE:
                raise InvalidStorageSpec(f"{params.key[:80]!r} is a folder", hint=f"write {params.key[:80]}/")
            return [_Object(found.key, found.size, found.etag, params.sha256 or found.sha256)]
        if params.sha256:
            raise InvalidStorageSpec("invalid s3 storage params: SHA256 is for a single object")
        objects = await _in_thread(_list, store, params, meter.limits.max_files)
        if not objects:
            raise SourceNotFound(f"the bucket {params.bucket} has nothing at {params.key[:200]!r}")
        return objects

    # receiving --------------------------------------------------------------------------------------------------------

    async def _take(
        self,
        store: S3Store,
        objects: trio.MemoryReceiveChannel[_Object],
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
        self, store: S3Store, found: _Object, part: Part, meter: Meter, requests: trio.CapacityLimiter
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

    async def _stream(self, store: S3Store, found: _Object, part: Part, meter: Meter) -> str:
        """The rest of one object; an attempt that breaks off is followed by another that goes on there."""
        wait_s = FIRST_WAIT_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await _in_thread(_stream, store, found, part, meter)
            except TransferFailed:
                if attempt == ATTEMPTS:
                    raise
            await trio.sleep(wait_s)
            wait_s *= 2
        raise AssertionError("unreachable")

    async def _receive_ranges(
        self,
        store: S3Store,
        found: _Object,
        part: Part,
        meter: Meter,
        requests: trio.CapacityLimiter,
        told: dict[str, str],
    ) -> None:
        async def fetch(bounds: tuple[int, int]) -> list[memoryview]:
            async with requests:
                chunks, sha256 = await _retried(_range, store, found, *bounds)
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
            yield params, _store(params, "")
            return
        try:
            await permitted(self._egress, url.host, url.port or 443, self._lookup)
        except OSError as exc:
            raise TransferFailed(f"{url.host} cannot be resolved: {exc.strerror or exc}") from exc
        async with open_gate(self._egress, self._lookup) as gate:
            try:
                with one_error():
                    yield params, _store(params, gate.url)
            except TransferFailed:
                if gate.refused:
                    raise AddressRefused(f"jobs may not reach {gate.refused[-1]} from here") from None
                raise


def _store(params: S3Params, proxy: str) -> S3Store:
    from obstore.store import S3Store  # heavy, and rarely needed

    options: dict[str, object] = {
        "allow_http": params.url.startswith("http:"),
        "timeout": TIMEOUT,
        "read_timeout": READ_TIMEOUT,
        "connect_timeout": CONNECT_TIMEOUT,
    }
    if proxy:
        options["proxy_url"] = proxy
    credentials = params.credentials
    # everything that obstore would otherwise take from the environment is given
    return S3Store(
        params.bucket,
        config={
            "endpoint": params.url,
            "region": params.region,
            "virtual_hosted_style_request": not params.is_path_style,
            "skip_signature": credentials is None,
        },
        client_options=options,  # type: ignore[arg-type]  # a dict of known keys
        retry_config={"max_retries": 2, "retry_timeout": TIMEOUT},
        credential_provider=_provider(credentials) if credentials is not None else None,
    )


def _provider(credentials: Credentials) -> Callable[[], S3Credential]:
    def provide() -> S3Credential:
        return {
            "access_key_id": credentials.access_key_id,
            "secret_access_key": credentials.secret_access_key,
            "token": credentials.session_token or None,
            "expires_at": None,
        }

    return provide


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


def _head(store: S3Store, key: str) -> tuple[_Object, str]:
    """One object, and its content type."""
    import obstore

    with _failures_translated(key):
        result = obstore.get(store, key, options={"head": True})
        meta, attributes = result.meta, result.attributes
    kind = str(attributes.get("Content-Type", ""))
    sha256 = str(attributes.get(SHA256_ATTRIBUTE, ""))
    return _Object(key, meta["size"], meta["e_tag"] or "", sha256), kind


def _list(store: S3Store, params: S3Params, limit: int) -> list[_Object]:
    """The objects that are meant; markers of folders are left out."""
    import obstore

    found: dict[str, _Object] = {}
    with _failures_translated(params.key):
        for page in obstore.list(store, params.prefix or None, chunk_size=LIST_CHUNK):
            trio.from_thread.check_cancelled()
            for meta in page:
                if params.wants(meta["path"]):
                    found[meta["path"]] = _Object(meta["path"], meta["size"], meta["e_tag"] or "")
            if len(found) > limit:
                raise TooLarge(f"these are more than the {limit} files that are allowed")
    folders = {key[:at] for key in found for at, char in enumerate(key) if char == "/"}
    return [each for key, each in sorted(found.items()) if key not in folders and not _is_marker(store, each)]


def _is_marker(store: S3Store, found: _Object) -> bool:
    """Whether it stands for an empty folder: its key ends with a slash, which ``obstore`` does not show."""
    if found.size:
        return False
    try:
        return _head(store, found.key)[1] == DIRECTORY_TYPE
    except SourceNotFound:
        return True


def _stream(store: S3Store, found: _Object, part: Part, meter: Meter) -> str:
    """Receive and write in one thread; the hash that the object carries."""
    if part.offset == found.size:
        return ""
    with _failures_translated(found.key):
        result, sha256 = _get(store, found, part.offset, found.size)
        for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            trio.from_thread.check_cancelled()
            trio.from_thread.run_sync(meter.add, len(chunk))
            part.write_now(memoryview(chunk))
    if part.offset != found.size:
        raise TransferFailed(f"{found.key[:80]!r} broke off")
    return sha256


def _get(store: S3Store, found: _Object, start: int, end: int) -> tuple[GetResult, str]:
    import obstore

    options: dict[str, object] = {"if_match": found.etag} if found.etag else {}
    if (start, end) != (0, found.size):
        options["range"] = (start, end)
    result = obstore.get(store, found.key, options=options)  # type: ignore[arg-type]  # a dict of known keys
    return result, str(result.attributes.get(SHA256_ATTRIBUTE, ""))


def _range(store: S3Store, found: _Object, start: int, end: int) -> tuple[list[memoryview], str]:
    with _failures_translated(found.key):
        result, sha256 = _get(store, found, start, end)
        chunks = []
        for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            trio.from_thread.check_cancelled()
            chunks.append(memoryview(chunk))
    if sum(len(chunk) for chunk in chunks) != end - start:
        raise TransferFailed(f"{found.key[:80]!r} broke off")
    return chunks, sha256


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
            await _in_thread(_put, store, directory, path, key, size, count, stopped)
            nursery.cancel_scope.cancel()


def _put(
    store: S3Store,
    directory: Path,
    path: str,
    key: str,
    size: int,
    count: Callable[[int], None],
    stopped: threading.Event,
) -> None:
    import hashlib

    import obstore

    with open_file(directory, path) as file, _failures_translated(key):
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        if size > PART_BYTES and _is_there(store, key, size, sha256):
            count(size)
            return
        attributes = {SHA256_ATTRIBUTE: sha256}
        if size <= PART_BYTES:
            obstore.put(store, key, file.read(size), attributes=attributes, use_multipart=False)
            count(size)
            return

        def chunks() -> Iterator[bytes]:
            left = size  # it may grow meanwhile
            while chunk := file.read(min(left, CHUNK_BYTES)):
                left -= len(chunk)
                if stopped.is_set():
                    raise TransferFailed("the upload was cancelled")
                yield chunk
                count(len(chunk))

        obstore.put(store, key, chunks(), attributes=attributes, chunk_size=PART_BYTES, max_concurrency=REQUESTS)


def _is_there(store: S3Store, key: str, size: int, sha256: str) -> bool:
    try:
        found, _ = _head(store, key)
    except StorageError:
        return False
    return found.size == size and found.sha256 == sha256


@contextmanager
def _failures_translated(key: str) -> Iterator[None]:
    from obstore import exceptions

    try:
        yield
    except FileNotFoundError:
        raise SourceNotFound(f"the bucket has no {key[:200]!r}") from None
    except (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError) as exc:
        raise AccessRefused(f"access to {key[:80]!r} is refused{_code(exc)}") from None
    except exceptions.PreconditionError:
        raise ContentMismatch(f"{key[:80]!r} changed while it was downloaded", hint="try again") from None
    except (exceptions.InvalidPathError, ValueError) as exc:
        raise InvalidStorageSpec(f"{key[:80]!r} cannot be the key of an object here: {str(exc)[:120]}") from None
    except exceptions.BaseError as exc:
        code = _code(exc).removeprefix(": ")
        if code in _REFUSALS or _FORBIDDEN.search(str(exc)):
            raise AccessRefused(f"access to {key[:80]!r} is refused{_code(exc)}") from None
        if code in _ABSENT:
            raise SourceNotFound(f"the bucket has no {key[:200]!r}") from None
        raise TransferFailed(f"the transfer of {key[:80]!r} failed{_code(exc)}") from None


def _code(exc: Exception) -> str:
    """What the service says, in one word: its whole answer may quote what was signed."""
    found = _CODE.search(str(exc))
    return f": {found[1]}" if found else ""
