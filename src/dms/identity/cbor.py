"""The part of CBOR (RFC 8949) that wallets' signatures and keys are written in.

Only the shortest encoding of definite length is read, so that a value has one form: integers, byte and text strings,
arrays, maps, booleans and null. Tags, floats, indefinite lengths, repeated map keys and trailing bytes are refused;
size, depth and number of items are bounded before anything is built.
"""

from __future__ import annotations

from typing import Final

from dms.identity.errors import BadCBOR

MAX_BYTES: Final = 131072
MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 1024
"""Values in one text, those inside of others included."""

Value = int | bytes | str | bool | None | list["Value"] | dict["int | bytes | str", "Value"]

_UNSIGNED, _NEGATIVE, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_SIMPLE_VALUES: Final[dict[int, bool | None]] = {20: False, 21: True, 22: None}
_FIRST_OF_WIDTH = {1: 24, 2: 2**8, 4: 2**16, 8: 2**32}
"""The smallest number that needs so many bytes."""


def decode(data: bytes) -> Value:
    """Read one value.

    :raises BadCBOR: anything but the form described above.
    """
    if len(data) > MAX_BYTES:
        raise BadCBOR(f"invalid CBOR: more than {MAX_BYTES} bytes")
    reader = _Reader(data)
    value = reader.value(MAX_DEPTH)
    if reader.position != len(data):
        raise BadCBOR("invalid CBOR: something follows the value")
    return value


def encode(value: Value) -> bytes:
    """Write one value in its shortest form; map keys keep their order."""
    if value is None or isinstance(value, bool):
        return bytes((0xF6 if value is None else 0xF5 if value else 0xF4,))
    if isinstance(value, int):
        return _head(_UNSIGNED, value) if value >= 0 else _head(_NEGATIVE, -1 - value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode()
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return _head(_ARRAY, len(value)) + b"".join(map(encode, value))
    return _head(_MAP, len(value)) + b"".join(encode(key) + encode(item) for key, item in value.items())


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._items_left = MAX_ITEMS
        self.position = 0

    def value(self, depth: int) -> Value:
        self._items_left -= 1
        if self._items_left < 0 or depth < 0:
            raise BadCBOR("invalid CBOR: too many values" if depth >= 0 else "invalid CBOR: nested too deep")
        first = self._take(1)[0]
        kind, size = first >> 5, first & 0x1F
        if kind == _SIMPLE:
            if size not in _SIMPLE_VALUES:
                raise BadCBOR("invalid CBOR: neither a boolean nor null")
            return _SIMPLE_VALUES[size]
        number = self._number(size)
        if kind == _UNSIGNED:
            return number
        if kind == _NEGATIVE:
            return -1 - number
        if kind == _BYTES:
            return self._take(number)
        if kind == _TEXT:
            return self._text(number)
        if kind == _ARRAY:
            self._expect(number)
            return [self.value(depth - 1) for _ in range(number)]
        if kind == _MAP:
            self._expect(2 * number)
            return self._map(number, depth - 1)
        raise BadCBOR("invalid CBOR: tags are not read")

    def _map(self, count: int, depth: int) -> dict[int | bytes | str, Value]:
        entries: dict[int | bytes | str, Value] = {}
        for _ in range(count):
            key = self.value(depth)
            if isinstance(key, bool) or not isinstance(key, int | bytes | str):
                raise BadCBOR("invalid CBOR: a map key is neither a number nor a string")
            if key in entries:
                raise BadCBOR("invalid CBOR: a map key is repeated")
            entries[key] = self.value(depth)
        return entries

    def _number(self, size: int) -> int:
        if size < 24:
            return size
        if size > 27:
            raise BadCBOR("invalid CBOR: an indefinite or unknown length")
        width = 1 << (size - 24)
        number = int.from_bytes(self._take(width), "big")
        if number < _FIRST_OF_WIDTH[width]:
            raise BadCBOR("invalid CBOR: a number is not written in its shortest form")
        return number

    def _text(self, length: int) -> str:
        try:
            return self._take(length).decode()
        except UnicodeDecodeError:
            raise BadCBOR("invalid CBOR: a text is not UTF-8") from None

    def _expect(self, items: int) -> None:
        if items > self._items_left:
            raise BadCBOR("invalid CBOR: too many values")

    def _take(self, length: int) -> bytes:
        end = self.position + length
        if end > len(self._data):
            raise BadCBOR("invalid CBOR: it ends too early")
        taken = self._data[self.position : end]
        self.position = end
        return taken


def _head(kind: int, number: int) -> bytes:
    if number < 24:
        return bytes((kind << 5 | number,))
    for code, (width, _) in enumerate(_FIRST_OF_WIDTH.items(), start=24):
        if number < 1 << (8 * width):
            return bytes((kind << 5 | code,)) + number.to_bytes(width, "big")
    raise BadCBOR("invalid CBOR: a number needs more than 64 bits")
