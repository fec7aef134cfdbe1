"""The kinds of values that hold others: lists, maps with free keys, and objects with known ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, field

from dms.ensemble.kinds import JSON, Kind, Text, shown
from dms.ensemble.problem import path_part, shorten
from dms.ensemble.reading import INVALID, Reader, did_you_mean
from dms.ensemble.tree import Entry, Mapping, Scalar, Sequence, Tree, is_null, is_zero, kind_of


@dataclass(frozen=True)
class ListOf(Kind):
    """A list; a single ``item`` outside a list counts as a list of one where ``takes_single`` says so."""

    item: Kind
    minimum: int = 0
    what: str = "item"
    takes_single: bool = False

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """All items; those with problems are left out."""
        if self.takes_single and isinstance(tree, Mapping):
            r.warn(tree, path, f"is a list of {self.what}s today", hint="put a dash before it")
            tree = Sequence((tree,), tree.mark)
        if not isinstance(tree, Sequence):
            return r.fail(tree, path, f"must be a list, not {kind_of(tree)}", value=shown(tree), hint=_list_hint(tree))
        if len(tree.items) < self.minimum:
            return r.fail(tree, path, f"must hold at least {self.minimum} {self.what}")
        if tree.mark:
            r.marks[path] = tree.mark
        values = [self._item(item, f"{path}[{index}]", r) for index, item in enumerate(tree.items)]
        return [value for value in values if value is not INVALID]

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array."""
        array: dict[str, JSON] = {"type": "array", "items": self.item.schema(defs)}
        return array | {"minItems": self.minimum} if self.minimum else array

    def write(self, value: JSON) -> JSON:
        """The list."""
        return [self.item.write(item) for item in value]

    def _item(self, item: Tree, path: str, r: Reader) -> JSON:
        if item.mark:
            r.marks[path] = item.mark
        return self.item.read(item, path, r)


def _list_hint(tree: Tree) -> str:
    return f"write [{shorten(tree.raw)}]" if isinstance(tree, Scalar) and tree.raw and len(tree.raw) < 40 else ""


