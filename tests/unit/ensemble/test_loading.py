"""A user's file becomes the canonical configuration, or every problem is told with its place."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load, mutate, outcome, problems, warnings

from dms.ensemble.config import KeyConfig, VolumeConfig
from dms.ensemble.errors import EnsembleFileNotFound, InvalidEnsemble
from dms.ensemble.loading import LoadedEnsemble, load_ensemble
from dms.executor.wasm_params import WasmParams
from dms.types import gojson
from dms.types.resources import Location

DATA = Path(__file__).parent / "data"
EXAMPLES = Path(__file__).parents[3] / "examples"
GIB = 2**30


# the documented examples ---------------------------------------------------------------------------------------------


def test_types_with_a_dot_are_plugins_and_their_parameters_are_left_to_the_provider() -> None:
    params = {"text": "${GREETING}", "deep": {"list": [1, 2.5, True, None, "$${X}"]}, "Weird Key": ""}
    volume = {"type": "mine.store", "mount_destination": "/data", "params": params}
    echo = allocation(executor="mine.echo", execution={"type": "mine.echo"} | params, volume=[volume])
    loaded = load(ensemble({"a": echo}), GREETING="hello")
    (made,) = loaded.config.v1.allocations.values()
    wanted = {"text": "hello", "deep": {"list": [1, 2.5, True, None, "${X}"]}, "Weird Key": ""}
    assert (made.execution.type, made.execution.params) == ("mine.echo", wanted)
    assert (made.volume[0].type, made.volume[0].params) == ("mine.store", wanted)
    assert loaded.warnings == ()


def test_a_document_of_an_early_release_is_recognised_and_the_way_out_told(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text('{"address_user": "a", "max_ntx": 1, "service_type": "ml", "params": {}, "constraints": {}}')
    with pytest.raises(InvalidEnsemble, match="a deployment request for a single machine") as caught:
        load_ensemble(old, {})
    assert "nunet ensemble init" in str(caught.value.problems[0])


def test_the_task_example_is_canonical() -> None:
    loaded = load_ensemble(DATA / "task.yaml", {})
    assert loaded.warnings == ()
    assert gojson.to_builtins(loaded.config) == {
        "v1": {
            "allocations": {
                "job": {
                    "type": "task",
                    "executor": "docker",
                    "resources": {"cpu": {"cores": 1}, "ram": {"size": GIB // 2}, "disk": {"size": GIB}},
                    "execution": {
                        "type": "docker",
                        "params": {"image": "busybox:1.36", "cmd": ["sh", "-c", "date && echo done"]},
                    },
                    "dns_name": "job",
                    "failure_recovery": "stay_down",
                }
            },
            "nodes": {"n1": {"allocations": ["job"], "failure_recovery": "stay_down"}},
        }
    }


def test_the_services_example_resolves_templates_scripts_and_variables() -> None:
    v1 = load_ensemble(DATA / "services.yaml", {"MODE": "test"}).config.v1
    assert v1.scripts == {"prepare": (DATA / "prepare.sh").read_bytes()}
    db, web = v1.allocations["db"], v1.allocations["web"]
    assert db.resources == web.resources
    assert db.resources.ram.size == 256 * 2**20
    assert db.execution.params["environment"] == ["MODE=test"]
    assert db.provision == ("prepare",)
    assert db.healthcheck is not None
    assert db.healthcheck.interval == 15 * 10**9
    assert (web.dns_name, web.depends_on, web.failure_recovery) == ("front", ("db",), "one_for_one")
    node = v1.nodes["n1"]
    assert node.location is not None
    assert node.location.reject == (Location(continent="EU", country="CH"),)
    assert (node.ports[0].public, node.ports[0].private, node.ports[0].allocation) == (18080, 8080, "web")
    assert v1.subnet is not None
    assert v1.subnet.join


def test_the_edges_example_keeps_edges_peer_and_redundancy() -> None:
    v1 = load_ensemble(DATA / "edges.yaml", {}).config.v1
    assert [(e.s, e.t, e.rtt, e.bw) for e in v1.edges] == [("left", "right", 60, 5_000_000)]
    assert v1.nodes["left"].peer == "12D3KooWExamplePeer"
    assert (v1.nodes["right"].redundancy, v1.nodes["right"].failure_recovery) == (1, "redeploy")
    assert v1.escalation_strategy == "redeploy"


@pytest.mark.parametrize("name", ["wordcount.yaml", "hello-docker.yaml"])
def test_the_shipped_examples_are_valid_without_warnings(name: str) -> None:
    assert load_ensemble(EXAMPLES / name, {}).warnings == ()


def test_the_wordcount_example_carries_its_programs() -> None:
    v1 = load_ensemble(EXAMPLES / "wordcount.yaml", {"TOP": "3"}).config.v1
    params = WasmParams.parse(v1.allocations["wordcount"].execution)
    assert params.module == (EXAMPLES / "programs/wordcount.wasm").read_bytes()
    assert params.args[:2] == ("-n", "3")
    assert dict(params.files) == {path: (EXAMPLES / path.relative_to("/")).read_bytes() for path, _ in params.files}
    assert sorted(a.type for a in v1.allocations.values()) == ["service", "task", "task"]
    assert sorted(len(n.allocations) for n in v1.nodes.values()) == [1, 2]


# old dialects ---------------------------------------------------------------------------------------------------------


def test_old_files_are_read_and_each_old_spelling_is_named() -> None:
    loaded = load_ensemble(DATA / "old.yaml", {})
    web = loaded.config.v1.allocations["web"]
    assert web.resources.cpu.clock_speed == 2.5e9
    assert (web.resources.ram.size, web.resources.ram.clock_speed) == (GIB, 3 * 10**9)
    assert web.resources.gpus[0].vram == 2 * GIB
    assert web.execution.params == {"image": "nginx"}
    assert web.keys == (KeyConfig(type="ssh", file="ssh-ed25519 AAAA admin"),)
    assert web.healthcheck is not None
    assert web.healthcheck.exec == ("sh", "-c", "#!/bin/sh\nexit 0\n")
    assert web.volume == (VolumeConfig(type="local", src="/srv/data", mount_destination="/data"),)
    assert loaded.config.v1.allocations["plain"].healthcheck is None
    location = loaded.config.v1.nodes["n1"].location
    assert location is not None
    assert location.accept == (Location(continent="EU"),)
    told = {str(w).removeprefix(str(DATA / "old.yaml")) for w in loaded.warnings}
    assert ":25:5: V1.allocations.web.dnsname: `dnsname` is unknown and ignored (did you mean `dns_name`?)" in told
    for words in (
        "`health_check` is an old spelling",
        "`region` is an old",
        "`clockspeed` is an old",
        "`args` is unknown",
    ):
        assert any(words in line for line in told), words
    assert not any("nginx_wrapper" in line for line in told)


@pytest.mark.parametrize("version", ["V1", "v1", "ensembleV1", "ensemblev1"])
def test_every_spelling_of_the_version_is_taken(version: str) -> None:
    assert problems(ensemble(version=version)) == {}


def test_the_version_is_required_and_known() -> None:
    document = ensemble()
    del document["version"]
    assert problems(document)["version"].reason == "is required"
    assert "is not a version" in problems(ensemble(version="V2"))["version"].reason


def test_canonical_json_is_taken_as_it_is() -> None:
    config = load_ensemble(DATA / "services.yaml", {"MODE": "${KEPT}"}.copy() | {"KEPT": "1"}).config
    text = gojson.encode(config).decode()
    assert load(text).config == config


def test_literal_braces_survive_in_canonical_json() -> None:
    config = load(
        ensemble({"a": allocation(execution={"type": "docker", "image": "x", "cmd": ["echo $${HOME}"]})})
    ).config
    assert config.v1.allocations["a"].execution.params["cmd"] == ["echo ${HOME}"]
    assert load(gojson.encode(config).decode()).config == config


@settings(max_examples=40)
@given(ensembles())
def test_what_is_valid_survives_its_canonical_form(document: dict[str, Any]) -> None:
    loaded = load(document)
    assert loaded.warnings == ()
    encoded = gojson.encode(loaded.config)
    assert load(encoded.decode()).config == loaded.config
    assert gojson.encode(load(encoded.decode()).config) == encoded


# values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "expected"),
    [(1, GIB), (0.5, GIB // 2), ("2", 2 * GIB), ("512MiB", 2**29), ("1 GB", 10**9), ("1k", 1000), ("1e3 b", 1000)],
)
def test_sizes_have_units_and_default_to_gibibytes(written: object, expected: int) -> None:
    resources = {"cpu": {"cores": 1}, "ram": {"size": written}, "disk": {"size": 1}, "gpus": [{"vram": written}]}
    found = load(ensemble({"a": allocation(resources=resources)})).config.v1.allocations["a"].resources
    assert found.ram.size == expected
    assert found.gpus[0].vram == expected


@pytest.mark.parametrize(
    "written", [0, -1, "0", "-1GiB", "much", "1 parsec", True, [], {}, None, "1e999", "9" * 99, ""]
)
def test_other_sizes_are_problems_at_their_place(written: object) -> None:
    resources = {"cpu": {"cores": 1}, "ram": {"size": written}, "disk": {"size": 1}}
    assert set(problems(ensemble({"a": allocation(resources=resources)}))) == {"allocations.a.resources.ram.size"}


@pytest.mark.parametrize(
    ("cores", "reason"), [("x", "cpu.cores must be a valid number"), (0, "cpu.cores must be positive")]
)
def test_cores_are_positive_numbers(cores: object, reason: str) -> None:
    found = problems(
        ensemble({"a": allocation(resources={"cpu": {"cores": cores}, "ram": {"size": 1}, "disk": {"size": 1}})})
    )
    assert found["allocations.a.resources.cpu.cores"].reason == reason


def test_cores_keep_two_decimals_and_never_become_nothing() -> None:
    for written, kept in ((0.126, 0.13), (0.001, 0.01), ("0.5", 0.5)):
        resources = {"cpu": {"cores": written}, "ram": {"size": 1}, "disk": {"size": 1}}
        found = load(ensemble({"a": allocation(resources=resources)})).config
        assert found.v1.allocations["a"].resources.cpu.cores == kept


def test_numbers_and_truth_values_stand_for_text_as_they_are_written() -> None:
    text = """
