"""The check that looks for what does not belong into the repository finds it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def hygiene() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hygiene", ROOT / "scripts" / "hygiene.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


# Put together at run time: this file is looked at as well.
@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("docs/a.md", "see /" + "root/notes.txt", id="home of root"),
        pytest.param("src/dms/a.py", 'PATH = "/' + 'home/somebody/key"', id="somebody's home"),
        pytest.param("Makefile", "pip install -i https://py" + "pi.org/simple x", id="registry"),
        pytest.param("requirements/dev.txt", "--extra-index" + "-url https://mirror.example/simple", id="index"),
        pytest.param("requirements/dev.txt", "thing @ https://mirror.example/thing.whl", id="address of a package"),
        pytest.param("src/dms/a.py", "# TO" + "DO: later", id="unfinished"),
        pytest.param("src/dms/a.py", "    raise NotImplemented" + "Error", id="stub"),
        pytest.param("src/dms/a.py", "x = 1\n" * 601, id="long"),
    ],
)
def test_what_does_not_belong_is_found(hygiene: ModuleType, name: str, text: str) -> None:
    assert list(hygiene.text_problems(name, text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param("docs/a.md", "the file lies in /home/user/.nunet/key/user.json", id="example home"),
        pytest.param("scripts/a.sh", "ls $folder/root/usr/share", id="relative to a variable"),
        pytest.param("requirements/dev.txt", "trio==0.33.0 \\\n    --hash=sha256:00\n    # via nunet", id="pin"),
        pytest.param("tests/a.py", "# " + "TO" + "DO list of the parser", id="outside the product"),
    ],
)
def test_what_belongs_is_left_alone(hygiene: ModuleType, name: str, text: str) -> None:
    assert list(hygiene.text_problems(name, text)) == []


def test_a_dependency_that_is_not_pinned_is_found(hygiene: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["trio>=0.29", "rich>=13"]\n[dependency-groups]\ndev = []\ndocs = []\n'
    )
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/runtime.txt").write_text("trio==0.28.0 \\\n    --hash=sha256:00\nrich==14.0\n")
    (tmp_path / "requirements/dev.txt").write_text("trio==0.33.0\nrich==14.0\n")
    (tmp_path / "requirements/docs.txt").write_text("")
    assert [problem.split(":")[0] for problem in hygiene.pin_problems(tmp_path)] == ["requirements/runtime.txt"]
