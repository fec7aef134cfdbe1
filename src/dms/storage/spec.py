"""Reading the parameters of a storage provider: free JSON whose names are matched ignoring case."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dms.storage.errors import InvalidStorageSpec
from dms.types.resources import SpecConfig

MAX_TEXT_CHARS = 8192
MAX_ITEMS = 64


class StorageParams:
    """The parameters of one provider; ``kind`` names it in messages.

    :raises InvalidStorageSpec: the provider is another one, or a parameter is not among ``known``.
    """

    def __init__(self, spec: SpecConfig, kind: str, *, known: Iterable[str]) -> None:
        if spec.type.strip().lower() != kind:
            raise InvalidStorageSpec(
                f"invalid {kind} storage type. expected {kind}, but received: {spec.type.strip()[:80]}"
            )
        self.kind = kind
        self._values: dict[str, object] = {}
        names = {_folded(name): name for name in known}
        for name, value in (spec.params or {}).items():
            folded = _folded(name)
            if folded not in names:
                raise self.error(
                    f"unknown parameter {name[:64]!r}", hint=f"known are {', '.join(sorted(names.values()))}"
                )
            if folded in self._values:
                raise self.error(f"{names[folded]} is given twice")
            self._values[folded] = value

    def error(self, reason: str, *, hint: str = "") -> InvalidStorageSpec:
        """The error that says so."""
        return InvalidStorageSpec(f"invalid {self.kind} storage params: {reason}", hint=hint)

    def text(self, name: str, default: str = "") -> str:
        """A text without control characters; ``default`` where it is absent, null or empty."""
        value = self._values.get(_folded(name))
        if value is None:
            return default
        return self._text(value, name) or default

    def required(self, name: str) -> str:
        """A text that is not empty.

        :raises InvalidStorageSpec: ``<name> cannot be empty``.
        """
        value = self.text(name)
        if not value:
            raise self.error(f"{name.lower()} cannot be empty")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """True or false."""
        value = self._values.get(_folded(name))
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(f"{name} must be true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; one text is a list of one."""
        value = self._values.get(_folded(name))
        if value is None:
            return ()
        if isinstance(value, str):
            return (self._text(value, name),) if value else ()
        if not isinstance(value, list | tuple) or len(value) > MAX_ITEMS:
            raise self.error(f"{name} must be a list of at most {MAX_ITEMS} texts")
        return tuple(self._text(item, name) for item in value)

    def mapping(self, name: str) -> dict[str, str]:
        """Text by text."""
        value = self._values.get(_folded(name))
        if value is None:
            return {}
        if not isinstance(value, Mapping) or len(value) > MAX_ITEMS:
            raise self.error(f"{name} must map at most {MAX_ITEMS} texts to texts")
        return {self._text(key, name): self._text(item, name) for key, item in value.items()}

    def _text(self, value: object, name: str) -> str:
        if not isinstance(value, str):
            raise self.error(f"{name} must be text")
        if len(value) > MAX_TEXT_CHARS:
            raise self.error(f"{name} is longer than {MAX_TEXT_CHARS} characters")
        if any(char < " " or "\x7f" <= char < "\xa0" or "\ud800" <= char <= "\udfff" for char in value):
            raise self.error(f"{name} holds a character that cannot be meant")
        return value


def _folded(name: str) -> str:
    """Ignoring case, underscores and dashes: ``SecretKey``, ``secret_key`` …"""
    return name.lower().replace("_", "").replace("-", "")
