import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import obstore
import pytest
import trio
from obstore.store import S3Store

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
from dms.storage.s3 import S3Provider
from dms.storage.s3_client import PART_BYTES
from dms.storage.s3_params import S3Params
from dms.storage.transfer import Gathering, Limits, Meter, Progress
from dms.testing.s3 import CREDENTIALS, make_bucket, s3_server
from dms.testing.web import Answer, Asked, WebServer, ranged, web_server
from dms.types.resources import SpecConfig

pytestmark = pytest.mark.xdist_group("s3")

LARGE = os.urandom(PART_BYTES + 12_345)
PIECE = 1 << 20
SMALLER = os.urandom(PIECE * 3 + 12_345)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


class Bucket:
    """A bucket of moto's server, by obstore alone, and the provider that is tested."""

    def __init__(self, endpoint: str, name: str, base: Path) -> None:
        self.endpoint = endpoint
        self.name = name
        self.base = base
        self.provider = S3Provider(OWNER)
        self.progress: list[Progress] = []
        self.store = S3Store(
            name,
            config={"endpoint": endpoint, "access_key_id": "x", "secret_access_key": "y", "region": "us-east-1"},
            client_options={"allow_http": True},
        )

    def spec(self, key: str = "", **params: object) -> SpecConfig:
        where = {"Bucket": self.name, "Key": key, "Endpoint": self.endpoint}
        return SpecConfig(type="s3", params={**where, **CREDENTIALS, **params})

    def put(self, **objects: bytes) -> None:
        for key, content in objects.items():
            self.put_at(key, content)

    def put_at(self, key: str, content: bytes) -> None:
        obstore.put(self.store, key, content)

    def keys(self) -> dict[str, int]:
        return {meta["path"]: meta["size"] for page in obstore.list(self.store) for meta in page}

    async def download(self, key: str, limits: Limits | None = None, **params: object) -> dict[str, bytes]:
        gathering = Gathering(self.base / "gathering")
        await self.provider.download(self.spec(key, **params), gathering, Meter(limits, self.progress.append))
        content = gathering.content
        return {str(p.relative_to(content)): p.read_bytes() for p in content.rglob("*") if p.is_file()}


@pytest.fixture
def bucket(endpoint: str, request: pytest.FixtureRequest, tmp_path: Path) -> Bucket:
    name = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    make_bucket(endpoint, name)
    return Bucket(endpoint, name, tmp_path)


@pytest.mark.parametrize("stream_bytes", [0, 1 << 30], ids=["in ranges", "in one stream"])
async def test_an_object_is_downloaded_to_the_path_of_its_key(bucket: Bucket, stream_bytes: int) -> None:
    bucket.provider = S3Provider(OWNER, stream_bytes=stream_bytes)
    bucket.put_at("data/large.bin", LARGE)
    bucket.put_at("data/other", b"1")
    assert await bucket.download("data/large.bin") == {"data/large.bin": LARGE}
    assert bucket.progress[-1] == Progress(len(LARGE), len(LARGE), 1)
    assert await bucket.provider.size(bucket.spec("data/large.bin")) == len(LARGE)


async def test_an_empty_object_is_an_empty_file(bucket: Bucket) -> None:
    bucket.put_at("empty", b"")
    assert await bucket.download("empty") == {"empty": b""}


