"""Canonical JSON against what Go's ``encoding/json`` writes and reads."""

from __future__ import annotations

import contextlib
import json
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.types import gojson
from dms.types.errors import BadJSON, NoJSON
from dms.types.gojson import Wire
from dms.types.resources import CPU, RAM, Resources


class Inner(Wire):
    uri: str = ""


class Sample(Wire, kw_only=True):
    name: str
    caps: tuple[str, ...] | None
    nonce: bytes | None
    inner: Inner
    number: int = 0
    topics: tuple[str, ...] = ()
    signature: bytes = b""
    chain: Sample | None = None
    table: dict[str, int] = msgspec.field(default_factory=dict)


ZERO = Sample(name="", caps=None, nonce=None, inner=Inner())

texts = st.text(st.characters(codec="utf-8"), max_size=20)
samples = st.recursive(
    st.builds(
        Sample,
        name=texts,
        caps=st.none() | st.lists(texts, max_size=3).map(tuple),
        nonce=st.none() | st.binary(max_size=12),
        inner=st.builds(Inner, uri=texts),
        number=st.integers(0, 2**64 - 1),
        topics=st.lists(texts, max_size=2).map(tuple),
        signature=st.binary(max_size=8),
        table=st.dictionaries(texts, st.integers(0, 9), max_size=3),
    ),
    lambda inner: st.builds(
        Sample,
        name=texts,
        caps=st.none(),
        nonce=st.just(b""),
        inner=st.just(Inner()),
        chain=inner,
    ),
    max_leaves=3,
)


def test_nil_and_empty_are_told_apart_and_empty_members_left_out() -> None:
    assert gojson.encode(ZERO) == b'{"name":"","caps":null,"nonce":null,"inner":{}}'
    empty = Sample(name="a", caps=(), nonce=b"", inner=Inner(), topics=(), signature=b"", number=0)
    assert gojson.encode(empty) == b'{"name":"a","caps":[],"nonce":"","inner":{}}'


def test_characters_are_escaped_as_go_does() -> None:
    text = '<a>&\u2028\u2029é\U0001f600\x7f\x01\n\t"\\/'
    sample = Sample(name=text, caps=None, nonce=b"\xfb\xff", inner=Inner())
    expected = (
        '{"name":"\\u003ca\\u003e\\u0026\\u2028\\u2029é\U0001f600\x7f\\u0001\\n\\t\\"\\\\/",'
        '"caps":null,"nonce":"+/8=","inner":{}}'
    )
    assert gojson.encode(sample) == expected.encode()


def test_integers_up_to_64_bits_are_exact() -> None:
    sample = gojson.decode(b'{"number":18446744073709551615}', Sample)
    assert sample.number == 2**64 - 1
    assert b"18446744073709551615" in gojson.encode(sample)


