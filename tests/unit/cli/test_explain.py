"""``nunet cap explain`` on real context files, and against a node that answers."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path

import pytest

from dms.actor.envelope import Envelope, Options
from dms.actor.handle import NOBODY, Address, Handle
from dms.actor.security import SecurityContext
from dms.capability.store import context_path, save_context
from dms.capability.token import Token, TokenList
from dms.identity.keys import generate_key
from dms.identity.keystore import Keystore
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.parties import HOUR_NS, Party, StoppedClock
from dms.types.ids import Capability, PeerID

HELLO = "/public/hello"
EXPLAIN = "/dms/cap/explain"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(time.time_ns())


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DMS_PASSPHRASE", "secret")


def made(name: str, clock: StoppedClock) -> Party:
    """A key and an empty context of this name."""
    party = Party(name, clock=clock)
    Keystore(Path.home() / ".nunet" / "key", scrypt_n=2).save(name, party.key, "secret")
    keep(party)
    return party


def keep(party: Party) -> None:
    save_context(party.context, context_path(Path.home() / ".nunet" / "cap", party.name))


def as_list(*tokens: Token) -> str:
    return '{"tok":[' + ",".join(str(token) for token in tokens) + "]}"


def test_what_is_allowed_names_the_token_and_ends_with_zero(nunet: Nunet, clock: StoppedClock) -> None:
    node, user = made("dms", clock), made("user", clock)
    node.context.add_roots([user.did])
    keep(node)
    done = nunet("cap", "explain", "--behavior", HELLO, "--from", user.did)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"allowed\n  by a token to invoke {HELLO}, issued by {user.did}\n"


def test_a_denial_names_the_missing_anchor_and_the_command_that_adds_it(nunet: Nunet, clock: StoppedClock) -> None:
    made("dms", clock)
    user = made("user", clock)
    question = ("cap", "explain", "--behavior", HELLO, "--from", user.did)
    done = nunet(*question)
    assert (done.code, done.err) == (3, "")
    lines = done.out.splitlines()
    assert lines[0] == "denied: not-anchored"
    assert lines[1] == f"not authorized: {user.did} may not invoke {HELLO}"
    assert f"     missing is an anchor for {user.did}" in lines
    (command,) = [line.strip() for line in lines if "--root" in line]
    assert nunet(*shlex.split(command)[1:]).code == 0
    assert nunet(*question).code == 0


def test_the_narrow_way_out_works_as_well(nunet: Nunet, clock: StoppedClock) -> None:
    made("dms", clock)
    user = made("user", clock)
    question = ("cap", "explain", "-b", "/broadcast/hello", "-t", "/nunet/hello", "--from", user.did)
    (command,) = [line.strip() for line in nunet(*question).out.splitlines() if "--require" in line]
    outer, _, inner = command.partition(' --require "$(')
    token = nunet(*shlex.split(inner.removesuffix(')"'))[1:])
    assert nunet(*shlex.split(outer)[1:], "--require", token.out).code == 0
    assert nunet(*question).code == 0
    assert nunet("cap", "explain", "-b", HELLO, "--from", user.did).code == 3


def test_a_context_here_brings_what_it_was_given(nunet: Nunet, clock: StoppedClock) -> None:
    node, user, org = made("dms", clock), made("user", clock), Party("org", clock=clock)
    node.context.add_roots([org.did])
    keep(node)
    assert nunet("cap", "explain", "-b", HELLO, "--from", "user").code == 3
    user.context.add_roots(provide=TokenList.of(org.issue(user, "/public")))
    keep(user)
    done = nunet("cap", "explain", "-b", HELLO, "--from", "user")
    assert done.code == 0
    assert f"issued by {user.did} <- {org.did}" in done.out


@pytest.mark.parametrize("form", ["one", "list"])
def test_the_tokens_of_a_message_are_judged_one_by_one(nunet: Nunet, clock: StoppedClock, form: str) -> None:
    node, user, org = made("dms", clock), made("user", clock), Party("org", clock=clock)
    node.context.add_roots([org.did])
    keep(node)
    narrow = org.issue(user, "/dms/node")
    text = str(narrow) if form == "one" else as_list(narrow)
    done = nunet("cap", "explain", "-b", HELLO, "--from", user.did, "--tokens", text, "-o", "json")
    assert done.code == 3
    told = json.loads(done.out)
    rules = [one["rule"] for one in told["decision"]["considered"]]
    assert set(rules) == {"capability", "not-anchored"} or "link" in rules
    assert any("nunet cap" in remedy["command"] for remedy in told["remedies"])
    wide = org.issue(user, "/public")
    assert nunet("cap", "explain", "-b", HELLO, "--from", user.did, "--tokens", as_list(narrow, wide)).code == 0


def test_a_revoked_link_is_named_with_its_level(nunet: Nunet, clock: StoppedClock) -> None:
    node, user, org, boss = made("dms", clock), Party("user", clock=clock), Party("org", clock=clock), Party("boss")
    link = org.issue(boss, "/public")
    token = boss.issue(user, "/public", parent=link, expiry_ns=clock() + HOUR_NS)
    node.context.add_roots([org.did], revoke=TokenList.of(org.context.revoke(link)))
    keep(node)
    done = nunet("cap", "explain", "-b", HELLO, "--from", user.did, "--tokens", str(token))
    assert done.code == 3
    assert done.out.startswith("denied: revoked\n")
    assert "level 2" in done.out


def message_of(user: Party, to: Party, clock: StoppedClock, *, lifetime_ns: int = HOUR_NS, topic: str = "") -> Envelope:
    security = SecurityContext(generate_key(), user.context, clock_ns=clock)
    here = Address(host=PeerID("12D3"), inbox="user-1")
    message = Envelope(
        to=Handle(id=to.id, did=to.did, addr=here) if not topic else NOBODY,
        be=HELLO,
        from_=Handle(id=security.id, did=user.did, addr=here),
        nonce=1,
        opt=Options(exp=clock() + lifetime_ns, topic=topic),
        msg=b"",
    )
    if topic:
        return security.provide_broadcast(message, topic, [Capability(HELLO)])
    return security.provide(message, [Capability(HELLO)])


@pytest.mark.parametrize("topic", ["", "/nunet/hello"])
def test_a_whole_message_is_judged_as_on_its_arrival_even_after_it_has_expired(
    nunet: Nunet, clock: StoppedClock, topic: str
) -> None:
    node, user = made("dms", clock), Party("user", clock=clock)
    clock.advance(-2 * HOUR_NS)
    message = message_of(user, node, clock, topic=topic).encode().decode()
    clock.advance(2 * HOUR_NS)
    done = nunet("cap", "explain", "--message", message)
    assert done.code == 3
    assert done.out.startswith("denied: not-anchored\n")
    assert f"nunet cap anchor --context dms --root {user.did}" in done.out
    node.context.add_roots([user.did])
    keep(node)
    assert nunet("cap", "explain", "--message", message).code == 0


def test_a_message_that_was_tampered_with_is_told_so(nunet: Nunet, clock: StoppedClock) -> None:
    node, user = made("dms", clock), Party("user", clock=clock)
    message = message_of(user, node, clock).encode().decode().replace(HELLO, "/dms")
    done = nunet("cap", "explain", "--message", message)
    assert done.code == 3
    assert done.err.startswith("Error: signature verification failed")


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ((), "give --behavior and --from, or --message"),
        (("-b", HELLO), "give --behavior and --from, or --message"),
        (("-b", HELLO, "--from", "did:key"), "invalid subject DID"),
        (("-b", HELLO, "--from", "did:key:z6Mk", "-a", "x"), "invalid audience DID"),
        (("-b", HELLO, "--from", "did:key:z6Mk", "--tokens", "{"), "bad token"),
        (("--message", "{}", "-b", HELLO), "--message and --behavior exclude each other"),
        (("--message", "x"), "invalid message"),
        (("-b", HELLO, "--from", "did:key:z6Mk", "--as", "user"), "--as and --dest go with --live"),
    ],
)
def test_a_question_that_makes_no_sense_is_bad_input(
    nunet: Nunet, clock: StoppedClock, args: tuple[str, ...], error: str
) -> None:
    made("dms", clock)
    done = nunet("cap", "explain", *args)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"Error: {error}")


def test_a_context_that_is_not_here_is_named(nunet: Nunet) -> None:
    done = nunet("cap", "explain", "-b", HELLO, "--from", "did:key:z6Mk")
    assert done.code == 4
    assert "unable to open capability context file" in done.err


# the running node ----------------------------------------------------------------------------------------------------


def test_the_running_node_is_asked(node: ScriptedDaemon, nunet: Nunet) -> None:
    party, asker = Party("dms"), Party("someone")
    decision = party.context.explain(asker.did, [Capability(HELLO)]).as_data()
    node.answers[EXPLAIN] = lambda _payload: {"OK": True, "Decision": decision}
    done = nunet("cap", "explain", "--live", "-b", HELLO, "--from", asker.did, "--topic", "/t", "-o", "json")
    assert done.code == 3
    assert json.loads(done.out)["decision"] == decision
    (asked,) = node.payloads_of(EXPLAIN)
    assert asked == {"From": asker.did.uri, "Behavior": HELLO, "Audience": "", "Topic": "/t", "Token": {}}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"OK": False, "Error": "no such thing"}, 1),
        ({"OK": True, "Decision": {"allowed": "perhaps"}}, 6),
        ({"OK": True, "Decision": 5}, 1),
    ],
)
def test_an_answer_that_is_no_decision_is_an_error(
    node: ScriptedDaemon, nunet: Nunet, answer: dict[str, object], code: int
) -> None:
    node.answers[EXPLAIN] = lambda _payload: answer
    done = nunet("cap", "explain", "--live", "-b", HELLO, "--from", "did:key:z6Mk")
    assert (done.code, done.out) == (code, "")
