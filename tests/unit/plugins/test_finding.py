from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from dms.plugins import contract
from dms.plugins.finding import Plugins, find_plugins

MODULE = """
def part(): ...
number = 7
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory of packages, on the path."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "plugged.py").write_text(MODULE)
    (tmp_path / "plugged_exits.py").write_text("raise SystemExit('leaving')")
    (tmp_path / "plugged_fails.py").write_text("raise ValueError('line one\\nline two')")
    yield tmp_path
    for name in ("plugged", "plugged_exits", "plugged_fails"):
        sys.modules.pop(name, None)


def find(site: Path, groups: dict[str, dict[str, str]], *, disabled: tuple[str, ...] = ()) -> Plugins:
    """What is found of packages: ``groups`` maps ``package/group`` to names and targets."""
    for key, points in groups.items():
        package, _, group = key.partition("/")
        folder = site / f"{package}-1.5.dist-info"
        folder.mkdir(exist_ok=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.5\n")
        with (folder / "entry_points.txt").open("a") as file:
            file.write(f"[{group}]\n" + "".join(f"{name} = {target}\n" for name, target in points.items()))

    def entry_points(group: str) -> list[EntryPoint]:
        found = [Distribution.at(folder) for folder in sorted(site.glob("*.dist-info"))]
        return [point for each in found for point in each.entry_points.select(group=group)]

    return find_plugins(disabled, entry_points=entry_points)


def test_what_is_sound_can_be_used(site: Path) -> None:
    plugins = find(site, {f"mine/{group}": {"mine.one": "plugged:part"} for group in contract.GROUPS})
    for usable in (plugins.executors, plugins.storage, plugins.hardware, plugins.events):
        assert list(usable) == ["mine.one"]
    assert plugins.problems == ()
    assert {(each.package, each.version) for each in plugins.all} == {("mine", "1.5")}


@pytest.mark.parametrize(
    ("name", "target", "problem"),
    [
        ("mine.one", "plugged_nowhere:part", "No module named"),
        ("mine.one", "plugged:missing", "missing"),
        ("mine.one", "plugged_fails:part", "ValueError: line one line two"),
        ("mine.one", "plugged_exits:part", "SystemExit: leaving"),
        ("mine.one", "plugged:number", "cannot be called"),
        ("docker", "plugged:part", "like mine.echo"),
        ("Mine.One", "plugged:part", "like mine.echo"),
        ("mine.", "plugged:part", "like mine.echo"),
    ],
)
def test_what_cannot_be_used_is_named_with_the_reason(name: str, target: str, problem: str, site: Path) -> None:
    plugins = find(site, {"mine/dms.executors": {name: target, "mine.sound": "plugged:part"}})
    (broken,) = plugins.problems
    assert broken.name == name
    assert problem in broken.problem
    assert list(plugins.executors) == ["mine.sound"]


def test_of_two_with_one_name_neither_is_used(site: Path) -> None:
    plugins = find(site, {f"{package}/dms.storage": {"one.name": "plugged:part"} for package in ("a", "b")})
    assert [each.package for each in plugins.problems] == ["a", "b"]
    assert plugins.storage == {}


@pytest.mark.parametrize("disabled", ["one.name", "a"])
def test_what_is_disabled_is_not_even_imported(disabled: str, site: Path) -> None:
    plugins = find(site, {"a/dms.storage": {"one.name": "plugged_exits:part"}}, disabled=(disabled,))
    assert [(each.is_disabled, each.problem) for each in plugins.all] == [(True, "")]
