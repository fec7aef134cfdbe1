"""Identifiers are made and split again."""

from __future__ import annotations

import hashlib
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.ensemble.errors import InvalidID
from dms.ensemble.ids import allocation_id, new_ensemble_id, split_allocation_id, split_allocation_key, standby_name
from dms.types.ids import PeerID

LABEL = st.from_regex(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,20}[a-zA-Z0-9])?", fullmatch=True)


def test_the_ensemble_id_is_the_hash_of_host_and_uuid() -> None:
    random = uuid.UUID(int=7)
    assert new_ensemble_id(PeerID("12D3"), random) == hashlib.sha256(f"12D3{random}".encode()).hexdigest()


@given(st.uuids(), LABEL, LABEL)
def test_allocation_ids_split_into_what_they_were_made_of(random: uuid.UUID, node: str, allocation: str) -> None:
    ensemble = new_ensemble_id(PeerID("p"), random)
    assert split_allocation_id(allocation_id(ensemble, node, allocation)) == (ensemble, node, allocation)


@pytest.mark.parametrize("text", ["", "e", "e_", "_n.a", "e_n", "e_n.", "e_.a", "e_n.a.b", "e_n_m.a"])
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidID):
        split_allocation_id(text)


def test_keys_and_standbys() -> None:
    assert split_allocation_key("n.a") == ("n", "a")
    assert standby_name("n", 2) == "n-standby-2"
