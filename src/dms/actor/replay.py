"""Remembering which messages were seen, so that a captured one cannot be used again.

A message is named by its sender's key and nonce, and remembered until it has expired: whatever happens, nothing is
forgotten before. When there is no room new messages are refused, those first whose sender fills the most: nobody may hold
more than half of what the others leave free.

Expired means by both clocks. The wall clock may jump: forward, and what it takes for expired is valid again once it is
set right; back, and what had all but expired lives on. So a message stays until the time that it had left has really
passed, by a clock that never jumps, *and* the wall clock has passed its expiry. And should the wall clock be set back later,
whatever expires no later than what was forgotten is refused: it may be one of those. Two kinds are left out of that, since they
expire when our own clock said so, and a machine whose clock is set right would be deaf otherwise: messages of this host itself,
which only its own user replays, and answers to what it asked, which must name the question to be of use.

Names are hashed with a secret key to 64 bits, which keeps an entry near a hundred bytes and makes collisions neither
likely nor possible to construct.
"""

from __future__ import annotations

import hashlib
import heapq
import secrets
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple, Protocol

from dms.actor.errors import MessageExpired, RateLimited, Replayed
from dms.identity.ids import DID, ActorID

MAX_REMEMBERED: Final = 200_000
SLOT_NS: Final = 10 * 10**9
"""Entries are forgotten in groups, at most this long after they might have been."""
MAX_HASHED: Final = 1024
"""Identities whose hashes are kept."""
HASH_BYTES: Final = 8
KEY_BYTES: Final = 16


LOCAL: Final = 0
"""The owner of all messages of this host."""
_THEIR_CLOCK: Final = 1
"""The bit of an owner that tells that the expiry was the sender's to choose; without it, it was ours."""
_NOT_LOCAL: Final = 2
MARK: Final = 0
"""The name of the entry that holds the latest expiry among those forgotten."""


class Entry(NamedTuple):
    """One message: the hashes of its name and of who answers for it, and its expiry in UNIX nanoseconds."""

    name: int
    owner: int
    expiry_ns: int


class Record(Protocol):
    """Keeps entries beyond the life of this process."""

    def append(self, entry: Entry) -> None:
        """Write one down."""
        ...


class _Slot:
    """Messages that may be forgotten together."""

    __slots__ = ("latest_expiry_ns", "latest_remote_ns", "names")

    def __init__(self) -> None:
        self.names: list[int] = []
        self.latest_expiry_ns = 0
        self.latest_remote_ns = 0

    def add(self, entry: Entry) -> None:
        self.names.append(entry.name)
        self.latest_expiry_ns = max(self.latest_expiry_ns, entry.expiry_ns)
        if entry.owner & _THEIR_CLOCK:
            self.latest_remote_ns = max(self.latest_remote_ns, entry.expiry_ns)

    def merge(self, other: _Slot) -> None:
        self.names += other.names
        self.latest_expiry_ns = max(self.latest_expiry_ns, other.latest_expiry_ns)
        self.latest_remote_ns = max(self.latest_remote_ns, other.latest_remote_ns)


