"""Keys of DIDs that do not contain them: fetched once, kept for a fixed time (``spec/security.md`` 1.9, 1.12).

A key that was fetched is used for :data:`KEY_LIFETIME_S` and then fetched again, however often it was used meanwhile:
a rotated key must not live on because it is busy. Strangers choose which DIDs are asked for, so everything is bounded:
time, keys and failures kept, questions under way; and one DID is asked for once at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from dms.identity.errors import NoResolver, ResolutionFailed, UnresolvedDID
from dms.identity.ids import DID
from dms.identity.keys import PublicKey

if TYPE_CHECKING:
    import trio

KEY_LIFETIME_S: Final = 3600.0
FAILURE_LIFETIME_S: Final = 30.0
MAX_KEPT: Final = 1024
"""Keys, and failures."""
MAX_AT_ONCE: Final = 4
MAX_WAITING: Final = 64


class Resolver(Protocol):
    """Fetches the key of a DID, once, however long that takes: the caller sets the time limit."""

    async def fetch_key(self, did: DID) -> PublicKey:
        """The key that signs for ``did`` now.

        :raises UnresolvedDID: it cannot be had, or there is none.
        """
        ...


class FetchedKeys:
    """The keys that a resolver gave, for as long as they may be used.

    ``clock_s`` is any clock that never goes back, in seconds. Not for use by several threads.
    """

    def __init__(self, resolver: Resolver | None, clock_s: Callable[[], float]) -> None:
        self._resolver = resolver
        self._clock_s = clock_s
        self._keys: dict[DID, tuple[float, PublicKey]] = {}
        self._failures: dict[DID, tuple[float, UnresolvedDID]] = {}
        self._under_way: dict[DID, trio.Event] = {}
        self._slots: trio.CapacityLimiter | None = None
        self._first_end_s = math.inf

    def get(self, did: DID) -> PublicKey | None:
        """The key, when it was fetched not too long ago."""
        end_s, key = self._keys.get(did, (-math.inf, None))
        return key if self._clock_s() < end_s else None

    def failure(self, did: DID) -> UnresolvedDID | None:
        """Why it could not be fetched a moment ago."""
        end_s, failure = self._failures.get(did, (-math.inf, None))
        return failure if self._clock_s() < end_s else None

    def drop_expired(self) -> bool:
        """Forget the keys that are too old; whether there were any. Costs a comparison when there are none."""
        if self._first_end_s == math.inf or (now_s := self._clock_s()) < self._first_end_s:
            return False
        self._keys = {did: entry for did, entry in self._keys.items() if entry[0] > now_s}
        self._first_end_s = min((end_s for end_s, _ in self._keys.values()), default=math.inf)
        return True

    async def fetch(self, did: DID, timeout_s: float) -> PublicKey:
        """The key, fetched if need be.

        :raises UnresolvedDID: it cannot be had; for a while the same answer is given without asking again.
        """
        import trio  # here, because clients that fetch nothing would spend a tenth of a second on it

        if self._resolver is None:
            raise NoResolver(f"no resolver is configured for {did.uri[:80]}")
        with trio.move_on_after(timeout_s):
            while True:
                if (key := self.get(did)) is not None:
                    return key
                if (failure := self.failure(did)) is not None:
                    raise type(failure)(failure.message, hint=failure.hint)
                if did not in self._under_way:
                    return await self._ask(self._resolver, did)
                await self._under_way[did].wait()
        late = ResolutionFailed(f"no key of {did.uri[:80]} came within {timeout_s:g} s")
        if did not in self._under_way:
            self._note_failure(did, late)
        raise late

    async def _ask(self, resolver: Resolver, did: DID) -> PublicKey:
        import trio  # see above

        if len(self._under_way) >= MAX_WAITING:
            raise UnresolvedDID(f"{did.uri[:80]} is not resolved: too many others are being asked for")
        if self._slots is None:
            self._slots = trio.CapacityLimiter(MAX_AT_ONCE)
        done = self._under_way[did] = trio.Event()
        try:
            async with self._slots:
                key = await resolver.fetch_key(did)
        except UnresolvedDID as exc:
            self._note_failure(did, exc)
            raise
        finally:
            del self._under_way[did]
            done.set()
        self._note_key(did, key)
        return key

    def _note_key(self, did: DID, key: PublicKey) -> None:
        self._failures.pop(did, None)
        self._keys.pop(did, None)
        if len(self._keys) >= MAX_KEPT:
            del self._keys[next(iter(self._keys))]
        end_s = self._clock_s() + KEY_LIFETIME_S
        self._keys[did] = (end_s, key)
        self._first_end_s = min(self._first_end_s, end_s)

    def _note_failure(self, did: DID, failure: UnresolvedDID) -> None:
        self._failures.pop(did, None)
        if len(self._failures) >= MAX_KEPT:
            del self._failures[next(iter(self._failures))]
        self._failures[did] = (self._clock_s() + FAILURE_LIFETIME_S, failure)
