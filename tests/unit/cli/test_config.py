import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from dms.cli.config import app
from dms.cli.main import invoke
from dms.config import ConfigError, ConfigUnwritable, SettingNotFound
from dms.types.errors import BadInput, Conflict

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
    assert f"kept as {path.resolve()}.bk." in result.stderr


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


def test_show_tells_which_source_gave_each_value(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = home / ".nunet/dms_config.json"
    run("set", "rest.port", "7")
    monkeypatch.setenv("DMS_P2P_FD", "8")
    monkeypatch.setenv("DMS_REST_PROT", "9")
    result = runner.invoke(app, ["show", "--origin", "--changed"], catch_exceptions=False)
    assert [line.split(maxsplit=2) for line in result.stdout.splitlines()] == [
        ["KEY", "VALUE", "ORIGIN"],
        ["rest.port", "7", f"file {path}:3"],
        ["p2p.fd", "8", "environment DMS_P2P_FD"],
    ]
    assert result.stderr == "the environment variable DMS_REST_PROT is no setting; did you mean DMS_REST_PORT?\n"
    rows = json.loads(run("show", "rest", "--output", "json"))
    assert rows[1] == {"key": "rest.port", "value": 7, "source": "file", "place": f"{path}:3"}
    assert run("show", "rest.addr").splitlines()[1].split() == ["rest.addr", "127.0.0.1"]
    with pytest.raises(SettingNotFound):
        runner.invoke(app, ["show", "nothing"], catch_exceptions=False)


def test_secrets_are_hidden_by_every_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_APM_API_KEY", "s3cret-1")
    monkeypatch.setenv("DMS_PASSPHRASE", "s3cret-2")
    result = runner.invoke(app, ["set", "apm.secret_token", "-"], input="s3cret-3\n", catch_exceptions=False)
    shown = [result.output] + [
        run(*args)
        for args in (
            ("get",),
            ("get", "apm.api_key"),
            ("show", "--origin"),
            ("show", "--output", "json"),
            ("show", "--output", "yaml"),
        )
    ]
    assert "s3cret" not in "".join(shown)
    assert shown[2] == f"Found config file at: {home}/.nunet/dms_config.json\n[hidden]\n"
    path = home / ".nunet/dms_config.json"
    assert json.loads(path.read_text()) == {"apm": {"secret_token": "s3cret-3"}}
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_secret_is_not_taken_from_the_command_line(home: Path) -> None:
    for live in ([], ["--live"]):
        with pytest.raises(BadInput, match="the command line is visible to others") as caught:
            runner.invoke(app, ["set", *live, "apm.api_key", "s3cret"], catch_exceptions=False)
        assert "nunet config set apm.api_key -" in caught.value.hint
    key = home / "key"
    key.write_text("s3cret")
    run("set", "apm.api_key", f"file:{key}")
    assert run("get", "apm.api_key").endswith("[hidden]\n")


def test_reset_gives_keys_their_defaults_again(home: Path) -> None:
    run("set", "rest.port", "7")
    run("set", "p2p.fd", "8")
    run("reset", "rest.port", "p2p.fd")
    assert json.loads((home / ".nunet/dms_config.json").read_text()) == {}
    with pytest.raises(BadInput, match="which keys"):
        runner.invoke(app, ["reset"], catch_exceptions=False)


def test_init_writes_what_show_prints_and_overwrites_nothing(home: Path) -> None:
    assert run("init") == f"written: {home}/.nunet/dms_config.json\n"
    assert (home / ".nunet/dms_config.json").read_text() == run("show", "--example")
    with pytest.raises(Conflict, match="there is a configuration file already"):
        runner.invoke(app, ["init"], catch_exceptions=False)


def test_the_schema_is_json(home: Path) -> None:
    assert json.loads(run("schema"))["properties"]["rest"]["properties"]["port"]["maximum"] == 65535


def test_a_place_where_nothing_can_be_written_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".nunet").write_text("a file")
    monkeypatch.setenv("EDITOR", "true")
    for command in (["set", "rest.port", "1"], ["init"], ["edit"]):
        with pytest.raises(ConfigUnwritable, match=r"cannot write configuration file .*: File exists"):
            runner.invoke(app, command, catch_exceptions=False)


def test_what_is_wrong_with_the_file_is_one_line_with_its_place_and_a_hint(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("dms_config.json")
    path.write_text('{\n  "rest": {\n    "prot": 1\n  }\n}')
    assert invoke(["config", "get"]) == 2
    assert capfd.readouterr().err == (
        f'Error: unknown key "rest.prot" in {path.resolve()}:3\nHint: did you mean "rest.port"?\n'
    )
    path.write_text('{\n  "rest": {\n    "port": "many"\n  }\n}')
    assert invoke(["config", "get"]) == 2
    assert f"Error: rest.port in {path.resolve()}:3: input should be a valid integer, got" in capfd.readouterr().err
