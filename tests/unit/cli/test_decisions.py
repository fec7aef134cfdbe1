"""The way out that is shown after a denial is one: the command, run, makes the denied thing allowed."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.capability.decision import Decision, Rule
from dms.capability.token import TokenList
from dms.cli.decisions import Remedy, ToldDecision, describe
from dms.cli.decisions import remedies as remedies_of
from dms.cli.errors import BadReply
from dms.testing.parties import Party
from dms.types.ids import Capability

HELLO = Capability("/public/hello")


def decided(
    node: Party, who: Party, cap: Capability = HELLO, *, topic: str = "", tokens: TokenList | None = None
) -> Decision:
    return node.context.explain(who.did, [cap], topic=topic, tokens=tokens or TokenList())


def remedies(data: Mapping[str, Any], context: str) -> list[Remedy]:
    return remedies_of(ToldDecision.of(data), context)


def test_what_is_allowed_needs_no_mending() -> None:
    node, user = Party("dms"), Party("user")
    node.context.add_roots([user.did])
    assert remedies(decided(node, user).as_data(), "dms") == []


def test_a_missing_anchor_is_named_with_both_ways_to_add_it() -> None:
    node, stranger = Party("dms"), Party("stranger")
    found = remedies(decided(node, stranger).as_data(), "dms")
    assert [remedy.command for remedy in found] == [
        (
            'nunet cap anchor --context dms --require "$(nunet cap grant --context dms '
            f'--cap /public/hello --duration 720h {stranger.did})"'
        ),
        f"nunet cap anchor --context dms --root {stranger.did}",
        f"nunet cap grant --context NAME --cap /public/hello --duration 720h {stranger.did}",
    ]


def test_of_a_chain_the_one_who_began_it_is_to_be_trusted() -> None:
    node, org, user = Party("dms"), Party("org"), Party("user")
    membership = TokenList.of(org.issue(user, "/public"))
    found = remedies(decided(node, user, tokens=membership).as_data(), "dms")
    assert found[1].command.endswith(f"--root {org.did}")
    node.context.add_roots([org.did])
    assert decided(node, user, tokens=membership).allowed


def test_a_broadcast_is_mended_with_its_topic() -> None:
    node, org = Party("dms"), Party("org")
    found = remedies(decided(node, org, Capability("/broadcast/hello"), topic="/nunet/hello").as_data(), "dms")
    assert "--cap /broadcast/hello --topic /nunet/hello" in found[0].command


@pytest.mark.parametrize(
    ("caps", "topics", "rule"),
    [(("/other",), ("/nunet",), Rule.CAPABILITY), (("/broadcast",), ("/other",), Rule.TOPIC)],
)
def test_whoever_granted_too_little_is_asked_for_more(
    caps: tuple[str, ...], topics: tuple[str, ...], rule: Rule
) -> None:
    node, org, user = Party("dms"), Party("org"), Party("user")
    node.context.add_roots([org.did])
    narrow = TokenList.of(org.issue(user, *caps, topics=topics))
    decision = decided(node, user, Capability("/broadcast/hello"), topic="/nunet/hello", tokens=narrow)
    found = remedies(decision.as_data(), "dms")
    assert found, rule
    assert all("720h" in remedy.command or "--root" in remedy.command for remedy in found)


def test_what_another_machine_sends_cannot_add_to_a_command() -> None:
    decision = {
        "allowed": False,
        "rule": "not-anchored",
        "caps": ["/a; rm -rf /"],
        "topic": "$(reboot)",
        "subject": "`reboot`",
        "considered": [{"rule": "not-anchored", "missing": ["did:key:z'; reboot; '"], "token": None}],
    }
    for remedy in remedies(decision, "dms"):
        words = shlex.split(remedy.command.replace('"$(', "").replace(')"', ""))
        assert not {"rm", "reboot;", "reboot"} & set(words)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.fixed_dictionaries(
        {"allowed": st.booleans(), "rule": st.sampled_from([r.value for r in Rule])},
        optional=dict.fromkeys(("caps", "topic", "subject", "considered", "token", "message"), JSON),
    )
)
def test_whatever_another_machine_answers_is_shown_or_refused(decision: dict[str, Any]) -> None:
    with contextlib.suppress(BadReply):
        told = ToldDecision.of(decision)
        assert describe(told)
        remedies_of(told, "dms")


def test_every_rule_has_an_answer_or_needs_none() -> None:
    silent = {Rule.ALLOWED, Rule.TOO_MANY, Rule.SENDER}
    for rule in Rule:
        decision = {"allowed": False, "rule": rule.value, "subject": "did:key:z6Mk", "caps": ["/a"], "considered": []}
        assert bool(remedies(decision, "dms")) is (rule not in silent), rule
