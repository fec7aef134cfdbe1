"""Every event that the product emits is declared: what the code says is compared with the catalogue."""

from __future__ import annotations

import ast
import typing
from collections.abc import Iterator
from pathlib import Path

import dms
from dms.observe import catalogue
from dms.observe.catalogue import CATALOGUE, NODE_EVENTS
from dms.observe.deployment_events import DEPLOYMENT_EVENTS, OTHER, deployment_event
from dms.observe.events import EventKind
from dms.orchestrator.lifecycle import events as lifecycle

SOURCE = Path(dms.__file__).parent


def calls(of: str) -> Iterator[tuple[Path, ast.Call]]:
    """The calls of a method in the product."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if f"{of}(" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(of):
                yield path, node


def test_what_is_emitted_is_declared_with_these_fields() -> None:
    seen = set()
    for path, call in calls(".emit"):
        if path.parent.name == "observe" or not call.args:
            continue
        where, kind = f"{path.name}:{call.lineno}", call.args[0]
        if isinstance(kind, ast.Name):
            assert path.name in ("watching.py", "logging.py"), f"{where}: name a kind of dms.observe.catalogue"
            continue
        assert isinstance(kind, ast.Attribute), where
        declared = getattr(catalogue, kind.attr)
        assert isinstance(declared, EventKind), where
        seen.add(declared.name)
        given = {keyword.arg for keyword in call.keywords if keyword.arg}
        assert declared.is_open or given <= declared.fields.keys(), f"{where}: {given - declared.fields.keys()}"
    declared_names = {kind.name for kinds in NODE_EVENTS.values() for kind in kinds}
    assert declared_names - seen == {"output_lost", "output_recovered"}  # which dms.observe itself tells


def test_every_entry_of_a_journal_is_declared() -> None:
    written = {str(event.__struct_config__.tag) for event in typing.get_args(lifecycle.Event)}
    assert len(written) > 20
    for of, place in ((".note", 0), ("._note", 0), ("_journal.write", 2)):
        for path, call in calls(of):
            if path.parent.name != "node" and "orchestrator" not in path.parts:
                continue
            kind = call.args[place] if len(call.args) > place else None
            if isinstance(kind, ast.Constant) and isinstance(kind.value, str):
                written.add(kind.value)
    written |= {"submitted"}
    assert written - DEPLOYMENT_EVENTS.keys() == set(), "declare them in dms.observe.deployment_events"


def test_names_and_fields_are_written_alike_and_explained() -> None:
    for name, kind in CATALOGUE.items():
        assert name == kind.name
        assert name.replace("_", "").islower(), name
        assert kind.meaning, name
        assert not kind.meaning.endswith("."), name
        assert all(field.replace("_", "").isalnum() and text for field, text in kind.fields.items()), name
    assert len(CATALOGUE) == sum(len(kinds) for kinds in NODE_EVENTS.values()) + len(DEPLOYMENT_EVENTS)
    assert deployment_event("unheard_of") is OTHER
