from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dms.identity.errors import BadName, BadNameFile, InvalidDID
from dms.identity.ids import DID
from dms.identity.prism.associations import PrismAssociations, parse_prism_did

ALICE, BOB = DID(uri="did:prism:aa"), DID(uri="did:prism:bb")


def test_a_key_may_sign_for_a_did_prism(tmp_path: Path) -> None:
    associations = PrismAssociations(tmp_path)
    assert associations.get("user") is None
    associations.set("user", ALICE)
    associations.set("dms", BOB)
    assert associations.get("user") == ALICE
    assert associations.all() == {"user": ALICE, "dms": BOB}


def test_the_file_is_private_indented_and_a_copy_of_the_old_one_is_kept(tmp_path: Path) -> None:
    associations = PrismAssociations(tmp_path)
    associations.set("user", ALICE)
    associations.set("user", BOB)
    assert associations.path.name == "prism_did_map.json"
    assert associations.path.read_text() == '{\n  "user": "did:prism:bb"\n}'
    kept = tmp_path / "prism_did_map.json.bak"
    assert json.loads(kept.read_text()) == {"user": "did:prism:aa"}
    for path in (associations.path, kept):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ['{"user": "did:key:z6Mk"}', '{"user": "x"}', '{"user": ""}', '{"user": 7}', "["])
def test_a_damaged_file_is_reported(tmp_path: Path, text: str) -> None:
    (tmp_path / "prism_did_map.json").write_text(text)
    with pytest.raises(BadNameFile, match=r"prism_did_map\.json"):
        PrismAssociations(tmp_path).get("user")


def test_only_names_of_keys_and_did_prisms_are_associated(tmp_path: Path) -> None:
    with pytest.raises(BadName):
        PrismAssociations(tmp_path).set("../x", ALICE)
    for text in ("", "did:key:z6Mk", "did:prism:a:b"):
        with pytest.raises(InvalidDID):
            parse_prism_did(text)
    assert parse_prism_did("did:prism:aa") == ALICE


def test_an_association_ends_with_its_key(tmp_path: Path) -> None:
    associations = PrismAssociations(tmp_path)
    associations.remove("user")
    assert not associations.path.exists()
    associations.set("user", ALICE)
    associations.set("dms", BOB)
    associations.remove("user")
    associations.remove("other")
    assert associations.all() == {"dms": BOB}
