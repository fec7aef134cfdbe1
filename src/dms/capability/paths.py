"""What one capability path or topic implies (``spec/security.md`` 3.2).

No wildcards and no normalisation: ``/a/`` and ``/a`` are different paths. The empty path covers only itself: as a
prefix it would cover ``/``, and with it everything.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

ROOT_PATH = "/"


def implies(held: str, wanted: str) -> bool:
    """Whether ``held`` covers ``wanted``: equal, everything, or above it at a ``/``."""
    return held in (wanted, ROOT_PATH) or (held != "" and wanted.startswith(held + "/"))


def any_implies(held: Collection[str], wanted: str) -> bool:
    """Whether some path in ``held`` covers ``wanted``. With a set it costs no product of lengths."""
    if wanted in held or ROOT_PATH in held:
        return True
    slash = wanted.rfind("/")
    while slash > 0:
        if wanted[:slash] in held:
            return True
        slash = wanted.rfind("/", 0, slash)
    return False


def all_implied(held: Collection[str], wanted: Iterable[str]) -> bool:
    """Whether every path in ``wanted`` is covered by some path in ``held``."""
    for path in wanted:  # noqa: SIM110 (a generator costs more than the one or two paths of a token)
        if path not in held and not any_implies(held, path):
            return False
    return True
