"""Valid ensembles, as text and as hypothesis strategies, for the tests of this package."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.loading import LoadedEnsemble, parse_ensemble
from dms.ensemble.problem import Problem

HERE = Path("/nonexistent")
RESOURCES: dict[str, Any] = {"cpu": {"cores": 1}, "ram": {"size": "64MiB"}, "disk": {"size": "64MiB"}}


def allocation(**members: Any) -> dict[str, Any]:
    """A valid allocation with some members changed; None removes one."""
    whole = {
        "type": "task",
        "executor": "docker",
        "resources": copy.deepcopy(RESOURCES),
        "execution": {"type": "docker", "image": "busybox"},
    } | members
    return {k: v for k, v in whole.items() if v is not None}


def ensemble(allocations: dict[str, Any] | None = None, **members: Any) -> dict[str, Any]:
    """A valid ensemble: each allocation in node ``n1`` unless ``nodes`` says otherwise."""
    allocations = {"a": allocation()} if allocations is None else allocations
    return {"version": "V1", "allocations": allocations, "nodes": {"n1": {"allocations": list(allocations)}}} | members


def load(document: dict[str, Any] | str, base: Path = HERE, **env: str) -> LoadedEnsemble:
    """Read a document given as YAML text or as what it parses to."""
    text = document if isinstance(document, str) else json.dumps(document)
    return parse_ensemble(text.encode(), file="job.yaml", base=base, env=env)


def outcome(document: dict[str, Any] | str, **env: str) -> LoadedEnsemble | InvalidEnsemble:
    """What comes of a document: it is read or refused, nothing else."""
    try:
        return load(document, HERE, **env)
    except InvalidEnsemble as exc:
        return exc


def mutate(document: Any, data: st.DataObject, trees: st.SearchStrategy[Any]) -> None:
    """Replace one part of a document by anything."""
    place = document
    while True:
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(trees)


def problems(document: dict[str, Any] | str, base: Path = HERE, **env: str) -> dict[str, Problem]:
    """What is wrong with a document, by path; empty when nothing is."""
    try:
        load(document, base, **env)
    except InvalidEnsemble as exc:
        return {p.path.removeprefix("V1."): p for p in exc.problems}
    return {}


def warnings(document: dict[str, Any] | str) -> dict[str, Problem]:
    """What is accepted with a warning, by path."""
    return {p.path.removeprefix("V1."): p for p in load(document).warnings}


names = st.from_regex(r"[a-z][a-z0-9-]{0,6}[a-z0-9]", fullmatch=True).filter(lambda n: "standby" not in n)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0$"), max_size=12)
filled = texts.filter(lambda t: bool(t.strip()))
sizes = st.one_of(st.integers(1, 4096), st.floats(0.001, 100), st.sampled_from(["512MiB", "1.5 GB", "2G", "1e3 KiB"]))
durations = st.sampled_from(["30s", "1h30m", "250ms", "2d", ".5s"])
environments = st.one_of(
    st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), st.one_of(texts, st.integers(), st.booleans())
    ),
    st.lists(st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}=[a-z= ]{0,5}", fullmatch=True), max_size=3),
)


def optional(required: dict[str, Any], **rest: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A map with all of ``required`` and some of the rest."""
    return st.fixed_dictionaries(required, optional=rest)


resources = optional(
    {
        "cpu": optional(
            {"cores": st.one_of(st.floats(0.01, 64), st.integers(1, 64))},
            clock_speed=st.sampled_from([2, 2.4, "3GHz", "800 MHz"]),
            model=texts,
        ),
        "ram": optional({"size": sizes}, type=texts),
        "disk": optional({"size": sizes}, read_speed=st.integers(0, 10**9)),
    },
    gpus=st.lists(optional({}, vendor=filled, model=filled, vram=sizes), max_size=2),
)
paths = st.from_regex(r"/[a-z]{1,5}", fullmatch=True)
executions = st.one_of(
    optional(
        {"type": st.just("docker"), "image": st.sampled_from(["nginx", "reg.example:5000/a/b:1", "redis:7"])},
        cmd=st.lists(texts, max_size=3),
        environment=environments,
        privileged=st.booleans(),
        restart_policy=st.sampled_from(["no", "on-failure", "always", "unless-stopped"]),
        registry_auth=st.fixed_dictionaries({"username": filled, "password": filled}),
    ),
    optional(
        {"type": st.just("wasm"), "module": filled},
        args=st.lists(texts, max_size=3),
        environment=environments,
        files=st.dictionaries(paths, texts, max_size=2),
        fuel=st.integers(1, 10**12),
        timeout=durations,
        max_cpu_s=st.floats(0.1, 100),
        stdin=texts,
    ),
    optional({"type": st.just("null")}, duration=durations),
)
healthchecks = st.one_of(
    optional({"type": st.just("http"), "endpoint": st.just("http://10.0.0.1:80/x")}, interval=durations),
    optional({"type": st.just("command"), "exec": st.lists(texts, min_size=1, max_size=2)}, interval=durations),
)
locations = st.one_of(
    optional({"continent": st.sampled_from(["EU", "AS", "NA"])}, asn=st.integers(1, 2**32 - 1), isp=filled),
    st.fixed_dictionaries({"country": st.sampled_from(["DE", "it"]), "city": filled}),
)
volumes = st.one_of(
    optional({"type": st.just("local"), "src": st.just("data"), "mount_destination": paths}, read_only=st.booleans()),
    st.fixed_dictionaries(
        {
            "type": st.just("http"),
            "mount_destination": paths,
            "params": st.just({"url": "https://example.org/x", "headers": {"X-A": "1"}, "unpack": True}),
            "upload": st.just({"type": "s3", "params": {"bucket": "b", "key": "out/"}}),
        }
    ),
    st.fixed_dictionaries({"type": st.just("glusterfs"), "servers": st.just(["h"]), "mount_destination": paths}),
)


