"""The ensemble that a translation puts together, and its text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.errors import InvalidEnsemble, Untranslatable
from dms.ensemble.loading import parse_ensemble
from dms.ensemble.problem import Problem
from dms.ensemble.translate.amounts import size_text
from dms.ensemble.translate.source import Notes, Part
from dms.ensemble.writing import Path as MemberPath
from dms.ensemble.writing import write_yaml

DEFAULT_CORES = 0.5
DEFAULT_RAM_BYTES = 512 * 2**20
DEFAULT_DISK_BYTES = 2**30
MAX_NAME_CHARS = 40
"""Room is left for the numbers of groups and standby nodes."""
LOWEST_PUBLIC_PORT = 1025
MAX_PORT = 65535
MAX_NOTES_IN_TEXT = 60
_RESERVED = re.compile(r".*-(?:\d{4,5}|standby-\d+)")
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")

Members = dict[str, Any]
"""Plain values of a document."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A valid ensemble as text, and what was left out or changed on the way."""

    text: str
    config: EnsembleConfig
    notes: tuple[Problem, ...]
    source: str
    """Which format it was."""


@dataclass
class Draft:
    """Allocations, nodes and scripts as they are added; ``literal`` text has its ``${`` escaped."""

    notes: Notes
    allocations: dict[str, Members] = field(default_factory=dict)
    nodes: dict[str, Members] = field(default_factory=dict)
    scripts: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    comments: dict[MemberPath, list[str]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _public: set[tuple[str, int]] = field(default_factory=set)

    def name(self, wanted: str, part: Part, *, what: str) -> str:
        """A valid name that no other allocation or node has; a note tells when it is not the one that was wanted.

        Nodes and allocations have names of their own kind: ask for each with another ``what``.
        """
        base = re.sub(r"[^a-zA-Z0-9]+", "-", wanted).strip("-")[:MAX_NAME_CHARS].rstrip("-").lower() or what
        base += "-x" if _RESERVED.fullmatch(base) else ""
        name, number = base, 2
        while f"{what}/{name}" in self._names:
            name, number = f"{base}-{number}", number + 1
        self._names.add(f"{what}/{name}")
        if name != wanted.lower():
            reason = f"the {what} {wanted!r} is named {name!r}: names are parts of host names and belong to one {what}"
            part.notes.note(part.tree, part.path, reason, "change what refers to the old name")
        return name

    def comment(self, path: MemberPath, text: str) -> None:
        """A line above a member of the ensemble."""
        self.comments.setdefault(path, []).append(text)

    def resources(
        self, name: str, *, cores: float | None, ram_bytes: int | None, disk_bytes: int | None = None, **more: Any
    ) -> Members:
        """Resources of an allocation; a comment tells which of them nobody gave. ``more``: architecture, gpus."""
        missing = [what for what, value in (("cpu", cores), ("ram", ram_bytes), ("disk", disk_bytes)) if value is None]
        if missing:
            where = ("allocations", name, "resources")
            self.comment(where, f"{', '.join(missing)}: a default, since no limit was given. Adjust it.")
        cpu: Members = {"cores": DEFAULT_CORES if cores is None else cores}
        if more.get("architecture"):
            cpu["architecture"] = more["architecture"]
        resources: Members = {
            "cpu": cpu,
            "ram": {"size": size_text(ram_bytes or DEFAULT_RAM_BYTES)},
            "disk": {"size": size_text(disk_bytes or DEFAULT_DISK_BYTES)},
        }
        return resources | ({"gpus": more["gpus"]} if more.get("gpus") else {})

    def add_script(self, wanted: str, body: str) -> str:
        """A script; returns its name."""
        base = re.sub(r"[^a-zA-Z0-9_.-]+", "-", wanted).strip("-._")[:50] or "script"
        name, number = base, 2
        while name in self.scripts:
            name, number = f"{base}-{number}", number + 1
        self.scripts[name] = body
        return name

    def port(self, node: str, allocation: str, private: int, public: int, protocol: str, part: Part) -> None:
        """Open a port of a node; numbers that cannot be had become the provider's choice."""
        if not 1 <= private <= MAX_PORT:
            part.notes.note(part.tree, part.path, f"{private} is no port, and is ignored")
            return
        reason = ""
        if public and not LOWEST_PUBLIC_PORT <= public <= MAX_PORT:
            reason = f"public ports begin with {LOWEST_PUBLIC_PORT}; the provider chooses one in place of {public}"
        elif public and (node, public) in self._public:
            reason = f"the public port {public} is taken in this node; the provider chooses another one"
        if reason:
            hint = "nunet get deployments shows which one it became"
            part.notes.note(part.tree, part.path, reason, hint)
            public = 0
        self._public.add((node, public))
        port: Members = {"public": public, "private": private, "allocation": allocation}
        ports = self.nodes[node].setdefault("ports", [])
        ports.append(port | ({"protocol": "udp"} if protocol == "udp" else {}))

    def volume(self, allocation: Members, source: str, target: str, *, read_only: bool, part: Part) -> None:
        """A directory of the provider, by absolute path, or a named volume."""
        if not target.startswith("/"):
            part.notes.note(part.tree, part.path, "left out: the path in the sandbox must be absolute", value=target)
            return
        if source.startswith("/"):
            hint = "the provider opens directories itself; better name a volume, or use one of type s3, http or ipfs"
            part.notes.note(part.tree, part.path, f"{source} is a directory of the provider's machine", hint)
        elif not _VOLUME_NAME.fullmatch(source):
            hint = "put the files into the image, or use a volume of type s3, http or ipfs"
            reason = "left out: a provider does not have the files of this machine"
            part.notes.note(part.tree, part.path, reason, hint, value=source)
            return
        volume: Members = {"type": "local", "src": source, "mount_destination": literal(target)}
        volume["src"] = literal(source)
        allocation.setdefault("volume", []).append(volume | ({"read_only": True} if read_only else {}))

    def finish(self, source: str, base: Path, env: Mapping[str, str]) -> Translation:
        """The whole as text; it has been loaded again, so that it is valid.

        :raises Untranslatable: nothing in it runs, or a value cannot stand in an ensemble.
        """
        if not self.allocations:
            first = self.notes.notes[0] if self.notes.notes else None
            why = f": {first.located()}" if first else ""
            raise Untranslatable(f"nothing in this file runs{why}", hint=first.hint if first else "")
        self._head(source)
        parts = (("metadata", self.metadata), ("scripts", self.scripts))
        document: Members = {"version": "V1"} | {name: part for name, part in parts if part}
        document |= {"allocations": self.allocations, "nodes": self.nodes, "subnet": {"join": True}}
        self.comment(
            ("subnet",), "Your own node becomes a member of the private network, so that you reach the services."
        )
        text = write_yaml(document, self.comments)
        try:
            loaded = parse_ensemble(text.encode("utf-8", "replace"), file="the ensemble", base=base, env=env)
        except InvalidEnsemble as exc:
            problem = exc.problems[0]
            message = f"a value cannot stand in an ensemble: {problem.path}: {problem.reason}"
            raise Untranslatable(message, hint=problem.hint or "change it in the file that is translated") from None
        return Translation(text, loaded.config, tuple(self.notes.notes), source)

    def _head(self, source: str) -> None:
        head = [f"Translated from {source} by nunet translate. Check it with: nunet validate FILE"]
        if self.notes.notes:
            head += ["", "What was left out or changed:"]
        for note in self.notes.notes[:MAX_NOTES_IN_TEXT]:
            place = f"line {note.line}, " if note.line else ""
            head.append(f"  {place}{note.path}: {note.reason}" + (f" ({note.hint})" if note.hint else ""))
        more = len(self.notes.notes) - MAX_NOTES_IN_TEXT
        self.comments[()] = [*head, *([f"  … and {more} more"] if more > 0 else []), ""]


def literal(text: str) -> str:
    """Text that stays what it is: ``${`` in it is no placeholder."""
    return text.replace("${", "$${")