version: V1
allocations:
  a:
    type: task
    executor: docker
    resources: {cpu: {cores: 1}, ram: {size: 1}, disk: {size: 1}}
    execution:
      type: docker
      image: nginx
      cmd: [sleep, 010]
      restart_policy: no
      environment: {PORT: 8080, DEBUG: True, EMPTY: , B: 1.50}
nodes: {n1: {allocations: [a], location: {accept: [{country: NO}]}}}
"""
    v1 = load(text).config.v1
    params = v1.allocations["a"].execution.params
    assert params["cmd"] == ["sleep", "010"]
    assert params["restart_policy"] == "no"
    assert params["environment"] == ["B=1.50", "DEBUG=True", "EMPTY=", "PORT=8080"]
    location = v1.nodes["n1"].location
    assert location is not None
    assert location.accept[0].country == "NO"


def test_bytes_come_from_text_or_from_a_file_of_any_content(tmp_path: Path) -> None:
    (tmp_path / "p.wasm").write_bytes(b"\0asm\xff\xfe")
    execution = {
        "type": "wasm",
        "module": "${file:p.wasm}",
        "files": {"/in/a": "${file:p.wasm}", "/in/b": "é ${WHO}"},
    }
    document = ensemble({"a": allocation(executor="wasm", execution=execution)}, scripts={"s": "echo $${X}"})
    v1 = load(document, tmp_path, WHO="you").config.v1
    params = v1.allocations["a"].execution.params
    assert params["module"] == base64.b64encode(b"\0asm\xff\xfe").decode()
    assert params["files"] == {
        "/in/a": base64.b64encode(b"\0asm\xff\xfe").decode(),
        "/in/b": base64.b64encode("é you".encode()).decode(),
    }
    assert v1.scripts == {"s": b"echo ${X}"}


def test_a_file_that_is_not_text_cannot_be_text(tmp_path: Path) -> None:
    (tmp_path / "p.wasm").write_bytes(b"\xff")
    found = problems(ensemble({"a": allocation(dns_name="${file:p.wasm}")}), tmp_path)
    assert found["allocations.a.dns_name"].reason == "the file is not UTF-8 text"


def test_placeholders_that_fail_are_told_where_they_stand() -> None:
    text = "version: V1\nallocations: {}\nnodes: {}\nmetadata:\n  a: ${NOT_SET}\n  b: ${file:../x}\n  c: ${ftp:x}\n"
    found = problems(text)
    assert found["metadata.a"].line == 5
    assert "NOT_SET is not set" in found["metadata.a"].reason
    assert "there is no such file" in found["metadata.b"].reason
    assert "unknown source: 'ftp'" in found["metadata.c"].reason


def test_numbers_may_come_from_placeholders() -> None:
    text = """