@st.composite
def dependencies(draw: st.DrawFn, others: dict[str, dict[str, Any]]) -> Any:
    """Names, names with conditions, or a map of both."""
    fitting = {
        name: ["service_started"]
        + (["service_healthy"] if "healthcheck" in other else [])
        + (["service_completed_successfully"] if other["type"] == "task" else [])
        for name, other in others.items()
    }
    conditions = {name: draw(st.sampled_from([None, *fit])) for name, fit in fitting.items()}
    if draw(st.booleans()):
        return {name: draw(st.sampled_from([c, {"condition": c}])) if c else None for name, c in conditions.items()}
    return [{"allocation": name, "condition": c} if c else name for name, c in conditions.items()]


@st.composite
def ensembles(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document that uses most of the format."""
    found: dict[str, Any] = {}
    for name in draw(st.lists(names, min_size=1, max_size=4, unique=True)):
        execution = draw(executions)
        body = {
            "type": draw(st.sampled_from(["task", "service"])),
            "executor": execution["type"],
            "resources": draw(resources),
            "execution": execution,
        }
        if draw(st.booleans()):
            body["failure_recovery"] = draw(st.sampled_from(["stay_down", "one_for_one", "rest_for_one"]))
        if draw(st.booleans()):
            body["volume"] = draw(st.lists(volumes, min_size=1, max_size=2))
        if execution["type"] != "wasm" and draw(st.booleans()):
            body["healthcheck"] = draw(healthchecks)
        found[name] = body
    homes: dict[str, list[str]] = {}
    for name in found:
        homes.setdefault(draw(st.sampled_from(["left", "right"])), []).append(name)
    nodes: dict[str, Any] = {}
    for node, members in homes.items():
        nodes[node] = {"allocations": members}
        if draw(st.booleans()):
            nodes[node]["location"] = {draw(st.sampled_from(["accept", "reject"])): [draw(locations)]}
        if draw(st.booleans()):
            nodes[node]["redundancy"] = draw(st.integers(0, 3))
        open_: list[str] = [m for m in members if found[m]["executor"] != "wasm"]
        if draw(st.booleans()) and open_:
            public = draw(st.sampled_from([0, 18080]))
            nodes[node]["ports"] = [{"public": public, "private": 80, "allocation": open_[0], "protocol": "udp"}]
    order = list(found)
    for index, name in enumerate(order[1:], start=1):
        if needs := draw(st.lists(st.sampled_from(order[:index]), unique=True, max_size=2)):
            found[name]["depends_on"] = draw(dependencies({need: found[need] for need in needs}))
    document: dict[str, Any] = {"version": "V1", "allocations": found, "nodes": nodes}
    if len(nodes) == 2 and draw(st.booleans()):
        document["edge_constraints"] = [{"edges": ["left", "right"], "rtt": draw(st.integers(1, 500)), "bw": 1000}]
    if draw(st.booleans()):
        document["metadata"] = draw(st.dictionaries(filled, texts, max_size=2))
    if draw(st.booleans()):
        document["supervisor"] = {"strategy": "OneForOne", "children": [{"strategy": "RestForOne"}]}
    if draw(st.booleans()):
        document["subnet"] = {"join": draw(st.booleans())}
    if draw(st.booleans()):
        document["scripts"] = draw(st.dictionaries(names, texts, max_size=2))
    return document
