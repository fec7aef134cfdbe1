"""What members of one object demand of each other. Called once all members of the object are sound."""

from __future__ import annotations

import re
from collections.abc import Mapping as MappingABC
from typing import TYPE_CHECKING, Any

from dms.ensemble.reading import Reader
from dms.ensemble.tree import Mapping

if TYPE_CHECKING:
    from dms.ensemble.containers import Object

_NEEDED = {"s3": {"key"}, "ipfs": {"cid"}}
"""What a download needs and an upload does not."""
_VOLUME_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")


WASM_SOURCES = ("module", "module_path", "module_url", "module_cid")
"""Where a WebAssembly program may come from."""


def check_wasm(values: dict[str, Any], tree: Mapping, path: str, r: Reader) -> None:
    """Exactly one way to the program, and no file below another."""
    if len([name for name in WASM_SOURCES if name in values]) != 1:
        reason = f"exactly one of {', '.join(WASM_SOURCES)} must be given"
        r.fail(tree, path, reason, hint="write module: ${file:prog.wasm}")
    if "module_url" in values and "module_sha256" not in values:
        r.fail(tree, f"{path}.module_sha256", "is required with module_url", hint="sha256sum prog.wasm tells it")
    if "module_gateway" in values and "module_cid" not in values:
        r.fail(tree, f"{path}.module_gateway", "means nothing without module_cid")
    files = set(values.get("files", ()))
    for file in sorted(files):
        parents = (file[:end] for end in range(1, len(file)) if file[end] == "/")
        if any(parent in files for parent in parents):
            r.fail_at(f"{path}.files.{file}", "lies below another file")


def check_key(values: dict[str, Any], tree: Mapping, path: str, r: Reader) -> None:
    """Only SSH keys know where to go by themselves."""
    if values["type"] != "ssh" and "dest" not in values:
        r.fail(tree, f"{path}.dest", "is required unless the type is ssh", hint="write the path in the sandbox")


def check_healthcheck(values: dict[str, Any], tree: Mapping, path: str, r: Reader) -> None:
    """What each type asks with."""
    kind, endpoint = values["type"], values.get("endpoint")
    if kind in ("http", "tcp") and endpoint is None:
        r.fail(tree, f"{path}.endpoint", f"is required for {kind}")
    elif kind in ("http", "tcp") and isinstance(endpoint, str) and not endpoint.startswith(kind):
        r.fail(tree, f"{path}.endpoint", f"is not for {kind}", hint=f"write {kind}://localhost:port", value=endpoint)
    if values["type"] == "command" and not values.get("exec"):
        r.fail(tree, f"{path}.exec", "is required for command", hint='write exec: ["program", "argument"]')


def check_volume(
    values: dict[str, Any], tree: Mapping, path: str, r: Reader, *, storage: MappingABC[str, Object]
) -> None:
    """Where each type comes from; ``storage`` tells the parameters of those that come from elsewhere."""
    kind = storage.get(values["type"])
    given = values.get("params", {})
    if kind is None and given:
        r.fail(tree, f"{path}.params", f"means nothing for {values['type']}")
    elif kind is not None:
        for name in sorted(given.keys() - kind.members.keys()):
            r.fail_at(f"{path}.params.{name}", f"means nothing for {values['type']}")
        needed = {name for name, member in kind.members.items() if member.required} | _NEEDED.get(values["type"], set())
        for name in sorted(needed - given.keys()):
            r.fail(tree, f"{path}.params.{name}", f"is required for {values['type']}", hint=kind.members[name].doc)
    if values.get("upload") and values.get("read_only"):
        r.fail(tree, f"{path}.upload", "means nothing for what is read-only")
    source = values.get("src", "")
    if values["type"] == "local" and not (source.startswith("/") or _VOLUME_NAME.fullmatch(source)):
        reason = "must be an absolute path or a name" if source else "is required for local"
        r.fail(tree, f"{path}.src", reason, value=source)
    if values["type"] == "glusterfs" and not values.get("servers"):
        r.fail(tree, f"{path}.servers", "is required for glusterfs")


def check_location(values: dict[str, Any], tree: Mapping, path: str, r: Reader) -> None:
    """A city says nothing without its country."""
    if "city" in values and "country" not in values:
        r.fail(tree, f"{path}.country", "is required when a city is given", hint="two letters, such as DE")
