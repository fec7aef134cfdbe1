"""nunet events, monitor, logger and debug. The node's answers are scripted."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dms.cli.monitor import line_of
from dms.cli.watching import node_events
from dms.cli.watching_behaviours import WATCHING
from dms.node.watch_payloads import EventsReply, EventsRequest, NodeEvent
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.types.errors import Unavailable

EVENTS, LOG, LOGGER = (behaviour.name for behaviour in WATCHING)
PEER = "12D3KooWBobBobBobBob"


def page(*events: dict[str, Any], after: int = 9) -> dict[str, Any]:
    return {"ok": True, "events": list(events), "next": after}


EVENT = {"seq": 9, "at": 1_700_000_000 * 10**9, "name": "bid_sent", "fields": {"ensemble": "e" * 64, "peer": PEER}}
ENTRY = {
    "timestamp": "2026-01-02T03:04:05.678Z",
    "level": "WARN",
    "message": "odd\x1b[2J",
    "logger": "dms.node",
    "caller": "x.py:1",
    "did": "did:key:z",
    "n": 1,
}


def test_the_events_of_the_node_are_told_in_lines(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[EVENTS] = lambda asked: page(EVENT if asked["after"] != 9 else {}) if asked["after"] != 9 else page()
    done = nunet("events", "--name", "bid_*", "--last", 5)
    assert done.code == 0
    assert done.out == f"2023-11-14 22:13:20  bid_sent                   ensemble=eeeeeeeeeeee peer=…{PEER[-8:]}\n"
    assert node.payloads_of(EVENTS) == [{"after": -5, "names": ["bid_*"]}]


def test_programs_get_events_as_json(node: ScriptedDaemon, nunet: Nunet) -> None:
    pages = [page(EVENT), page()]
    node.answers[EVENTS] = lambda _asked: pages.pop(0)
    done = nunet("events", "-o", "json")
    assert json.loads(done.out) == [EVENT]
    assert [asked.get("after", 0) for asked in node.payloads_of(EVENTS)] == [0, 9]


def test_flags_of_the_node_do_not_go_with_a_deployment(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("events", "3f2a", "--last", 3)
    assert (done.code, done.out) == (2, "")
    assert "leave the ID out" in done.err


def test_who_follows_outlasts_a_restart_of_the_node_and_learns_what_it_missed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Node:
        def __init__(self) -> None:
            self.asked: list[tuple[int, int]] = []

        def call(self, _behaviour: str, request: EventsRequest, _reply: object, *, timeout_s: float) -> EventsReply:
            self.asked.append((request.after, request.wait_ms))
            event = NodeEvent(seq=len(self.asked), at=0, name="x")
            match len(self.asked):
                case 1:
                    return EventsReply(ok=True, events=(event,), next=5)
                case 2:
                    return EventsReply(ok=True, next=5)
                case 3 | 4:
                    raise Unavailable("no node answers")
                case 5:
                    return EventsReply(ok=True, events=(event,), next=8, missed=2)
            raise KeyboardInterrupt

    node, slept, seen = Node(), list[float](), list[int]()
    found = node_events(node, follow=True, sleep=slept.append)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        seen.extend(event.seq for event in found)
    assert seen == [1, 5]
    assert node.asked == [(0, 0), (5, 0), (5, 10_000), (5, 10_000), (5, 10_000), (8, 10_000)]
    assert slept == [1.0, 1.0]
    said = capsys.readouterr().err
    assert said.count("waiting for it") == 1
    assert "2 were dropped" in said


def test_the_log_is_shown_from_a_level_on(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[LOG] = lambda _asked: {"ok": True, "entries": [{"seq": 1, "entry": ENTRY}], "next": 1}
    done = nunet("monitor", "--no-follow", "--level", "WARN", "--logger", "dms.node", "--match", "odd", "-n", 3)
    assert (done.code, done.out) == (0, "2026-01-02T03:04:05.678Z WARN  dms.node: odd [2J n=1\n")
    assert node.payloads_of(LOG) == [{"after": -3, "level": "WARN", "logger": "dms.node", "match": "odd"}]
    assert json.loads(nunet("monitor", "--no-follow", "-o", "json").out) == [ENTRY]


def test_a_node_that_refuses_says_why(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[LOG] = lambda _asked: {"error": '"loud" is not a level'}
    done = nunet("monitor", "--level", "loud")
    assert done.code == 1
    assert "is not a level" in done.err


def test_a_traceback_stands_below_its_line() -> None:
    entry = {"timestamp": "t", "level": "ERROR", "message": "m", "logger": "l", "exception": "Traceback\n  x\x1b"}
    assert line_of(entry) == "t ERROR l: m\n    Traceback\n    x"
    assert line_of(entry, is_coloured=True).startswith("t \x1b[31mERROR\x1b[0m l: m")


def test_the_logger_is_changed_and_the_key_comes_from_a_file(
    node: ScriptedDaemon, nunet: Nunet, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("s3cret-key\n")
    node.answers[LOGGER] = lambda _asked: {"OK": True, "changed": ["observability.logging.level"]}
    done = nunet(
        *("logger", "--level", "DEBUG", "--elastic", "off", "--api-key-file", tmp_path / "key", "--interval", 9)
    )
    assert (done.code, done.out) == (0, "changed: observability.logging.level\n")
    asked = {"level": "DEBUG", "elastic_enabled": False, "api_key": "s3cret-key", "interval": 9}
    assert node.payloads_of(LOGGER) == [asked]
    assert nunet("logger", "--api-key-file", tmp_path / "none").code == 2
    node.answers[LOGGER] = lambda _asked: {"error": "it is not a level", "hint": "use INFO"}
    assert "use INFO" in nunet("logger", "--level", "loud").err


def test_the_behaviour_takes_the_flags_of_the_original(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers[LOGGER] = lambda _asked: {"OK": True}
    done = nunet(
        *("actor", "cmd", LOGGER, "-u", "http://es", "-l", "INFO", "-i", 3, "--api-key", "k"),
        *("--apm-url", "http://apm", "--enable-elastic"),
    )
    assert done.code == 0
    assert node.payloads_of(LOGGER) == [
        {
            "interval": 3,
            "url": "http://es",
            "level": "INFO",
            "api_key": "k",
            "apm_url": "http://apm",
            "elastic_enabled": True,
        }
    ]


SECRETS = {
    "passphrase": "correct horse battery staple",
    "elastic": "ZWxhc3RpYy1hcGkta2V5",
    "apm": "apm-secret-token-77",
    "database": "pg-passw0rd-42",
    "bearer": "eyJhbGciOiJIUzI1NiJ9.payload",
    "user": "basic-auth-pa55",
    "named": "hidden-by-its-name",
    "pem": "MC4CAQAwBQYDK2VwBCIEIPrivate",
    "variable": "token-in-a-variable",
}


@pytest.fixture
def planted(node: ScriptedDaemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with secrets everywhere; the node's own passphrase is one of them."""
    SECRETS["passphrase"] = node.passphrase
    config = tmp_path / "dms_config.json"
    document = {
        "apm": {"secret_token": SECRETS["apm"]},
        "database": {"url": f"postgresql://dms:{SECRETS['database']}@db/dms"},
        "observability": {"logging": {"file": str(tmp_path / "dms.jsonl")}},
    }
    config.write_text(json.dumps(document))
    monkeypatch.setenv("DMS_OBSERVABILITY_ELASTIC_API_KEY", SECRETS["elastic"])
    monkeypatch.setenv("DMS_SOMETHING_TOKEN", SECRETS["variable"])
    texts = [
        f"sent Authorization: Bearer {SECRETS['bearer']}",
        f"GET https://me:{SECRETS['user']}@registry/v2 failed",
        f"-----BEGIN PRIVATE KEY-----\n{SECRETS['pem']}\n-----END PRIVATE KEY-----",
        f"the keys are {SECRETS['elastic']} and {SECRETS['apm']}",
        f"opened with {SECRETS['passphrase']}",
    ]
    entries = [
        {"message": text, "api_key": SECRETS["named"], "deep": [{"password": SECRETS["named"]}]} for text in texts
    ]
    lines = [json.dumps(entry) for entry in entries]
    (tmp_path / "dms.jsonl").write_text("\n".join([*lines, texts[0], "not JSON"]) + "\n")
    node.answers[EVENTS] = lambda asked: (
        page(*({"seq": 1, "at": 1, "name": "x", "fields": entry} for entry in entries), after=1)
        if not asked.get("after")
        else page(after=1)
    )
    for name in ("peers/list", "onboarding/status", "deployment/list", "doctor/work"):
        node.answers[f"/dms/node/{name}"] = lambda _asked: {"error": texts, "token": SECRETS["named"]}
    return config


