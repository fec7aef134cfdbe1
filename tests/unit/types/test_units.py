"""Quantities as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.types.errors import BadInput
from dms.types.units import (
    exact_bytes,
    exact_duration,
    exact_hertz,
    format_bytes,
    format_duration,
    format_hertz,
    parse_bytes,
    parse_duration_ns,
    parse_hertz,
)

GIB = 2**30


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, GIB),
        (0.5, GIB // 2),
        ("2", 2 * GIB),
        ("512MiB", 512 * 2**20),
        ("1.5 GB", 1_500_000_000),
        ("2g", 2 * 10**9),
        ("10 b", 10),
        ("1e3 kB", 10**6),
        ("1tib", 2**40),
    ],
)
def test_sizes(text: str | float, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "x", "1 XB", "-1", "1..2", "1 2", "nan", "1e400", True, "9999999 TiB"])
def test_what_is_no_size_is_refused_by_name(text: str) -> None:
    with pytest.raises(BadInput, match=r"ram\.size"):
        parse_bytes(text, what="ram.size")


def test_frequencies() -> None:
    assert parse_hertz("2.4 GHz") == 2_400_000_000
    assert parse_hertz(3) == 3_000_000_000
    assert parse_hertz("800MHz") == 800_000_000
    with pytest.raises(BadInput, match='invalid unit "g"'):
        parse_hertz("2 g")


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("90s", 90 * 10**9),
        ("1h30m", 5400 * 10**9),
        ("250ms", 250 * 10**6),
        ("1.5s", 1_500_000_000),
        ("0", 0),
        ("-2m", -120 * 10**9),
        ("1d", 86400 * 10**9),
        ("3us", 3000),
        ("7ns", 7),
    ],
)
def test_durations(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize("text", ["", "5", "s", "1h 30m", "1x", "--1s", "1s2"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="invalid duration"):
        parse_duration_ns(text)


@given(st.integers(0, 2**62))
def test_sizes_in_bytes_are_exact(size: int) -> None:
    assert parse_bytes(f"{size} B") == size


def test_for_people() -> None:
    assert [format_bytes(n) for n in (0, 1023, 1536, 3 * GIB)] == ["0 B", "1023 B", "1.5 KiB", "3.0 GiB"]
    assert [format_hertz(n) for n in (500, 2_400_000_000)] == ["500 Hz", "2.4 GHz"]
    assert [format_duration(s) for s in (0.95, 3.2, 303, 7500, 273_600)] == [
        "950 ms",
        "3.2 s",
        "5m 03s",
        "2h 05m",
        "3d 4h",
    ]


@given(st.integers(0, 2**62) | st.sampled_from([0, 1024, 10**9, 5 * 2**40, 2_400_000_000, 90 * 10**9]))
def test_exact_texts_read_back_as_the_same_number(number: int) -> None:
    assert parse_bytes(exact_bytes(number)) == number
    assert parse_hertz(exact_hertz(number)) == number
    assert parse_duration_ns(exact_duration(number)) == number
