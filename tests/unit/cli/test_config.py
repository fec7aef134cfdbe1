import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dms.cli.config import app
from dms.config import ConfigError, SettingNotFound

runner = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path


def run(*args: str) -> str:
    result = runner.invoke(app, args, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_set_makes_the_file_in_the_users_directory_and_get_shows_it(home: Path) -> None:
    path = home / ".nunet/dms_config.json"
    assert run("set", "rest.port", "10000") == f"rest.port set in {path}\n"
    assert run("get", "rest.port") == f"Found config file at: {path}\n10000\n"
    first, _, rest = run("get").partition("\n")
    assert first == f"Found config file at: {path}"
    assert '\n    "general": {\n        "env": "production",' in rest
    assert json.loads(rest)["rest"] == {"addr": "127.0.0.1", "port": 10000}


def test_get_without_a_file_shows_the_defaults(home: Path) -> None:
    assert run("get", "general.user_dir") == f"{home}/.nunet\n"
    assert json.loads(run("get", "rest")) == {"addr": "127.0.0.1", "port": 9999}


def test_an_unknown_key_is_named(home: Path) -> None:
    for command in (["get", "rest.prot"], ["set", "rest.prot", "1"]):
        with pytest.raises(SettingNotFound, match=r'^key "rest\.prot" not found$'):
            runner.invoke(app, command, catch_exceptions=False)
    assert not (home / ".nunet").exists()


def test_set_tells_where_a_file_with_comments_was_kept(home: Path) -> None:
    path = Path("dms_config.json")
    path.write_text("{} // empty")
    result = runner.invoke(app, ["set", "general.debug", "true"], catch_exceptions=False)
    assert f"kept as {path.resolve()}.bk" in result.stderr


def test_the_global_flag_chooses_the_file(home: Path) -> None:
    root = typer.Typer()

    @root.callback()
    def main(config: Path | None = None) -> None: ...

    root.add_typer(app, name="config")
    runner.invoke(root, ["--config", "other.json", "config", "set", "rest.port", "7"], catch_exceptions=False)
    assert json.loads(Path("other.json").read_text()) == {"rest": {"port": 7}}
    shown = runner.invoke(root, ["--config", "other.json", "config", "get", "rest.port"], catch_exceptions=False)
    assert shown.stdout == "Found config file at: other.json\n7\n"


def test_edit_opens_the_editor_and_checks_the_result(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor = home / "my editor"
    editor.write_text('#!/bin/sh\nprintf "%s" "$1" > "$2"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", f"""'{editor}' '{{"rest": {{"port": 8}}}}'""")
    run("edit")
    assert run("get", "rest.port").endswith("\n8\n")
    monkeypatch.setenv("EDITOR", f"'{editor}' '{{'")
    with pytest.raises(ConfigError, match="not JSON: line 1"):
        runner.invoke(app, ["edit"], catch_exceptions=False)


@pytest.mark.parametrize(
    ("editor", "message"),
    [("", r"^\$EDITOR not set$"), ("/no/such/editor", "cannot start the editor"), ("false", "ended with code 1")],
)
def test_an_editor_that_does_not_work_is_told(
    home: Path, monkeypatch: pytest.MonkeyPatch, editor: str, message: str
) -> None:
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(ConfigError, match=message):
        runner.invoke(app, ["edit"], catch_exceptions=False)