def test_map_keys_are_sorted_and_structures_keep_their_order() -> None:
    sample = Sample(name="", caps=None, nonce=None, inner=Inner(), table={"b": 1, "a": 2, "\U0001f600": 3, "\uffff": 4})
    assert gojson.encode(sample).endswith('"table":{"a":2,"b":1,"\uffff":4,"\U0001f600":3}}'.encode())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.5, "0.5"),
        (-0.0, "-0"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e22, "1.5e+22"),
        (1e-6, "0.000001"),
        (1e-7, "1e-7"),
        (9.9e-7, "9.9e-7"),
        (123456789012345680.0, "123456789012345680"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_floats_are_written_in_gos_notation(value: float, text: str) -> None:
    assert gojson.encode(CPU(cores=value)) in (f'{{"cores":{text}}}'.encode(), b"{}")
    assert gojson.encode([value]) == f"[{text}]".encode()


class Measured(Wire, tag="measured", tag_field="event"):
    share: float
    name: str = ""
    shares: tuple[float, ...] = ()


def test_a_structure_that_holds_floats_keeps_its_tag_and_the_order_of_its_members() -> None:
    value = Measured(share=1.0, name="<a>", shares=(0.5, 2.0))
    data = gojson.encode(value)
    assert data == b'{"event":"measured","share":1,"name":"\\u003ca\\u003e","shares":[0.5,2]}'
    assert gojson.decode(data, Measured) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_has_no_json_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no JSON form"):
        gojson.encode([value])


def test_names_match_ignoring_case_and_the_last_of_duplicates_wins() -> None:
    assert gojson.decode(b'{"NAME":"a","Name":"b","name":"c","naME":"d"}', Sample).name == "d"


def test_unknown_members_are_dropped_and_missing_ones_are_zero() -> None:
    assert gojson.decode(b'{"unknown":{"deep":[1,{}]},"number":7}', Sample) == msgspec.structs.replace(ZERO, number=7)
    assert gojson.decode(b"{}", Sample) == ZERO


def test_null_is_the_zero_value_everywhere() -> None:
    data = b'{"name":null,"caps":null,"nonce":null,"inner":null,"number":null,"topics":null,"chain":null,"table":null}'
    assert gojson.decode(data, Sample) == ZERO


def test_after_a_duplicate_null_changes_only_what_can_be_nil() -> None:
    twice = b'{"name":"a","name":null,"number":7,"number":null,"inner":{"uri":"u"},"inner":null,"topics":["t"],"topics":null}'
    assert gojson.decode(twice, Sample) == msgspec.structs.replace(ZERO, name="a", number=7, inner=Inner(uri="u"))


def test_a_number_beyond_all_floats_cannot_be_written_again() -> None:
    cpu = gojson.decode(b'{"cores":1e999}', CPU)
    with pytest.raises(NoJSON):
        gojson.encode(cpu)


def test_broken_text_becomes_the_replacement_character() -> None:
    assert gojson.decode(b'{"name":"\xff\\ud800x"}', Sample).name == "\ufffd\ufffdx"


def test_structures_without_key_names_are_read_too() -> None:
    assert gojson.decode(b'{"CPU":{"Cores":2,"ClockSpeed":5},"RAM":{"Size":3}}', Resources) == Resources(
        cpu=CPU(cores=2, clock_speed=5), ram=RAM(size=3)
    )
    assert gojson.decode(b'{"n_a_m_e":"x"}', Sample).name == ""


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"number":NaN}', "not a JSON value"),
        (b"[]", "Expected `object`"),
        (b'{"inner":5}', "$.inner"),
        (b'{"caps":"x"}', "$.caps"),
        (b'{"number":-1.5}', "$.number"),
        (b'{"nonce":"!"}', "$.nonce"),
        (b"[" * 100_000, "nested deeper"),
        (b'{"unknown":' + b"[" * 200 + b"]" * 200 + b',"NAME":"x"}', None),
    ],
)
def test_what_is_not_the_expected_json_is_refused_with_the_place(data: bytes, where: str | None) -> None:
    if where is None:
        assert gojson.decode(data, Sample).name == "x"
        return
    with pytest.raises(BadJSON) as caught:
        gojson.decode(data, Sample)
    assert where in caught.value.message


@given(samples)
def test_what_is_written_reads_back_the_same(sample: Sample) -> None:
    data = gojson.encode(sample)
    again = gojson.decode(data, Sample)
    assert gojson.encode(again) == data
    assert again == sample
    assert json.loads(data)["name"] == sample.name


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back_exactly(value: float) -> None:
    text = gojson.encode([value]).decode().strip("[]")
    assert float(text) == value
    assert ("e" in text) == (value != 0 and not 1e-6 <= abs(value) < 1e21)


@given(st.binary(max_size=200))
def test_no_bytes_whatsoever_raise_anything_else(data: bytes) -> None:
    with contextlib.suppress(BadJSON):
        gojson.decode(data, Sample)


@given(st.text(max_size=60))
def test_no_text_whatsoever_raises_anything_else(text: str) -> None:
    with contextlib.suppress(BadJSON):
        gojson.parse(f'{{"a":{text}}}'.encode("utf-8", "surrogatepass"))


def test_a_lone_surrogate_where_an_object_is_expected_is_an_error_of_ours() -> None:
    """Found by fuzzing: it could not even be shown."""
    for text in (b'"\\ud800"', b'{"inner":"\\ud800"}'):
        with pytest.raises(BadJSON):
            gojson.decode(text, Sample)
