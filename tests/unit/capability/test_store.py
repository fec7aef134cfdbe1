"""Contexts on disk: every form is read, one bad token costs nothing but itself."""

from __future__ import annotations

import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.capability.context import CapabilityContext
from dms.capability.errors import BadContext, ContextNotFound
from dms.capability.store import context_path, edit_context, load_context, save_context
from dms.capability.token import NO_TOKENS, Action, TokenList, issue
from dms.identity.errors import BadName, NoProvider
from dms.identity.ids import DID
from dms.identity.trust import Provider, TrustContext
from dms.testing.parties import HOUR_NS, NOW_NS, Party, StoppedClock
from dms.types.errors import BadInput, DMSError

CLOCK = StoppedClock()
NODE, USER, ORG = (Party(name, clock=CLOCK) for name in ("node", "user", "org"))


def filled() -> CapabilityContext:
    context = Party("node", clock=CLOCK).context
    context.add_roots(
        [USER.did, ORG.did],
        TokenList.of(NODE.issue(ORG, "/a", topics=("/t",)), NODE.issue(USER, "/b")),
        TokenList.of(USER.issue(NODE, "/a<b", parent=ORG.issue(USER, "/"))),
        TokenList.of(NODE.context.revoke(NODE.issue(USER, "/c"))),
    )
    return context


def load(path: Path, *, now_ns: int = NOW_NS) -> CapabilityContext:
    return load_context(path, NODE.trust, clock_ns=StoppedClock(now_ns))


def test_what_is_saved_comes_back_in_the_same_order(tmp_path: Path) -> None:
    context, path = filled(), tmp_path / "cap" / "node.cap"
    save_context(context, path)
    again = load(path)
    assert again.list_roots() == context.list_roots()
    assert (again.name, again.did, again.load_problems) == ("node", NODE.did, ())
    before = path.read_bytes()
    save_context(again, path)
    assert path.read_bytes() == before


def test_files_have_the_newest_form_and_are_private(tmp_path: Path) -> None:
    path = tmp_path / "cap" / "node.cap"
    save_context(filled(), path)
    text = path.read_text()
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["did", "roots", "require", "provide", "revoke"]
    assert "\\u003c" in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [p.name for p in path.parent.iterdir()] == ["node.cap"]


def test_an_empty_context_is_written_as_the_original_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(Party("node").context, path)
    expected = '{"did":{"uri":"%s"},"roots":null,"require":{},"provide":{},"revoke":{}}\n'
    assert path.read_text() == expected.replace("%s", str(NODE.did))
    assert load(path).list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)


