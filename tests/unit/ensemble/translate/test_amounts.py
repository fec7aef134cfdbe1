"""Amounts as others write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.ensemble.translate import amounts
from dms.types.units import parse_bytes, parse_duration_ns

MIB = 2**20


@pytest.mark.parametrize(
    ("text", "size"),
    [("512m", 512 * MIB), ("1.5gb", 1536 * MIB), ("1GiB", 1024 * MIB), ("7", 7), ("x", None), ("0", None)],
)
def test_docker(text: str, size: int | None) -> None:
    assert amounts.docker_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "size"), [("128Mi", 128 * MIB), ("1G", 10**9), ("1e9", 10**9), ("2000m", 2), ("5X", None), ("", None)]
)
def test_kubernetes(text: str, size: int | None) -> None:
    assert amounts.kubernetes_bytes(text) == size


@pytest.mark.parametrize(
    ("text", "cores"), [("500m", 0.5), ("2", 2.0), ("1m", 0.01), ("0", None), ("-1", None), ("1e9", None)]
)
def test_cores(text: str, cores: float | None) -> None:
    assert amounts.cores(amounts.kubernetes_amount(text)) == cores


def test_nomad_counts_mebibytes() -> None:
    assert amounts.mebibytes("256") == 256 * MIB
    assert amounts.mebibytes("much") is None


@pytest.mark.parametrize(
    ("text", "interval"), [("1m30s", "90s"), ("10", "10s"), ("0s", None), ("soon", None), ("", None)]
)
def test_intervals(text: str, interval: str | None) -> None:
    assert amounts.interval_text(text) == interval


@given(st.text(max_size=8) | st.from_regex(r"\d{1,4}(\.\d)?[a-zA-Z]{0,3}", fullmatch=True))
def test_any_text_is_an_amount_that_an_ensemble_takes_or_none(text: str) -> None:
    for size in (amounts.docker_bytes(text), amounts.kubernetes_bytes(text), amounts.mebibytes(text)):
        assert size is None or parse_bytes(amounts.size_text(size)) == size > 0
    interval = amounts.interval_text(text)
    assert interval is None or parse_duration_ns(interval) > 0
