"""The anchors of a node and their file: what either side writes reaches the other, and none of it is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from dms.capability.context import CapabilityContext
from dms.capability.errors import BadToken
from dms.capability.store import context_path, edit_context, load_context, save_context
from dms.capability.token import NO_TOKENS, Action, TokenList
from dms.identity.errors import ResolutionFailed
from dms.identity.ids import DID, NO_DID, did_of
from dms.identity.keys import PrivateKey, PublicKey, generate_key
from dms.identity.trust import Provider, TrustContext
from dms.node import capability_file
from dms.node.capability_file import CapabilityFile
from dms.node.holding import Uptake, wait_for_uptake
from dms.tasks import Scheduler
from dms.types.errors import Unavailable
from dms.types.ids import Capability

HOUR_NS = 3600 * 10**9


def made(path: Path, key: PrivateKey) -> CapabilityFile:
    return CapabilityFile(path, "dms", did_of(key.public), TrustContext(Provider.of_key(key)))


@pytest.fixture
def key() -> PrivateKey:
    return generate_key()


@pytest.fixture
def anchors(tmp_path: Path, key: PrivateKey) -> CapabilityFile:
    return made(context_path(tmp_path / "cap", "dms"), key)


def edit(anchors: CapabilityFile, change: Callable[[CapabilityContext], object]) -> None:
    """As the command line does: without the key."""
    with edit_context(anchors.path, TrustContext(), need_provider=False) as context:
        change(context)


def someone() -> DID:
    return did_of(generate_key().public)


def granted(by: PrivateKey, to: DID, capability: str) -> TokenList:
    context = CapabilityContext("x", did_of(by.public), TrustContext(Provider.of_key(by)))
    expiry_ns = time.time_ns() + HOUR_NS
    return context.grant(Action.DELEGATE, to, NO_DID, (), expiry_ns, 0, [Capability(capability)])


def test_a_context_is_made_where_there_is_none_and_kept_where_there_is(tmp_path: Path, key: PrivateKey) -> None:
    path = context_path(tmp_path / "cap", "dms")
    assert made(path, key).context.did == did_of(key.public)
    before = path.read_bytes()
    assert made(path, key).context.list_roots() == ((), NO_TOKENS, NO_TOKENS, NO_TOKENS)
    assert path.read_bytes() == before


def test_a_reload_takes_what_was_added_and_drops_what_was_removed(anchors: CapabilityFile) -> None:
    old, new = someone(), someone()
    edit(anchors, lambda context: context.add_roots([old]))
    anchors.reload()
    assert anchors.context.list_roots()[0] == (old,)
    edit(anchors, lambda context: context.remove_roots([old]))
    edit(anchors, lambda context: context.add_roots([new]))
    anchors.reload()
    assert anchors.context.list_roots()[0] == (new,)


def test_a_narrower_anchor_in_the_place_of_a_wider_one_counts(anchors: CapabilityFile, key: PrivateKey) -> None:
    subject = someone()
    wide, narrow = granted(key, subject, "/dms"), granted(key, subject, "/dms/deployment")
    edit(anchors, lambda context: context.add_roots(require=wide))
    anchors.reload()
    edit(anchors, lambda context: context.remove_roots(require=wide))
    edit(anchors, lambda context: context.add_roots(require=narrow))
    anchors.reload()
    assert anchors.context.list_roots()[1] == narrow


def test_what_the_node_granted_while_it_runs_survives_a_reload(anchors: CapabilityFile, key: PrivateKey) -> None:
    dynamic = granted(key, someone(), "/dms/allocation")
    anchors.context.add_roots(require=dynamic)
    edit(anchors, lambda context: context.add_roots([someone()]))
    anchors.reload()
    assert anchors.context.list_roots()[1] == dynamic


@pytest.mark.parametrize("damage", ["{", "[]", ""])
def test_a_damaged_file_changes_nothing(anchors: CapabilityFile, damage: str) -> None:
    root = someone()
    edit(anchors, lambda context: context.add_roots([root]))
    anchors.reload()
    anchors.path.write_text(damage)
    anchors.reload()
    assert anchors.context.list_roots()[0] == (root,)
    anchors.path.unlink()
    anchors.reload()
    assert anchors.context.list_roots()[0] == (root,)


def test_a_revocation_in_the_file_takes_effect(anchors: CapabilityFile, key: PrivateKey) -> None:
    grant = granted(key, someone(), "/public")
    edit(anchors, lambda context: context.add_roots(require=grant))
    anchors.reload()
    assert anchors.context.list_roots()[1] == grant
    own = load_context(anchors.path, TrustContext(Provider.of_key(key)))
    revocation = TokenList.of(own.revoke(grant.tokens[0]))
    edit(anchors, lambda context: context.add_roots(revoke=revocation))
    anchors.reload()
    assert anchors.context.list_roots()[1] == NO_TOKENS


async def keep_up(nursery: trio.Nursery, anchors: CapabilityFile) -> None:
    tasks = Scheduler()
    await nursery.start(tasks.run)
    nursery.start_soon(anchors.keep_up, tasks)


async def test_a_changed_file_is_noticed_without_a_signal(
    anchors: CapabilityFile, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    await keep_up(nursery, anchors)
    root = someone()
    await trio.sleep(60)
    edit(anchors, lambda context: context.add_roots([root]))
    await trio.sleep(capability_file.POLL_S * 1.5)
    assert anchors.context.list_roots()[0] == (root,)
    anchors.path.write_text("{")
    await trio.sleep(60)
    save_context(CapabilityContext("dms", anchors.context.did, TrustContext()), anchors.path)
    await trio.sleep(capability_file.POLL_S * 1.5)
    assert anchors.context.list_roots()[0] == ()


async def test_an_anchor_whose_key_could_not_be_fetched_counts_once_it_can(
    tmp_path: Path, key: PrivateKey, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody has to touch the file when the resolver is back."""
    org, prism = generate_key(), DID(uri="did:prism:org")
    directory = Directory()
    trust = TrustContext(Provider.of_key(key), resolver=directory, clock_s=trio.current_time)
    signer = CapabilityContext("org", prism, TrustContext(Provider.of_key(org, prism)))
    expiry_ns = time.time_ns() + HOUR_NS
    lent = signer.grant(Action.DELEGATE, someone(), NO_DID, (), expiry_ns, 0, [Capability("/public")])
    path = context_path(tmp_path / "cap", "dms")
    with_key = CapabilityContext("dms", did_of(key.public), TrustContext(Provider.of_key(org, prism)))
    with_key.add_roots(require=lent)
    save_context(with_key, path)
    anchors = CapabilityFile(path, "dms", did_of(key.public), trust)
    assert anchors.context.list_roots()[1] == NO_TOKENS
    await keep_up(nursery, anchors)
    await trio.sleep(3 * capability_file.RETRY_S)
    assert anchors.context.list_roots()[1] == NO_TOKENS
    directory.keys[prism] = org.public
    await trio.sleep(2 * capability_file.RETRY_S)
    assert anchors.context.list_roots()[1] == lent
    asked = directory.asked
    await trio.sleep(10 * capability_file.RETRY_S)
    assert directory.asked == asked, "all that was missing is known"


