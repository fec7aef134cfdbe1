"""Running the program of a wallet: found on PATH, limited in time, its output bounded.

The person at the terminal must see what the program says, and commands print tokens on stdout, so what the program
writes for people goes to stderr.
"""

from __future__ import annotations

import os
import selectors
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from dms.identity.errors import BadWalletAnswer, WalletError, WalletMissing

TIME_LIMIT_S: Final = 180.0
"""Somebody must find the device, unlock it, read and confirm."""
MAX_MESSAGE_BYTES: Final = 60_000
"""Twice that in hexadecimal is what Linux lets a single argument be."""
MAX_OUTPUT_BYTES: Final = 1 << 20
_STDERR: Final = 2
_CHUNK_BYTES: Final = 65536


def find_program(name: str) -> str:
    """The path of a program.

    :raises WalletMissing: there is none on PATH.
    """
    path = shutil.which(name)
    if path is None:
        raise WalletMissing(f"can't find {name} in PATH", hint=f"install {name}, or add its folder to PATH")
    return str(Path(path).absolute())


def check_message(message: bytes, program: str) -> bytes:
    """``message`` if it is short enough to be handed over.

    :raises WalletError: it is not.
    """
    if len(message) > MAX_MESSAGE_BYTES:
        raise WalletError(f"the message of {len(message)} bytes is too long for {program}: {MAX_MESSAGE_BYTES} at most")
    return message


def run_program(argv: Sequence[str], *, time_limit_s: float = TIME_LIMIT_S, capture: bool = False) -> bytes:
    """Run a program to its end and return what it wrote to stdout, when that is to be captured.

    :raises WalletError: it cannot be started, failed, or took too long.
    :raises BadWalletAnswer: it wrote more than anybody needs.
    """
    name = Path(argv[0]).name
    try:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE if capture else _STDERR)
    except OSError as exc:
        raise WalletError(f"{name} cannot be started: {exc.strerror}") from None
    deadline_s = time.monotonic() + time_limit_s
    with process:
        try:
            output = _read(process, name, deadline_s) if capture else b""
            status = process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise WalletError(
                f"{name} did not finish within {time_limit_s:g} s", hint="is the wallet connected and unlocked?"
            ) from None
        finally:
            if process.poll() is None:
                process.kill()
    if status != 0:
        raise WalletError(
            f"{name} failed with exit code {status}",
            hint="see what it said above; is the wallet connected, unlocked, and was the request confirmed?",
        )
    return output


def _read(process: subprocess.Popen[bytes], name: str, deadline_s: float) -> bytes:
    assert process.stdout is not None
    chunks: list[bytes] = []
    size = 0
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not selector.select(left_s):
                raise subprocess.TimeoutExpired(name, 0)
            chunk = os.read(process.stdout.fileno(), _CHUNK_BYTES)
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_OUTPUT_BYTES:
                raise BadWalletAnswer(f"{name} wrote more than {MAX_OUTPUT_BYTES} bytes")
