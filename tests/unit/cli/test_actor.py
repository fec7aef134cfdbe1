"""``nunet actor`` against a real REST server and a real actor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dms.actor.envelope import decode_envelope
from dms.cli.behaviours import ABSENT, find
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.parties import Party

HELLO = "/public/hello"


@pytest.fixture
def hello(node: ScriptedDaemon) -> ScriptedDaemon:
    node.answers[HELLO] = lambda _payload: {"DID": node.did.uri}
    return node


def test_cmd_prints_the_payload_of_the_reply_as_indented_json(hello: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", HELLO)
    assert (done.code, done.err) == (0, "")
    assert done.out == f'{{\n  "DID": "{hello.did}"\n}}\n'


@pytest.mark.parametrize("where", ["before", "after"])
def test_common_options_stand_before_or_after_the_behaviour(hello: ScriptedDaemon, nunet: Nunet, where: str) -> None:
    options = ["-c", "nobody"]
    words = [*options, HELLO] if where == "before" else [HELLO, *options]
    done = nunet("actor", "cmd", *words)
    assert done.code == 4
    assert done.err.startswith("Error: unable to open capability context file")
    assert "Hint: create the context with `nunet cap new nobody`" in done.err


@pytest.mark.parametrize("form", ["did", "peer", "handle"])
def test_a_destination_is_a_did_a_peer_id_or_a_handle(hello: ScriptedDaemon, nunet: Nunet, form: str) -> None:
    envelope = decode_envelope(nunet("actor", "msg", HELLO, "null").out.encode())
    dest = {"did": hello.did.uri, "peer": hello.peer_id, "handle": json.dumps(_plain(envelope.to))}[form]
    assert nunet("actor", "cmd", HELLO, "-d", dest).code == 0


@pytest.mark.parametrize("dest", ["did:web:example.org", "did:key:zQ", "QmNo", '{"id":', '{"id":{"pub":""}}'])
def test_a_destination_that_names_nobody_is_bad_input(hello: ScriptedDaemon, nunet: Nunet, dest: str) -> None:
    done = nunet("actor", "cmd", HELLO, "-d", dest)
    assert done.code == 2
    assert done.err.startswith("Error: ")
    assert hello.requests == []


def test_flags_of_a_behaviour_make_its_payload(node: ScriptedDaemon, nunet: Nunet) -> None:
    name = "/dms/node/peers/ping"
    node.answers[name] = lambda _payload: {"Error": "", "RTT": 1.5}
    assert json.loads(nunet("actor", "cmd", name, "-H", "12D3").out) == {"Error": "", "RTT": 1.5}
    assert node.payloads_of(name) == [{"Host": "12D3"}]


def test_onboarding_takes_the_flags_of_the_original(node: ScriptedDaemon, nunet: Nunet) -> None:
    name = "/dms/node/onboarding/onboard"
    node.answers[name] = lambda _payload: {"success": True, "error": "", "config": {}}
    assert nunet("actor", "cmd", "-c", "user", name, "-C", "2", "-R", "4", "-D", "1.5GB", "--no-gpu").code == 0
    (payload,) = node.payloads_of(name)
    offered = payload["Config"]["onboarded_resources"]
    assert (payload["NoGPU"], payload["Config"]["is_onboarded"]) == (True, True)
    assert (offered["cpu"]["cores"], offered["ram"]["size"], offered["disk"]["size"]) == (2, 4 * 2**30, 1_500_000_000)


def test_a_missing_flag_of_a_behaviour_is_named(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", "/dms/node/peers/ping")
    assert done.code == 2
    assert done.err.splitlines()[0] == "Error: /dms/node/peers/ping needs -H or --host"


def test_an_unknown_behaviour_is_called_with_a_payload(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/dms/node/custom"] = lambda payload: {"got": payload}
    done = nunet("actor", "cmd", "/dms/node/custom", "--payload", '{"b":1,"a":[true,null]}')
    assert done.out == '{\n  "got": {\n    "a": [\n      true,\n      null\n    ],\n    "b": 1\n  }\n}\n'


def test_a_payload_that_is_no_json_is_bad_input(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", "/dms/node/custom", "--payload", "{key:1}")
    assert done.code == 2
    assert "--payload is not JSON" in done.err


def test_a_flag_that_no_behaviour_has_is_told_in_the_words_of_the_original(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", HELLO, "--frobnicate", "1")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: unknown flag: --frobnicate")


def test_a_broadcast_lists_the_replies_of_others(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/broadcast/hello"] = lambda _payload: {"DID": node.other_did.uri}
    done = nunet("actor", "cmd", "/broadcast/hello", "-t", "300ms")
    assert json.loads(done.out) == [{"DID": node.other_did.uri}]


def test_a_broadcast_that_nobody_answers_is_an_empty_list(node: ScriptedDaemon, nunet: Nunet) -> None:
    assert nunet("actor", "cmd", "/broadcast/hello", "-t", "50ms").out == "[]\n"


def test_no_reply_ends_with_a_hint_at_the_capability(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("--user-dir", node.stranger_dir, "actor", "cmd", HELLO, "-t", "200ms")
    assert done.code == 6
    error, hint = done.err.splitlines()
    assert error.startswith(f"Error: no reply to {HELLO} within ")
    assert "your context is a stranger to it" in hint
    assert node.requests == []


def test_a_message_made_by_hand_is_sent_invoked_and_answered(hello: ScriptedDaemon, nunet: Nunet) -> None:
    message = nunet("actor", "msg", HELLO, "null", "--invoke")
    assert message.out.count("\n") == 1
    reply = decode_envelope(nunet("actor", "invoke", message.out).out.encode())
    assert reply.from_.did.uri == hello.did.uri
    assert json.loads(reply.msg) == {"DID": hello.did.uri}
    sent = nunet("actor", "send", nunet("actor", "msg", HELLO, "null").out)
    assert json.loads(sent.out) == {"message": "message sent"}


def test_a_message_is_read_from_the_standard_input(
    hello: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "message"
    file.write_text(nunet("actor", "msg", HELLO, "null", "-i").out)
    with file.open() as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        assert nunet("actor", "invoke", "-").code == 0


def test_a_broadcast_made_by_hand_lists_signed_replies(node: ScriptedDaemon, nunet: Nunet) -> None:
    node.answers["/broadcast/hello"] = lambda _payload: {"DID": node.other_did.uri}
    message = nunet("actor", "msg", "/broadcast/hello", "null", "-b", "/nunet/hello", "-t", "300ms").out
    (reply,) = json.loads(nunet("actor", "broadcast", message).out)
    assert reply["from"]["did"] == {"uri": node.other_did.uri}


@pytest.mark.parametrize(("text", "sent"), [('{"b":1}', b'{"b":1}'), ("hello", b'"hello"'), ("null", b"")])
def test_a_payload_is_json_where_it_is_json_and_text_elsewhere(
    node: ScriptedDaemon, nunet: Nunet, text: str, sent: bytes
) -> None:
    assert decode_envelope(nunet("actor", "msg", HELLO, text).out.encode()).msg == sent


def test_each_message_has_a_fresh_sender_and_an_inbox_named_after_its_nonce(node: ScriptedDaemon, nunet: Nunet) -> None:
    first, second = (decode_envelope(nunet("actor", "msg", HELLO, "null", "-i").out.encode()) for _ in range(2))
    assert first.from_.id != second.from_.id
    assert first.from_.addr.host == node.peer_id
    assert first.from_.addr.inbox == f"user-{first.nonce}"
    assert first.opt.cont == f"/private/user/{first.nonce}"


def test_invoking_a_message_that_asks_for_no_reply_tells_what_is_missing(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "invoke", nunet("actor", "msg", HELLO, "null").out)
    assert done.code == 2
    assert done.err.startswith("Error: missing replyTo field in message")


def test_publishing_a_message_to_one_actor_is_refused(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "broadcast", nunet("actor", "msg", HELLO, "null").out)
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: message is not a broadcast message")


@pytest.mark.parametrize("message", ["", "nonsense", "{}", '{"to":1}'])
def test_what_is_no_message_is_bad_input(node: ScriptedDaemon, nunet: Nunet, message: str) -> None:
    done = nunet("actor", "send", message)
    assert done.code == 2
    assert done.err.startswith("Error: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-b", "/t", "-d", "x"], "--dest and --broadcast exclude each other"),
        (["-b", "/t", "-i"], "--invoke and --broadcast exclude each other"),
        (["-t", "5s", "-e", "2099-01-01"], "--timeout and --expiry exclude each other"),
        (["-e", "2001-01-01"], "the expiry 2001-01-01 is over already"),
        (["-t", "soon"], 'invalid timeout "soon"'),
        (["-t", "0s"], "the timeout must be longer than nothing"),
    ],
)
def test_options_that_contradict_each_other_are_told(
    node: ScriptedDaemon, nunet: Nunet, options: list[str], message: str
) -> None:
    done = nunet("actor", "msg", HELLO, "null", *options)
    assert (done.code, done.err.splitlines()[0]) == (2, f"Error: {message}")


def test_a_payload_beyond_the_limit_is_refused_before_it_is_sent(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", "/dms/node/custom", "--payload", json.dumps("x" * 900_000))
    assert done.code == 2
    assert done.err.startswith("Error: message too large: ")


def test_a_wrong_passphrase_is_told(node: ScriptedDaemon, nunet: Nunet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "wrong")
    done = nunet("actor", "cmd", HELLO)
    assert done.code == 3
    assert done.err.startswith("Error: mac mismatch")


def _plain(value: object) -> object:
    from dms.types import gojson

    return gojson.to_builtins(value)


# capabilities --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["provide", "require", "revoke"])
@pytest.mark.parametrize("form", ["one", "list"])
def test_a_token_is_anchored_at_the_node(node: ScriptedDaemon, nunet: Nunet, kind: str, form: str) -> None:
    name = f"/dms/cap/{kind}/anchor"
    node.answers[name] = lambda _payload: {"OK": True}
    token = str(Party("org").issue(Party("user"), "/public"))
    text = token if form == "one" else '{"tok":[' + token + "]}"
    done = nunet("actor", "cmd", name, "--token", text)
    assert (done.code, json.loads(done.out)) == (0, {"OK": True})
    assert node.payloads_of(name) == [{"Token": {"tok": [json.loads(token)]}}]


def test_the_capability_behaviours_have_their_flags(node: ScriptedDaemon, nunet: Nunet) -> None:
    listed, token = as_json(Party("org").issue(Party("user"), "/public")), '{"tok":[null]}'
    for name in ("list", "anchor", "explain"):
        node.answers[f"/dms/cap/{name}"] = lambda _payload: {"OK": True}
    assert nunet("actor", "cmd", "/dms/cap/list", "--name", "dms").code == 0
    assert nunet("actor", "cmd", "/dms/cap/anchor", "--require", json.dumps(listed)).code == 0
    asked = ("-b", HELLO, "--from", node.did, "--audience", node.did, "--topic", "/t", "--tokens", token)
    assert nunet("actor", "cmd", "/dms/cap/explain", *asked).code == 0
    assert [payload for _, payload in node.requests] == [
        {"Context": "dms"},
        {"Require": {"tok": [listed]}},
        {
            "From": node.did.uri,
            "Behavior": HELLO,
            "Audience": node.did.uri,
            "Topic": "/t",
            "Token": {"tok": [None]},
        },
    ]


def test_a_bad_token_is_told_before_anything_is_sent(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", "/dms/cap/require/anchor", "--token", "{")
    assert done.code == 2
    assert done.err.startswith("Error: bad token")
    assert node.requests == []


@pytest.mark.parametrize("name", sorted(ABSENT))
def test_a_behaviour_of_other_versions_is_refused_in_one_line(node: ScriptedDaemon, nunet: Nunet, name: str) -> None:
    assert find(name) is None
    done = nunet("actor", "cmd", name, "-n", "x", "--whatever", "1", "y")
    assert done.code == 4
    assert done.err.splitlines()[0] == f"Error: this version does not have {name} ({ABSENT[name]})"
    assert nunet("actor", "cmd", f"{name}/something").code == 4
    assert node.requests == []


def test_what_is_no_path_is_no_behaviour(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("actor", "cmd", "peers/list")
    assert done.code == 2
    assert (
        done.err.splitlines()[0]
        == 'Error: unknown behaviour "peers/list": behaviours are paths, such as /dms/node/peers/list'
    )


def test_json_is_sent_as_json_and_everything_else_as_text(node: ScriptedDaemon, nunet: Nunet) -> None:
    for text, payload in (('{"a":[1]}', {"a": [1]}), ("5", 5), ("null", None), ("hello", "hello"), ('"x"', "x")):
        envelope = decode_envelope(nunet("actor", "msg", HELLO, text).out.encode())
        assert json.loads(envelope.msg or b"null") == payload


def as_json(token: object) -> object:
    return json.loads(str(token))
