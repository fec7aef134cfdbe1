"""A log file that is renewed by size; old ones are compressed, and dropped by count and age."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import threading
import time
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

S_PER_DAY = 86_400


class RotatingFile(RotatingFileHandler):
    """``log``, ``log.1.gz``, ``log.2.gz``, …; only the owner may read them.

    Compressing happens in a thread of its own: it takes seconds, and the writer is the event loop.
    """

    def __init__(self, path: Path, *, max_size_mb: float, max_backups: int, max_age_days: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._max_age_days = max_age_days
        self._compressing: threading.Thread | None = None
        super().__init__(path, maxBytes=int(max_size_mb * 1_000_000), backupCount=max(max_backups, 1), encoding="utf-8")
        self._keep_none = max_backups == 0
        self._drop_old()

    def _open(self) -> TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return os.fdopen(handle, "a", encoding="utf-8")

    def rotation_filename(self, default_name: str) -> str:
        """``log.1`` is kept as ``log.1.gz``."""
        return default_name + ".gz"

    def rotate(self, source: str, dest: str) -> None:
        """Put ``source`` aside and compress it to ``dest`` in the background."""
        if self._keep_none:
            Path(source).unlink(missing_ok=True)
            return
        aside = Path(source + ".rolled")
        Path(source).replace(aside)
        self._compressing = threading.Thread(target=_compress, args=(aside, Path(dest)), daemon=True)
        self._compressing.start()

    def doRollover(self) -> None:  # noqa: N802
        """Begin a new file."""
        self._finish()
        super().doRollover()
        self._drop_old()

    def close(self) -> None:
        """Close the file, once the last one is compressed."""
        self._finish()
        super().close()

    def _finish(self) -> None:
        if self._compressing is not None:
            self._compressing.join()
            self._compressing = None

    def _drop_old(self) -> None:
        if self._max_age_days <= 0:
            return
        oldest = time.time() - self._max_age_days * S_PER_DAY
        base = Path(self.baseFilename)
        for path in base.parent.glob(f"{base.name}.*.gz"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()


def _compress(source: Path, dest: Path) -> None:
    partial = Path(f"{dest}.partial")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with (
            source.open("rb") as plain,
            os.fdopen(handle, "wb") as raw,
            gzip.GzipFile(fileobj=raw, mode="wb") as packed,
        ):
            shutil.copyfileobj(plain, packed)
        partial.replace(dest)
        source.unlink()
    except OSError:
        partial.unlink(missing_ok=True)  # the plain file stays; a full disk must not stop the node
