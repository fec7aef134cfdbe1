import gzip
import hashlib
import io
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from dms.storage.egress import OWNER, Egress
from dms.storage.errors import (
    AccessRefused,
    AddressRefused,
    ContentMismatch,
    InvalidStorageSpec,
    SourceNotFound,
    StorageError,
    TooLarge,
    TransferFailed,
)
from dms.storage.http import HttpProvider
from dms.storage.transfer import Gathering, Limits, Meter, Progress
from dms.storage.web import WebClient
from dms.testing.web import Answer, Asked, WebServer, ranged, web_server
from dms.types.resources import SpecConfig

CONTENT = bytes(range(256)) * 20_000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Site:
    """What the server answers, and the provider that asks."""

    def __init__(self, server: WebServer, provider: HttpProvider, base: Path) -> None:
        self.server = server
        self.provider = provider
        self.gathering = Gathering(base / "gathering")
        self.progress: list[Progress] = []

    def spec(self, path: str = "/data.bin", **params: object) -> SpecConfig:
        return SpecConfig(type="http", params={"URL": self.server.url + path, "SHA256": SHA256, **params})

    async def download(self, spec: SpecConfig | None = None, limits: Limits | None = None) -> dict[str, bytes]:
        await self.provider.download(spec or self.spec(), self.gathering, Meter(limits, self.progress.append))
        content = self.gathering.content
        return {str(p.relative_to(content)): p.read_bytes() for p in content.rglob("*") if p.is_file()}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async def answer(asked: Asked) -> Answer:
        return ranged(asked, CONTENT, {"etag": '"one"'})

    client = WebClient(OWNER)
    async with web_server(answer) as server:
        yield Site(server, HttpProvider(client), tmp_path)
        await client.aclose()


async def test_a_file_is_downloaded_with_progress(site: Site) -> None:
    assert await site.download() == {"data.bin": CONTENT}
    assert site.progress[-1] == Progress(len(CONTENT), len(CONTENT), 1)
    assert [p.done_bytes for p in site.progress] == sorted(p.done_bytes for p in site.progress)
    assert await site.provider.size(site.spec()) == len(CONTENT)
    assert (site.gathering.content / "data.bin").stat().st_mode & 0o777 == 0o644


async def test_a_download_that_broke_off_goes_on_where_it_ended(
    site: Site, autojump_clock: trio.testing.MockClock
) -> None:
    cuts = iter([1_500_000, 2_000_000])

    async def answer(asked: Asked) -> Answer:
        whole = ranged(asked, CONTENT, {"etag": '"one"'})
        cut = next(cuts, None) if asked.method == "GET" else None
        return Answer(whole.status, whole.body, whole.headers, cut_after=cut)

    site.server.handler = answer
    assert await site.download() == {"data.bin": CONTENT}
    ranges = [asked.headers.get("range") for asked in site.server.asked if asked.method == "GET"]
    assert ranges == [None, "bytes=1500000-", "bytes=3500000-"]
    assert site.progress[-1] == Progress(len(CONTENT), len(CONTENT), 1)


async def test_a_cancelled_download_is_resumed_by_the_next_process(site: Site, tmp_path: Path) -> None:
    reached = trio.Event()

    async def slow(asked: Asked) -> Answer:
        whole = ranged(asked, CONTENT, {"etag": '"one"'})
        return Answer(whole.status, whole.body, whole.headers, cut_after=3_000_000, hold=asked.method == "GET")

    fast, site.server.handler = site.server.handler, slow

    async with trio.open_nursery() as nursery:

        def seen(progress: Progress) -> None:
            if progress.done_bytes >= 2_700_000:
                reached.set()

        nursery.start_soon(site.provider.download, site.spec(), site.gathering, Meter(None, seen))
        await reached.wait()
        nursery.cancel_scope.cancel()
    site.server.handler = fast
    site.gathering = Gathering(site.gathering.root)
    site.server.asked.clear()
    assert await site.download() == {"data.bin": CONTENT}
    first = next(asked.headers["range"] for asked in site.server.asked if asked.method == "GET")
    assert int(first.removeprefix("bytes=").rstrip("-")) >= 2_700_000


