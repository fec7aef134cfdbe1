"""The entry point: what it costs to start, help of every command, and errors in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from dms.cli import commands
from dms.cli.commands import COMMANDS
from dms.cli.main import invoke
from dms.cli.root import load
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.types.errors import DMSError

DAEMON_ONLY = ("trio", "libp2p", "sqlalchemy", "starlette", "httpx2", "psutil", "logging.handlers", "docker")
HEAVY = ("libp2p", "trio", "sqlalchemy", "starlette", "pydantic", "nacl", "httpx2", "typer", "rich", "msgspec")


def present_commands() -> list[str]:
    import importlib.util

    return [c.name for c in COMMANDS if importlib.util.find_spec(c.target.partition(":")[0]) is not None]


@pytest.mark.parametrize("args", [["--help"], ["-h"], [], ["--version"], ["version"]])
def test_the_help_of_the_root_and_the_version_import_nothing_heavy(args: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['nunet', *{args!r}]\n"
        "from dms.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as exc: print(exc.code, *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *modules = done.stderr.split()
    assert exit_code == "0"
    assert "nunet" in done.stdout
    assert set(HEAVY).isdisjoint(modules)


@pytest.mark.parametrize("args", [["get", "deployments"], ["status", "x"], ["logs", "x"], ["validate", "x.yaml"]])
def test_a_command_that_asks_a_node_imports_nothing_that_only_a_node_needs(args: list[str]) -> None:
    code = f"import sys\nfrom dms.cli.main import invoke\ncode = invoke({args!r})\nprint(code, *sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    exit_code, *modules = done.stderr.splitlines()[-1].split()
    assert exit_code != "0"  # it got as far as looking for a node, or for the file
    assert set(DAEMON_ONLY).isdisjoint(modules)


def test_the_help_of_the_root_names_every_command(nunet: Nunet) -> None:
    out = nunet("--help").out
    for command in COMMANDS:
        assert (f"  {command.name} " in out) is not command.is_hidden


@pytest.mark.parametrize("name", present_commands())
def test_every_command_has_help_with_an_example(nunet: Nunet, name: str) -> None:
    found = commands.find(name)
    assert found is not None
    command = load(found.target, name)
    below = getattr(command, "commands", {}) or ({"cmd": None} if name == "actor" else {})
    groups = {sub: getattr(found, "commands", {}) for sub, found in below.items()}
    paths = [path for sub, inner in groups.items() for path in [[name, sub], *([name, sub, each] for each in inner)]]
    for words in paths or [[name]]:
        done = nunet(*words, "--help")
        assert done.code == 0
        if not groups.get(words[-1]):
            assert "\n  Examples:\n    " in done.out, words
            assert "nunet" in done.out.partition("Examples:")[2]
        assert done.out.startswith(f"Usage: nunet {' '.join(words)}")


def test_the_one_line_help_of_the_table_is_short(nunet: Nunet) -> None:
    for command in COMMANDS:
        assert len(command.help) <= 60
        assert not command.help.endswith(".")


def test_the_version_is_shown(nunet: Nunet) -> None:
    from dms import __version__

    assert nunet("--version").out == nunet("--version", "version").out == f"nunet {__version__}\n"
    assert nunet("version").out.startswith(f"nunet {__version__}\nPython 3.")


@pytest.mark.parametrize(
    ("args", "message", "hint"),
    [
        (["deplo"], 'unknown command "deplo" for "nunet". Did you mean deploy?', "nunet --help"),
        (["frobnicate"], 'unknown command "frobnicate" for "nunet"', "nunet --help"),
        (["--frob", "get"], "unknown flag: --frob", "nunet --help"),
        (["get", "deployments", "--limt", "1"], "unknown flag: --limt. Did you mean --limit?", "nunet get deployments"),
        (["info"], "Missing argument 'ID'.", "nunet info --help"),
        (["deploy"], "Missing option '-f' / '--file' / '--spec-file'.", "nunet deploy --help"),
    ],
)
def test_wrong_usage_is_one_line_and_a_hint_with_code_2(nunet: Nunet, args: list[str], message: str, hint: str) -> None:
    done = nunet(*args)
    error, told = done.err.splitlines()
    assert done.code == 2
    assert error.startswith(f"Error: {message}")
    assert told.startswith(f"Hint: {hint}")
    assert done.out == ""


def test_a_group_without_a_command_shows_its_help(nunet: Nunet) -> None:
    done = nunet("get")
    assert done.code == 0
    assert "deployments" in done.out


def test_every_error_gives_its_message_hint_and_exit_code(nunet: Nunet) -> None:
    done = nunet("--network", "nowhere", "peers")
    assert done.code == 4
    error, hint = done.err.splitlines()
    assert error.startswith("Error: there is no network nowhere here")
    assert hint == "Hint: the local one is called devnet"


Broken = Callable[[BaseException], None]


class Unexpected(Exception):
    pass


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Broken:
    """A command of ours that fails as told."""

    def install(exc: BaseException) -> None:
        def fail() -> None:
            raise exc

        monkeypatch.setattr(sys.modules[__name__], "fail", fail, raising=False)
        monkeypatch.setattr(commands, "COMMANDS", (commands.Command("broken", "Fails", f"{__name__}:fail"),))

    return install


def test_an_unexpected_error_is_one_line_and_tells_how_to_see_more(broken: Broken, nunet: Nunet) -> None:
    broken(Unexpected("first\nsecond"))
    done = nunet("broken")
    assert done.code == 1
    assert done.err.splitlines() == [
        "Error: internal error: Unexpected: first",
        "Hint: the traceback comes with nunet --debug …",
    ]


def test_debug_shows_the_traceback(broken: Broken) -> None:
    broken(Unexpected("first"))
    with pytest.raises(Unexpected):
        invoke(["--debug", "broken"])


def test_what_others_wrote_cannot_steer_the_terminal(broken: Broken, nunet: Nunet) -> None:
    broken(DMSError("red \x1b[31m\nError: no", hint="\x07bell"))
    assert nunet("broken").err == "Error: red  [31m Error: no\nHint: bell\n"


def test_an_interruption_ends_with_code_130(broken: Broken, nunet: Nunet) -> None:
    broken(KeyboardInterrupt())
    assert nunet("broken").code == 130


def test_a_reader_that_went_away_is_no_error() -> None:
    command = f"{sys.executable} -m dms.cli.main --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("name", ["completion", "autocomplete"])
def test_completion_prints_a_script(nunet: Nunet, name: str, shell: str) -> None:
    out = nunet(name, shell).out
    assert "_NUNET_COMPLETE" in out
    assert f"complete_{shell}" in out


def test_an_unknown_shell_is_bad_input(nunet: Nunet) -> None:
    assert nunet("completion", "tcsh").code == 2


@pytest.mark.parametrize(
    ("words", "candidates"),
    [
        ("nunet dep", ["deploy"]),
        ("nunet get ", ["deployments", "allocations", "resources"]),
        ("nunet --re", ["--rest-addr", "--rest-port"]),
        ("nunet deploy --id", ["--id-only"]),
        ("nunet actor cmd /dms/node/deployment/sh", ["/dms/node/deployment/shutdown"]),
    ],
)
def test_words_are_completed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: str, candidates: list[str]
) -> None:
    monkeypatch.setenv("_NUNET_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
    with pytest.raises(SystemExit) as exit_:
        invoke([])
    assert exit_.value.code == 0
    assert capsys.readouterr().out.split() == candidates


def test_json_and_yaml_hold_the_same(node: ScriptedDaemon, nunet: Nunet) -> None:
    import yaml

    node.answers["/dms/node/peers/list"] = lambda _payload: {"Peers": ["12D3KooWa"], "Connections": []}
    as_json, as_yaml = (nunet("peers", "--output", form).out for form in ("json", "yaml"))
    assert json.loads(as_json) == yaml.safe_load(as_yaml) == {"Peers": ["12D3KooWa"], "Connections": []}