@dataclass(frozen=True)
class MapOf(Kind):
    """A map from free names; ``name`` is what a name may be."""

    value: Kind
    name: Text
    minimum: int = 0
    when_empty: str = ""

    has_free_keys = True

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """All members; those with problems are left out."""
        if not isinstance(tree, Mapping):
            return r.fail(tree, path, f"must be a map, not {kind_of(tree)}", value=shown(tree))
        if tree.mark:
            r.marks[path] = tree.mark
        if len(tree.entries) < self.minimum:
            return r.fail(tree, path, self.when_empty or "must not be empty")
        members: dict[str, JSON] = {}
        for key, entry in tree.entries.items():
            where = f"{path}.{path_part(key)}"
            if entry.mark:
                r.marks[where] = entry.mark
            name = self.name.read(Scalar(key, key, entry.mark), where, r)
            value = self.value.read(entry.value, where, r)
            if name is INVALID or value is INVALID:
                continue
            if name in members:
                r.fail(entry, where, f"`{shorten(name)}` is given twice", hint="keep one of the two")
            members[name] = value
        return members

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An object of which the keys are free."""
        schema: dict[str, JSON] = {"type": "object", "additionalProperties": self.value.schema(defs)}
        if self.name.pattern:
            schema["propertyNames"] = {"pattern": f"^(?:{self.name.pattern})$"}
        elif not self.name.may_be_empty:
            schema["propertyNames"] = {"pattern": r"\S"}
        return schema | {"minProperties": self.minimum} if self.minimum else schema

    def write(self, value: JSON) -> JSON:
        """The map."""
        return {self.name.write(key): self.value.write(member) for key, member in value.items()}


@dataclass(frozen=True)
class Member:
    """One known key of an object."""

    kind: Kind
    doc: str
    required: bool = False
    aliases: tuple[str, ...] = ()
    """Old names; they are accepted, with a warning."""
    also: tuple[str, ...] = ()
    """Other names that are as good."""


@dataclass(frozen=True)
class Object(Kind):
    """A map of which the keys are known. Names match ignoring case; with ``is_untagged`` also without underscores."""

    members: MappingABC[str, Member]
    is_untagged: bool = False
    definition: str = ""
    """Name under which the schema shares it; needed where it contains itself."""
    minimum: int = 0
    free_keys: str = ""
    """Unknown keys that match are nobody's business."""
    check: Callable[[dict[str, JSON], Mapping, str, Reader], None] | None = None
    """Looks at what was read when it is complete; notes problems."""
    constraint: dict[str, JSON] = field(default_factory=dict)
    """What ``check`` demands, as JSON schema."""

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The known members in their own order; those with problems are left out."""
        if not isinstance(tree, Mapping):
            return r.fail(tree, path, f"must be a map, not {kind_of(tree)}", value=shown(tree))
        if tree.mark:
            r.marks.setdefault(path, tree.mark)
        found = self.find(tree, path, r)
        values: dict[str, JSON] = {}
        is_whole = True
        for name, member in self.members.items():
            where = f"{path}.{name}" if path else name
            entry = found.get(name)
            if (
                entry is None
                or is_null(entry.value)
                or (r.is_wire and not member.required and _is_unset(entry, member))
            ):
                if member.required:
                    is_whole = False
                    r.fail(entry or tree, where, "is required", hint=member.doc)
                continue
            if entry.mark:
                r.marks[where] = entry.mark
            value = member.kind.read(entry.value, where, r)
            if value is INVALID:
                is_whole = False
            elif member.required or value:  # what is empty is as if it were not there
                values[name] = value
        if is_whole and len(values) < self.minimum:
            return r.fail(tree, path, "must not be empty", hint=did_you_mean("", self.members))
        if is_whole and self.check is not None:
            self.check(values, tree, path, r)
        return values

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An object with properties and no others."""
        if self.definition and self.definition in defs:
            return {"$ref": f"#/$defs/{self.definition}"}
        if self.definition:
            defs[self.definition] = {}
        schema: dict[str, JSON] = {
            "type": "object",
            "properties": {
                key: _described(member, defs) for name, member in self.members.items() for key in (name, *member.also)
            },
            "additionalProperties": False,
        }
        required = [name for name, member in self.members.items() if member.required]
        if required:
            schema["required"] = required
        if self.minimum:
            schema["minProperties"] = self.minimum
        if self.free_keys:
            schema["patternProperties"] = {self.free_keys: {}}
        schema |= self.constraint
        if not self.definition:
            return schema
        defs[self.definition] = schema
        return {"$ref": f"#/$defs/{self.definition}"}

    def write(self, value: JSON) -> JSON:
        """The known members in their own order."""
        return {name: member.kind.write(value[name]) for name, member in self.members.items() if name in value}

    def find(self, tree: Mapping, path: str, r: Reader) -> dict[str, Entry]:
        """The entries by their present names; old spellings, unknown keys and keys given twice are noted."""
        found: dict[str, Entry] = {}
        for key, entry in tree.entries.items():
            where = f"{path}.{path_part(key)}" if path else path_part(key)
            name = self._name_of(key)
            if name is None:
                is_free = self.free_keys and (entry.anchored or re.search(self.free_keys, key))
                if not is_free:
                    r.warn(
                        entry, where, f"`{shorten(key)}` is unknown and ignored", hint=did_you_mean(key, self.members)
                    )
                continue
            if name in found:
                if is_null(found[name].value) or (r.is_wire and is_zero(found[name].value)):
                    found[name] = entry
                elif not r.is_wire:
                    r.fail(entry, where, f"`{name}` is given twice", hint="keep one of the two")
                continue
            if key != name and key not in self.members[name].also:
                r.warn(entry, where, f"`{shorten(key)}` is an old spelling", hint=f"write `{name}`")
            found[name] = entry
        return found

    def _name_of(self, key: str) -> str | None:
        if key in self.members:
            return key
        folded = key.lower()
        for name, member in self.members.items():
            if folded in (name, *member.aliases, *member.also):
                return name
            if self.is_untagged and folded.replace("_", "") == name.replace("_", ""):
                return name
        return None


@dataclass(frozen=True)
class Lazy(Kind):
    """A kind that is made when it is needed: for objects that contain themselves."""

    make: Callable[[], Kind]

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """As the kind that is made."""
        return self.make().read(tree, path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """As the kind that is made."""
        return self.make().schema(defs)

    def write(self, value: JSON) -> JSON:
        """As the kind that is made."""
        return self.make().write(value)


def _is_unset(entry: Entry, member: Member) -> bool:
    """Whether it is what Go writes for a member that nobody set."""
    if isinstance(entry.value, Mapping) and member.kind.has_free_keys:
        return not entry.value.entries
    return is_zero(entry.value)


def _described(member: Member, defs: dict[str, JSON]) -> dict[str, JSON]:
    schema = member.kind.schema(defs)
    nullable = schema if member.required else {"anyOf": [schema, {"type": "null"}]}
    return {"description": member.doc} | nullable
