"""``nunet validate`` tells every problem with its line, and ends with a code that scripts can rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from dms.cli.validate import validate
from dms.ensemble.errors import EnsembleFileNotFound
from dms.ensemble.schema import json_schema

EXAMPLE = Path(__file__).parents[3] / "examples/hello-docker.yaml"
app = typer.Typer()
app.command()(validate)


def run(*args: str) -> Result:
    return CliRunner().invoke(app, args)


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "job.yaml"
    path.write_text(EXAMPLE.read_text().replace("0.25", "none").replace("type: task", "type: daemon\n    dnsname: x"))
    return path


def test_a_valid_file_is_said_to_be_valid() -> None:
    result = run(str(EXAMPLE))
    assert (result.exit_code, result.stdout) == (0, "Configuration is valid.\n")


def test_each_problem_has_a_line_of_its_own(broken: Path) -> None:
    result = run(str(broken))
    assert result.exit_code == 2
    assert result.stdout.splitlines() == [
        f"{broken}:7:11: V1.allocations.hello.type: 'daemon' is not a type of allocation (use task, service)",
        f"{broken}:11:20: V1.allocations.hello.resources.cpu.cores: cpu.cores must be a valid number, not 'none'",
        f"warning: {broken}:8:5: V1.allocations.hello.dnsname: `dnsname` is unknown and ignored (did you mean `dns_name`?)",
    ]


def test_programs_get_json(broken: Path) -> None:
    result = run(str(broken), "--output", "json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["valid"] is False
    assert found["problems"][1] == {
        "path": "V1.allocations.hello.resources.cpu.cores",
        "reason": "cpu.cores must be a valid number",
        "hint": "",
        "value": "none",
        "file": str(broken),
        "line": 11,
        "column": 20,
    }
    assert [w["hint"] for w in found["warnings"]] == ["did you mean `dns_name`?"]


def test_strict_makes_warnings_count(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(EXAMPLE.read_text() + "typo: 1\n")
    assert run(str(path)).exit_code == 0
    result = run(str(path), "--strict")
    assert result.exit_code == 2
    assert "Configuration is valid" not in result.stdout


def test_the_schema_is_printed_without_a_file() -> None:
    result = run("--schema")
    assert (result.exit_code, json.loads(result.stdout)) == (0, json_schema())


def test_a_missing_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    assert isinstance(run(str(tmp_path / "none.yaml")).exception, EnsembleFileNotFound)


def test_a_file_must_be_named() -> None:
    assert run().exit_code == 2
