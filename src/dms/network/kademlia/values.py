"""Values kept for others: only such as hold, the newest of each key, and never more than we can spare. Pure.

What holds is decided by the namespace of the key, the part between its first two slashes; keys of other namespaces are
refused. When all is full, what is far from us makes room for what is near, since others look for it elsewhere.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from dms.network.errors import InvalidRecord
from dms.network.kademlia.keys import MAX_KEY_BYTES, position
from dms.types.ids import PeerID

MAX_VALUE_BYTES = 16 * 1024
MAX_VALUES = 4096
MAX_VALUES_BYTES = 16 << 20
MAX_VALUES_PER_PEER = 256
"""Values that one connected peer may have us keep."""
MAX_AGE_S = 48 * 3600.0

_IDENTITY, _SHA256 = b"\x00", b"\x12\x20"


class Validator(Protocol):
    """What holds in one namespace."""

    def validate(self, key: bytes, value: bytes, wall_s: float) -> None:
        """Return if the value may stand under the key now.

        :raises InvalidRecord: it may not.
        """
        ...

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """The index of the best of several values that hold."""
        ...


class PublicKeyValidator:
    """``/pk/<peer id>``: the public key of a peer whose id is only a hash."""

    def validate(self, key: bytes, value: bytes, wall_s: float) -> None:
        """Return if the key belongs to the id.

        :raises InvalidRecord: it does not.
        """
        peer = key.removeprefix(b"/pk/")
        if peer not in (_SHA256 + hashlib.sha256(value).digest(), _IDENTITY + bytes([len(value) & 0xFF]) + value):
            raise InvalidRecord("the public key is not that of the peer")

    def select(self, key: bytes, values: Sequence[bytes]) -> int:
        """Any."""
        return 0


class Validators:
    """Validators by namespace."""

    def __init__(self, by_namespace: Mapping[str, Validator]) -> None:
        self._by_namespace = {name.encode(): validator for name, validator in by_namespace.items()}

    def validate(self, key: bytes, value: bytes, wall_s: float) -> None:
        """Return if the value may stand under the key now.

        :raises InvalidRecord: it may not, is too large, or belongs to no namespace of ours.
        """
        if len(key) > MAX_KEY_BYTES:
            raise InvalidRecord(f"the key of a record has more than {MAX_KEY_BYTES} bytes")
        if len(value) > MAX_VALUE_BYTES:
            raise InvalidRecord(f"a record has more than {MAX_VALUE_BYTES} bytes")
        self._of(key).validate(key, value, wall_s)

    def best(self, key: bytes, values: Sequence[bytes]) -> bytes:
        """The best of several values that hold."""
        return values[self._of(key).select(key, values)]

    def _of(self, key: bytes) -> Validator:
        parts = key.split(b"/", 2)
        validator = self._by_namespace.get(parts[1]) if len(parts) == 3 and not parts[0] else None
        if validator is None:
            raise InvalidRecord(f"no records are kept under {key[:40]!r}")
        return validator


@dataclass(frozen=True, slots=True)
class StoredValue:
    """A value, when it came (wall clock), and who brought it."""

    value: bytes
    received_s: float
    by: PeerID


class ValueStore:
    """What is kept for others."""

    def __init__(self, own_position: int, validators: Validators, *, max_values: int = MAX_VALUES) -> None:
        self._own = own_position
        self._validators = validators
        self._max = max_values
        self._values: dict[bytes, StoredValue] = {}
        self._bytes = 0
        self._by_peer: Counter[PeerID] = Counter()

    def put(self, key: bytes, value: bytes, by: PeerID, wall_s: float) -> None:
        """Keep a value.

        :raises InvalidRecord: it does not hold, a better one is here, or there is no room for it.
        """
        self._validators.validate(key, value, wall_s)
        known = self.get(key, wall_s)
        if known is not None:
            if known.value != value and self._validators.best(key, [known.value, value]) != value:
                raise InvalidRecord("a newer record is kept here")
            self._drop(key)
        elif self._by_peer[by] >= MAX_VALUES_PER_PEER:
            raise InvalidRecord(f"no more than {MAX_VALUES_PER_PEER} records are kept for one peer")
        while len(self._values) >= self._max or self._bytes + len(value) > MAX_VALUES_BYTES:
            farthest = max(self._values, key=self._distance)
            if self._distance(farthest) < self._distance(key):
                raise InvalidRecord("no room for records so far away")
            self._drop(farthest)
        self._values[key] = StoredValue(value, wall_s, by)
        self._bytes += len(value)
        self._by_peer[by] += 1

    def get(self, key: bytes, wall_s: float) -> StoredValue | None:
        """The value, while it holds."""
        known = self._values.get(key)
        if known is None or self._holds(key, known, wall_s):
            return known
        self._drop(key)
        return None

    def sweep(self, wall_s: float) -> None:
        """Drop what holds no longer."""
        for key, known in list(self._values.items()):
            if not self._holds(key, known, wall_s):
                self._drop(key)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def size_bytes(self) -> int:
        """How much all values take."""
        return self._bytes

    def _holds(self, key: bytes, known: StoredValue, wall_s: float) -> bool:
        if wall_s - known.received_s > MAX_AGE_S:
            return False
        try:
            self._validators.validate(key, known.value, wall_s)
        except InvalidRecord:
            return False
        return True

    def _distance(self, key: bytes) -> int:
        return position(key) ^ self._own

    def _drop(self, key: bytes) -> None:
        known = self._values.pop(key)
        self._bytes -= len(known.value)
        self._by_peer[known.by] -= 1
        if not self._by_peer[known.by]:
            del self._by_peer[known.by]
