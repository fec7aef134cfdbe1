import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from dms.observe import configure_logging, get_logger
from dms.observe.entries import entry_of
from dms.observe.log import add_tap, level_of, log_file, set_level


@pytest.fixture(autouse=True)
def restore_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("dms")
    levels = root.level, ours.level
    yield
    for handler in [h for h in root.handlers if getattr(h, "installed_by_dms", False)]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(levels[0])
    ours.setLevel(levels[1])


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_event_goes_to_the_console_and_as_json_to_the_file(tmp_path: Path) -> None:
    console, file = io.StringIO(), tmp_path / "logs" / "dms.jsonl"
    configure_logging("INFO", file, did="did:key:z1", console=console)
    get_logger("dms.test").bind(ensemble="e1").info("deployment_started", nodes=2, name="x", passphrase="hunter2")
    (entry,) = lines(file)
    assert str(entry.pop("timestamp")).endswith("Z")
    assert str(entry.pop("caller")).startswith("test_log.py:")
    assert entry == {
        "message": "deployment_started",
        "level": "INFO",
        "logger": "dms.test",
        "did": "did:key:z1",
        "ensemble": "e1",
        "nodes": 2,
        "name": "x",
        "passphrase": "[hidden]",
    }
    shown = console.getvalue()
    assert "deployment_started" in shown
    assert "ensemble=e1" in shown
    assert "did:key" not in shown
    assert "hunter2" not in shown
    assert file.stat().st_mode & 0o777 == 0o600


def test_fields_do_not_displace_what_every_entry_has(tmp_path: Path) -> None:
    file = tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=io.StringIO(), did="mine")
    get_logger("dms.test").warning("odd", level="high", message="m", did="theirs", event="e")
    (entry,) = lines(file)
    assert (entry["level"], entry["message"], entry["did"]) == ("WARN", "odd", "theirs")


def test_levels_decide_what_is_shown(tmp_path: Path) -> None:
    for level, expected in (("DEBUG", 4), ("INFO", 3), ("WARN", 2), ("ERROR", 1), ("unknown", 3)):
        file = tmp_path / level
        configure_logging(level, file, console=io.StringIO())
        log = get_logger("dms.test")
        assert log.is_debug() == (level == "DEBUG")
        log.debug("one")
        log.info("two")
        log.warning("three")
        log.error("four")
        assert len(lines(file)) == expected, level
    assert level_of("fatal") == logging.CRITICAL


def test_libraries_speak_up_only_when_something_is_wrong(tmp_path: Path) -> None:
    file = tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=io.StringIO())
    other = logging.getLogger("some.library")
    other.info("chatter %s", 1)
    other.warning("trouble %s with token", 2, extra={"event_fields": {"api_key": "k"}})
    (entry,) = lines(file)
    assert (entry["message"], entry["logger"], entry["api_key"]) == ("trouble 2 with token", "some.library", "[hidden]")


def test_an_exception_carries_its_traceback(tmp_path: Path) -> None:
    console, file = io.StringIO(), tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=console)
    try:
        raise ValueError("oops")
    except ValueError:
        get_logger("dms.test").exception("surprised")
    assert "ValueError: oops" in str(lines(file)[0]["exception"])
    assert "ValueError: oops" in console.getvalue()


def test_configuring_again_replaces_the_outputs(tmp_path: Path) -> None:
    first, second = io.StringIO(), io.StringIO()
    configure_logging("INFO", tmp_path / "a", console=first)
    configure_logging("INFO", tmp_path / "b", console=second)
    get_logger("dms.test").info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
    assert lines(tmp_path / "a") == []
    assert len(lines(tmp_path / "b")) == 1


def test_a_file_that_cannot_be_written_is_told_and_the_console_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    console = io.StringIO()
    configure_logging("INFO", tmp_path / "file" / "dms.jsonl", console=console)
    get_logger("dms.test").info("alive")
    assert "log_file_unusable" in console.getvalue()
    assert "alive" in console.getvalue()


def test_asking_for_a_logger_loads_no_logging_library() -> None:
    program = (
        "import sys; from dms.observe import get_logger; get_logger('dms.x').warning('early')\n"
        "print([m for m in ('structlog', 'rich') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.stdout == "[]\n"
    assert done.stderr == "early\n"


def test_what_others_said_does_not_act_on_the_terminal_of_who_reads_the_log(tmp_path: Path) -> None:
    console, file = io.StringIO(), tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=console)
    try:
        raise ValueError("\x1b[2Jtitle\x07")
    except ValueError:
        get_logger("dms.test").exception(
            "odd", error="\x1b]0;x\x07", c1="\x9b2J", turned="\u202eabc", colour="\x1b[31m"
        )
    for text in (console.getvalue(), file.read_text()):
        assert not set(text) & {"\x07", "\x9b", "\u202e"}
        assert "\x1b[2J" not in text
        assert "\x1b]" not in text
    assert lines(file)[0]["error"] == "\x1b]0;x\x07"  # JSON keeps what it can write harmlessly


def test_the_level_changes_at_run_time_and_the_outputs_stay(tmp_path: Path) -> None:
    file = tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=io.StringIO())
    log, output = get_logger("dms.test"), log_file()
    log.debug("hidden")
    set_level("DEBUG")
    log.debug("shown")
    assert [entry["message"] for entry in lines(file)] == ["shown"]
    assert log_file() is output


def test_taps_see_each_entry_without_secrets_and_can_hurt_nobody(tmp_path: Path) -> None:
    configure_logging("INFO", tmp_path / "dms.jsonl", console=io.StringIO(), did="me")
    log, seen = get_logger("dms.test"), []

    def tap(level: int, entry: Mapping[str, object]) -> None:
        seen.append((level, entry["message"], entry["api_key"], entry["did"]))
        log.info("a tap that logs is not called with that")
        raise ValueError("a tap that fails")

    remove = add_tap(tap)
    log.warning("one", api_key="s3cret")
    remove()
    log.warning("two", api_key="s3cret")
    assert seen == [(logging.WARNING, "one", "[hidden]", "me")]


def test_what_json_has_no_form_for_is_written_all_the_same(tmp_path: Path) -> None:
    file = tmp_path / "dms.jsonl"
    configure_logging("INFO", file, console=io.StringIO())
    get_logger("dms.test").info("odd", huge=2**100, lone="\udcff", infinite=float("inf"))
    (entry,) = lines(file)
    assert (entry["huge"], entry["lone"]) == (2**100, "\udcff")
    mistaken = logging.LogRecord("library", logging.WARNING, "", 0, "%d and %d", (1,), None)
    assert entry_of(mistaken)["message"] == "%d and %d"
