"""A capability context against the simplest thing that could be right.

The model keeps sets of grants and answers by walking chains naively; it knows nothing of memos, indexes, subsumption,
caches or files. Hypothesis drives both through the same story and compares every answer.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dms.capability.admission import Carried
from dms.capability.errors import CapabilityError
from dms.capability.store import load_context, save_context
from dms.capability.token import Action, Token, TokenList, decode_token_list, encode_token_list, issue, issue_revocation
from dms.identity.ids import NO_DID
from dms.identity.trust import TrustContext
from dms.testing.parties import NOW_NS, Party, StoppedClock
from dms.types.ids import Capability

NAMES = ("node", "org", "user", "peer")
CAPS = ("/a", "/a/b", "/ab", "/")
LIVES = (10, 20, 40)

names, lives = st.sampled_from(NAMES), st.sampled_from(LIVES)


@dataclass(frozen=True)
class Grant:
    """What a token says, as the model knows it."""

    act: str
    iss: str
    sub: str
    aud: str
    cap: str
    exp: int
    depth: int
    parent: Grant | None
    token: Token = field(repr=False)
    """The real one."""

    @property
    def chain(self) -> list[Grant]:
        """It and its ancestors."""
        return [self, *(self.parent.chain if self.parent else [])]


def covers(held: str, wanted: str) -> bool:
    return held in ("/", wanted) or wanted.startswith(held + "/")


class Model:
    """Sets and a recursive check."""

    def __init__(self) -> None:
        self.now = NOW_NS
        self.roots: set[str] = set()
        self.require: set[Grant] = set()
        self.provide: set[Grant] = set()
        self.revoked: set[Grant] = set()
        self.messages: list[tuple[str, tuple[Grant, ...]]] = []

    def is_valid(self, grant: Grant, level: int = 0) -> bool:
        if self.now > grant.exp or 0 < grant.depth < level or grant in self.revoked:
            return False
        parent = grant.parent
        return parent is None or (
            parent.act == Action.DELEGATE
            and parent.exp >= grant.exp
            and parent.sub == grant.iss
            and parent.aud in ("", grant.aud)
            and covers(parent.cap, grant.cap)
            and self.is_valid(parent, level + 1)
        )

    def is_trusted(self, grant: Grant) -> bool:
        issuers = [level.iss for level in grant.chain]
        return (
            "node" in issuers
            or any(root in issuers for root in self.roots)
            or any(self.lends(side, grant) for side in self.require)
        )

    def lends(self, side: Grant, grant: Grant) -> bool:
        """A side chain: valid, and wider than what it lends its trust to."""
        places = [place for place, level in enumerate(grant.chain) if level.iss == side.sub]
        return (
            self.is_valid(side)
            and bool(places)
            and (side.depth == 0 or places[-1] <= side.depth)
            and min(level.exp for level in side.chain) >= grant.exp
            and side.aud in ("", grant.aud)
            and covers(side.cap, grant.cap)
        )

    def allows(self, sender: str, cap: str) -> bool:
        """Tokens count that the sender brought, and those given to us, whoever brought them."""
        return any(
            grant.act == Action.INVOKE
            and grant.sub == sender
            and grant.aud in ("", "node")
            and covers(grant.cap, cap)
            and self.is_trusted(grant)
            and self.is_valid(grant)
            for origin, grants in self.messages
            if sender in (origin, "node")
            for grant in grants
        )


class ContextMachine(RuleBasedStateMachine):
    """One node, and the tokens that its world makes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = StoppedClock()
        self.parties = {name: Party(name, clock=self.clock) for name in NAMES}
        self.node = self.parties["node"]
        self.context = self.node.context
        self.model = Model()
        self.made: list[Grant] = []
        self.carried: list[Carried] = []

    @initialize(depth=st.sampled_from([0, 1, 2, 3]), is_side=st.booleans(), life=lives)
    def a_chain_that_may_count(self, depth: int, is_side: bool, life: int) -> None:
        """An organisation that is trusted one way or the other, and a member of a member."""
        now = self.clock()
        self._make(Action.DELEGATE, "org", "user", "", "/a", now + 40, depth, None)
        self._make(Action.DELEGATE, "user", "peer", "", "/a", now + 40, 0, self.made[0])
        self._make(Action.DELEGATE, "org", "node", "", "/a", now + 40, 0, None)
        self._make(Action.INVOKE, "peer", "peer", "node", "/a/b", now + 20, 0, self.made[1])
        self._make(Action.INVOKE, "user", "user", "node", "/a", now + 4, 0, self.made[0])
        if is_side:
            self._make(Action.DELEGATE, "node", "org", "", "/a", now + life, 0, None)
            self._anchor(self.made[-1], is_provide=False)
        else:
            self.add_root("org")
        self._anchor(self.made[2], is_provide=True)
        self._send("peer", [self.made[3]])
        self._send("user", [self.made[4]])

    # the world issues tokens ------------------------------------------------------------------------------------------

    @rule(
        act=st.sampled_from([Action.DELEGATE, Action.DELEGATE, Action.INVOKE]),
        iss=names,
        sub=names,
        aud=st.sampled_from(["", "", "node", "peer"]),
        cap=st.sampled_from(CAPS),
        life=lives,
        depth=st.sampled_from([0, 0, 1, 2]),
    )
    def grant(self, act: str, iss: str, sub: str, aud: str, cap: str, life: int, depth: int) -> None:
        self._make(act, iss, sub, aud, cap, self.clock() + life, depth, None)

    @precondition(lambda self: self.made)
    @rule(
        data=st.data(),
        act=st.sampled_from([Action.DELEGATE, Action.INVOKE]),
        is_honest=st.sampled_from([True, True, True, False]),
        cap=st.sampled_from(CAPS),
        life=lives,
        sub=names,
    )
    def rest(self, data: st.DataObject, act: str, is_honest: bool, cap: str, life: int, sub: str) -> None:
        """A token on one that was made before; honest ones keep the rules that an issuer can see."""
        parent = data.draw(st.sampled_from(self.made))
        if is_honest:
            exp, held = min(self.clock() + life, parent.exp), cap if covers(parent.cap, cap) else parent.cap
            self._make(act, parent.sub, sub, parent.aud, held, exp, 0, parent)
        else:
            self._make(act, data.draw(names), sub, "", cap, self.clock() + life, 0, parent)

    def _make(
        self, act: str, iss: str, sub: str, aud: str, cap: str, exp: int, depth: int, parent: Grant | None
    ) -> None:
        if parent is not None and len(parent.chain) >= 4:
            return
        audience = self.parties[aud].did if aud else NO_DID
        token = issue(
            self.parties[iss].provider,
            act,
            self.parties[sub].did,
            audience,
            (),
            (cap,),
            exp,
            depth=depth,
            parent=parent.token if parent else None,
        )
        self.made.append(Grant(act, iss, sub, aud, cap, exp, depth, parent, token))

    # anchors ----------------------------------------------------------------------------------------------------------

    @rule(name=names)
    def add_root(self, name: str) -> None:
        self.context.add_roots([self.parties[name].did])
        self.model.roots.add(name)

    @rule(name=names)
    def remove_root(self, name: str) -> None:
        assert self.context.remove_roots([self.parties[name].did]) == (name in self.model.roots)
        self.model.roots.discard(name)

    @precondition(lambda self: self.made)
    @rule(data=st.data(), is_provide=st.booleans())
    def add_anchor(self, data: st.DataObject, is_provide: bool) -> None:
        self._anchor(data.draw(st.sampled_from(self.made)), is_provide=is_provide)

    def _anchor(self, grant: Grant, *, is_provide: bool) -> None:
        tokens = TokenList.of(grant.token)
        is_fit = grant.act == Action.DELEGATE and self.model.is_valid(grant) and (grant.sub == "node" or not is_provide)
        try:
            if is_provide:
                self.context.add_roots(provide=tokens)
            else:
                self.context.add_roots(require=tokens)
        except CapabilityError:
            assert not is_fit
        else:
            assert is_fit
            (self.model.provide if is_provide else self.model.require).add(grant)

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def remove_anchor(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(self.made))
        listed = grant.token in self.context.list_roots()[1].tokens
        removed = self.context.remove_roots(require=TokenList.of(grant.token))
        assert removed >= listed
        if not removed:
            return
        # the context may have dropped others because this one subsumed them: rebuild the model from what is left
        left = set(self.context.list_roots()[1].tokens)
        self.model.require = {held for held in self.model.require if held.token in left}

    @precondition(lambda self: self.made)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(data.draw(st.sampled_from(self.made)).chain))
        if self.model.now > grant.exp:
            return
        revocation = issue_revocation(self.parties[grant.iss].provider, grant.token)
        self.context.add_roots(revoke=TokenList.of(revocation))
        if grant in self.model.revoked:
            return  # known already: nothing happens
        self.model.revoked.add(grant)
        # all that is revoked is dropped, also what a message brought since it was revoked
        self._forget(lambda held: not self.model.revoked.isdisjoint(held.chain))

    @precondition(lambda self: self.model.revoked)
    @rule(data=st.data())
    def forgive(self, data: st.DataObject) -> None:
        grant = data.draw(st.sampled_from(sorted(self.model.revoked, key=lambda g: g.token.json)))
        revocation = issue_revocation(self.parties[grant.iss].provider, grant.token)
        self.context.remove_roots(revoke=TokenList.of(revocation))
        self.model.revoked.discard(grant)

    def _forget(self, condition: Callable[[Grant], bool]) -> None:
        """What is dropped at once, and does not come back by itself."""
        model = self.model
        model.require = {grant for grant in model.require if not condition(grant)}
        model.provide = {grant for grant in model.provide if not condition(grant)}
        model.messages = [(who, tuple(g for g in grants if not condition(g))) for who, grants in model.messages]

    # messages ---------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.made and len(self.carried) < 6)
    @rule(data=st.data(), is_honest=st.sampled_from([True, True, False]))
    def consume(self, data: st.DataObject, is_honest: bool) -> None:
        """Honest senders put invocations first, and their own."""
        invocations = [grant for grant in self.made if grant.act == Action.INVOKE]
        first = data.draw(st.sampled_from((is_honest and invocations) or self.made))
        sender = first.sub if is_honest else data.draw(names)
        grants = [first, *data.draw(st.lists(st.sampled_from(self.made), max_size=2))]
        self._send(sender, grants)

    def _send(self, sender: str, grants: list[Grant]) -> None:
        blob, party = encode_token_list(TokenList.of(*(grant.token for grant in grants))), self.parties[sender]
        self.carried.append(self.context.consume(party.did, blob, sender=party.id))
        # only what could count at that moment is kept
        kept = tuple(
            grant
            for grant in grants
            if any(level.iss == sender for level in grant.chain) or self.model.is_trusted(grant)
        )
        self.model.messages.append((sender, kept))

    @precondition(lambda self: 0 < len(self.carried) < 6)
    @rule(data=st.data())
    def consume_again(self, data: st.DataObject) -> None:
        """The same tokens in two messages at once."""
        sender, grants = data.draw(st.sampled_from(self.model.messages))
        if grants:
            self._send(sender, list(grants))

    @precondition(lambda self: self.carried)
    @rule()
    def discard(self) -> None:
        self.model.messages.pop(0)
        self.context.discard(self.carried.pop(0))

    @rule(cap=st.sampled_from(CAPS), life=lives)
    def provide(self, cap: str, life: int) -> None:
        """What we send is valid, outlives the message, and rests on everything that could carry it."""
        org = self.parties["org"]
        blob = self.context.provide(org.did, self.node.id, org.id, self.clock() + life, [Capability(cap)])
        model, found = self.model, decode_token_list(blob).tokens
        for token in found:
            assert token.earliest_expiry_ns >= self.clock() + life
            assert org.context.explain(self.node.did, [Capability(cap)], tokens=TokenList.of(token)) is not None
        rested_on = {token.body.chain.json for token in found if token.body.chain is not None}
        for anchor in model.provide:
            if anchor.token.json in rested_on:
                assert model.is_valid(anchor)
                assert covers(anchor.cap, cap)
        could = [
            a
            for a in model.provide
            if model.is_valid(a)
            and min(level.exp for level in a.chain) >= self.clock() + life
            and a.aud in ("", "org")
            and covers(a.cap, cap)
            and all(not level.depth or level.depth > place for place, level in enumerate(a.chain))
        ]
        assert bool(could) == bool(rested_on)

    # time and disk ----------------------------------------------------------------------------------------------------

    @rule(step=st.sampled_from([1, 1, 5, -3, 15]))
    def move_clock(self, step: int) -> None:
        self.clock.advance(step)
        self.model.now += step

    @rule()
    def collect_garbage(self) -> None:
        """What is over is gone, and does not come back when the clock is set back: the model forgets it too."""
        self.context.collect_garbage()
        now = self.model.now

        def is_over(grant: Grant) -> bool:
            return any(now > level.exp for level in grant.chain)

        self._forget(is_over)
        self.model.revoked = {grant for grant in self.model.revoked if now <= grant.exp}
        self.made = [grant for grant in self.made if not is_over(grant)]

    @rule()
    def save_and_load(self) -> None:
        """A restart: what lasts comes back, what messages brought does not. Time stands still meanwhile."""
        self.collect_garbage()
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "node.cap"
            save_context(self.context, path)
            self.context = load_context(path, TrustContext(self.node.provider), clock_ns=self.clock)
        assert self.context.load_problems == ()
        self.node.context = self.context
        self.model.messages.clear()
        self.carried.clear()

    @invariant()
    def all_decisions_agree(self) -> None:
        for sender in NAMES:
            party = self.parties[sender]
            for cap in CAPS:
                decision = self.context.decide(self.node.did, party.id, self.node.id, [Capability(cap)])
                assert decision.allowed == self.model.allows(sender, cap), (sender, cap, decision)

    @invariant()
    def the_lists_agree(self) -> None:
        roots, require, _, _ = self.context.list_roots()
        assert set(roots) == {self.parties[name].did for name in self.model.roots}
        known = {grant.token for grant in self.model.require}
        assert set(require.tokens) <= known

    @invariant()
    def nothing_is_left_of_messages_that_ended(self) -> None:
        if not self.carried:
            assert self.context.ephemeral_count == 0


ContextMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
TestContextModel = ContextMachine.TestCase
