"""Storage elsewhere, as an ensemble names it: where a volume is downloaded from and uploaded to.

The parameters are those of the providers in ``dms.storage``, which read them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from dms.ensemble.containers import MapOf, Member, Object
from dms.ensemble.kinds import Bool, Text

FILLED = Text()
HEADERS = MapOf(Text(may_be_empty=True), FILLED)
STORAGE: Final = {
    "s3": Object(
        {
            "bucket": Member(FILLED, "name of the bucket", required=True),
            "key": Member(FILLED, "an object, folder/ or a pattern such as data/part-*; for uploads a folder"),
            "filter": Member(FILLED, "pattern for what lies below the key"),
            "region": Member(FILLED, "us-east-1 unless given"),
            "endpoint": Member(FILLED, "address of a service that is not AWS; https"),
            "access_key_id": Member(FILLED, "whose access; the provider reads it"),
            "secret_access_key": Member(FILLED, "belongs to access_key_id"),
            "session_token": Member(FILLED, "belongs to access_key_id, where it is temporary"),
            "anonymous": Member(Bool(), "a public bucket, no keys"),
            "sha256": Member(FILLED, "hash of a single object, in hex"),
            "path_style": Member(Bool(), "name the bucket in the path; so unless the endpoint is AWS"),
        },
        is_untagged=True,
    ),
    "http": Object(
        {
            "url": Member(FILLED, "address; for uploads it ends with / and each file is put below it", required=True),
            "sha256": Member(FILLED, "hash in hex; required without TLS"),
            "name": Member(FILLED, "name of the file in the volume"),
            "headers": Member(HEADERS, "sent to this host, and to no other after a redirect"),
            "unpack": Member(Bool(), "it is a tar or zip archive, and its content is wanted"),
        },
        is_untagged=True,
    ),
    "ipfs": Object(
        {
            "cid": Member(FILLED, "content id; not for uploads"),
            "path": Member(FILLED, "path below it"),
            "name": Member(FILLED, "name of a single file in the volume"),
            "gateway": Member(FILLED, "trustless gateway; the provider's unless given"),
            "api": Member(FILLED, "RPC of a Kubo node; the provider's unless given"),
            "format": Member(
                Text(choices=("raw", "car"), what="a format"), "raw or car: single blocks, or all at once"
            ),
        },
        is_untagged=True,
    ),
}
"""By type."""


def _optional(kind: Object) -> Iterator[tuple[str, Member]]:
    """The members, none of them required: which ones are, depends on the type beside them."""
    for name, member in kind.members.items():
        yield name, replace(member, required=False)


ANY_STORAGE: Final = Object(dict(pair for kind in STORAGE.values() for pair in _optional(kind)), is_untagged=True)
"""The members of all types; which of them mean something depends on the type that stands beside them."""