@pytest.mark.parametrize("validator", ['etag "old"', ""])
async def test_what_changed_meanwhile_is_downloaded_anew(
    tmp_path: Path, validator: str, autojump_clock: trio.testing.MockClock
) -> None:
    """Without a hash only the server's word tells that it changed; over plain http a hash is required, so that the client
    is asked directly here."""
    from dms.storage.http import HttpParams

    old, new = b"a" * 3_000_000, b"b" * 2_000_000
    states = iter([(old, '"old"', 1_200_000)])

    async def answer(asked: Asked) -> Answer:
        content, etag, cut = next(states, (new, '"new"', None))
        whole = ranged(asked, content, {"etag": etag})
        return Answer(whole.status, whole.body, whole.headers, cut_after=cut)

    client = WebClient(OWNER)
    async with web_server(answer) as server:
        provider = HttpProvider(client)
        gathering = Gathering(tmp_path / "g")
        await gathering.prepare()
        wanted = HttpParams(server.url + "/f", "f")
        async with await gathering.part("f", validator) as part:
            await provider._fill(wanted, part, Meter())
            await part.finish()
        await client.aclose()
    assert (gathering.content / "f").read_bytes() == new


async def test_a_wrong_hash_is_refused_and_leaves_nothing(site: Site) -> None:
    with pytest.raises(ContentMismatch, match="not 0000"):
        await site.download(site.spec(SHA256="0" * 64))
    assert list(site.gathering.content.iterdir()) == []
    with pytest.raises(ContentMismatch):
        await site.download(site.spec(SHA256="0" * 64))


async def test_over_plain_http_a_hash_is_required(site: Site) -> None:
    with pytest.raises(InvalidStorageSpec, match="SHA256 is required"):
        site.provider.check(site.spec(SHA256=""))
    site.provider.check(SpecConfig(type="https", params={"url": "https://example.org/file"}))


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({}, "url cannot be empty"),
        ({"URL": ""}, "url cannot be empty"),
        ({"URL": "ftp://example.org/x"}, "no address of http"),
        ({"URL": "file:///etc/passwd"}, "no address of http"),
        ({"URL": "https://"}, "no address"),
        ({"URL": "https://example.org/x", "SHA256": "12"}, "64 hexadecimal"),
        ({"URL": "https://example.org/x", "Name": "../x"}, "cannot be used"),
        ({"URL": "https://example.org/%2e%2e%2fx"}, "cannot be used"),
        ({"URL": "https://example.org/x", "Headers": {"Host": "other"}}, "cannot be set"),
        ({"URL": "https://example.org/x", "Headers": {"X": "a\r\nb"}}, "character"),
        ({"URL": "https://example.org/x", "Unpack": "yes"}, "true or false"),
        ({"URL": 5}, "must be text"),
        ({"URL": "https://example.org/x", "url": "https://example.org/y"}, "given twice"),
        ({"URL": "https://example.org/x", "Typo": 1}, "unknown parameter"),
    ],
)
async def test_parameters_that_cannot_work_are_refused(site: Site, params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidStorageSpec, match=reason):
        site.provider.check(SpecConfig(type="http", params=params))


@pytest.mark.parametrize("limit", [len(CONTENT) - 1, 1000])
async def test_no_more_is_received_than_allowed(site: Site, limit: int) -> None:
    with pytest.raises(TooLarge):
        await site.download(limits=Limits(max_bytes=limit))

    async def endless(asked: Asked) -> Answer:
        return Answer(200, CONTENT, {"content-length": "", "transfer-encoding": "chunked"})

    site.server.handler = endless
    with pytest.raises(TooLarge):
        await site.download(limits=Limits(max_bytes=limit))
    assert sum(path.stat().st_size for path in site.gathering.root.rglob("*") if path.is_file()) < len(CONTENT)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, SourceNotFound),
        (410, SourceNotFound),
        (401, AccessRefused),
        (403, AccessRefused),
        (500, TransferFailed),
        (429, TransferFailed),
    ],
)
async def test_refusals_have_names(site: Site, status: int, error: type[StorageError]) -> None:
    async def answer(_asked: Asked) -> Answer:
        return Answer(status, b"secret page")

    site.server.handler = answer
    with pytest.raises(error, match=str(status)) as caught:
        await site.download(site.spec("/data.bin?token=hidden"))
    assert "hidden" not in caught.value.message


async def test_nobody_there_is_told(site: Site) -> None:
    with pytest.raises(TransferFailed, match="does not answer"):
        await site.provider.size(SpecConfig(type="http", params={"URL": "http://127.0.0.1:1/x", "SHA256": SHA256}))


