from pathlib import Path

import pytest

from dms.storage.errors import InvalidVolumeName, VolumeNotFound
from dms.storage.lookup import pick
from dms.storage.volume import Volume, VolumeRecord

CID = "bafybeiht6dtwk3les7vqm6ibpvz6qpohidvlshsfyr7l5mpysdw2vmbbhe"


def volume(id_: str, *, label: str = "", tenant: str = "", cid: str = "") -> Volume:
    record = VolumeRecord(name=id_, source=id_.partition("-")[0], label=label, tenant=tenant, cid=cid)
    return Volume(id_, Path("/volumes") / id_, record, 1, 1)


MINE = volume("local-aaaabbbbccccdddd", label="data", tenant="me")
THEIRS = volume("local-aaaazzzzccccdddd", label="data", tenant="they")
OTHER = volume("local-eeeebbbbccccdddd", label="results", tenant="they")
DOWNLOAD = volume("s3-bbbbccccddddeeee", cid=CID)
ALL = (MINE, THEIRS, OTHER, DOWNLOAD)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("local-aaaabbbbccccdddd", MINE),
        ("data", MINE),
        ("results", OTHER),
        (CID, DOWNLOAD),
        ("s3-", DOWNLOAD),
        ("s3-bbbb", DOWNLOAD),
        ("bbbb", DOWNLOAD),
        ("local-aaaaz", THEIRS),
        ("aaaab", MINE),
    ],
)
def test_a_volume_is_named_by_id_name_or_content(text: str, found: Volume) -> None:
    assert pick(ALL, text, tenant="me") is found


@pytest.mark.parametrize("text", ["bb", "absent", "local-aaaabbbbccccddddx", "bafkreigh2akiscaildc"])
def test_what_names_nothing_is_not_found(text: str) -> None:
    with pytest.raises(VolumeNotFound, match="volume not found: "):
        pick(ALL, text, tenant="me")


@pytest.mark.parametrize("text", ["", "aaaa", "local-"])
def test_what_may_be_several_is_told_with_them(text: str) -> None:
    with pytest.raises(InvalidVolumeName, match=r"name a volume|may be each of local-aaaabbbbccccdddd, local-aaaazzzz"):
        pick(ALL, text, tenant="me")


def test_of_two_of_one_name_that_are_somebody_elses_neither_is_guessed() -> None:
    with pytest.raises(InvalidVolumeName):
        pick(ALL, "data", tenant="third")
