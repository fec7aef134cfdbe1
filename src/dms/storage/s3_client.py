"""Single requests to S3 by way of ``obstore``: synchronous, for worker threads, with errors of ours.

A request names the ETag that was seen first, so that an object that changes meanwhile is an error and not a mixture.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from dms.storage.errors import (
    AccessRefused,
    ContentMismatch,
    InvalidStorageSpec,
    SourceNotFound,
    StorageError,
    TooLarge,
    TransferFailed,
)
from dms.storage.s3_params import Credentials, S3Params
from dms.storage.transfer import Meter, Part
from dms.storage.tree import open_file

if TYPE_CHECKING:
    from obstore import GetResult
    from obstore.store import S3Credential, S3Store

PART_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20
REQUESTS = 6
"""At the same time, for one transfer."""
LIST_CHUNK = 1000
SHA256_ATTRIBUTE = "nunet-sha256"
TIMEOUT = timedelta(seconds=60)
READ_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=10)
DIRECTORY_TYPE = "application/x-directory"
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
_CODE = re.compile(r"<Code>([A-Za-z0-9.]{1,64})</Code>")


@dataclass(frozen=True, slots=True)
class S3Object:
    """One object as it was seen; its hash only where this program uploaded it."""

    key: str
    size: int
    etag: str
    sha256: str = ""


def open_store(params: S3Params, proxy: str) -> S3Store:
    """A client for one bucket; it connects through ``proxy`` unless that is empty."""
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


def head(store: S3Store, key: str) -> tuple[S3Object, str]:
    """One object, and its content type."""
    import obstore

    with _failures_translated(key):
        result = obstore.get(store, key, options={"head": True})
        meta, attributes = result.meta, result.attributes
    kind = str(attributes.get("Content-Type", ""))
    sha256 = str(attributes.get(SHA256_ATTRIBUTE, ""))
    return S3Object(key, meta["size"], meta["e_tag"] or "", sha256), kind


def list_objects(store: S3Store, params: S3Params, limit: int) -> list[S3Object]:
    """The objects that are meant; markers of folders are left out."""
    import obstore

    found: dict[str, S3Object] = {}
    with _failures_translated(params.key):
        for page in obstore.list(store, params.prefix or None, chunk_size=LIST_CHUNK):
            trio.from_thread.check_cancelled()
            for meta in page:
                if params.wants(meta["path"]):
                    found[meta["path"]] = S3Object(meta["path"], meta["size"], meta["e_tag"] or "")
            if len(found) > limit:
                raise TooLarge(f"these are more than the {limit} files that are allowed")
    folders = {key[:at] for key in found for at, char in enumerate(key) if char == "/"}
    return [each for key, each in sorted(found.items()) if key not in folders and not _is_marker(store, each)]


def _is_marker(store: S3Store, found: S3Object) -> bool:
    """Whether it stands for an empty folder: its key ends with a slash, which ``obstore`` does not show."""
    if found.size:
        return False
    try:
        return head(store, found.key)[1] == DIRECTORY_TYPE
    except SourceNotFound:
        return True


def receive(store: S3Store, found: S3Object, part: Part, meter: Meter) -> str:
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


def _get(store: S3Store, found: S3Object, start: int, end: int) -> tuple[GetResult, str]:
    import obstore

    options: dict[str, object] = {"if_match": found.etag} if found.etag else {}
    if (start, end) != (0, found.size):
        options["range"] = (start, end)
    result = obstore.get(store, found.key, options=options)  # type: ignore[arg-type]  # a dict of known keys
    return result, str(result.attributes.get(SHA256_ATTRIBUTE, ""))


def receive_range(store: S3Store, found: S3Object, start: int, end: int) -> tuple[list[memoryview], str]:
    """A part of an object, held in memory; the hash that the object carries."""
    with _failures_translated(found.key):
        result, sha256 = _get(store, found, start, end)
        chunks = []
        for chunk in result.stream(min_chunk_size=CHUNK_BYTES):
            trio.from_thread.check_cancelled()
            chunks.append(memoryview(chunk))
    if sum(len(chunk) for chunk in chunks) != end - start:
        raise TransferFailed(f"{found.key[:80]!r} broke off")
    return chunks, sha256


def put(
    store: S3Store,
    directory: Path,
    path: str,
    key: str,
    size: int,
    count: Callable[[int], None],
    stopped: threading.Event,
) -> None:
    """Upload one file, in parts where it is large; ``count`` is told of what was sent, ``stopped`` ends it."""
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
        found, _ = head(store, key)
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
