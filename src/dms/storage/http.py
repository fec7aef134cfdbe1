"""Files by HTTP and HTTPS: resumed by range where the server can, checked by hash where one is given.

Parameters: ``URL``; ``SHA256`` in hex, a must over plain http; ``Name`` of the file in the volume (else the last part of
the address); ``Headers``; ``Unpack``: it is an archive, and its content is wanted. To upload, each file is ``PUT`` below
the address, which then ends with a slash.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote

import httpx2
import trio

from dms.storage.archive import UnpackLimits, unpack
from dms.storage.errors import ContentMismatch, InvalidVolumeName, TransferFailed
from dms.storage.spec import StorageParams
from dms.storage.transfer import Gathering, Meter, Part
from dms.storage.tree import check_path, open_file, remove_tree, walk
from dms.storage.web import WebClient, body, check_url
from dms.types.resources import SpecConfig

TYPE = "http"
ATTEMPTS = 5
FIRST_WAIT_S = 0.5
WRITE_BYTES = 1 << 20
_SHA256 = re.compile(r"(?:sha256[:-])?([0-9a-fA-F]{64})")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_FORBIDDEN_HEADERS = {
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "range",
    "if-range",
    "accept-encoding",
}


@dataclass(frozen=True, slots=True)
class HttpParams:
    """What is wanted."""

    url: str
    name: str
    sha256: str = ""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    unpack: bool = False

    @classmethod
    def read(cls, spec: SpecConfig, *, is_upload: bool = False) -> HttpParams:
        """Read them.

        :raises InvalidStorageSpec: they cannot work.
        """
        spec = spec if spec.type.strip().lower() != "https" else SpecConfig(type=TYPE, params=spec.params)
        params = StorageParams(spec, TYPE, known=("URL", "SHA256", "Name", "Headers", "Unpack"))
        url = check_url(params.required("URL"))
        digest = _SHA256.fullmatch(params.text("SHA256"))
        if params.text("SHA256") and digest is None:
            raise params.error("SHA256 must be 64 hexadecimal digits")
        if url.scheme == "http" and digest is None and not is_upload:
            raise params.error("without TLS anybody on the way can change it: SHA256 is required", hint="or use https")
        headers = params.mapping("Headers")
        if bad := sorted(name for name in headers if name.lower() in _FORBIDDEN_HEADERS or not name.isascii()):
            raise params.error(f"the header {bad[0][:64]!r} cannot be set")
        name = (
            params.text("Name")
            or unquote(url.raw_path.partition(b"?")[0].decode("ascii").rpartition("/")[2])
            or "download"
        )
        try:
            check_path(name)
        except InvalidVolumeName as exc:
            raise params.error(exc.message, hint="give Name") from None
        if is_upload and not url.path.endswith("/"):
            raise params.error("URL must end with / for uploads: each file goes below it")
        return cls(str(url), name, digest[1].lower() if digest else "", headers, params.flag("Unpack"))


class HttpProvider:
    """Downloads one file, or one archive; uploads each file of a directory."""

    type = TYPE

    def __init__(self, client: WebClient) -> None:
        self._client = client

    def check(self, spec: SpecConfig) -> None:
        """See :class:`HttpParams`."""
        HttpParams.read(spec)

    def check_target(self, spec: SpecConfig) -> None:
        """See :class:`HttpParams`."""
        HttpParams.read(spec, is_upload=True)

    async def size(self, source: SpecConfig) -> int:
        """What the server says.

        :raises TransferFailed: it does not say.
        """
        params = HttpParams.read(source)
        async with self._client.request("HEAD", params.url, headers=params.headers) as response:
            size = _length(response)
        if size is None:
            raise TransferFailed("the server does not tell how large it is")
        return size

    async def download(self, source: SpecConfig, into: Gathering, meter: Meter) -> None:
        """The file; attempts that break off are repeated and go on where the last one ended."""
        params = HttpParams.read(source)
        staged = f"archive-{params.name.rpartition('/')[2]}" if params.unpack else params.name
        await into.prepare()
        validator = params.sha256 or await self._validator(params)
        if not await into.has(staged, validator):
            async with await into.part(staged, validator) as part:
                meter.add(part.offset)
                await self._fill(params, part, meter)
                await self._check(params, part, meter)
                await part.finish()
        if params.unpack:
            limits = UnpackLimits(max_bytes=meter.limits.max_bytes, max_files=meter.limits.max_files)
            await trio.to_thread.run_sync(_replace_by_content, into.content, staged, limits)
        meter.file()

    async def upload(self, directory: Path, target: SpecConfig, meter: Meter) -> SpecConfig:
        """Each file with its relative path; what is there already is replaced."""
        params = HttpParams.read(target, is_upload=True)
        entries = await trio.to_thread.run_sync(lambda: [(e.path, e.size) for e in walk(directory) if e.kind == "file"])
        meter.expect(sum(size for _, size in entries), len(entries))
        for path, size in entries:
            headers = params.headers | {"Content-Length": str(size)}
            url = params.url + quote(path)
            content = _sent(directory, path, size, meter)
            async with self._client.request("PUT", url, headers=headers, content=content):
                meter.file()
        return SpecConfig(type=TYPE, params={"URL": params.url})

    async def _validator(self, params: HttpParams) -> str:
        """What tells this state of the file from others; empty: nothing does."""
        async with self._client.request("HEAD", params.url, headers=params.headers, accept=(403, 405, 501)) as response:
            return _validator(response) if response.status_code < 300 else ""

    async def _fill(self, params: HttpParams, part: Part, meter: Meter) -> None:
        wait_s = FIRST_WAIT_S
        for attempt in range(1, ATTEMPTS + 1):
            before = part.offset
            try:
                await self._attempt(params, part, meter)
                return
            except TransferFailed:
                if attempt == ATTEMPTS or part.offset == 0 == before:
                    raise
            await trio.sleep(wait_s)
            wait_s *= 2

    async def _attempt(self, params: HttpParams, part: Part, meter: Meter) -> None:
        headers = dict(params.headers)
        if part.offset and not part.validator:  # nothing would tell whether the rest belongs to it
            meter.add(-part.offset)
            await part.restart()
        if part.offset:
            headers |= {"Range": f"bytes={part.offset}-"} | _if_range(part.validator)
        async with self._client.request("GET", params.url, headers=headers, accept=(416,)) as response:
            whole = await self._place(response, part, meter)
            if whole is not None and part.offset == whole:
                return
            buffer = bytearray()
            try:
                async with body(response) as chunks:
                    async for chunk in chunks:
                        meter.add(len(chunk))
                        buffer += chunk
                        if len(buffer) >= WRITE_BYTES:
                            await part.write(bytes(buffer))
                            buffer.clear()
            finally:
                with trio.CancelScope(shield=True):
                    await part.write(bytes(buffer))
        if whole is not None and part.offset != whole:
            raise TransferFailed(f"the server broke off after {part.offset} of {whole} bytes")

    async def _place(self, response: httpx2.Response, part: Part, meter: Meter) -> int | None:
        """See where the answer goes on; the whole size, if it is told."""
        length = _length(response)
        if response.status_code == 206:
            found = _RANGE.fullmatch(response.headers.get("content-range", ""))
            if found is None or int(found[1]) != part.offset:
                raise TransferFailed("the server answers with another part than was asked for")
            whole = None if found[3] == "*" else int(found[3])
        elif response.status_code == 416:
            told = response.headers.get("content-range", "").removeprefix("bytes */")
            if told.isdigit() and int(told) == part.offset:
                return part.offset
            meter.add(-part.offset)
            await part.restart()
            raise TransferFailed("the server has less than it had before")
        else:
            if part.offset:
                meter.add(-part.offset)
                await part.restart()
            whole = length
        meter.expect(whole)
        return whole

    async def _check(self, params: HttpParams, part: Part, meter: Meter) -> None:
        if not params.sha256:
            return
        found = await part.digest("sha256")
        if found != params.sha256:
            meter.add(-part.offset)
            await part.restart()
            raise ContentMismatch(f"the hash of what came is {found}, not {params.sha256}")


def _validator(response: httpx2.Response) -> str:
    etag = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return f"etag {etag[:200]}"
    modified, length = response.headers.get("last-modified", ""), response.headers.get("content-length", "")
    return f"modified {modified[:100]} {length[:20]}" if modified and length else ""


def _if_range(validator: str) -> dict[str, str]:
    kind, _, value = validator.partition(" ")
    if kind == "etag":
        return {"If-Range": value}
    if kind == "modified":
        return {"If-Range": value.rpartition(" ")[0]}
    return {}  # a hash: what does not fit is noticed in the end


def _length(response: httpx2.Response) -> int | None:
    text = response.headers.get("content-length", "")
    return int(text) if text.isdigit() else None


def _replace_by_content(content: Path, staged: str, limits: UnpackLimits) -> None:
    archive = content.parent / "archive"
    (content / staged).replace(archive)
    try:
        unpack(archive, content, limits)
    except BaseException:
        remove_tree(content)
        content.mkdir(mode=0o700)
        raise
    finally:
        archive.unlink(missing_ok=True)


async def _sent(directory: Path, path: str, size: int, meter: Meter) -> AsyncIterator[bytes]:
    left = size
    with await trio.to_thread.run_sync(open_file, directory, path) as file:
        while left:
            chunk = await trio.to_thread.run_sync(file.read, min(left, WRITE_BYTES))
            if not chunk:
                raise TransferFailed(f"{path[:80]!r} became shorter while it was sent")
            left -= len(chunk)
            meter.add(len(chunk))
            yield chunk