version: V1
allocations:
  a:
    type: ${KIND:-task}
    executor: docker
    resources: {cpu: {cores: "${CORES}"}, ram: {size: "${RAM:-1GiB}"}, disk: {size: 1}}
    execution: {type: docker, image: nginx, privileged: "${PRIVILEGED:-true}"}
nodes: {n1: {allocations: [a], ports: [{private: "${PORT}", allocation: a}]}}
"""
    v1 = load(text, CORES="1.5", PORT="8080").config.v1
    assert v1.allocations["a"].resources.cpu.cores == 1.5
    assert v1.allocations["a"].execution.params["privileged"] is True
    assert v1.nodes["n1"].ports[0].private == 8080


def test_templates_are_merged_and_must_exist() -> None:
    small = {"cpu": {"cores": 1, "model": "m"}, "ram": {"size": 1}, "disk": {"size": 1}}
    document = ensemble(
        {
            "a": allocation(resources="small"),
            "b": allocation(resources={"name": "small", "cpu": {"cores": 4}}),
            "c": allocation(resources={"name": "${T:-small}"}),
        },
        resources={"small": small},
    )
    v1 = load(document).config.v1
    assert v1.allocations["b"].resources.cpu.cores == 4
    assert v1.allocations["b"].resources.cpu.model == "m"
    assert v1.allocations["b"].resources.ram == v1.allocations["a"].resources.ram
    assert v1.allocations["c"].resources == v1.allocations["a"].resources
    document["allocations"]["a"]["resources"] = "smal"
    found = problems(document)["allocations.a.resources"]
    assert (found.reason, found.hint) == ("there is no template 'smal' in resources", "did you mean `small`?")


def test_volumes_are_written_in_many_ways() -> None:
    local = {"type": "local", "src": "/srv", "mount_destination": "/data"}
    expected = (VolumeConfig(type="local", src="/srv", mount_destination="/data"),)
    named = (VolumeConfig(type="local", src="/srv", mount_destination="/data", name="d"),)
    remote = {"type": "s3", "params": {"Bucket": "b", "Key": "in/", "PathStyle": True}}
    s3 = (VolumeConfig(type="s3", mount_destination="/data", params={"bucket": "b", "key": "in/", "path_style": True}),)
    ways: list[tuple[dict[str, Any], tuple[VolumeConfig, ...]]] = [
        ({"volume": [local]}, expected),
        ({"volume": local}, expected),
        ({"volumes": {"d": local}}, named),
        ({"volumes": ["t:/data"]}, expected),
        (
            {"volumes": [{"name": "t", "mount_destination": "/data"}]},
            (VolumeConfig(type="local", src="/srv", mount_destination="/data", name="t"),),
        ),
        ({"volume": [{"remote": {"type": "local", "params": {"src": "/srv"}}, "path": "/data"}]}, expected),
        ({"volume": [remote | {"path": "/data"}]}, s3),
        ({"volume": [{"remote": remote, "path": "/data"}]}, s3),
    ]
    for members, volumes in ways:
        document = ensemble({"a": allocation(**members)}, volumes={"t": {"type": "local", "src": "/srv"}})
        assert load(document).config.v1.allocations["a"].volume == volumes, members


# problems -------------------------------------------------------------------------------------------------------------


def test_all_problems_are_told_at_once_in_the_order_of_the_document() -> None:
    text = """\
