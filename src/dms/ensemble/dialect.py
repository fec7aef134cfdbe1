"""Values that can be written in more than one way: templates, short forms, old forms (``spec/ensemble.md`` 3).

Each kind here wraps the kind of the present form, turns the others into it, and says so in a warning where the form is
an old one.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any, Literal

from dms.ensemble.containers import ListOf, Member, Object
from dms.ensemble.groups import SHAPES
from dms.ensemble.kinds import JSON, Integer, Kind, Text
from dms.ensemble.problem import shorten
from dms.ensemble.reading import INVALID, Invalid, Reader, did_you_mean
from dms.ensemble.tree import Entry, Mapping, Scalar, Sequence, Tree, is_null, kind_of

CONTINENTS = {
    "AF": "africa",
    "AN": "antarctica",
    "AS": "asia",
    "EU": "europe",
    "NA": "north america",
    "OC": "oceania",
    "SA": "south america",
}
_CODES = {word.replace(" ", ""): code for code, word in CONTINENTS.items()}


def continent_code(text: str) -> str:
    """The code of a continent that is given by its name; other text as it is."""
    return _CODES.get("".join(c for c in text.lower() if c.isalpha()), text.strip())


def version_name(text: str) -> str:
    """``V1`` of ``ensembleV1``."""
    return text.strip().lower().removeprefix("ensemble")


@dataclass(frozen=True)
class Remembered(Kind):
    """A map to which other parts of the document refer."""

    kind: Kind
    attribute: Literal["root_keys", "root_scripts"]

    has_free_keys = True

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The map; the reader keeps it too."""
        value = self.kind.read(tree, path, r)
        if value is not INVALID:
            setattr(r, self.attribute, value)
        return value

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """As the map."""
        return self.kind.schema(defs)

    def write(self, value: JSON) -> JSON:
        """As the map."""
        return self.kind.write(value)


@dataclass(frozen=True)
class Templates(Kind):
    """Templates by name: a map, or a list of maps with ``name``. They leave nothing in the canonical form."""

    attribute: Literal["resource_templates", "volume_templates"]

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """Nothing; the reader keeps the templates."""
        templates: dict[str, Entry] = getattr(r, self.attribute)
        if isinstance(tree, Sequence):
            for index, item in enumerate(tree.items):
                name = _take(item, "name") if isinstance(item, Mapping) else None
                if not isinstance(item, Mapping) or not isinstance(name, Scalar):
                    return r.fail(item, f"{path}[{index}]", "must be a map with a name")
                templates[name.raw] = Entry(_without(item, "name"), item.mark)
            return None
        if not isinstance(tree, Mapping):
            return r.fail(tree, path, f"must be a map, not {kind_of(tree)}")
        for name_, entry in tree.entries.items():
            if not isinstance(entry.value, Mapping):
                return r.fail(entry, f"{path}.{shorten(name_)}", f"must be a map, not {kind_of(entry.value)}")
            templates[name_] = entry
        return None

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """A map of maps, or a list of maps with names."""
        listed = {"type": "array", "items": {"type": "object", "required": ["name"]}}
        return {"anyOf": [{"type": "object", "additionalProperties": {"type": "object"}}, listed]}


