"""What of the host a container may see: granted directories, with all symbolic links resolved, and nothing else.

Where volumes of tenants are concerned, a link inside one may point anywhere, also into somebody else's. So the place that
is mounted is the place that was checked: it must lie in a granted directory without a link on the way from there, and it
must not lie *inside* a volume that a running workload can write, as that one could put a link there between our look and
the engine's.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from dms.executor.errors import InvalidEngineSpec
from dms.executor.protocol import Mount

FORBIDDEN_SOURCES = tuple(map(Path, ("/proc", "/sys", "/dev", "/run", "/boot", "/etc", "/var/run")))
FORBIDDEN_TARGETS = ("/proc", "/sys", "/dev")
MAX_MOUNTS = 64


def mount_config(
    mounts: Sequence[Mount],
    *,
    granted: Sequence[Path] = (),
    private: Iterable[Path] = (),
    written: Iterable[Path] = (),
) -> list[dict[str, Any]]:
    """The engine's ``Mounts``. This looks at the disk.

    :param granted: directories that sources must lie in, and the way from there be free of links; with none, the whole way.
    :param private: paths that are never shown: the engine's socket and data, our own state.
    :param written: what running workloads can write.
    :raises InvalidEngineSpec: a mount that is not allowed, with the reason.
    """
    if len(mounts) > MAX_MOUNTS:
        raise InvalidEngineSpec(f"{len(mounts)} mounts are more than {MAX_MOUNTS}")
    private, written = tuple(private), tuple(written)
    made, targets = [], set()
    for mount in mounts:
        target = checked_target(mount.target)
        if target in targets:
            raise InvalidEngineSpec(f'two mounts have the target "{target}"')
        targets.add(target)
        source = resolved_source(mount.source, granted=granted, private=private)
        for place in written:
            if source != place and source.is_relative_to(place):
                raise InvalidEngineSpec(f"the mount source {source} lies inside a volume that a workload can write")
        made.append(bind(source, target, read_only=mount.read_only))
    return made


def bind(source: Path, target: str, *, read_only: bool) -> dict[str, Any]:
    """One mount; what is mounted below the source does not come along."""
    options = {"Propagation": "rprivate", "NonRecursive": True}
    return {"Type": "bind", "Source": str(source), "Target": target, "ReadOnly": read_only, "BindOptions": options}


def checked_target(target: str) -> str:
    """The place in the container, without detours."""
    shown = "".join(char if char.isprintable() else "?" for char in target[:64])
    if not target.startswith("/"):
        raise InvalidEngineSpec(f'the mount target "{shown}" is not absolute')
    if ".." in target.split("/") or "\0" in target:
        raise InvalidEngineSpec(f'the mount target "{shown}" is not a plain path')
    clean = posixpath.normpath(target).replace("//", "/")
    if clean == "/" or any(clean == place or clean.startswith(f"{place}/") for place in FORBIDDEN_TARGETS):
        raise InvalidEngineSpec(f'nothing can be mounted at "{shown}"')
    return clean


def resolved_source(source: Path, *, granted: Sequence[Path] = (), private: Sequence[Path] = ()) -> Path:
    """The real place that a source leads to."""
    if not source.is_absolute() or ".." in source.parts:
        raise InvalidEngineSpec(f"the mount source {source} is not an absolute path")
    try:
        real = source.resolve(strict=True)
        mode = real.stat().st_mode
    except (OSError, RuntimeError, ValueError):
        raise InvalidEngineSpec(f"the mount source {source} does not exist") from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise InvalidEngineSpec(f"the mount source {source} is neither a directory nor a file")
    roots = {root: root.resolve() for root in granted}
    if roots and not any(real.is_relative_to(root) for root in roots.values()):
        raise InvalidEngineSpec(f"the mount source {source} leads out of the granted volumes")
    without_links = {source, *(place / source.relative_to(r) for r, place in roots.items() if source.is_relative_to(r))}
    if real not in without_links:
        raise InvalidEngineSpec(f"the mount source {source} goes through a symbolic link")
    if real == Path("/") or any(real.is_relative_to(place) for place in FORBIDDEN_SOURCES):
        raise InvalidEngineSpec(f"the mount source {source} belongs to the system")
    for place in (path.resolve() for path in private):
        if real.is_relative_to(place) or place.is_relative_to(real):
            raise InvalidEngineSpec(f"the mount source {source} would show what is not the workload's")
    return real