async def test_redirects_are_followed_a_few_times_and_without_credentials(site: Site) -> None:
    async def other(asked: Asked) -> Answer:
        return ranged(asked, CONTENT)

    async with web_server(other) as elsewhere:

        async def answer(asked: Asked) -> Answer:
            if asked.path == "/loop":
                return Answer(302, b"", {"location": "/loop"})
            if asked.path == "/first":
                return Answer(301, b"", {"location": "/second"})
            if asked.path == "/second":
                return Answer(307, b"", {"location": f"{elsewhere.url}/data"})
            return Answer(302, b"", {"location": "file:///etc/passwd"})

        site.server.handler = answer
        spec = site.spec("/first", Headers={"Authorization": "Bearer secret"}, Name="f")
        assert await site.download(spec) == {"f": CONTENT}
        assert all(asked.headers["authorization"] == "Bearer secret" for asked in site.server.asked)
        assert elsewhere.asked
        assert not any("authorization" in asked.headers for asked in elsewhere.asked)
        with pytest.raises(TransferFailed, match="more than 5 times"):
            await site.download(site.spec("/loop"))
        with pytest.raises(TransferFailed, match="no address of http"):
            await site.download(site.spec("/file"))


async def test_a_tenant_reaches_no_private_address_not_even_by_redirect_or_rebinding(site: Site) -> None:
    answers = iter([("1.1.1.1",), ("127.0.0.1",), ("127.0.0.1",), ("127.0.0.1", "::1")])

    async def lookup(host: str, _port: int) -> tuple[str, ...]:
        return next(answers) if host == "rebind.example" else ("127.0.0.1",)

    client = WebClient(Egress(), lookup=lookup)
    provider = HttpProvider(client)
    for url in (
        site.server.url,
        f"http://localhost:{site.server.port}",
        f"http://[::ffff:127.0.0.1]:{site.server.port}",
    ):
        with pytest.raises(AddressRefused):
            await provider.size(SpecConfig(type="http", params={"URL": f"{url}/x", "SHA256": SHA256}))
    next(answers)  # what a check beforehand would have seen
    with pytest.raises(AddressRefused):
        await provider.size(SpecConfig(type="http", params={"URL": "http://rebind.example/x", "SHA256": SHA256}))
    await client.aclose()
    assert site.server.asked == []


async def test_a_redirect_to_a_private_address_is_refused(site: Site) -> None:
    """The first server stands in a network that the owner opened, the second does not."""

    async def answer(asked: Asked) -> Answer:
        return Answer(302, b"", {"location": f"http://127.0.0.2:{site.server.port}/secret"})

    site.server.handler = answer
    client = WebClient(Egress.of(["127.0.0.1/32"]))
    with pytest.raises(AddressRefused):
        await HttpProvider(client).size(site.spec())
    await client.aclose()
    assert len(site.server.asked) == 1


async def test_an_archive_is_unpacked_where_that_is_asked_for(site: Site) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("dir/inner.txt")
        info.size = 5
        tar.addfile(info, io.BytesIO(b"hello"))
    data = gzip.compress(out.getvalue())

    async def answer(asked: Asked) -> Answer:
        return ranged(asked, data, {"etag": '"a"'})

    site.server.handler = answer
    digest = hashlib.sha256(data).hexdigest()
    spec = site.spec("/a.tar.gz", SHA256=digest, Unpack=True)
    with pytest.raises(TooLarge):
        await site.download(spec, Limits(max_files=0))
    assert await site.download(spec) == {"dir/inner.txt": b"hello"}


async def test_a_directory_is_uploaded_file_by_file(site: Site, tmp_path: Path) -> None:
    kept: dict[str, bytes] = {}

    async def answer(asked: Asked) -> Answer:
        kept[asked.target] = asked.body
        return Answer(201)

    site.server.handler = answer
    source = tmp_path / "source"
    (source / "sub dir").mkdir(parents=True)
    (source / "a").write_bytes(CONTENT)
    (source / "sub dir/ü").write_bytes(b"2")
    (source / "link").symlink_to("/etc/passwd")
    target = SpecConfig(type="http", params={"URL": site.server.url + "/up/", "Headers": {"Authorization": "secret"}})
    done = await site.provider.upload(source, target, Meter(None, site.progress.append))
    assert kept == {"/up/a": CONTENT, "/up/sub%20dir/%C3%BC": b"2"}
    assert "secret" not in str(done)
    assert site.progress[-1] == Progress(len(CONTENT) + 1, len(CONTENT) + 1, 2)
    with pytest.raises(InvalidStorageSpec, match="end with /"):
        await site.provider.upload(source, SpecConfig(type="http", params={"URL": site.server.url + "/up"}), Meter())
