"""What the modules behind each command import, whether at once or when the command runs: each import is waited for."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest

import dms.cli

NODE_ONLY = (
    "sqlalchemy",
    "libp2p",
    "starlette",
    "wasmtime",
    "docker",
    "aiodocker",
    "ortools",
    "dms.store.database",
    "dms.network.libp2p",
    "dms.orchestrator.deployment",
    "dms.orchestrator.deployments",
    "dms.allocation.allocation",
)
"""What only a node needs."""
ALLOWED = {"db": {"sqlalchemy", "dms.store.database"}}
"""``nunet db`` opens the database itself."""
NAMES = sorted(path.stem for path in Path(dms.cli.__path__[0]).glob("*.py") if path.stem != "__init__")

PROBE = """
import importlib, json, sys
found, known = {}, set()
for name, wanted in json.load(sys.stdin):
    for module in wanted:
        importlib.import_module(module)
    here = {heavy for heavy in sys.argv[1:] if heavy in sys.modules}
    found[name] = sorted(here - known)
    known |= here
json.dump(found, sys.stdout)
"""
"""Of several modules that load the same the first is told."""


def imports_of(name: str) -> list[str]:
    """The modules that one of the client imports anywhere in it, those for the type checker alone left out."""
    spec = find_spec(f"dms.cli.{name}")
    assert spec is not None
    assert spec.origin is not None
    found = [spec.name]

    def walk(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append(node.module)
        for child in ast.iter_child_nodes(node):
            walk(child)

    walk(ast.parse(Path(spec.origin).read_text()))
    return found


@cache
def heavy_imports() -> dict[str, list[str]]:
    """For each module of the client, what it loads of the above; in one process, because starting many takes long."""
    wanted = json.dumps([(name, imports_of(name)) for name in sorted(NAMES, key=ALLOWED.__contains__)])
    command = [sys.executable, "-c", PROBE, *NODE_ONLY]
    done = subprocess.run(command, input=wanted, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_command_loads_nothing_that_only_a_node_needs(name: str) -> None:
    assert set(heavy_imports()[name]) <= ALLOWED.get(name, set())
