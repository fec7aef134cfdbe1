"""An ensemble that does not fit a frame is refused, and its largest parts are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.ensemble.documents import allocation, ensemble, load

from dms.ensemble.arrival import validate_config
from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.sizes import MAX_CANONICAL_BYTES
from dms.types import gojson


def test_the_largest_parts_are_named(tmp_path: Path) -> None:
    (tmp_path / "big.wasm").write_bytes(b"\xff" * 500_000)
    (tmp_path / "input").write_bytes(b"\xff" * 100_000)
    execution = {"type": "wasm", "module": "${file:big.wasm}", "files": {"/in": "${file:input}"}}
    with pytest.raises(InvalidEnsemble) as caught:
        load(ensemble({"a": allocation(executor="wasm", execution=execution)}), tmp_path)
    (problem,) = caught.value.problems
    assert "700.0 KiB are allowed" in problem.reason
    assert "allocations.a.execution.module (651.0 KiB), allocations.a.execution.files./in (130.2 KiB)" in problem.hint


def test_the_bound_is_exact() -> None:
    def with_script(size: int) -> int:
        return len(gojson.encode(load(ensemble(scripts={"s": "x" * size})).config))

    room = MAX_CANONICAL_BYTES - with_script(3) + 4
    fitting = room // 4 * 3
    assert with_script(fitting) <= MAX_CANONICAL_BYTES
    with pytest.raises(InvalidEnsemble, match="are allowed"):
        with_script(fitting + 3)


def test_the_node_holds_to_the_same_bound() -> None:
    config = load(ensemble()).config
    config.v1.scripts["s"] = b"x" * MAX_CANONICAL_BYTES
    assert "scripts.s" in validate_config(config)[0].hint
