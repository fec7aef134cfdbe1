"""Which volume somebody means who names one: by its id or the beginning of that, its content id, or a tenant's name for
it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dms.storage.cid import CID
from dms.storage.errors import InvalidStorageSpec, InvalidVolumeName, VolumeNotFound
from dms.storage.volume import Volume

MIN_BEGINNING_CHARS = 3


def pick(volumes: Iterable[Volume], text: str, *, tenant: str) -> Volume:
    """The one that is meant; of several with one name, that of ``tenant``.

    :raises VolumeNotFound: there is none.
    :raises InvalidVolumeName: there are several, or nothing was named.
    """
    if not text:
        raise InvalidVolumeName("name a volume: by its id, its content id or its name")
    volumes, content = tuple(volumes), _content_id(text)
    ways: tuple[Callable[[Volume], bool], ...] = (
        lambda volume: volume.id == text,
        lambda volume: volume.record.label == text and volume.record.tenant == tenant,
        lambda volume: volume.record.label == text,
        lambda volume: content is not None and bool(volume.cid) and CID.parse(volume.cid).same_content(content),
        lambda volume: len(text) >= MIN_BEGINNING_CHARS and _begins(volume.id, text),
    )
    for is_meant in ways:
        found = [volume for volume in volumes if is_meant(volume)]
        if len(found) > 1:
            several = ", ".join(volume.id for volume in found[:5])
            raise InvalidVolumeName(f"{text[:80]!r} may be each of {several}", hint="write more of the id")
        if found:
            return found[0]
    raise VolumeNotFound(f"volume not found: {text[:80]}")


def _begins(id_: str, text: str) -> bool:
    """Also without the source, which many have in common."""
    return id_.startswith(text) or id_.rpartition("-")[2].startswith(text)


def _content_id(text: str) -> CID | None:
    try:
        return CID.parse(text)
    except InvalidStorageSpec:
        return None
