"""What runs and what is fetched, by type: those that are known here, and those that plugins of providers bring."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field
from typing import Final

from dms.ensemble.containers import Object
from dms.ensemble.kinds import JSON, Kind, Text, escaped
from dms.ensemble.reading import INVALID, Reader
from dms.ensemble.tree import Entry, Mapping, Scalar, Sequence, Tree, is_null, kind_of

FOREIGN: Final = r"[a-z][a-z0-9_-]{0,62}(\.[a-z0-9_-]{1,63}){1,3}"
"""The name of a type that a plugin brings; see :mod:`dms.plugins.contract`."""


@dataclass(frozen=True)
class TypeName(Text):
    """One of the choices, or the name of a plugin's type."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The name."""
        resolved = r.resolve(tree, path)
        if isinstance(resolved, Scalar) and isinstance(resolved.value, str) and _is_foreign(resolved.value):
            return resolved.value
        return super().read(tree, path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """The choices, or a pattern."""
        known = super().schema(defs)
        return {"anyOf": [*known["anyOf"], {"type": "string", "pattern": f"^{FOREIGN}$"}]}


@dataclass(frozen=True)
class Anything(Kind):
    """Whatever JSON can say; placeholders in texts are resolved."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The value as it stands; ``INVALID`` where a placeholder in it cannot be resolved."""
        if isinstance(tree, Mapping):
            members = {key: self.read(entry.value, f"{path}.{key}", r) for key, entry in tree.entries.items()}
            return INVALID if any(value is INVALID for value in members.values()) else members
        if isinstance(tree, Sequence):
            items = [self.read(item, f"{path}[{place}]", r) for place, item in enumerate(tree.items)]
            return INVALID if any(value is INVALID for value in items) else items
        resolved = r.resolve(tree, path)
        if not isinstance(resolved, Scalar):
            return resolved if resolved is INVALID else self.read(resolved, path, r)
        if resolved.is_binary:
            return r.fail(resolved, path, "the file is not UTF-8 text", value=resolved.raw)
        return resolved.value

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """No bounds."""
        return {}

    def write(self, value: JSON) -> JSON:
        """The value, in which ``${`` is itself."""
        if isinstance(value, dict):
            return {key: self.write(member) for key, member in value.items()}
        return [self.write(item) for item in value] if isinstance(value, list) else escaped(value)


ANYTHING: Final = Anything()


@dataclass(frozen=True)
class ByType(Object):
    """An object with a ``type``; where that is a plugin's, it is read as ``foreign`` says."""

    foreign: Object = field(default_factory=lambda: Object({}))

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The members."""
        entries = tree.entries if isinstance(tree, Mapping) else {}
        type_ = next((entry.value for key, entry in entries.items() if key.lower() == "type"), None)
        if isinstance(type_, Scalar) and _is_foreign(type_.raw):
            return self.foreign.read(tree, path, r)
        return super().read(tree, path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """Either."""
        return {"anyOf": [super().schema(defs), self.foreign.schema(defs)]}

    def write(self, value: JSON) -> JSON:
        """The members."""
        return self.foreign.write(value) if _is_foreign(value.get("type", "")) else super().write(value)


@dataclass(frozen=True)
class Execution(Kind):
    """What an executor or a storage is given: ``type`` and, beside it or under ``params``, the parameters of that type.

    Types of plugins are known by their dot, and their parameters to the provider alone.
    """

    types: MappingABC[str, Object]
    what: str = "an executor"

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """``{"type": …, "params": {…}}``."""
        if not isinstance(tree, Mapping):
            return r.fail(tree, path, f"must be a map, not {kind_of(tree)}")
        rest: dict[str, Entry] = {}
        type_: Entry | None = None
        nested: Entry | None = None
        for key, entry in tree.entries.items():
            if key.lower() == "type":
                type_ = entry
            elif key.lower() == "params":
                if isinstance(entry.value, Mapping):
                    nested = entry
                elif not is_null(entry.value):
                    r.fail(entry, f"{path}.params", f"must be a map, not {kind_of(entry.value)}")
            else:
                rest[key] = entry
        if nested is not None and isinstance(nested.value, Mapping):
            if rest:
                r.warn(nested, f"{path}.params", "parameters stand here and beside it", hint="keep them in one place")
            rest = dict(nested.value.entries) | rest
        if type_ is None or is_null(type_.value):
            return r.fail(tree, f"{path}.type", "is required", hint=f"one of {', '.join(self.types)}")
        if type_.mark:
            r.marks[f"{path}.type"] = type_.mark
        kind = TypeName(choices=tuple(self.types), what=self.what).read(type_.value, f"{path}.type", r)
        if kind is INVALID:
            return INVALID
        params = self._params(kind).read(Mapping(rest, tree.mark), path if not r.is_wire else f"{path}.params", r)
        return INVALID if params is INVALID else {"type": kind, "params": params}

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """One object per type, flat or with ``params``."""
        options: list[JSON] = []
        for name, params in self.types.items():
            schema = params.schema(defs)
            type_ = {"enum": [name], "description": f"{self.what}: {name}"}
            flat = dict(schema)
            flat["properties"] = {"type": type_, "params": {"type": "null"}} | schema["properties"]
            flat["required"] = ["type", *schema.get("required", [])]
            nested: dict[str, JSON] = {
                "type": "object",
                "properties": {"type": type_, "params": schema},
                "required": ["type", "params"],
                "additionalProperties": False,
            }
            options += [flat, nested]
        foreign = {"type": "object", "properties": {"type": {"pattern": f"^{FOREIGN}$"}}, "required": ["type"]}
        return {"anyOf": [*options, foreign]}

    def write(self, value: JSON) -> JSON:
        """The parameters beside the type."""
        return {"type": value["type"]} | self._params(value["type"]).write(value.get("params", {}))

    def _params(self, type_: str) -> Kind:
        return self.types.get(type_, ANYTHING)


def _is_foreign(name: str) -> bool:
    return re.fullmatch(FOREIGN, name) is not None