def contents(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {
            member.name.partition("/")[2]: file.read()
            for member in archive
            if (file := archive.extractfile(member)) is not None
        }


def without_secrets(files: dict[str, bytes]) -> None:
    for name, data in files.items():
        for kind, secret in SECRETS.items():
            assert secret.encode() not in data, f"{kind} in {name}"


def test_a_bundle_holds_what_helps_and_no_secret(
    node: ScriptedDaemon, nunet: Nunet, planted: Path, tmp_path: Path
) -> None:
    node.answers[LOG] = lambda asked: (
        {
            "ok": True,
            "entries": [{"seq": 1, "entry": json.loads(planted.with_name("dms.jsonl").read_text().split("\n")[0])}],
        }
        | {"next": 1}
        if not asked.get("after")
        else {"ok": True, "next": 1}
    )
    for behaviour in ("resources/onboarded", "resources/free", "hardware/spec", "hardware/usage", "allocations/list"):
        node.answers[f"/dms/node/{behaviour}"] = lambda _asked: {"OK": True}
    done = nunet("--config", planted, "debug", "--file", tmp_path / "b.tar.gz")
    assert (done.code, done.out) == (0, f"{tmp_path / 'b.tar.gz'}\n"), done.err
    assert (tmp_path / "b.tar.gz").stat().st_mode & 0o777 == 0o600
    files = contents(tmp_path / "b.tar.gz")
    without_secrets(files)
    assert json.loads(files["problems.json"]) == {}
    assert files.keys() >= {"about.json", "settings.json", "health.json", "events.jsonl", "log.jsonl", "metrics.txt"}
    assert json.loads(files["settings.json"])["apm"]["secret_token"] == "[hidden]"
    assert json.loads(files["peers.json"])["error"][0] == "sent Authorization: Bearer [hidden]"
    assert json.loads(files["health.json"])["status"] == "ok"
    assert files["log.jsonl"].count(b"\n") == 1


def test_without_a_node_there_is_a_bundle_too(
    nunet: Nunet, planted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DMS_REST_PORT", "1")
    monkeypatch.chdir(tmp_path)
    done = nunet("--config", planted, "debug", "--lines", 4)
    assert done.code == 0
    assert "without health.json: no node answers" in done.err
    (bundle,) = tmp_path.glob("nunet-debug-*.tar.gz")
    files = contents(bundle)
    without_secrets(files)
    assert "health.json" in json.loads(files["problems.json"])
    assert [json.loads(line) for line in files["log.jsonl"].splitlines()][-1] == {"unreadable": "not JSON"}
    assert files["log.jsonl"].count(b"\n") == 4


def test_a_bundle_that_cannot_be_written_is_said(nunet: Nunet, planted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_REST_PORT", "1")
    done = nunet("--config", planted, "debug", "--file", "/proc/none/b.tar.gz")
    assert done.code == 2
    assert "cannot write /proc/none/b.tar.gz" in done.err


def test_a_command_that_is_part_of_a_trace_says_so(
    node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    monkeypatch.setenv("TRACEPARENT", trace)
    assert json.loads(nunet("actor", "msg", "/public/hello", "null").out)["trace"] == trace
    monkeypatch.setenv("TRACEPARENT", "nonsense")
    assert "trace" not in json.loads(nunet("actor", "msg", "/public/hello", "null").out)
