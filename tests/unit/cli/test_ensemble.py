"""``nunet ensemble`` and ``nunet translate``: files in, files out, codes that scripts can rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.cli.ensemble import Sample
from dms.cli.translate import From
from dms.ensemble.loading import load_ensemble
from dms.ensemble.samples import Kind
from dms.ensemble.schema import json_schema
from dms.ensemble.translate.translation import Source
from dms.testing.commandline import Nunet

COMPOSE = "services:\n  web:\n    image: nginx:1\n    build: .\n"


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE)
    return path


def test_a_commented_example_is_written_once(nunet: Nunet, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    done = nunet("ensemble", "init", path, "--kind", "batch")
    assert (done.code, done.out) == (0, f"Wrote {path}. Edit it, then: nunet validate {path}\n")
    assert load_ensemble(path, {}).warnings == ()
    again = nunet("ensemble", "init", path)
    assert again.code == 2
    assert f"{path} exists already" in again.err
    assert nunet("ensemble", "init", path, "--force").code == 0


def test_the_example_can_be_printed(nunet: Nunet) -> None:
    done = nunet("ensemble", "init", "-", "-k", "wasm")
    assert done.code == 0
    assert "${file:program.wasm}" in done.out


def test_the_choices_are_those_of_the_format() -> None:
    assert {each.value for each in Sample} == {each.value for each in Kind}
    assert {each.value for each in From} == {each.value for each in Source}


def test_the_schema_is_printed(nunet: Nunet) -> None:
    assert json.loads(nunet("ensemble", "schema").out) == json_schema()


def test_an_ensemble_is_shown_as_it_is_understood(nunet: Nunet, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    nunet("ensemble", "init", path, "--kind", "batch")
    shown = nunet("ensemble", "show", path)
    assert (shown.code, "count: 4" in shown.out) == (0, True)
    assert "worker-0004" in nunet("ensemble", "show", path, "--expand").out
    canonical = nunet("ensemble", "show", path, "--canonical")
    again = tmp_path / "job.json"
    again.write_text(canonical.out)
    assert load_ensemble(again, {}).config == load_ensemble(path, {}).config


def test_an_ensemble_that_is_not_valid_is_not_shown(nunet: Nunet, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text("version: V1\n")
    assert nunet("ensemble", "show", path).code == 2
    assert nunet("ensemble", "show", tmp_path / "none.yaml").code == 4


def test_a_compose_file_is_translated_and_what_is_left_out_is_told(nunet: Nunet, compose: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.yaml"
    done = nunet("translate", compose, "-o", target)
    assert done.code == 0
    assert done.out == f"Translated Docker Compose to {target}. Check it with: nunet validate {target}\n"
    assert done.err.startswith(
        f"Warning: {compose}:4:5: services.web.build: left out: images are not built by providers"
    )
    assert list(load_ensemble(target, {}).config.v1.nodes) == ["web"]
    assert nunet("translate", compose, "-o", target).code == 2


def test_without_a_target_the_ensemble_is_printed(nunet: Nunet, compose: Path) -> None:
    done = nunet("translate", compose, "--from", "docker-compose")
    assert "allocations:\n  web:\n" in done.out
    assert nunet("translate", compose, "--strict").code == 2


def test_programs_get_the_notes_as_json(nunet: Nunet, compose: Path) -> None:
    found = json.loads(nunet("translate", compose, "--format", "json").out)
    assert found["source"] == "Docker Compose"
    assert found["notes"][0]["line"] == 4
    assert found["ensemble"].startswith("# Translated from Docker Compose")


def test_what_is_no_job_file_is_refused(nunet: Nunet, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n")
    done = nunet("translate", path)
    assert done.code == 2
    assert "--from docker-compose" in done.err
    assert nunet("translate", tmp_path / "none").code == 4