@pytest.mark.parametrize(
    ("key", "params", "expected"),
    [
        ("data/", {}, {"data/a-1", "data/a-2", "data/b", "data/sub/a-3"}),
        ("data/a-*", {}, {"data/a-1", "data/a-2"}),
        ("data/*", {"Filter": "a-*"}, {"data/a-1", "data/a-2"}),
        ("data/", {"filter": "*-3"}, {"data/sub/a-3"}),
        ("*", {}, {"data/a-1", "data/a-2", "data/b", "data/sub/a-3", "database/x", "spaces and ü/1+2=3&4.txt"}),
        ("*/x", {}, {"database/x"}),
        ("data/?", {}, {"data/b"}),
        ("data/sub/", {}, {"data/sub/a-3"}),
        (" /data/b ", {}, {"data/b"}),
        ("spaces and ü/1+2=3&4.txt", {}, {"spaces and ü/1+2=3&4.txt"}),
    ],
)
async def test_folders_patterns_and_filters_choose_objects(
    bucket: Bucket, key: str, params: dict[str, str], expected: set[str]
) -> None:
    for path in ("data/a-1", "data/a-2", "data/b", "data/sub/a-3", "database/x", "spaces and ü/1+2=3&4.txt"):
        bucket.put_at(path, path.encode())
    found = await bucket.download(key, None, **params)
    assert found == {path: path.encode() for path in expected}
    assert await bucket.provider.size(bucket.spec(key, **params)) == sum(len(path.encode()) for path in expected)


async def test_what_stands_for_a_folder_is_none_and_not_downloaded_as_a_file(bucket: Bucket) -> None:
    import urllib.request

    for marker in ("dir/", "dir/empty/"):
        request = urllib.request.Request(f"{bucket.endpoint}/{bucket.name}/{marker}", method="PUT", data=b"")
        request.add_header("Content-Type", "application/x-directory")
        await trio.to_thread.run_sync(lambda each=request: urllib.request.urlopen(each).close())  # type: ignore[misc]
    bucket.put_at("dir/file", b"1")
    obstore.put(bucket.store, "marker", b"", attributes={"Content-Type": "application/x-directory"})
    assert await bucket.download("dir/") == {"dir/file": b"1"}
    with pytest.raises(InvalidStorageSpec, match="is a folder"):
        await bucket.download("marker")


async def test_what_is_not_there_is_told(bucket: Bucket) -> None:
    for key in ("absent", "absent/", "absent*"):
        with pytest.raises(SourceNotFound):
            await bucket.download(key)
        with pytest.raises(SourceNotFound):
            await bucket.provider.size(bucket.spec(key))
    with pytest.raises(SourceNotFound):
        await bucket.download("x", Bucket="no-such-bucket")


async def test_no_more_is_received_than_allowed(bucket: Bucket) -> None:
    bucket.put(a=b"1" * 100, b=b"2" * 100)
    with pytest.raises(TooLarge):
        await bucket.download("*", Limits(max_bytes=199))
    with pytest.raises(TooLarge):
        await bucket.download("*", Limits(max_files=1))
    assert len(await bucket.download("*", Limits(max_bytes=200, max_files=2))) == 2


async def test_a_hash_that_is_given_is_checked(bucket: Bucket) -> None:
    bucket.put(a=b"1" * 100)
    with pytest.raises(ContentMismatch):
        await bucket.download("a", SHA256="0" * 64)
    assert list((bucket.base / "gathering/content").iterdir()) == []
    assert await bucket.download("a", SHA256=hashlib.sha256(b"1" * 100).hexdigest())
    with pytest.raises(InvalidStorageSpec, match="single object"):
        await bucket.download("*", SHA256="0" * 64)


