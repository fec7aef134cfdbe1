from pathlib import Path

import pytest

from dms.storage.egress import OWNER, Egress
from dms.storage.errors import AddressRefused, InvalidStorageSpec, ProviderMissing, StorageError, TransferFailed
from dms.storage.gluster import GlusterClient, GlusterParams
from dms.storage.mounts import can_mount

PEM = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


def client(programs: Path, egress: Egress = OWNER, *, is_allowed: bool = True) -> GlusterClient:
    async def lookup(host: str, _port: int) -> tuple[str, ...]:
        return {"public.example": ("1.1.1.1",), "private.example": ("10.0.0.1",)}[host]

    return GlusterClient(is_allowed=is_allowed, egress=egress, lookup=lookup, path=f"{programs}:/usr/bin:/bin")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A client that writes down what it was told, in place of the system's."""
    directory = tmp_path / "programs"
    directory.mkdir()
    for name in ("mount.glusterfs", "glusterfs"):
        script = (
            f'#!/bin/sh\nprintf "%s\\n" {name} "$@" > {tmp_path}/told\nenv > {tmp_path}/environment\n'
            'case "$*" in *broken*) echo "Mount failed. Check the log" >&2; exit 1;; esac\n'
        )
        (directory / name).write_text(script)
    (directory / "stat").write_text(
        '#!/bin/sh\ncase "$3" in *away) echo "not connected" >&2; exit 1;; *) echo 1;; esac\n'
    )
    (directory / "umount").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/unmounted\n')
    for program in directory.iterdir():
        program.chmod(0o755)
    return directory


needs_capability = pytest.mark.skipif(not can_mount(), reason="needs CAP_SYS_ADMIN: run the tests as root")


@needs_capability
async def test_the_systems_client_is_told_servers_and_options(programs: Path, tmp_path: Path) -> None:
    params = GlusterParams("data", ("public.example", "public.example"))
    await client(programs, Egress()).mount(params, tmp_path / "target", tmp_path / "secrets", read_only=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[:4] == ["mount.glusterfs", "public.example:/data", str(tmp_path / "target"), "-o"]
    assert set(told[4].split(",")) == {"ro", "nosuid", "nodev", "backup-volfile-servers=public.example"}


@needs_capability
async def test_with_tls_the_client_is_told_where_each_file_lies_and_no_secret(programs: Path, tmp_path: Path) -> None:
    """The helper that mounts keeps the last of several translator options only, so no certificate was ever shown."""
    params = GlusterParams("data", ("public.example", "public.example"), PEM, PEM, PEM)
    secrets = tmp_path / "secrets"
    await client(programs, Egress()).mount(params, tmp_path / "target", secrets, read_only=True)
    told = (tmp_path / "told").read_text().splitlines()
    assert told[0] == "glusterfs"
    assert told.count("--volfile-server=public.example") == 2
    assert {"--read-only", "--fuse-mountopts=nosuid,nodev", "--volfile-id=/data"} < set(told)
    for option, name in (("own-cert", "pem"), ("private-key", "key"), ("ca-list", "ca")):
        assert f"--xlator-option=*.transport.socket.ssl-{option}={secrets}/glusterfs.{name}" in told
    assert told[-1] == str(tmp_path / "target")
    assert "BEGIN" not in (tmp_path / "told").read_text() + (tmp_path / "environment").read_text()
    assert [oct(path.stat().st_mode & 0o777) for path in sorted(secrets.iterdir())] == ["0o600"] * 3
    assert "BEGIN" not in repr(params)


@needs_capability
async def test_a_client_that_goes_on_without_its_servers_is_ended(programs: Path, tmp_path: Path) -> None:
    params = GlusterParams("data", ("public.example",), PEM, PEM, PEM)
    with pytest.raises(TransferFailed, match="certificates do not fit"):
        await client(programs).mount(params, tmp_path / "away", tmp_path / "secrets", read_only=False)
    assert (tmp_path / "unmounted").read_text() == f"-l {tmp_path / 'away'}\n"
    assert not (tmp_path / "secrets").exists()


@needs_capability
async def test_what_the_client_says_is_told_and_no_secret_is_left(programs: Path, tmp_path: Path) -> None:
    params = GlusterParams("broken", ("public.example",), PEM, PEM, PEM)
    with pytest.raises(TransferFailed, match=r"Mount failed\. Check the log"):
        await client(programs).mount(params, tmp_path / "target", tmp_path / "secrets", read_only=False)
    assert not (tmp_path / "secrets").exists()


@needs_capability
@pytest.mark.parametrize("server", ["private.example", "127.0.0.1", "::1"])
async def test_jobs_reach_no_private_server(programs: Path, tmp_path: Path, server: str) -> None:
    params = GlusterParams("data", ("public.example", server))
    with pytest.raises(AddressRefused):
        await client(programs, Egress()).mount(params, tmp_path / "t", tmp_path / "s", read_only=True)
    assert not (tmp_path / "told").exists()


async def test_what_is_missing_is_told(programs: Path, tmp_path: Path) -> None:
    with pytest.raises(ProviderMissing, match="not allowed here"):
        client(programs, is_allowed=False).check()
    with pytest.raises(ProviderMissing, match="not installed"):
        client(tmp_path / "nowhere").check()
    with pytest.raises(StorageError):
        await client(tmp_path / "nowhere").mount(
            GlusterParams("data", ("public.example",)), tmp_path / "t", tmp_path / "s", read_only=True
        )


@pytest.mark.parametrize(
    ("name", "servers", "tls"),
    [
        ("data", (), ("", "", "")),
        ("data", ("a",) * 17, ("", "", "")),
        ("data", ("-o",), ("", "", "")),
        ("data", ("a b",), ("", "", "")),
        ("data", ("a:/x",), ("", "", "")),
        ("", ("a",), ("", "", "")),
        ("-o", ("a",), ("", "", "")),
        ("a,b", ("a",), ("", "", "")),
        ("../x", ("a",), ("", "", "")),
        ("data", ("a",), (PEM, "", "")),
        ("data", ("a",), (PEM, PEM, "no pem")),
        ("data", ("a",), (PEM, PEM, PEM + "x" * 70_000)),
    ],
)
def test_parameters_that_cannot_work_are_refused(
    name: str, servers: tuple[str, ...], tls: tuple[str, str, str]
) -> None:
    with pytest.raises(InvalidStorageSpec):
        GlusterParams(name, servers, *tls)