class ReplayWindow:
    """(sender, nonce) pairs until their expiry, in bounded memory; shared by all actors of a process.

    :param key: secret; the same as before when ``entries`` come from an earlier life of the process.
    """

    def __init__(self, limit: int = MAX_REMEMBERED, *, key: bytes = b"", record: Record | None = None) -> None:
        self._limit = limit
        self._key = key or secrets.token_bytes(KEY_BYTES)
        self._record = record
        self._owners: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self._slots: dict[int, _Slot] = {}
        self._due: list[int] = []
        self._hashed: dict[str, int] = {}
        self._forgotten_ns = 0

    def __len__(self) -> int:
        return len(self._owners)

    def restore(self, entries: Iterable[Entry], now_ns: int, elapsed_ns: int) -> None:
        """Take up what an earlier life of this process remembered, however much that is."""
        for entry in entries:
            if entry.name == MARK or entry.expiry_ns < now_ns:
                self._forgotten_ns = max(self._forgotten_ns, entry.expiry_ns if entry.owner & _THEIR_CLOCK else 0)
            elif entry.name not in self._owners:
                self._hold(entry, now_ns, elapsed_ns)

    def check(self, sender: ActorID, nonce: int) -> int:
        """Look only, before anything costly is done; the message's name for :meth:`admit`.

        :raises Replayed: it is remembered.
        """
        name = self._hash(b"%b:%d" % (sender.pub.encode(), nonce))
        if name in self._owners:
            raise Replayed
        return name

    def admit(
        self, name: int, owner: DID | None, expiry_ns: int, *, now_ns: int, elapsed_ns: int, is_answer: bool = False
    ) -> None:
        """Note a message whose signature and authority are proven: strangers must not fill the window.

        :param name: what :meth:`check` returned.
        :param owner: the identity that answers for the sender; none: this host. Keys cost nothing, so room is shared out
            by identity.
        :param elapsed_ns: a clock that never jumps; it may count from anywhere.
        :param is_answer: it has the expiry of a message of ours.
        :raises Replayed: it was noted before and has not expired.
        :raises MessageExpired: the wall clock was set back, and it may have been noted and forgotten.
        :raises RateLimited: there is no room for another of this owner.
        """
        self._forget(now_ns, elapsed_ns)
        if name in self._owners:
            raise Replayed
        entry = Entry(name, LOCAL if owner is None else self._owner(owner, is_answer=is_answer), expiry_ns)
        if entry.owner & _THEIR_CLOCK and expiry_ns <= self._forgotten_ns:
            raise MessageExpired("message expired, by what the clock of the receiver said before it was set back")
        held = self._counts.get(entry.owner, 0)
        if 2 * held >= self._limit - len(self._owners):
            raise RateLimited(
                f"rate limit exceeded: {held} messages of {owner or 'this host'} that have not expired are remembered",
                hint="send fewer, or let them expire sooner",
            )
        if self._record is not None:
            self._record.append(entry)
        self._hold(entry, now_ns, elapsed_ns)

    def entries(self) -> Iterator[Entry]:
        """Everything remembered; expiries are rounded up to those of the group."""
        if self._forgotten_ns:
            yield Entry(MARK, _THEIR_CLOCK, self._forgotten_ns)
        for slot in self._slots.values():
            for name in slot.names:
                yield Entry(name, self._owners[name], slot.latest_expiry_ns)

    # ---------------------------------------------------------------------------------------------------------------

    def _owner(self, did: DID, *, is_answer: bool) -> int:
        known = self._hashed.get(did.uri)
        if known is None:
            if len(self._hashed) >= MAX_HASHED:
                self._hashed.clear()
            known = self._hashed[did.uri] = self._hash(did.uri.encode()) | _THEIR_CLOCK | _NOT_LOCAL
        return known ^ _THEIR_CLOCK if is_answer else known

    def _hash(self, data: bytes) -> int:
        # zero has another meaning, both as a name and as an owner
        return int.from_bytes(hashlib.blake2b(data, digest_size=HASH_BYTES, key=self._key).digest(), "big") or 1

    def _hold(self, entry: Entry, now_ns: int, elapsed_ns: int) -> None:
        number = (elapsed_ns + max(0, entry.expiry_ns - now_ns)) // SLOT_NS + 1
        self._slot(number).add(entry)
        self._owners[entry.name] = entry.owner
        self._counts[entry.owner] = self._counts.get(entry.owner, 0) + 1

    def _slot(self, number: int) -> _Slot:
        slot = self._slots.get(number)
        if slot is None:
            slot = self._slots[number] = _Slot()
            heapq.heappush(self._due, number)
        return slot

    def _forget(self, now_ns: int, elapsed_ns: int) -> None:
        while self._due and self._due[0] * SLOT_NS < elapsed_ns:
            slot = self._slots.pop(heapq.heappop(self._due))
            left_ns = slot.latest_expiry_ns - now_ns
            if left_ns >= 0:  # the wall clock went back
                self._slot((elapsed_ns + left_ns) // SLOT_NS + 1).merge(slot)
                continue
            self._forgotten_ns = max(self._forgotten_ns, slot.latest_remote_ns)
            for name in slot.names:
                self._release(self._owners.pop(name))

    def _release(self, owner: int) -> None:
        left = self._counts[owner] - 1
        if left:
            self._counts[owner] = left
        else:
            del self._counts[owner]