async def test_a_directory_goes_up_and_comes_back(bucket: Bucket, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub/large").write_bytes(LARGE)
    (source / "ü +%?#").write_bytes(b"odd name")
    (source / "empty").touch()
    (source / "link").symlink_to("/etc/passwd")
    meter = Meter(None, bucket.progress.append)
    found = await bucket.provider.upload(source, bucket.spec("results/run 1"), meter)
    await trio.testing.wait_all_tasks_blocked()
    assert found.params == {
        "Bucket": bucket.name,
        "Key": "results/run 1/",
        "Region": "us-east-1",
        "Endpoint": bucket.endpoint,
    }
    assert meter.progress == Progress(len(LARGE) + 8, len(LARGE) + 8, 3)
    assert await bucket.download("results/run 1/") == {
        "results/run 1/sub/large": LARGE,
        "results/run 1/ü +%?#": b"odd name",
        "results/run 1/empty": b"",
    }


async def test_what_was_uploaded_is_checked_by_its_hash_when_it_comes_back(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/f").write_bytes(b"right")
    await bucket.provider.upload(tmp_path / "source", bucket.spec(), Meter())
    obstore.put(bucket.store, "f", b"wrong", attributes={"nunet-sha256": hashlib.sha256(b"right").hexdigest()})
    for key in ("f", "*"):
        with pytest.raises(ContentMismatch):
            await bucket.download(key)


async def test_a_large_file_that_is_there_already_is_not_sent_again(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/large").write_bytes(LARGE)
    await bucket.provider.upload(tmp_path / "source", bucket.spec(), Meter())
    first = obstore.head(bucket.store, "large")["last_modified"]
    meter = Meter()
    await bucket.provider.upload(tmp_path / "source", bucket.spec(), meter)
    assert obstore.head(bucket.store, "large")["last_modified"] == first
    (tmp_path / "source/large").write_bytes(LARGE[::-1])
    await bucket.provider.upload(tmp_path / "source", bucket.spec(), Meter())
    assert bytes(obstore.get(bucket.store, "large").bytes()) == LARGE[::-1]


async def test_a_cancelled_upload_leaves_no_object(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with (tmp_path / "source/large").open("wb") as file:
        file.truncate(64 << 20)
    begun = trio.Event()

    def seen(progress: Progress) -> None:
        if progress.done_bytes:
            begun.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bucket.provider.upload, tmp_path / "source", bucket.spec(), Meter(None, seen))
        await begun.wait()
        nursery.cancel_scope.cancel()
    assert bucket.keys() == {}


# faults, by a server of our own ---------------------------------------------------------------------------------------


class Stub:
    """One object behind what S3 needs at least; ``etag`` may change, answers may break off."""

    def __init__(self) -> None:
        self.content = SMALLER
        self.etag = '"one"'
        self.cuts: dict[int, int] = {}
        """By number of the request for a range: after how many bytes it breaks off."""
        self.refusal: Answer | None = None
        self.ranges: list[str] = []

    async def answer(self, asked: Asked) -> Answer:
        if self.refusal is not None:
            return self.refusal
        headers = {"etag": self.etag, "last-modified": "Wed, 21 Oct 2020 07:28:00 GMT"}
        if asked.method == "HEAD":
            return Answer(200, self.content, headers)
        if asked.headers.get("if-match", self.etag) != self.etag:
            return Answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
        self.ranges.append(asked.headers.get("range", "bytes=0-"))
        whole = ranged(asked, self.content, headers)
        return Answer(whole.status, whole.body, whole.headers, cut_after=self.cuts.get(len(self.ranges)))


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[tuple[Stub, WebServer, Gathering]]:
    stub = Stub()
    async with web_server(stub.answer) as server:
        yield stub, server, Gathering(tmp_path / "gathering")


def stub_spec(server: WebServer, **params: object) -> SpecConfig:
    where = {"Bucket": "bucket", "Key": "data/large", "Endpoint": server.url}
    return SpecConfig(type="s3", params={**where, **CREDENTIALS, **params})


def provider(stream_bytes: int) -> S3Provider:
    return S3Provider(OWNER, stream_bytes=stream_bytes, part_bytes=PIECE)


Fixture = tuple[Stub, WebServer, Gathering]
both_ways = pytest.mark.parametrize("stream_bytes", [0, 1 << 30], ids=["in ranges", "in one stream"])


@both_ways
async def test_a_download_that_breaks_off_again_and_again_still_arrives(stub: Fixture, stream_bytes: int) -> None:
    faulty, server, gathering = stub
    faulty.cuts = {1: 300_000, 2: 150_000}
    await provider(stream_bytes).download(stub_spec(server), gathering, Meter())
    assert (gathering.content / "data/large").read_bytes() == SMALLER


@both_ways
async def test_a_download_that_was_cancelled_goes_on_where_it_ended(stub: Fixture, stream_bytes: int) -> None:
    faulty, server, gathering = stub
    begun = trio.Event()

    def seen(progress: Progress) -> None:
        if progress.done_bytes >= PIECE:
            begun.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            provider(stream_bytes).download,
            stub_spec(server),
            gathering,
            Meter(None, seen),
        )
        await begun.wait()
        nursery.cancel_scope.cancel()
    if not (gathering.content / "data/large").exists():
        faulty.ranges.clear()
        again = Gathering(gathering.root)
        await provider(stream_bytes).download(stub_spec(server), again, Meter())
        starts = [int(found[1]) for each in faulty.ranges if (found := re.match(r"bytes=(\d+)-", each))]
        assert min(starts) >= PIECE
    assert (gathering.content / "data/large").read_bytes() == SMALLER


@both_ways
async def test_an_object_that_changes_meanwhile_is_no_mixture(stub: Fixture, stream_bytes: int) -> None:
    faulty, server, gathering = stub

    def seen(progress: Progress) -> None:
        if progress.done_bytes:
            faulty.etag = '"two"'

    faulty.content = os.urandom(PIECE * 12)
    faulty.cuts = {1: 1_500_000} if stream_bytes else {}
    with pytest.raises(ContentMismatch, match="changed while"):
        await provider(stream_bytes).download(stub_spec(server), gathering, Meter(None, seen))
    await provider(stream_bytes).download(stub_spec(server), gathering, Meter())
    assert (gathering.content / "data/large").read_bytes() == faulty.content


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(403, "SignatureDoesNotMatch", AccessRefused), (404, "NoSuchKey", SourceNotFound), (400, "Bad", TransferFailed)],
)
async def test_refusals_are_told_without_what_was_signed(
    stub: Fixture, status: int, code: str, error: type[StorageError]
) -> None:
    faulty, server, gathering = stub
    body = f"<Error><Code>{code}</Code><StringToSign>secret</StringToSign></Error>".encode()
    faulty.refusal = Answer(status, body, {"content-type": "application/xml"})
    with pytest.raises(error) as caught:
        await S3Provider(OWNER).download(stub_spec(server, Key="folder/"), gathering, Meter())
    assert "secret" not in caught.value.message
    assert "test-secret" not in repr(caught.value)


