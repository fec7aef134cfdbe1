"""Names in little space: what goes in is what is in."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.ensemble.groups import MemberNames
from dms.orchestrator.bidding.node_names import MAX_ENTRIES, NodeNames, compact
from dms.types.errors import BadInput

names = st.from_regex(r"[a-z]{1,3}(-[0-9]{1,4})?", fullmatch=True)


@settings(max_examples=100)
@given(st.sets(names, max_size=40), names)
def test_a_set_holds_what_was_put_into_it_and_nothing_else(whole: set[str], other: str) -> None:
    found = NodeNames(compact(whole))
    assert found.count == len(whole)
    assert all(name in found for name in whole)
    assert (other in found) == (other in whole)


def test_ten_thousand_equal_nodes_are_one_entry() -> None:
    written = compact(MemberNames("worker", 9_999))
    assert written == ("worker-0001..worker-9999",)
    assert NodeNames(written).count == 9_999
    assert compact(["b-10", "b-09", "a", "b-08", "b-1"]) == ("a", "b-08..b-10", "b-1")


@pytest.mark.parametrize("entry", ["a..b", "a1..b2", "a1..a22", "..", "a1..", "a1..a2..a3", "a٣..a٤"])
def test_what_is_no_range_is_refused(entry: str) -> None:
    with pytest.raises(BadInput, match="not a range of nodes"):
        NodeNames([entry])


def test_a_set_is_bounded() -> None:
    with pytest.raises(BadInput, match="more than 50000 nodes"):
        NodeNames(["a1..a9", "b000000000..b999999999"])
    with pytest.raises(BadInput, match="names and ranges"):
        NodeNames([f"a{number}" for number in range(MAX_ENTRIES + 1)])
    assert NodeNames(["a9..a1"]).count == 0
    assert "a5" not in NodeNames(["a9..a1"])
