"""What users begin with is valid."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tests.unit.ensemble.test_schema import SCHEMA, fits

from dms.ensemble.loading import parse_ensemble
from dms.ensemble.samples import Kind, sample


@pytest.mark.parametrize("kind", Kind)
def test_every_example_is_valid_without_warnings_and_fits_the_schema(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "program.wasm").write_bytes(b"\0asm\1\0\0\0")
    loaded = parse_ensemble(sample(kind).encode(), file=kind.value, base=tmp_path, env={})
    assert loaded.warnings == ()
    assert fits(yaml.safe_load(sample(kind)), SCHEMA)
    assert sample(kind).startswith("# ")