version: V1
allocations:
  a_b:
    type: deamon
    executor: kubernetes
    resources: {cpu: {cores: 0}, ram: {size: x}}
    execution: {type: docker}
nodes:
  n1:
    allocations: [c]
    ports: [{private: 0, allocation: a}]
"""
    with pytest.raises(InvalidEnsemble) as caught:
        load(text)
    assert [(p.line, p.path) for p in caught.value.problems] == [
        (3, "V1.allocations.a_b"),
        (4, "V1.allocations.a_b.type"),
        (5, "V1.allocations.a_b.executor"),
        (6, "V1.allocations.a_b.resources.disk"),
        (6, "V1.allocations.a_b.resources.cpu.cores"),
        (6, "V1.allocations.a_b.resources.ram.size"),
        (7, "V1.allocations.a_b.execution.image"),
        (10, "V1.nodes.n1.allocations[0]"),
        (11, "V1.nodes.n1.ports[0].private"),
    ]
    assert str(caught.value) == ("job.yaml:3:3: V1.allocations.a_b: 'a_b' is not a valid name (and 8 more problems)")
    assert caught.value.exit_code == 2
    assert "letters, digits and dashes" in caught.value.hint


def test_unknown_keys_are_named_with_the_nearest_known_one() -> None:
    found = warnings(ensemble({"a": allocation(dnsname="x", healthchek={"type": "http"})}, escalation="x"))
    assert found["allocations.a.dnsname"].hint == "did you mean `dns_name`?"
    assert found["allocations.a.healthchek"].hint == "did you mean `healthcheck`?"
    assert found["escalation"].hint == "did you mean `escalation_strategy`?"


def test_warnings_are_told_beside_problems() -> None:
    with pytest.raises(InvalidEnsemble) as caught:
        load("version: V1\nalocations: {}\n")
    assert [w.path for w in caught.value.warnings] == ["V1.alocations"]


def test_keys_that_belong_to_the_user_are_left_alone() -> None:
    text = "x-own: [1, {}]\nwrapped: &w {type: docker, image: nginx}\n" + "version: V1\n"
    text += "resources: {r: {cpu: {cores: 1}, ram: {size: 1}, disk: {size: 1}}}\n"
    text += "allocations: {a: {type: task, executor: docker, execution: *w, resources: r}}\n"
    assert load(text + "nodes: {n: {allocations: [a]}}\n").warnings == ()


def test_the_same_key_in_two_spellings_is_a_problem() -> None:
    assert problems(ensemble(Nodes={}))["Nodes"].reason == "`nodes` is given twice"


def test_modifiers_are_pointed_out() -> None:
    loaded = load(ensemble(metadata={"a": "${A|upper}"}), A="x")
    assert "upper" in str(loaded.warnings[0])


@pytest.mark.parametrize("name", ["missing.yaml", "missing/dir.yaml"])
def test_a_missing_file_is_not_found(tmp_path: Path, name: str) -> None:
    with pytest.raises(EnsembleFileNotFound) as caught:
        load_ensemble(tmp_path / name, {})
    assert caught.value.exit_code == 4
    assert "nunet ensemble init" in caught.value.hint


def test_a_directory_is_no_ensemble(tmp_path: Path) -> None:
    with pytest.raises(InvalidEnsemble, match="cannot be read"):
        load_ensemble(tmp_path, {})


@pytest.mark.parametrize("text", ["[]", "3", "text", "{}", "v1: 3", "v1: {}", "V1:"])
def test_what_is_no_ensemble_is_refused(text: str) -> None:
    with pytest.raises(InvalidEnsemble):
        load(text)


KEYS = st.sampled_from(
    re.findall(
        r"\S+",
        """version allocations nodes a n1 type executor resources execution params image module files cpu cores ram size
        disk gpus ports public private allocation location accept reject continent city edges edge_constraints s t
        volumes volume name remote keys scripts healthcheck exec supervisor children strategy depends_on provision
        redundancy << environment""",
    )
)
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=6),
    st.sampled_from(["a", "n1", "docker", "wasm", "${A}", "${file:x}", "local", "1GiB", "${", "http", "OneForOne"]),
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=5)),
    max_leaves=25,
)


@settings(max_examples=30)
@given(st.dictionaries(KEYS, TREES, max_size=6))
def test_no_tree_makes_the_validator_raise_anything_else(tree: dict[str, Any]) -> None:
    for document in (tree, {"version": "V1"} | tree, {"v1": tree}):
        found = outcome(document, A="1")
        if isinstance(found, InvalidEnsemble):
            assert found.problems
            assert all(str(p) and "\n" not in str(p) for p in found.problems)


@settings(max_examples=30)
@given(ensembles(), st.data())
def test_no_mutation_of_a_valid_ensemble_makes_it_raise_anything_else(
    document: dict[str, Any], data: st.DataObject
) -> None:
    mutate(document, data, TREES)
    found = outcome(document, A="1")
    assert isinstance(found, LoadedEnsemble) or found.problems
