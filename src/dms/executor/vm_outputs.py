"""What a guest left on a drive, taken from there with distrust. Standard library only: :mod:`dms.executor.vm_runner` uses it."""

from __future__ import annotations

import os
import tarfile

MAX_LEFT_FILES, MAX_NAME_BYTES = 100_000, 1 << 16


def unpack(drive: str, directory: str, *, max_files: int = MAX_LEFT_FILES) -> None:
    """Take what the guest left on a drive; an archive may put nothing outside of the directory, nor more into it than the
    drive holds.

    :raises OSError: it cannot be read or written.
    :raises tarfile.TarError: it is no archive, or a hostile one.
    """
    room, count = os.stat(drive).st_size, 0  # noqa: PTH116
    with tarfile.open(drive, "r:", tarinfo=_Member) as archive:
        for member in archive:
            count, room = (
                count + 1,
                room - member.size,
            )  # a file with holes, or with many names, says more than it holds
            if count > max_files or room < 0 or member.issparse():
                raise tarfile.TarError("it holds more than its drive can")
        links = sorted(filter(tarfile.TarInfo.issym, archive), key=lambda link: -link.name.count("/"))
        archive.extractall(directory, [member for member in archive if not member.issym()], filter="data")
        archive.extractall(directory, links, filter="data")  # last, and from below: nothing is written through one


class _Member(tarfile.TarInfo):
    """A file in an archive of a guest, whose headers are read into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """See the base.

        :raises tarfile.TarError: names of absurd length.
        """
        made = super().frombuf(buf, encoding, errors)
        if made.type not in tarfile.REGULAR_TYPES and made.size > MAX_NAME_BYTES:
            raise tarfile.TarError("it holds a name of absurd length")
        return made
