"""Volumes: S3 beside `obstore` alone on the same server, content ids beside bare SHA-256, encryption beside bare libsodium.

Moto's server, in a process of its own, is what both talk to, and most of what both wait for. The bare library writes what
it gets into a file and sends a file as it is; ours also bounds, resumes, hashes, syncs and reports.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
import trio
from nacl.bindings import (
    crypto_secretstream_xchacha20poly1305_init_push,
    crypto_secretstream_xchacha20poly1305_push,
    crypto_secretstream_xchacha20poly1305_state,
)
from obstore.store import S3Store

from bench.networks import Bench
from bench.report import Report
from dms.storage.content import read_content
from dms.storage.egress import OWNER
from dms.storage.s3 import S3Provider
from dms.storage.s3_client import REQUESTS
from dms.storage.sealing import PIECE_BYTES, SealingKey, seal
from dms.storage.transfer import Gathering, Meter
from dms.storage.tree import remove_tree
from dms.testing.s3 import CREDENTIALS, make_bucket, s3_server
from dms.types.resources import SpecConfig

TURNS = 5
MIB = 1 << 20
LARGE_BYTES = 64 * MIB
SMALL_FILES, SMALL_BYTES = 200, 16 << 10
BUCKET = "bench"


def measure(bench: Bench) -> Report:
    """See the module."""
    report = Report("storage", "what does a volume cost, above the library that moves its bytes?")
    runs: dict[str, list[float]] = defaultdict(list)
    source = bench.scratch / "storage"
    (source / "large").mkdir(parents=True)
    (source / "small").mkdir()
    (source / "large/file").write_bytes(os.urandom(LARGE_BYTES))
    for index in range(SMALL_FILES):
        (source / f"small/{index:04}").write_bytes(os.urandom(SMALL_BYTES))
    with s3_server() as url:
        make_bucket(url, BUCKET)
        s3 = _S3(url, bench.scratch / "received")
        for turn in range(TURNS + 1):
            found = s3.turn(source) | _local(source)
            if turn:
                for name, seconds in found.items():
                    runs[name].append(seconds)
    speeds = {name: [_bytes_of(name) / MIB / seconds for seconds in values] for name, values in runs.items()}
    for name, values in speeds.items():
        report.median(name, values, "MiB/s")
    for ours, bare in (
        ("S3: a file of 64 MiB down", "obstore alone: a file of 64 MiB down"),
        ("S3: a file of 64 MiB up", "obstore alone: a file of 64 MiB up"),
        ("S3: 200 files of 16 KiB down", "obstore alone, six threads: 200 files of 16 KiB down"),
        ("content id of 64 MiB", "SHA-256 alone of 64 MiB"),
        ("encrypt 64 MiB", "secretstream alone of 64 MiB"),
    ):
        report.ratio(f"time of {ours} / {bare}", runs[ours], runs[bare])
    for ratio in report.ratios[:2]:
        report.goal(ratio.name, ratio.value, 1.25, "×")
    return report


class _S3:
    """Both ways of each transfer, in turns."""

    def __init__(self, url: str, received: Path) -> None:
        self._url = url
        self._received = received
        self._number = 0
        self._bare = S3Store(
            BUCKET,
            config={"endpoint": url, "region": "us-east-1", "access_key_id": "x", "secret_access_key": "y"},
            client_options={"allow_http": True},
        )

    def turn(self, source: Path) -> dict[str, float]:
        self._number += 1
        ours, bare = f"ours{self._number}", f"bare{self._number}"
        for path in sorted((source / "small").iterdir()):
            obstore.put(self._bare, f"{ours}/small/{path.name}", path)
        return {
            "obstore alone: a file of 64 MiB up": _timed(
                lambda: self._put(source / "large/file", f"{bare}/large/file")
            ),
            "S3: a file of 64 MiB up": _timed(lambda: trio.run(self._upload, source / "large", f"{ours}/large")),
            "obstore alone: a file of 64 MiB down": _timed(lambda: self._get(f"{bare}/large/file")),
            "S3: a file of 64 MiB down": _timed(lambda: trio.run(self._download, f"{ours}/large/file")),
            "obstore alone, six threads: 200 files of 16 KiB down": _timed(lambda: self._get_all(f"{ours}/small")),
            "S3: 200 files of 16 KiB down": _timed(lambda: trio.run(self._download, f"{ours}/small/")),
        }

    def _put(self, path: Path, key: str) -> None:
        obstore.put(self._bare, key, path)

    def _get(self, key: str) -> None:
        target = self._received / f"bare-{self._number}" / hashlib.sha256(key.encode()).hexdigest()
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            for chunk in obstore.get(self._bare, key).stream():
                file.write(chunk)
            os.fsync(file.fileno())
        target.unlink()

    def _get_all(self, prefix: str) -> None:
        keys = [meta["path"] for page in obstore.list(self._bare, prefix) for meta in page]
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(self._get, keys))

    async def _upload(self, directory: Path, key: str) -> None:
        await S3Provider(OWNER).upload(directory, self._spec(key), Meter())

    async def _download(self, key: str) -> None:
        gathering = Gathering(self._received / f"ours-{self._number}")
        self._received.mkdir(exist_ok=True)
        await S3Provider(OWNER).download(self._spec(key), gathering, Meter())
        remove_tree(gathering.root)

    def _spec(self, key: str) -> SpecConfig:
        return SpecConfig(type="s3", params={"Bucket": BUCKET, "Key": key, "Endpoint": self._url, **CREDENTIALS})


def _local(source: Path) -> dict[str, float]:
    key, sealed = SealingKey.generate(), source / "sealed"
    found = {
        "SHA-256 alone of 64 MiB": _timed(lambda: _hash(source / "large/file")),
        "content id of 64 MiB": _timed(lambda: read_content(source / "large")),
        "secretstream alone of 64 MiB": _timed(lambda: _encrypt(source / "large/file", source / "encrypted", key)),
        "encrypt 64 MiB": _timed(lambda: seal(source / "large", sealed, key)),
    }
    sealed.unlink()
    return found


def _hash(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _encrypt(source: Path, target: Path, key: SealingKey) -> None:
    state = crypto_secretstream_xchacha20poly1305_state()
    crypto_secretstream_xchacha20poly1305_init_push(state, key.secret)
    with source.open("rb") as read, target.open("wb") as written:
        while piece := read.read(PIECE_BYTES):
            written.write(crypto_secretstream_xchacha20poly1305_push(state, piece))
        os.fsync(written.fileno())
    target.unlink()


def _bytes_of(name: str) -> int:
    return SMALL_FILES * SMALL_BYTES if "200 files" in name else LARGE_BYTES


def _timed(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started