# whose credentials, which endpoints -----------------------------------------------------------------------------------

AWS = {"AWS_ACCESS_KEY_ID": "env", "AWS_SECRET_ACCESS_KEY": "env-secret", "AWS_SESSION_TOKEN": "env-token"}


def read(egress: Egress, environment: dict[str, str] | None = None, **params: object) -> S3Params:
    return S3Params.read(SpecConfig(type="s3", params={"Bucket": "bucket", **params}), egress, environment or {})


def test_credentials_come_from_parameters_then_environment_then_profile(tmp_path: Path) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text(
        "[default]\naws_access_key_id = file\naws_secret_access_key = s\n[other]\naws_access_key_id = other\n"
        "aws_secret_access_key = 100%\n"
    )
    (tmp_path / ".aws/config").write_text("[default]\nregion = eu-west-1\n[profile other]\nregion = eu-central-1\n")
    home = {"HOME": str(tmp_path)}

    def whose(environment: dict[str, str], **params: object) -> tuple[str, str]:
        found = read(OWNER, environment, **params)
        assert found.credentials is not None
        return found.credentials.access_key_id, found.region

    assert whose(home) == ("file", "eu-west-1")
    assert whose(home | AWS) == ("env", "eu-west-1")
    assert whose(home | AWS | {"AWS_REGION": "us-west-2"}) == ("env", "us-west-2")
    assert whose(home | AWS, AccessKeyID="own", SecretAccessKey="x", Region="ap-south-1") == ("own", "ap-south-1")
    assert whose(home | AWS, Profile="other") == ("other", "eu-central-1")
    assert whose(home | {"AWS_PROFILE": "other"}) == ("other", "eu-central-1")
    assert read(OWNER, home | AWS, Anonymous=True).credentials is None
    with pytest.raises(InvalidStorageSpec, match="no profile"):
        read(OWNER, home, Profile="absent")