class Directory:
    """A resolver that knows what is written in it."""

    def __init__(self) -> None:
        self.keys: dict[DID, PublicKey] = {}
        self.asked = 0

    async def fetch_key(self, did: DID) -> PublicKey:
        self.asked += 1
        if did not in self.keys:
            raise ResolutionFailed(f"nobody knows {did}")
        return self.keys[did]


async def test_a_signal_reloads_at_once(anchors: CapabilityFile, nursery: trio.Nursery) -> None:
    nursery.start_soon(anchors.reload_on_signal)
    await trio.testing.wait_all_tasks_blocked()
    root = someone()
    edit(anchors, lambda context: context.add_roots([root]))
    signal.raise_signal(signal.SIGUSR1)
    while anchors.context.list_roots()[0] != (root,):
        await trio.testing.wait_all_tasks_blocked()


async def test_in_another_thread_signals_are_left_to_whoever_embeds_the_service(anchors: CapabilityFile) -> None:
    await trio.to_thread.run_sync(trio.run, anchors.reload_on_signal)


async def test_a_change_is_in_the_file_before_it_is_answered(anchors: CapabilityFile) -> None:
    root = someone()
    await anchors.change(lambda context: context.add_roots([root]))
    assert anchors.context.list_roots()[0] == (root,)
    assert load_context(anchors.path, TrustContext(), need_provider=False).list_roots()[0] == (root,)


async def test_a_change_keeps_what_the_command_line_wrote_meanwhile(anchors: CapabilityFile) -> None:
    first, theirs, ours = someone(), someone(), someone()
    await anchors.change(lambda context: context.add_roots([first]))
    edit(anchors, lambda context: context.add_roots([theirs]))
    await anchors.change(lambda context: context.add_roots([ours]))
    assert anchors.context.list_roots()[0] == (first, theirs, ours)
    anchors.reload()
    assert anchors.context.list_roots()[0] == (first, theirs, ours)


