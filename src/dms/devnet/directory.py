"""The directory of a local network: taken by one command at a time, and removed only if it is ours.

A marker file says that a directory is ours; a lock on it says that a command is at work there. Both the lock and the
processes of the nodes are looked up in the system, never in a file, so that a crash or a reboot leaves nothing that
would have to be believed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from dms.devnet.errors import DevnetError, DevnetNotFound, DevnetRunning
from dms.identity.files import make_private_directory
from dms.types.errors import BadInput

MARKER = ".nunet-devnet"


def is_ours(directory: Path) -> bool:
    """Whether a local network lives, or lived, in ``directory``."""
    return (directory / MARKER).is_file()


@contextlib.contextmanager
def taken(directory: Path) -> Iterator[None]:
    """Make ``directory`` ours and hold it; what a crash left there is still there.

    :raises BadInput: it cannot be made, or holds what is not ours.
    :raises DevnetRunning: another command is at work there.
    """
    try:
        if directory.exists() and not is_ours(directory) and any(directory.iterdir()):
            raise BadInput(f"{directory} is not empty", hint="choose an empty or new directory with --dir")
        make_private_directory(directory)
        marker = os.open(directory / MARKER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise BadInput(f"cannot use the directory {directory}: {exc.strerror}", hint="choose another --dir") from None
    with _locked(directory, marker):
        yield


@contextlib.contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold a directory that is ours already.

    :raises DevnetNotFound: it is not.
    :raises DevnetRunning: another command is at work there.
    """
    try:
        marker = os.open(directory / MARKER, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise not_found(directory) from None
    with _locked(directory, marker):
        yield


def empty(directory: Path) -> None:
    """Remove everything in a directory that is ours, but not itself.

    :raises DevnetError: something cannot be removed.
    """
    for entry in directory.iterdir():
        if entry.name != MARKER:
            _remove(entry)


def remove(directory: Path) -> None:
    """Remove a directory that is ours.

    :raises DevnetError: something in it cannot be removed.
    """
    if not is_ours(directory):
        return
    empty(directory)
    (directory / MARKER).unlink()
    with contextlib.suppress(OSError):  # a mount point, or a parent that is not ours to write: empty is enough
        directory.rmdir()


def leave(directory: Path) -> None:
    """Give a directory up and let everything in it be: no command will remove it any more."""
    (directory / MARKER).unlink(missing_ok=True)


def not_found(directory: Path) -> DevnetNotFound:
    """The error for a directory without a network."""
    return DevnetNotFound(f"there is no local network in {directory}")


@contextlib.contextmanager
def _locked(directory: Path, marker: int) -> Iterator[None]:
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # the marker that we hold may be one that was just removed: then it protects nothing
            if os.path.samestat(os.fstat(marker), (directory / MARKER).stat()):
                yield
                return
    finally:
        os.close(marker)
    raise DevnetRunning(
        f"another command is starting or ending the local network in {directory}", hint="try again when it is done"
    )


def _remove(path: Path) -> None:
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as exc:
        raise DevnetError(
            f"cannot remove {exc.filename or path}: {exc.strerror}",
            hint="remove it by hand; nothing of the network runs any more",
        ) from None