def test_a_job_never_gets_the_owners_credentials_region_or_endpoint(tmp_path: Path) -> None:
    environment = AWS | {
        "HOME": str(tmp_path),
        "AWS_REGION": "us-west-2",
        "AWS_ENDPOINT_URL": "https://internal.example",
    }
    tenant = Egress()
    with pytest.raises(InvalidStorageSpec, match="no credentials"):
        read(tenant, environment)
    with pytest.raises(InvalidStorageSpec, match="the owner's"):
        read(tenant, environment, Profile="default")
    found = read(tenant, environment, AccessKeyID="own", SecretAccessKey="x")
    assert (found.region, found.url) == ("us-east-1", "https://bucket.s3.us-east-1.amazonaws.com")


async def test_the_environment_is_not_looked_at_behind_our_back(stub: Fixture, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (AWS | {"AWS_ENDPOINT": "http://127.0.0.1:1", "AWS_SKIP_SIGNATURE": "true"}).items():
        monkeypatch.setenv(name, value)
    _, server, gathering = stub
    await S3Provider(Egress.of(["127.0.0.1/32"])).download(stub_spec(server), gathering, Meter())
    assert all("Credential=test/" in asked.headers["authorization"] for asked in server.asked)
    assert not any("x-amz-security-token" in asked.headers for asked in server.asked)


def test_secrets_are_not_printed() -> None:
    found = read(OWNER, AWS)
    assert "env-secret" not in repr(found)
    assert "env-token" not in repr(found)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"Bucket": ""}, "bucket cannot be empty"),
        ({"Bucket": "a/b"}, "no name of a bucket"),
        ({"Bucket": "a..b"}, "no name of a bucket"),
        ({"Region": "a/b"}, "no region"),
        ({"Endpoint": "ftp://x"}, "no address"),
        ({"Endpoint": "https://user:pw@example.org"}, "plain address"),
        ({"Endpoint": "https://example.org/?x"}, "plain address"),
        ({"AccessKeyID": "x"}, "belong together"),
        ({"SHA256": "xyz"}, "64 hexadecimal"),
        ({"Colour": "red"}, "unknown parameter"),
    ],
)
def test_parameters_that_cannot_work_are_refused(params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidStorageSpec, match=f"invalid s3 storage params: .*{reason}"):
        read(OWNER, AWS, **params)


async def test_a_specification_of_another_type_and_a_missing_key_are_refused(bucket: Bucket) -> None:
    with pytest.raises(InvalidStorageSpec, match="expected s3, but received: http"):
        bucket.provider.check(SpecConfig(type="http"))
    with pytest.raises(InvalidStorageSpec, match="key cannot be empty"):
        await bucket.download("")


@pytest.mark.parametrize(
    "endpoint", ["https://127.0.0.1:1", "https://169.254.169.254", "https://localhost:1", "http://1.1.1.1"]
)
async def test_a_job_reaches_no_private_endpoint_and_none_without_tls(endpoint: str, tmp_path: Path) -> None:
    spec = SpecConfig(type="s3", params={"Bucket": "bucket", "Key": "k", "Endpoint": endpoint, **CREDENTIALS})
    with pytest.raises((AddressRefused, InvalidStorageSpec)):
        await S3Provider(Egress()).download(spec, Gathering(tmp_path / "g"), Meter())


async def test_a_name_that_turns_private_between_check_and_use_is_refused(tmp_path: Path) -> None:
    answers = iter([("1.1.1.1",)])

    async def lookup(_host: str, _port: int) -> tuple[str, ...]:
        return next(answers, ("127.0.0.1",))

    spec = SpecConfig(
        type="s3", params={"Bucket": "bucket", "Key": "k", "Endpoint": "https://rebind.example", **CREDENTIALS}
    )
    with pytest.raises(AddressRefused, match=r"rebind\.example"):
        await S3Provider(Egress(), lookup=lookup).size(spec)