@dataclass(frozen=True)
class ResourcesOrTemplate(Kind):
    """Resources: a map, the name of a template, or a map with the ``name`` of the template that it refines."""

    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The resources, merged."""
        if r.is_wire:
            return self.kind.read(tree, path, r)
        tree_ = r.resolve(tree, path)
        if isinstance(tree_, Invalid):
            return tree_
        given = tree_ if isinstance(tree_, Scalar) else _take(tree_, "name") if isinstance(tree_, Mapping) else None
        name = r.resolve(given, path) if given is not None else None
        if isinstance(name, Invalid):
            return name
        if not isinstance(name, Scalar) or is_null(name):
            return self.kind.read(tree_, path, r)
        template = _template(name, path, r, r.resource_templates, "resources")
        if isinstance(template, Invalid):
            return template
        own = _without(tree_, "name") if isinstance(tree_, Mapping) else None
        return self.kind.read(_merged(template, own, depth=2) if own else template, path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """The object, or the name of a template."""
        refined = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
        return {"anyOf": [self.kind.schema(defs), {"type": "string", "pattern": r"\S"}, refined]}

    def write(self, value: JSON) -> JSON:
        """The object."""
        return self.kind.write(value)


MAX_CARDS = 256
"""Graphics processors of one allocation."""


@dataclass(frozen=True)
class Cards(Kind):
    """Graphics processors: a list, in which ``count`` repeats an entry; in the canonical form each stands by itself."""

    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The list, repeated."""
        values = ListOf(self.kind, what="card", takes_single=True).read(tree, path, r)
        if values is INVALID:
            return INVALID
        if sum(card.get("count", 1) for card in values) > MAX_CARDS:
            return r.fail(tree, path, f"more than {MAX_CARDS} cards", hint="spread the work over several nodes")
        cards: list[JSON] = []
        for index, card in enumerate(values):
            count = card.pop("count", 1)
            certain = [name for name in ("index", "pci_address", "uuid") if name in card]
            if count > 1 and certain:
                r.fail(tree, f"{path}[{index}].count", f"{certain[0]} names one card, so it cannot be repeated")
            cards += [card] * count
        return cards

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array."""
        return ListOf(self.kind).schema(defs)

    def write(self, value: JSON) -> JSON:
        """Equal cards as one entry with a count."""
        cards: list[dict[str, JSON]] = []
        for card in ListOf(self.kind).write(value):
            if cards and {k: v for k, v in cards[-1].items() if k != "count"} == card:
                cards[-1]["count"] = cards[-1].get("count", 1) + 1
            else:
                cards.append(card)
        return cards


@dataclass(frozen=True)
class Environment(Kind):
    """Variables: a list of ``KEY=VALUE``, or a map, which becomes such a list in the order of its keys."""

    item: Text
    name: Text

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The list."""
        if not isinstance(tree, Mapping) or r.is_wire:
            return ListOf(self.item, what="KEY=VALUE").read(tree, path, r)
        pairs: list[str] = []
        is_whole = True
        for key in sorted(tree.entries):
            entry, where = tree.entries[key], f"{path}.{shorten(key)}"
            name = self.name.read(Scalar(key, key, entry.mark), where, r)
            empty = is_null(entry.value)
            value = "" if empty else Text(may_be_empty=True).read(entry.value, where, r)
            if name is INVALID or value is INVALID:
                is_whole = False
                continue
            pairs.append(f"{key}={value}")
        return pairs if is_whole else INVALID

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array, or an object."""
        values = {"type": ["string", "number", "boolean", "null"]}
        names = {"pattern": f"^(?:{self.name.pattern})$"}
        as_map = {"type": "object", "additionalProperties": values, "propertyNames": names}
        return {"anyOf": [ListOf(self.item).schema(defs), as_map]}

    def write(self, value: JSON) -> JSON:
        """A map where reading it gives the same list again, otherwise the list."""
        pairs = [item.partition("=") for item in value]
        keys = [key for key, _, _ in pairs]
        if keys != sorted(set(keys)):
            return ListOf(self.item).write(value)
        return {key: self.item.write(text) for key, _, text in pairs}


@dataclass(frozen=True)
class Keys(Kind):
    """Keys of an allocation: objects; older files name keys of the root."""

    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The list of objects."""
        if not isinstance(tree, Sequence):
            return ListOf(self.kind, what="key").read(tree, path, r)
        values: list[JSON] = []
        for index, item in enumerate(tree.items):
            where = f"{path}[{index}]"
            value = self._named(item, where, r) if isinstance(item, Scalar) else self.kind.read(item, where, r)
            if value is not INVALID:
                values.append(value)
        return values

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array of objects."""
        return ListOf(self.kind).schema(defs)

    def write(self, value: JSON) -> JSON:
        """The list of objects."""
        return ListOf(self.kind).write(value)

    def _named(self, item: Tree, path: str, r: Reader) -> JSON:
        name = Text().read(item, path, r)
        if name is INVALID:
            return INVALID
        if name not in r.root_keys:
            reason = f"referenced key {shorten(name)!r} not found"
            return r.fail(item, path, reason, hint=did_you_mean(name, r.root_keys) or "define it in keys")
        r.warn(item, path, "keys are written {type: ssh, file: …} today", value=name)
        return {"type": "ssh", "file": r.root_keys[name]}


@dataclass(frozen=True)
class HealthCheck(Kind):
    """A health check; nothing when it is an empty text, a command that runs a script when it names one."""

    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The object, or nothing."""
        tree_ = r.resolve(tree, path)
        if isinstance(tree_, Invalid):
            return tree_
        if isinstance(tree_, Mapping) and not tree_.entries and not r.is_wire:
            return r.fail(tree_, path, "must not be empty", hint="write type: command or type: http, or leave it out")
        if not isinstance(tree_, Scalar):
            return self.kind.read(tree_, path, r)
        name = tree_.raw.strip()
        if not name:
            return None
        if name not in r.root_scripts:
            reason = f"referenced script {shorten(name)!r} not found"
            return r.fail(tree_, path, reason, hint="write {type: command, exec: […]}", value=name)
        r.warn(tree_, path, "a health check is written {type: command, exec: […]} today", value=name)
        script = base64.b64decode(r.root_scripts[name]).decode("utf-8", "replace")
        return {"type": "command", "exec": ["sh", "-c", script]}

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """The object, or empty text."""
        return {"anyOf": [self.kind.schema(defs), {"type": "string", "pattern": r"^\s*$"}]}

    def write(self, value: JSON) -> JSON:
        """The object."""
        return self.kind.write(value)


