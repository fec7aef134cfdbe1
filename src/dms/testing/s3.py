"""A server that speaks S3, for tests and benchmarks: moto's, in a process of its own on the loopback address."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

_ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+")
CREDENTIALS = {"AccessKeyID": "test", "SecretAccessKey": "test-secret"}
"""Any will do."""


@contextmanager
def s3_server() -> Iterator[str]:
    """Its address, while the block runs."""
    command = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    ) as server:
        address = _address(server)
        rest = threading.Thread(target=_read_on, args=(server,))  # it tells of each request, and waits to be heard
        rest.start()
        try:
            yield address
        finally:
            server.kill()
            rest.join()


def make_bucket(url: str, name: str) -> None:
    """A bucket, empty."""
    request = urllib.request.Request(f"{url}/{name}", method="PUT")  # noqa: S310  our own server
    request.add_header("Authorization", "AWS4-HMAC-SHA256 Credential=test/20200101/us-east-1/s3/aws4_request")
    with urllib.request.urlopen(request, timeout=30):  # noqa: S310
        pass


def _address(server: subprocess.Popen[str]) -> str:
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if found := _ADDRESS.search(line):
            return found[0]
    server.kill()
    raise RuntimeError(f"moto's server does not start: {''.join(said)[-500:]}")


def _read_on(server: subprocess.Popen[str]) -> None:
    for _ in server.stderr or ():
        pass