def test_early_files_with_capital_keys_and_without_revocations_are_read(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    token = NODE.issue(ORG, "/a")
    path.write_text(
        json.dumps(
            {"DID": {"uri": str(NODE.did)}, "Roots": [{"uri": str(USER.did)}], "Require": {"Tok": []}, "x": 1}
        ).replace('"Tok": []', f'"Tok": [{token}]')
    )
    assert load(path).list_roots() == ((USER.did,), TokenList.of(token), NO_TOKENS, NO_TOKENS)


def test_one_bad_token_is_skipped_and_reported_and_kept_aside_on_the_next_save(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    good = NODE.issue(ORG, "/a")
    forged = str(NODE.issue(USER, "/a")).replace('"/a"', '"/"')
    path.write_text(
        f'{{"did":{{"uri":"{NODE.did}"}},"roots":[{{"uri":"nonsense"}},5,{{"uri":"{USER.did}"}}],'
        f'"require":{{"tok":[{forged},{good},null,{{}},7,{{"dms":{{"cap":7}}}}]}},'
        f'"provide":[],"revoke":{{"tok":[{good}]}}}}'
    )
    before = path.read_bytes()
    context = load(path)
    assert context.list_roots() == ((USER.did,), TokenList.of(good), NO_TOKENS, NO_TOKENS)
    places = [problem.split(": ")[0] for problem in context.load_problems]
    assert sorted(places) == [
        "provide",
        "require[0]",
        "require[2]",
        "require[3]",
        "require[4]",
        "require[5]",
        "revoke[0]",
        "roots[0]",
        "roots[1]",
    ]
    assert any("signature verification failed" in problem for problem in context.load_problems)
    save_context(context, path)
    assert (tmp_path / "node.cap.bad").read_bytes() == before
    assert load(path).load_problems == ()


def test_expired_tokens_are_dropped_silently(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(filled(), path)
    context = load(path, now_ns=NOW_NS + HOUR_NS + 1)
    assert context.list_roots() == ((USER.did, ORG.did), NO_TOKENS, NO_TOKENS, NO_TOKENS)
    assert context.load_problems == ()


def test_a_revoked_anchor_in_the_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    token = NODE.issue(ORG, "/a")
    context = Party("node", clock=CLOCK).context
    context.add_roots(require=TokenList.of(token))
    save_context(context, path)
    revocation = NODE.context.revoke(token)
    path.write_text(path.read_text().replace('"revoke":{}', f'"revoke":{{"tok":[{revocation}]}}'))
    again = load(path)
    assert again.list_roots()[1:] == (NO_TOKENS, NO_TOKENS, TokenList.of(revocation))
    assert "revoked" in again.load_problems[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"5",
        b"{}",
        b'{"did":"did:key:z"}',
        b'{"did":{"uri":"x"}}',
        b'{"did":{}}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_files_that_are_no_context_are_refused_with_the_place(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "node.cap"
    path.write_bytes(data)
    with pytest.raises(BadContext, match="failed to load capability context") as caught:
        load(path)
    assert str(path) in caught.value.message
    assert caught.value.hint


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 5000), noise=st.binary(min_size=1, max_size=8))
def test_no_damage_whatsoever_escapes_the_error_tree(tmp_path: Path, at: int, noise: bytes) -> None:
    path = tmp_path / "node.cap"
    if not (tmp_path / "sound").exists():
        save_context(filled(), tmp_path / "sound")
    data = (tmp_path / "sound").read_bytes()
    at %= len(data)
    path.write_bytes(data[:at] + noise + data[at + len(noise) :])
    try:
        context = load(path)
    except DMSError:
        return
    assert context.did == NODE.did


def test_missing_files_and_directories_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(ContextNotFound, match="unable to open capability context file") as caught:
        load(tmp_path / "node.cap")
    assert "nunet cap new node" in caught.value.hint
    with pytest.raises(ContextNotFound):
        load(tmp_path)
    with pytest.raises(ContextNotFound), edit_context(tmp_path / "absent" / "node.cap", NODE.trust):
        pass


def test_a_context_needs_its_key_unless_it_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(filled(), path)
    with pytest.raises(NoProvider):
        load_context(path, TrustContext(), clock_ns=CLOCK)
    readable = load_context(path, TrustContext(), clock_ns=CLOCK, need_provider=False)
    assert readable.list_roots() == load(path).list_roots()


def test_editing_saves_only_what_went_well(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(Party("node").context, path)
    with edit_context(path, NODE.trust, clock_ns=CLOCK) as context:
        context.add_roots([USER.did])
    before = path.read_bytes()
    with pytest.raises(BadInput), edit_context(path, NODE.trust, clock_ns=CLOCK) as context:  # noqa: PT012
        context.add_roots([ORG.did])
        raise BadInput
    assert path.read_bytes() == before
    assert load(path).list_roots()[0] == (USER.did,)


def test_editors_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "node.cap"
    save_context(Party("node").context, path)
    parties = [Party(f"p{n}") for n in range(8)]

    def add(party: Party) -> None:
        with edit_context(path, TrustContext(), clock_ns=CLOCK, need_provider=False) as context:
            context.add_roots([party.did])

    threads = [threading.Thread(target=add, args=(party,)) for party in parties]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(load(path).list_roots()[0]) == {party.did for party in parties}


def test_names_of_contexts_cannot_leave_the_directory(tmp_path: Path) -> None:
    assert context_path(tmp_path, "dms") == tmp_path / "dms.cap"
    for name in ("../dms", "a/b", "", ".x"):
        with pytest.raises(BadName):
            context_path(tmp_path, name)


def test_tokens_of_a_did_prism_stay_in_the_file_while_its_key_cannot_be_fetched(tmp_path: Path) -> None:
    prism, path = DID(uri="did:prism:aa"), tmp_path / "node.cap"
    resolvable = TrustContext(NODE.provider, Provider.of_key(USER.key, prism))
    issued = issue(Provider.of_key(USER.key, prism), Action.DELEGATE, NODE.did, DID(), (), ["/p"], NOW_NS + HOUR_NS)
    context = CapabilityContext("node", NODE.did, resolvable, clock_ns=CLOCK)
    context.add_roots([], TokenList.of(issued, NODE.issue(ORG, "/a")), TokenList.of(issued))
    save_context(context, path)
    before = path.read_bytes()
    for _ in range(2):
        with edit_context(path, NODE.trust, clock_ns=CLOCK) as opened:
            assert [len(part.tokens) for part in opened.list_roots()[1:]] == [1, 0, 0]
            assert any("did:prism:aa is not resolved" in problem for problem in opened.load_problems)
    again = load_context(path, resolvable, clock_ns=CLOCK)
    assert sorted(map(str, again.list_roots()[1].tokens)) == sorted(map(str, context.list_roots()[1].tokens))
    assert again.list_roots()[2] == context.list_roots()[2]
    assert len(path.read_bytes()) == len(before)


def test_a_file_with_many_revocations_by_one_issuer_is_read_whole(tmp_path: Path) -> None:
    """They were taken while there was room; the order of the parts of the file must not cost any of them."""
    path, many = tmp_path / "node.cap", 260
    context = CapabilityContext("node", NODE.did, NODE.trust, clock_ns=CLOCK)
    revocations = [ORG.context.revoke(ORG.issue(USER, "/a")) for _ in range(many)]
    context.add_roots(require=TokenList.of(NODE.issue(ORG, "/a")), revoke=TokenList.of(*revocations))
    save_context(context, path)
    again = load(path)
    assert len(again.list_roots()[3]) == many
    assert again.load_problems == ()