async def test_changes_of_both_sides_at_once_are_all_kept(anchors: CapabilityFile) -> None:
    ours, theirs = [someone() for _ in range(8)], [someone() for _ in range(8)]

    async def by_command_line() -> None:
        for did in theirs:
            await trio.to_thread.run_sync(edit, anchors, lambda context, did=did: context.add_roots([did]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(by_command_line)
        for did in ours:
            nursery.start_soon(anchors.change, lambda context, did=did: context.add_roots([did]))
    anchors.reload()
    assert set(anchors.context.list_roots()[0]) == {*ours, *theirs}


async def test_a_change_that_fails_changes_nothing(anchors: CapabilityFile) -> None:
    before, wanted = anchors.path.read_bytes(), someone()

    def half(context: CapabilityContext) -> None:
        context.add_roots([wanted])
        raise BadToken("half-way")

    with pytest.raises(BadToken, match="half-way"):
        await anchors.change(half)
    assert anchors.path.read_bytes() == before
    other = someone()
    await anchors.change(lambda context: context.add_roots([other]))
    assert anchors.context.list_roots()[0] == (other,)


async def test_a_file_that_cannot_be_written_is_told_and_nothing_is_in_force(
    anchors: CapabilityFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(Unavailable, match="No space left on device"):
            await anchors.change(lambda context: context.add_roots([someone()]))
    assert anchors.context.list_roots()[0] == ()
    assert load_context(anchors.path, TrustContext(), need_provider=False).list_roots()[0] == ()


async def test_whoever_keeps_the_lock_stops_neither_the_node_nor_its_end(
    anchors: CapabilityFile, autojump_clock: trio.testing.MockClock
) -> None:
    with edit_context(anchors.path, TrustContext(), need_provider=False):
        with pytest.raises(Unavailable, match="locked"):
            await anchors.change(lambda context: context.add_roots([someone()]))
        with trio.move_on_after(1.0):
            await anchors.change(lambda context: context.add_roots([someone()]))
    await anchors.change(lambda context: context.add_roots([someone()]))
    assert len(anchors.context.list_roots()[0]) == 1


async def test_a_second_change_does_not_read_the_file_again(anchors: CapabilityFile) -> None:
    await anchors.change(lambda context: context.add_roots([someone()]))
    seen: list[CapabilityContext] = []
    await anchors.change(seen.append)
    await anchors.change(seen.append)
    assert seen[0] is seen[1]
    edit(anchors, lambda context: context.add_roots([someone()]))
    await anchors.change(seen.append)
    assert seen[2] is not seen[0]


async def test_a_revocation_that_is_in_force_but_not_yet_in_the_file_survives_a_reload(
    anchors: CapabilityFile, key: PrivateKey
) -> None:
    grant = granted(key, someone(), "/public")
    await anchors.change(lambda context: context.add_roots(require=grant))
    revocation = TokenList.of(anchors.context.revoke(grant.tokens[0]))
    anchors.context.add_roots(revoke=revocation)
    edit(anchors, lambda context: context.add_roots([someone()]))
    anchors.reload()
    assert anchors.context.list_roots()[1] == NO_TOKENS
    assert anchors.context.list_roots()[3] == revocation


KILLED = """
import os, sys, trio
from pathlib import Path
from dms.identity.ids import DID, did_of
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.trust import Provider, TrustContext
from dms.node.capability_file import CapabilityFile

async def main():
    key = PrivateKey(KeyType.ED25519, b"k" * 32)
    file = CapabilityFile(Path(sys.argv[1]), "dms", did_of(key.public), TrustContext(Provider.of_key(key)))
    for n in range(5):
        did = did_of(PrivateKey(KeyType.ED25519, bytes([n]) * 32).public)
        await file.change(lambda context: context.add_roots([did]))
        print(did, flush=True)
    os.kill(os.getpid(), 9)

trio.run(main)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = context_path(tmp_path / "cap", "dms")
    done = subprocess.run([sys.executable, "-c", KILLED, path], capture_output=True, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    acknowledged = done.stdout.decode().split()
    roots = load_context(path, TrustContext(), need_provider=False).list_roots()[0]
    assert [root.uri for root in roots] == acknowledged
    assert len(acknowledged) == 5


# who holds the file --------------------------------------------------------------------------------------------------


def test_without_a_node_nobody_takes_a_change_up(anchors: CapabilityFile) -> None:
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.NO_NODE


async def test_a_change_is_known_to_be_taken_up(anchors: CapabilityFile, nursery: trio.Nursery) -> None:
    await keep_up(nursery, anchors)
    await trio.testing.wait_all_tasks_blocked()
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.TAKEN_UP
    edit(anchors, lambda context: context.add_roots([someone()]))
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.NOT_YET
    anchors.reload()
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.TAKEN_UP
    await anchors.change(lambda context: context.add_roots([someone()]))
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.TAKEN_UP
    nursery.cancel_scope.cancel()


async def test_a_change_that_cannot_be_read_is_not_taken_up(anchors: CapabilityFile, nursery: trio.Nursery) -> None:
    await keep_up(nursery, anchors)
    await trio.testing.wait_all_tasks_blocked()
    anchors.path.write_text("{")
    anchors.reload()
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.NOT_YET
    nursery.cancel_scope.cancel()


async def test_a_node_that_ended_holds_nothing(anchors: CapabilityFile) -> None:
    async with trio.open_nursery() as nursery:
        await keep_up(nursery, anchors)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.NO_NODE
    await anchors.change(lambda context: context.add_roots([someone()]))
    assert wait_for_uptake(anchors.path, timeout_s=0) is Uptake.NO_NODE
