"""Which format a file is in, and what happens when it is none."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.translate.samples import NOWHERE, translated

from dms.ensemble.errors import EnsembleError, EnsembleFileNotFound, InvalidEnsemble, Untranslatable
from dms.ensemble.translate.translation import Source, translate, translate_file

POD = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [{"image": "x"}]}}
JOB = 'job "j" {\n group "g" {\n task "t" {\n driver = "docker"\n config { image = "x" }\n}\n}\n}'


@pytest.mark.parametrize(
    ("text", "file", "source"),
    [
        ("services: {a: {image: x}}", "compose.yaml", "Docker Compose"),
        (json.dumps(POD), "p.json", "Kubernetes manifests"),
        (JOB, "j.nomad", "a Nomad job"),
        (JOB, "j.hcl", "a Nomad job"),
    ],
)
def test_the_format_is_found_out(text: str, file: str, source: str) -> None:
    assert translated(text, file=file).source == source


def test_the_format_can_be_said() -> None:
    assert translated(JOB, file="job", source=Source.NOMAD).source == "a Nomad job"


@pytest.mark.parametrize("text", ["a: 1", "[1]", "just text", 'version: "V1"\nallocations: {}'])
def test_what_is_in_none_of_the_formats_is_refused(text: str) -> None:
    with pytest.raises(Untranslatable, match="is no Compose file, Kubernetes manifest or Nomad job"):
        translated(text)


@pytest.mark.parametrize("text", ["", "---\n---\n", "a: [", "a: 1\na: 2", b"\xff"])
def test_what_cannot_be_parsed_is_refused_with_its_place(text: str | bytes) -> None:
    with pytest.raises(InvalidEnsemble):
        translated(text)


def test_aliases_cannot_multiply(tmp_path: Path) -> None:
    layers = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]" for n in range(1, 9))
    with pytest.raises(InvalidEnsemble, match="more than 200000 values"):
        translated(f"x0: &x0 [1]\n{layers}\nservices: {{a: {{image: x}}}}")


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(EnsembleFileNotFound):
        translate_file(tmp_path / "none", {})
    with pytest.raises(InvalidEnsemble, match="cannot be read"):
        translate_file(tmp_path, {})


@settings(max_examples=60)
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from([None, *Source]))
def test_no_bytes_make_it_raise_anything_else(data: bytes, source: Source | None) -> None:
    with contextlib.suppress(EnsembleError):
        translate(data, file="x", base=NOWHERE, env={}, source=source)