REMOTE_STORAGE = ("s3", "http", "ipfs")
"""Types of volumes whose parameters stay together under ``params``."""


@dataclass(frozen=True)
class Volumes(Kind):
    """Volumes: a list; also one object, a map from names, ``template:mountpoint`` as text, or a ``remote`` part."""

    kind: Object

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """The list of objects."""
        if r.is_wire:
            return ListOf(self.kind, what="volume", takes_single=True).read(tree, path, r)
        if isinstance(tree, Mapping):
            named = all(isinstance(e.value, Mapping) for e in tree.entries.values())
            items = [_named(e, name) for name, e in tree.entries.items()] if named else [tree]
            if not named:
                r.warn(tree, path, "is a list of volumes today", hint="put a dash before it")
            tree = Sequence(tuple(items), tree.mark)
        if not isinstance(tree, Sequence):
            return r.fail(tree, path, f"must be a list, not {kind_of(tree)}")
        if not tree.items:
            return r.fail(tree, path, "must not be empty", hint="leave it out when there is no volume")
        values = [self._volume(item, f"{path}[{index}]", r) for index, item in enumerate(tree.items)]
        return [value for value in values if value is not INVALID]

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """An array of objects or texts, or a map."""
        item: dict[str, JSON] = {"anyOf": [self.kind.schema(defs), {"type": "string"}, _refers()]}
        as_map = {"type": "object", "additionalProperties": {"type": "object"}}
        return {"anyOf": [{"type": "array", "items": item, "minItems": 1}, as_map]}

    def write(self, value: JSON) -> JSON:
        """The list of objects."""
        return ListOf(self.kind).write(value)

    def _volume(self, item: Tree, path: str, r: Reader) -> JSON:
        item_ = r.resolve(item, path)
        if isinstance(item_, Invalid):
            return item_
        if isinstance(item_, Scalar):
            name, colon, mount = item_.raw.partition(":")
            if not (name and colon and mount):
                return r.fail(item_, path, "must be template:mountpoint or a map", value=item_.raw)
            template = _template(Scalar(name, name, item_.mark), path, r, r.volume_templates, "volumes")
            if isinstance(template, Invalid):
                return template
            own = Mapping({"mount_destination": Entry(Scalar(mount, mount, item_.mark), item_.mark)}, item_.mark)
            return self.kind.read(_flat(_merged(template, own)), path, r)
        if isinstance(item_, Mapping):
            name_ = _take(item_, "name")
            known = r.volume_templates.get(name_.raw) if isinstance(name_, Scalar) else None
            if known is not None and isinstance(known.value, Mapping):
                item_ = _merged(known.value, item_)
            item_ = _flat(item_)
        return self.kind.read(item_, path, r)


