"""The JSON forms of a Nomad job as the tree of its HCL form: what the API takes (``{"Job": {"TaskGroups": …}}``), and
HCL's own JSON syntax (``{"job": {"name": {"group": …}}}``).
"""

from __future__ import annotations

import re

from dms.ensemble.translate.hcl import LABEL
from dms.ensemble.tree import Entry, Mapping, Scalar, Sequence, Tree, is_null

_LABELLED = ("job", "group", "task", "port", "volume", "variable")
_NAMES = {
    "TaskGroups": "group",
    "Tasks": "task",
    "Networks": "network",
    "Services": "service",
    "Checks": "check",
    "Constraints": "constraint",
    "Affinities": "affinity",
    "Templates": "template",
    "Artifacts": "artifact",
    "VolumeMounts": "volume_mount",
    "Volumes": "volume",
    "Spreads": "spread",
    "Path": "path",
    "DestPath": "destination",
    "EmbeddedTmpl": "data",
    "SourcePath": "source",
    "CPU": "cpu",
    "MemoryMB": "memory",
    "DiskMB": "disk",
    "SizeMB": "size",
    "MemoryMaxMB": "memory_max",
    "Devices": "device",
    "RestartPolicy": "restart",
}
_OPAQUE = ("config", "env", "meta")
"""Maps whose keys are the user's."""
_API_NOISE = frozenset((
    "ID", "Region", "Namespace", "Priority", "AllAtOnce", "Status", "StatusDescription", "Stable", "Version",
    "SubmitTime", "CreateIndex", "ModifyIndex", "JobModifyIndex", "Payload", "VaultToken", "ConsulToken",
    "NomadTokenID", "ParentID", "Dispatched", "ConsulNamespace", "VaultNamespace", "Stop", "Name", "IOPS",
    "Reschedule", "ReschedulePolicy", "Update", "Migrate", "LogConfig", "KillTimeout", "Meta", "Dispatch",
    "DispatchIdempotencyToken", "UI", "VersionTag",
))  # fmt: skip
"""What the API adds to every job."""


def as_job_file(tree: Tree) -> Tree:
    """The tree with blocks as lists of maps; a tree that came from HCL is returned as it is."""
    if not isinstance(tree, Mapping):
        return tree
    job = tree.entries.get("Job")
    if job is not None:
        return _api(job.value)
    if "TaskGroups" in tree.entries:
        return _api(tree)
    return _blocks(tree, 0)


def _api(job: Tree) -> Mapping:
    body = _renamed(job, "job", 0)
    return Mapping({"job": Entry(Sequence((body,), job.mark), job.mark)}, job.mark)


def _renamed(tree: Tree, kind: str, depth: int) -> Tree:
    """Names of the API as names of the language."""
    if isinstance(tree, Sequence):
        return Sequence(tuple(_renamed(item, kind, depth + 1) for item in tree.items), tree.mark)
    if not isinstance(tree, Mapping) or kind in _OPAQUE:
        return tree
    entries: dict[str, Entry] = {}
    for key, entry in tree.entries.items():
        if key == "Name" and kind in ("job", "group", "task", "volume"):
            entries[LABEL] = entry
        if (key in _API_NOISE and not (key == "Name" and kind in ("service", "check", "device"))) or is_null(
            entry.value
        ):
            continue
        name = _NAMES.get(key) or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
        if key in ("DynamicPorts", "ReservedPorts") and isinstance(entry.value, Sequence):
            ports = tuple(_port(item) for item in entry.value.items if isinstance(item, Mapping))
            before = entries.get("port")
            known = before.value.items if before is not None and isinstance(before.value, Sequence) else ()
            entries["port"] = Entry(Sequence((*known, *ports), entry.mark), entry.mark)
        elif key == "Volumes" and isinstance(entry.value, Mapping):
            entries[name] = Entry(_renamed(_labelled(entry.value, depth + 1), "claim", depth + 1), entry.mark)
        else:
            entries[name] = Entry(_renamed(entry.value, name, depth + 1), entry.mark)
    return Mapping(entries, tree.mark)


def _port(tree: Mapping) -> Mapping:
    names = {"Label": LABEL, "Value": "static", "To": "to"}
    entries = {names[key]: entry for key, entry in tree.entries.items() if key in names and not _is_zero(entry.value)}
    return Mapping(entries, tree.mark)


def _is_zero(tree: Tree) -> bool:
    return isinstance(tree, Scalar) and tree.value in (0, None, "")


def _blocks(tree: Tree, depth: int) -> Tree:
    """HCL's JSON syntax: labels are keys there."""
    if isinstance(tree, Sequence):
        return Sequence(tuple(_blocks(item, depth + 1) for item in tree.items), tree.mark)
    if not isinstance(tree, Mapping):
        return tree
    entries: dict[str, Entry] = {}
    for key, entry in tree.entries.items():
        value = entry.value
        if key in _OPAQUE:
            entries[key] = entry
        elif key in _LABELLED and isinstance(value, Mapping) and _has_bodies(value):
            entries[key] = Entry(_labelled(value, depth + 1), entry.mark)
        else:
            entries[key] = Entry(_blocks(value, depth + 1), entry.mark)
    return Mapping(entries, tree.mark)


def _has_bodies(tree: Mapping) -> bool:
    return LABEL not in tree.entries and all(
        isinstance(entry.value, Mapping | Sequence) for entry in tree.entries.values()
    )


def _labelled(tree: Mapping, depth: int) -> Sequence:
    found: list[Tree] = []
    for label, entry in tree.entries.items():
        bodies = entry.value.items if isinstance(entry.value, Sequence) else (entry.value,)
        for body in bodies:
            inner = _blocks(body, depth + 1)
            below = inner.entries if isinstance(inner, Mapping) else {}
            found.append(Mapping({LABEL: Entry(Scalar(label, label, entry.mark), entry.mark)} | below, entry.mark))
    return Sequence(tuple(found), tree.mark)
