"""CBOR; the examples are those of RFC 8949, appendix A."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.identity import cbor
from dms.identity.errors import BadCBOR

_NUMBERS = st.integers(-(2**64), 2**64 - 1)
_KEYS = st.one_of(_NUMBERS, st.binary(max_size=40), st.text(max_size=40))
_LEAVES = st.one_of(st.none(), st.booleans(), _KEYS)
_VALUES = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=20
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("1903e8", 1000),
        ("1a000f4240", 1000000),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3903e7", -1000),
        ("3bffffffffffffffff", -(2**64)),
        ("f4", False),
        ("f5", True),
        ("f6", None),
        ("4401020304", b"\x01\x02\x03\x04"),
        ("6161", "a"),
        ("64f0908591", "\U00010151"),
        ("8301820203820405", [1, [2, 3], [4, 5]]),
        ("a26161016162820203", {"a": 1, "b": [2, 3]}),
        ("a201020304", {1: 2, 3: 4}),
    ],
)
def test_published_examples_are_read_and_written(text: str, value: cbor.Value) -> None:
    assert cbor.decode(bytes.fromhex(text)) == value
    assert cbor.encode(value) == bytes.fromhex(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "too early"),
        ("0000", "follows"),
        ("1817", "shortest"),
        ("190017", "shortest"),
        ("1a0000ffff", "shortest"),
        ("1b00000000ffffffff", "shortest"),
        ("580141", "shortest"),
        ("5f4101ff", "indefinite"),
        ("9f01ff", "indefinite"),
        ("bf01ff", "indefinite"),
        ("1c", "indefinite or unknown"),
        ("c001", "tags"),
        ("d28443a10126a0404100", "tags"),
        ("f97e00", "neither"),
        ("f7", "neither"),
        ("ff", "neither"),
        ("61ff", "UTF-8"),
        ("a201020103", "repeated"),
        ("a1f601", "map key"),
        ("a1f501", "map key"),
        ("a18001", "map key"),
        ("4501", "too early"),
        ("5bffffffffffffffff", "too early"),
        ("9bffffffffffffffff", "too many"),
        ("bbffffffffffffffff", "too many"),
        ("81" * 10 + "00", "too deep"),
    ],
)
def test_other_forms_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(BadCBOR, match=reason):
        cbor.decode(bytes.fromhex(text))


def test_size_and_number_of_values_are_bounded() -> None:
    with pytest.raises(BadCBOR, match="bytes"):
        cbor.decode(bytes(cbor.MAX_BYTES + 1))
    assert cbor.decode(cbor.encode([0] * (cbor.MAX_ITEMS - 1))) == [0] * (cbor.MAX_ITEMS - 1)
    with pytest.raises(BadCBOR, match="too many"):
        cbor.decode(cbor.encode([0] * cbor.MAX_ITEMS))
    with pytest.raises(BadCBOR, match="64 bits"):
        cbor.encode(2**64)


@settings(max_examples=100, deadline=None)
@given(_VALUES)
def test_every_value_survives(value: cbor.Value) -> None:
    data = cbor.encode(value)
    try:
        again = cbor.decode(data)
    except BadCBOR as exc:
        assert exc.message == "invalid CBOR: nested too deep"  # noqa: PT017 - the only reason there may be
        return
    assert again == value
    assert cbor.encode(again) == data


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_in_its_only_form_or_refused(data: bytes) -> None:
    try:
        value = cbor.decode(data)
    except BadCBOR:
        return
    assert cbor.encode(value) == data