def _refers() -> dict[str, JSON]:
    return {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


@dataclass(frozen=True)
class Edge(Kind):
    """A bound between two nodes: ``{edges: [a, b], rtt, bw}`` from people, ``{s, t, rtt, bw}`` on the wire."""

    name: Text

    def read(self, tree: Tree, path: str, r: Reader) -> JSON:
        """``{"s", "t", "rtt", "bw"}``."""
        if not isinstance(tree, Mapping):
            return r.fail(tree, path, f"must be a map, not {kind_of(tree)}")
        ends = _take(tree, "edges")
        if ends is None:
            return self._object().read(tree, path, r)
        if not isinstance(ends, Sequence) or len(ends.items) != 2:
            return r.fail(ends, f"{path}.edges", "must be a list of two nodes")
        parts = {"s": Entry(ends.items[0], ends.items[0].mark), "t": Entry(ends.items[1], ends.items[1].mark)}
        rest = _without(tree, "edges")
        return self._object().read(Mapping(parts | rest.entries, tree.mark), path, r)

    def schema(self, defs: dict[str, JSON]) -> dict[str, JSON]:
        """Either form."""
        bound = {"anyOf": [Integer().schema(defs), {"type": "null"}]}
        shape = {"anyOf": [Text(choices=SHAPES).schema(defs), {"type": "null"}]}
        bounds = {"rtt": bound, "bw": bound, "shape": shape}
        names = {"type": "array", "items": self.name.schema(defs), "minItems": 2, "maxItems": 2}
        short: dict[str, JSON] = {
            "type": "object",
            "properties": {"edges": names} | bounds,
            "required": ["edges"],
            "additionalProperties": False,
        }
        return {"anyOf": [short, self._object().schema(defs)]}

    def write(self, value: JSON) -> JSON:
        """Both ends in one list."""
        return {"edges": [value["s"], value["t"]]} | {k: v for k, v in value.items() if k not in ("s", "t")}

    def _object(self) -> Object:
        return Object(
            {
                "s": Member(self.name, "one node", required=True),
                "t": Member(self.name, "the other node", required=True),
                "rtt": Member(Integer(), "longest round trip in milliseconds"),
                "bw": Member(Integer(), "lowest bandwidth in bits per second"),
                "shape": Member(Text(choices=SHAPES, what="a shape"), "between groups: all, paired or ring"),
            }
        )


def _template(name: Scalar, path: str, r: Reader, templates: dict[str, Entry], where: str) -> Mapping | Invalid:
    entry = templates.get(name.raw)
    if entry is None or not isinstance(entry.value, Mapping):
        hint = did_you_mean(name.raw, templates) or f"define it under {where}, or write a map here"
        return r.fail(name, path, f"there is no template {shorten(name.raw)!r} in {where}", hint=hint, value=name.raw)
    return entry.value


def _take(tree: Mapping, name: str) -> Tree | None:
    """A member, ignoring case."""
    for key, entry in tree.entries.items():
        if key.lower() == name:
            return entry.value
    return None


def _without(tree: Mapping, name: str) -> Mapping:
    return Mapping({k: e for k, e in tree.entries.items() if k.lower() != name}, tree.mark)


def _named(entry: Entry, name: str) -> Mapping:
    assert isinstance(entry.value, Mapping)
    own = {"name": Entry(Scalar(name, name, entry.mark), entry.mark)}
    return Mapping(own | entry.value.entries, entry.mark)


def _merged(base: Mapping, own: Mapping, depth: int = 1) -> Mapping:
    """``base`` with what ``own`` says otherwise, down to ``depth`` levels of maps."""
    entries = dict(base.entries)
    for key, entry in own.entries.items():
        below = entries.get(key)
        if depth > 1 and below and isinstance(below.value, Mapping) and isinstance(entry.value, Mapping):
            entries[key] = Entry(_merged(below.value, entry.value, depth - 1), entry.mark)
        else:
            entries[key] = entry
    return Mapping(entries, own.mark or base.mark)


def _flat(tree: Mapping) -> Mapping:
    """A volume with its ``remote`` part, and that one's ``params``, spread over it."""
    remote = _take(tree, "remote")
    if not isinstance(remote, Mapping):
        return tree
    params, type_ = _take(remote, "params"), _take(remote, "type")
    if isinstance(type_, Scalar) and type_.raw.strip().lower() in REMOTE_STORAGE:
        return Mapping(remote.entries | _without(tree, "remote").entries, tree.mark)
    inner: dict[str, Any] = params.entries if isinstance(params, Mapping) else {}
    return Mapping(_without(remote, "params").entries | inner | _without(tree, "remote").entries, tree.mark)
