"""``nunet cap`` as a user types it, on real key and context files."""

from __future__ import annotations

import json
import stat
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dms.capability.errors import BadToken, ContextNotFound, NotAuthorized
from dms.capability.store import save_context
from dms.capability.token import decode_token, decode_token_list
from dms.cli.cap import app
from dms.cli.prompts import Cancelled
from dms.identity.errors import BadName, InvalidDID, SignatureFailed
from dms.identity.keystore import Keystore
from dms.node.holding import file_state, held
from dms.testing.parties import Party, StoppedClock
from dms.types.errors import BadInput, NotFound

runner = CliRunner()
YEAR_NS = 365 * 86400 * 10**9
FAR = ("--expiry", "2099-12-31")


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")


def run(*args: str, answers: str = "") -> str:
    result = runner.invoke(app, args, input=answers, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def usage_error(*args: str) -> str:
    result = runner.invoke(app, args)
    assert result.exit_code == 2
    return result.output


def path_of(name: str) -> Path:
    return Path.home() / ".nunet" / "cap" / f"{name}.cap"


def made(name: str) -> Party:
    """A key and an empty context of this name, made without the cost of a real key file."""
    party = Party(name, clock=StoppedClock(time.time_ns()))
    Keystore(Path.home() / ".nunet" / "key", scrypt_n=2).save(name, party.key, "secret")
    save_context(party.context, path_of(name))
    return party


def entries(context: str) -> dict[str, list[str]]:
    parts: dict[str, list[str]] = {}
    name = ""
    for line in run("list", "--context", context).splitlines():
        if line.startswith("\t"):
            parts[name].append(line[1:])
        else:
            name = line.removesuffix(":")
            parts[name] = []
    return parts


def test_new_makes_a_key_and_an_empty_private_context() -> None:
    assert run("new", "dms") == "A new identity will be created for 'dms' context...\n"
    path = path_of("dms")
    content = json.loads(path.read_text())
    assert list(content) == ["did", "roots", "require", "provide", "revoke"]
    assert content["roots"] is None
    assert content["require"] == {}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert entries("dms") == {"roots": [], "require": [], "provide": [], "revoke": []}


def test_new_uses_a_key_that_exists_and_asks_before_it_overwrites_a_context() -> None:
    party = made("user")
    run("anchor", "-c", "user", "--root", str(Party("root").did))
    with pytest.raises(Cancelled):
        run("new", "user", answers="n\n")
    assert entries("user")["roots"]
    question = f"WARNING: A capability context file already exists at {path_of('user')}. "
    result = runner.invoke(app, ["new", "user"], input="y\n", catch_exceptions=False)
    assert question in result.stderr
    assert result.stdout == f"Using identity at {Path.home()}/.nunet/key/user.json...\n"
    assert entries("user")["roots"] == []
    run("new", "user", "--force")
    assert json.loads(path_of("user").read_text())["did"] == {"uri": str(party.did)}


def test_the_usual_set_up_by_hand() -> None:
    """Trust of a node in its user, of an organisation in the user, and what the user passes on to the node."""
    user, dms, org = made("user"), made("dms"), made("org")
    caps = "/dms/deployment,/public"
    run("anchor", "--context", "dms", "--root", str(user.did))
    granted = run("grant", "-c", "org", "--cap", caps, "--cap", "/broadcast", "-t", "/nunet", *FAR, str(user.did))
    assert granted.count("\n") == 1
    body = decode_token_list(granted.encode()).tokens[0].body
    assert body.cap == ("/dms/deployment", "/public", "/broadcast")
    assert (body.iss, body.sub, body.topic, body.act) == (org.did, user.did, ("/nunet",), "delegate")
    assert body.exp == 4102358400 * 10**9
    assert run("anchor", "--context", "user", "--provide", granted) == ""
    passed_on = run("delegate", "-c", "user", "--cap", caps, "-t", "/nunet", *FAR, str(dms.did))
    assert decode_token_list(passed_on.encode()).tokens[0].body.chain is not None
    run("anchor", "--context", "dms", "--provide", passed_on)
    run("anchor", "-c", "dms", "--require", run("grant", "-c", "dms", "--cap", "/public", *FAR, str(org.did)))
    listed = entries("dms")
    assert listed["roots"] == [str(user.did)]
    assert decode_token(listed["provide"][0].encode()) == decode_token_list(passed_on.encode()).tokens[0]
    assert decode_token(listed["require"][0].encode()).body.sub == org.did

    as_json = json.loads(run("list", "-c", "dms", "--output", "json"))
    assert as_json["roots"] == [str(user.did)]
    assert json.dumps(as_json["provide"][0], separators=(",", ":")) == listed["provide"][0]

    for flag in ("require", "provide"):
        run("remove", "--context", "dms", f"--{flag}", listed[flag][0])
        with pytest.raises(NotFound, match="no such anchor"):
            run("remove", "--context", "dms", f"--{flag}", listed[flag][0])
    run("remove", "--context", "dms", "--root", str(user.did))
    assert entries("dms") == {"roots": [], "require": [], "provide": [], "revoke": []}


def test_expiry_and_duration() -> None:
    party = made("user")
    before = time.time_ns()
    token = run("grant", "-c", "user", "--cap", "/a", "--duration", "1h30m", "--depth", "2", str(party.did))
    body = decode_token_list(token.encode()).tokens[0].body
    assert 0 <= body.exp - before - 5400 * 10**9 < 60 * 10**9
    assert body.depth == 2
    for args, text in (
        ((), "either expiration or duration must be specified"),
        ((*FAR, "--duration", "1h"), "exclude each other"),
        (("--expiry", "2001-01-01"), "lies in the past"),
        (("--duration", "-1h"), "lies in the past"),
        (("--duration", "soon"), "invalid duration"),
        (("--expiry", "soon"), "format must be one of"),
    ):
        with pytest.raises(BadInput, match=text):
            run("grant", "-c", "user", "--cap", "/a", *args, str(party.did))


def test_delegate_modes() -> None:
    org, user, node = Party("org", clock=StoppedClock(time.time_ns())), made("user"), Party("node")
    granted = org.issue(user, "/a", expiry_ns=org.clock() + YEAR_NS)
    base = ("delegate", "-c", "user", "--cap", "/a")
    with pytest.raises(NotAuthorized, match="no provide anchor of context 'user'"):
        run(*base, "--duration", "1h", str(node.did))
    run("anchor", "-c", "user", "--provide", '{"tok":[' + str(granted) + "]}")
    auto = decode_token_list(run(*base, "--auto-expire", str(node.did)).encode()).tokens
    assert [t.body.exp for t in auto] == [granted.body.exp]
    also = decode_token_list(run(*base, "--duration", "1h", "--self-sign", "also", str(node.did)).encode()).tokens
    assert [len(t.levels) for t in also] == [2, 1]
    only = decode_token_list(run(*base, "--duration", "1h", "--self-sign", "only", str(node.did)).encode()).tokens
    assert [len(t.levels) for t in only] == [1]
    with pytest.raises(BadInput, match="invalid self-sign option: maybe"):
        run(*base, "--duration", "1h", "--self-sign", "maybe", str(node.did))
    with pytest.raises(BadInput, match="--auto-expire excludes"):
        run(*base, "--duration", "1h", "--auto-expire", str(node.did))
    with pytest.raises(NotAuthorized):
        run(*base, "--duration", "9000h", str(node.did))


def test_revocations_are_printed_once_and_take_effect_when_anchored() -> None:
    user, dms = made("user"), made("dms")
    granted = run("grant", "-c", "dms", "--cap", "/a", *FAR, str(user.did))
    run("anchor", "-c", "dms", "--require", granted)
    revocation = run("revoke", "-c", "dms", granted)
    assert revocation.count("\n") == 1
    assert decode_token(revocation.encode()).body.act == "revoke"
    run("anchor", "-c", "dms", "--revoke", revocation)
    assert entries("dms") == {"roots": [], "require": [], "provide": [], "revoke": [revocation.strip()]}
    with pytest.raises(NotAuthorized, match="revoked"):
        run("anchor", "-c", "dms", "--require", granted)
    with pytest.raises(NotAuthorized, match="only the issuer"):
        run("revoke", "-c", "user", granted)
    run("remove", "-c", "dms", "--revoke", revocation)
    run("anchor", "-c", "dms", "--require", granted)
    assert dms.did != user.did


def test_wrong_input_is_named() -> None:
    party = made("user")
    with pytest.raises(InvalidDID, match="invalid subject DID"):
        run("grant", "-c", "user", "--cap", "/a", *FAR, "nobody")
    with pytest.raises(InvalidDID, match="invalid audience DID"):
        run("grant", "-c", "user", "--cap", "/a", "-a", "x", *FAR, str(party.did))
    for text in ("x", ""):
        with pytest.raises(InvalidDID, match="invalid root DID"):
            run("anchor", "-c", "user", "--root", text)
    with pytest.raises(BadToken, match="no capabilities"):
        run("grant", "-c", "user", *FAR, str(party.did))
    with pytest.raises(BadInput, match="exactly one of --root, --require, --provide, --revoke"):
        run("anchor", "-c", "user")
    with pytest.raises(BadInput, match="exactly one"):
        run("anchor", "-c", "user", "--root", str(party.did), "--provide", "{}")
    with pytest.raises(ContextNotFound, match="unable to open capability context file"):
        run("anchor", "-c", "absent", "--root", str(party.did))
    with pytest.raises(ContextNotFound):
        run("list", "-c", "absent")
    with pytest.raises(ContextNotFound):
        run("grant", "-c", "absent", "--cap", "/a", *FAR, str(party.did))
    with pytest.raises(BadName):
        run("list", "-c", "../user")
    assert "--context" in usage_error("anchor", "--root", str(party.did))


def test_lists_and_single_tokens_are_not_confused() -> None:
    user, org = made("user"), Party("org", clock=StoppedClock(time.time_ns()))
    token = str(org.issue(user, "/a"))
    listed = '{"tok":[' + token + "]}"
    with pytest.raises(BadToken, match="takes a list"):
        run("anchor", "-c", "user", "--provide", token)
    with pytest.raises(BadToken, match="--provide"):
        run("remove", "-c", "user", "--provide", listed)
    with pytest.raises(BadToken):
        run("anchor", "-c", "user", "--provide", "{")


def test_a_refused_anchor_changes_nothing() -> None:
    user, org = made("user"), Party("org", clock=StoppedClock(time.time_ns()))
    before = path_of("user").read_bytes()
    forged = str(org.issue(user, "/a")).replace('"/a"', '"/"')
    with pytest.raises(SignatureFailed):
        run("anchor", "-c", "user", "--provide", '{"tok":[' + forged + "]}")
    assert path_of("user").read_bytes() == before


def test_what_a_damaged_file_still_holds_is_listed_and_the_rest_reported() -> None:
    user, org = made("user"), Party("org", clock=StoppedClock(time.time_ns()))
    good = str(org.issue(user, "/a"))
    content = json.loads(path_of("user").read_text())
    content["provide"] = {"tok": [None, json.loads(good), {"dms": {"cap": 5}}]}
    path_of("user").write_text(json.dumps(content))
    result = runner.invoke(app, ["list"], catch_exceptions=False)
    assert f"provide:\n\t{good}\n" in result.stdout
    assert "warning: context 'user': skipped provide[0]: bad token: null" in result.stderr
    assert "skipped provide[2]: " in result.stderr


def test_the_help_shows_examples() -> None:
    for command in ("new", "grant", "delegate", "anchor", "remove", "list", "revoke", "broadcast", "help", "explain"):
        assert f"nunet cap {command}" in run(command, "--help")


# the running node ----------------------------------------------------------------------------------------------------


def test_a_node_that_runs_with_the_context_takes_a_change_up_and_the_command_says_so() -> None:
    made("dms")
    root = str(Party("root").did)
    with held(path_of("dms")) as loaded:

        def node() -> None:  # takes up whatever it finds
            while not stop.wait(0.01):
                loaded(file_state(path_of("dms")))

        stop = threading.Event()
        thread = threading.Thread(target=node)
        thread.start()
        try:
            for verb in ("anchor", "remove"):
                result = runner.invoke(app, [verb, "-c", "dms", "--root", root], catch_exceptions=False)
                assert (result.stdout, result.stderr) == ("", "The running node has taken this up.\n")
        finally:
            stop.set()
            thread.join()


def test_a_node_that_does_not_take_a_change_up_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    made("dms")
    monkeypatch.setattr("dms.cli.cap.UPTAKE_TIMEOUT_S", 0.0)
    with held(path_of("dms")):
        result = runner.invoke(app, ["anchor", "-c", "dms", "--root", str(Party("root").did)], catch_exceptions=False)
    assert result.exit_code == 0
    assert result.stderr.startswith("A node runs with this context and has not taken this up yet")


def test_help_lists_what_can_be_granted() -> None:
    lines = run("help").splitlines()
    assert lines[0].split() == ["BEHAVIOR", "TOPIC", "WHAT", "IT", "DOES"]
    assert any(line.split()[:2] == ["/broadcast/hello", "/nunet/hello"] for line in lines)
    listed = json.loads(run("help", "-o", "json"))
    names = [each["behavior"] for each in listed]
    assert names == sorted(names)
    assert {"/public/hello", "/dms/deployment", "/dms/cap/revoke/missed", "/dms/cap/explain"} <= set(names)


def test_each_revocation_is_printed_once_on_a_line_of_its_own() -> None:
    user = made("user")
    granted = [run("grant", "-c", "user", "--cap", "/a", *FAR, str(user.did)) for _ in range(2)]
    both = '{"tok":[' + ",".join(json.dumps(json.loads(text)["tok"][0]) for text in granted) + "]}"
    printed = run("revoke", "-c", "user", both).splitlines()
    assert [decode_token(line.encode()).body.act for line in printed] == ["revoke", "revoke"]
    assert "TOKENS" in usage_error("revoke", "-c", "user")
