"""What the parts of an ensemble demand of each other, one breach at a time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.ensemble.documents import RESOURCES, allocation, ensemble, problems

WASM: dict[str, Any] = {"executor": "wasm", "execution": {"type": "wasm", "module": "x"}}


def node(**members: Any) -> dict[str, Any]:
    return ensemble(nodes={"n1": {"allocations": ["a"]} | members})


def docker(**params: Any) -> dict[str, Any]:
    return ensemble({"a": allocation(execution={"type": "docker", "image": "x"} | params)})


def wasm(**params: Any) -> dict[str, Any]:
    return ensemble({"a": allocation(executor="wasm", execution={"type": "wasm"} | params)})


def one(**members: Any) -> dict[str, Any]:
    return ensemble({"a": allocation(**members)})


VOLUME = {"type": "local", "src": "/x", "mount_destination": "/y"}

BREACHES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "no allocation",
        ensemble({}, nodes={"n": {"allocations": ["a"]}}),
        "allocations",
        "at least one allocation must be defined",
    ),
    ("no nodes", ensemble(nodes={}), "nodes", "at least one node must be defined"),
    ("escalation", ensemble(escalation_strategy="pray"), "escalation_strategy", "is not an escalation strategy"),
    ("join", ensemble(subnet={"join": "maybe"}), "subnet.join", "must be true or false"),
    ("name with dot", ensemble({"a.b": allocation()}), "allocations.a.b", "is not a valid name"),
    ("name with underscore", ensemble({"a_b": allocation()}), "allocations.a_b", "is not a valid name"),
    ("long name", ensemble({"a" * 64: allocation()}), f"allocations.{'a' * 64}", "is not a valid name"),
    (
        "same name in two cases",
        ensemble({"a": allocation(), "A": allocation()}),
        "allocations.A",
        "differs from 'a' in case only",
    ),
    (
        "node names",
        ensemble(
            {"a": allocation(), "b": allocation()}, nodes={"n": {"allocations": ["a"]}, "N": {"allocations": ["b"]}}
        ),
        "nodes.N",
        "in case only",
    ),
    ("dns name", one(dns_name="-x"), "allocations.a.dns_name", "is not a valid DNS name"),
    ("empty dns name", one(dns_name=""), "allocations.a.dns_name", "must not be empty"),
    (
        "dns name twice",
        ensemble({"a": allocation(dns_name="B"), "b": allocation()}),
        "allocations.b",
        "belongs to 'a' already",
    ),
    ("no type", one(type=None), "allocations.a.type", "is required"),
    ("no executor", one(executor=None), "allocations.a.executor", "is required"),
    ("no resources", one(resources=None), "allocations.a.resources", "is required"),
    ("no execution", one(execution=None), "allocations.a.execution", "is required"),
    ("no execution type", one(execution={"image": "x"}), "allocations.a.execution.type", "is required"),
    (
        "executors differ",
        one(executor="null"),
        "allocations.a.executor",
        "the executor is 'null', but execution.type is 'docker'",
    ),
    ("unknown executor", one(executor="k8s"), "allocations.a.executor", "is not an executor"),
    ("no image", one(execution={"type": "docker"}), "allocations.a.execution.image", "is required"),
    ("image", docker(image="Upper"), "allocations.a.execution.image", "is not a valid image name"),
    ("environment", docker(environment=["1A=x"]), "allocations.a.execution.environment[0]", "is not KEY=VALUE"),
    (
        "environment map",
        docker(environment={"A-B": 1}),
        "allocations.a.execution.environment.A-B",
        "is not a valid name",
    ),
    ("restart", docker(restart_policy="often"), "allocations.a.execution.restart_policy", "is not a restart policy"),
    ("login", docker(registry_auth={"username": "u"}), "allocations.a.execution.registry_auth.password", "is required"),
    ("no module", wasm(), "allocations.a.execution", "exactly one of module, module_path, module_url, module_cid"),
    (
        "two modules",
        wasm(module="x", module_path="/x"),
        "allocations.a.execution",
        "exactly one of module, module_path, module_url, module_cid",
    ),
    (
        "address without hash",
        wasm(module_url="https://a/b"),
        "allocations.a.execution.module_sha256",
        "is required with",
    ),
    (
        "address of another kind",
        wasm(module_url="ftp://a/b", module_sha256="0" * 64),
        "allocations.a.execution.module_url",
        "is not an address of http or https",
    ),
    (
        "short hash",
        wasm(module="x", module_sha256="12"),
        "allocations.a.execution.module_sha256",
        "is not 64 hexadecimal digits",
    ),
    ("content id", wasm(module_cid="a b"), "allocations.a.execution.module_cid", "is not a content id"),
    (
        "gateway for nothing",
        wasm(module="x", module_gateway="https://a"),
        "allocations.a.execution.module_gateway",
        "means nothing without module_cid",
    ),
    ("module path", wasm(module_path="x"), "allocations.a.execution.module_path", "is not an absolute path"),
    ("relative file", wasm(module="x", files={"a": "b"}), "allocations.a.execution.files.a", "is not a path"),
    (
        "file upwards",
        wasm(module="x", files={"/a/../b": "b"}),
        "allocations.a.execution.files./a/../b",
        "is not a path",
    ),
    (
        "file below file",
        wasm(module="x", files={"/a": "", "/a/b": ""}),
        "allocations.a.execution.files./a/b",
        "below another",
    ),
    ("fuel", wasm(module="x", fuel=0), "allocations.a.execution.fuel", "must be positive"),
    ("timeout", wasm(module="x", timeout="soon"), "allocations.a.execution.timeout", "invalid duration"),
    ("cpu time", wasm(module="x", max_cpu_s=-1), "allocations.a.execution.max_cpu_s", "max_cpu_s must be positive"),
    (
        "gpu vendor",
        one(resources=RESOURCES | {"gpus": [{"vendor": ""}]}),
        "allocations.a.resources.gpus[0].vendor",
        "must not be empty",
    ),
    ("recovery", one(failure_recovery="restart"), "allocations.a.failure_recovery", "is not a way to recover"),
    ("depends on nothing", one(depends_on=["x"]), "allocations.a.depends_on[0]", "there is no allocation 'x'"),
    ("depends on itself", one(depends_on=["a"]), "allocations.a.depends_on[0]", "cannot depend on itself"),
    (
        "cycle",
        ensemble(
            {"a": allocation(depends_on=["b"]), "b": allocation(depends_on=["c"]), "c": allocation(depends_on=["a"])}
        ),
        "allocations.a.depends_on",
        "cyclic dependencies detected in allocations: a → b → c → a",
    ),
    ("key type", one(keys=[{"type": "rsa", "file": "x"}]), "allocations.a.keys[0].type", "is not a type of key"),
    ("key file", one(keys=[{"type": "ssh"}]), "allocations.a.keys[0].file", "is required"),
    (
        "key dest",
        one(keys=[{"type": "gpg", "file": "x"}]),
        "allocations.a.keys[0].dest",
        "is required unless the type is ssh",
    ),
    ("key name", one(keys=["admin"]), "allocations.a.keys[0]", "referenced key 'admin' not found"),
    ("provision", one(provision=["setup"]), "allocations.a.provision[0]", "referenced script 'setup' not found"),
    ("empty health check", one(healthcheck={}), "allocations.a.healthcheck", "must not be empty"),
    (
        "health check type",
        one(healthcheck={"type": "dance"}),
        "allocations.a.healthcheck.type",
        "is not a healthcheck type",
    ),
    (
        "health check endpoint",
        one(healthcheck={"type": "http"}),
        "allocations.a.healthcheck.endpoint",
        "is required for http",
    ),
    (
        "health check exec",
        one(healthcheck={"type": "command"}),
        "allocations.a.healthcheck.exec",
        "is required for command",
    ),
    (
        "health check interval",
        one(healthcheck={"type": "http", "endpoint": "http://x", "interval": "0s"}),
        "allocations.a.healthcheck.interval",
        "must be positive",
    ),
    (
        "health check script",
        one(healthcheck="probe"),
        "allocations.a.healthcheck",
        "referenced script 'probe' not found",
    ),
    ("no volumes", one(volume=[]), "allocations.a.volume", "must not be empty"),
    ("volume type", one(volume=[VOLUME | {"type": "ftp"}]), "allocations.a.volume[0].type", "is not a type of volume"),
    (
        "volume source",
        one(volume=[VOLUME | {"src": "../x"}]),
        "allocations.a.volume[0].src",
        "must be an absolute path or a name",
    ),
    (
        "volume servers",
        one(volume=[VOLUME | {"type": "glusterfs"}]),
        "allocations.a.volume[0].servers",
        "is required for glusterfs",
    ),
    (
        "volume without parameters",
        one(volume=[{"type": "s3", "mount_destination": "/d", "params": {"key": "k"}}]),
        "allocations.a.volume[0].params.bucket",
        "is required for s3",
    ),
    (
        "volume with parameters of another type",
        one(volume=[{"type": "http", "mount_destination": "/d", "params": {"url": "https://h/x", "bucket": "b"}}]),
        "allocations.a.volume[0].params.bucket",
        "means nothing for http",
    ),
    (
        "local volume with parameters",
        one(volume=[VOLUME | {"params": {"bucket": "b"}}]),
        "allocations.a.volume[0].params",
        "means nothing for local",
    ),
    (
        "upload of what cannot change",
        one(volume=[VOLUME | {"read_only": True, "upload": {"type": "s3", "params": {"bucket": "b"}}}]),
        "allocations.a.volume[0].upload",
        "means nothing for what is read-only",
    ),
    (
        "upload to nowhere",
        one(volume=[VOLUME | {"upload": {"type": "ftp"}}]),
        "allocations.a.volume[0].upload.type",
        "is not a storage",
    ),
    (
        "volume place",
        one(volume=[{"type": "local", "src": "x"}]),
        "allocations.a.volume[0].mount_destination",
        "is required",
    ),
    (
        "wasm with scripts",
        ensemble({"a": allocation(**WASM, provision=["s"])}, scripts={"s": "x"}),
        "allocations.a.provision",
        "cannot",
    ),
    (
        "wasm with command",
        ensemble({"a": allocation(**WASM, healthcheck={"type": "command", "exec": ["x"]})}),
        "allocations.a.healthcheck",
        "no command can run inside",
    ),
    (
        "wasm with udp port",
        ensemble(
            {"a": allocation(**WASM)},
            nodes={
                "n1": {
                    "allocations": ["a"],
                    "ports": [{"private": 1, "allocation": "a"}, {"private": 1, "allocation": "a", "protocol": "udp"}],
                }
            },
        ),
        "nodes.n1.ports[1].protocol",
        "cannot listen by UDP",
    ),
    (
        "wasm without port in a network where all must have addresses",
        ensemble({"a": allocation(**WASM), "b": allocation()}, subnet={"required": True}),
        "allocations.a.executor",
        "gets no private address",
    ),
    (
        "wasm component with port",
        ensemble(
            {"a": allocation(executor="wasm", execution={"type": "wasm", "module": "\0asm\x0d\0\1\0"})},
            nodes={"n1": {"allocations": ["a"], "ports": [{"private": 1, "allocation": "a"}]}},
        ),
        "nodes.n1.ports[0].allocation",
        "is a component of WASI 0.2, which cannot listen on ports",
    ),
    ("node without allocations", node(allocations=[]), "nodes.n1.allocations", "at least 1"),
    ("unknown allocation", node(allocations=["b"]), "nodes.n1.allocations[0]", "there is no allocation 'b'"),
    ("allocation twice", node(allocations=["a", "a"]), "nodes.n1.allocations[1]", "is in this node already"),
    (
        "allocation in two nodes",
        ensemble(nodes={"n1": {"allocations": ["a"]}, "n2": {"allocations": ["a"]}}),
        "nodes.n2.allocations[0]",
        "is in node 'n1' already",
    ),
    (
        "allocation without node",
        ensemble({"a": allocation(), "b": allocation()}, nodes={"n1": {"allocations": ["a"]}}),
        "allocations.b",
        "belongs to no node",
    ),
    ("redundancy", node(redundancy=-1), "nodes.n1.redundancy", "must be from 0 to 100"),
    ("node recovery", node(failure_recovery="one_for_one"), "nodes.n1.failure_recovery", "is not a way to recover"),
    ("peer", node(peer=""), "nodes.n1.peer", "must not be empty"),
    (
        "private port",
        node(ports=[{"private": 0, "allocation": "a"}]),
        "nodes.n1.ports[0].private",
        "must be from 1 to 65535",
    ),
    (
        "low public port",
        node(ports=[{"public": 1024, "private": 1, "allocation": "a"}]),
        "nodes.n1.ports[0].public",
        "1025",
    ),
    (
        "port of nobody",
        node(ports=[{"private": 1, "allocation": "b"}]),
        "nodes.n1.ports[0].allocation",
        "is not in this node",
    ),
    (
        "public port twice",
        node(ports=[{"public": 2000, "private": p, "allocation": "a"} for p in (1, 2)]),
        "nodes.n1.ports[1].public",
        "the public port 2000 is used by ports[0] already",
    ),
    (
        "protocol",
        node(ports=[{"private": 1, "allocation": "a", "protocol": "sctp"}]),
        "nodes.n1.ports[0].protocol",
        "is not a protocol",
    ),
    (
        "continent",
        node(location={"accept": [{"continent": "XX"}]}),
        "nodes.n1.location.accept[0].continent",
        "is not a continent",
    ),
    (
        "country",
        node(location={"reject": [{"country": "Italy"}]}),
        "nodes.n1.location.reject[0].country",
        "is not a country code",
    ),
    (
        "city",
        node(location={"accept": [{"city": "Rome"}]}),
        "nodes.n1.location.accept[0].country",
        "is required when a city",
    ),
    ("asn", node(location={"accept": [{"asn": 0}]}), "nodes.n1.location.accept[0].asn", "must be from 1"),
    ("isp", node(location={"accept": [{"isp": " "}]}), "nodes.n1.location.accept[0].isp", "must not be empty"),
    ("empty place", node(location={"accept": [{}]}), "nodes.n1.location.accept[0]", "must not be empty"),
    ("edge to itself", ensemble(edge_constraints=[{"edges": ["n1", "n1"]}]), "edges[0]", "two different nodes"),
    ("edge to nowhere", ensemble(edges=[{"s": "n1", "t": "n3"}]), "edges[0].t", "there is no node 'n3'"),
    (
        "edge of three",
        ensemble(edge_constraints=[{"edges": ["n1", "n1", "n1"]}]),
        "edges[0].edges",
        "a list of two nodes",
    ),
    ("contract", ensemble(contracts={"c": {"did": "x", "host": "did:a:b"}}), "contracts.c.did", "is not a DID"),
    ("strategy", ensemble(supervisor={"strategy": "AllForAll"}), "supervisor.strategy", "is not a strategy"),
    (
        "supervised",
        ensemble(supervisor={"strategy": "OneForOne", "children": [{"strategy": "OneForOne", "allocations": ["x"]}]}),
        "supervisor.children[0].allocations[0]",
        "there is no allocation 'x'",
    ),
    (
        "name of a standby",
        ensemble(
            {"a": allocation(), "b": allocation()},
            nodes={"n": {"allocations": ["a"], "redundancy": 1}, "n-standby-1": {"allocations": ["b"]}},
        ),
        "nodes.n-standby-1",
        "this is the name of a standby of 'n'",
    ),
    (
        "two architectures",
        ensemble(
            {
                name: allocation(resources=RESOURCES | {"cpu": {"cores": 1, "architecture": arch}})
                for name, arch in (("a", "x86_64"), ("b", "aarch64"))
            }
        ),
        "nodes.n1",
        "no machine has two architectures",
    ),
    ("script name", ensemble(scripts={"../x": "y"}), "scripts.../x", "is not a valid name"),
    (
        "nul",
        one(dns_name=None, execution={"type": "docker", "image": "x", "cmd": ["\0"]}),
        "allocations.a.execution.cmd[0]",
        "NUL",
    ),
]


@pytest.mark.parametrize(("document", "path", "words"), [b[1:] for b in BREACHES], ids=[b[0] for b in BREACHES])
def test_each_breach_is_one_problem_at_its_path(document: dict[str, Any], path: str, words: str) -> None:
    found = problems(document)
    assert list(found) == [path]
    assert words in found[path].reason
    assert found[path].line == 1


def test_the_document_from_which_the_breaches_start_is_valid() -> None:
    assert problems(ensemble()) == {}
    assert problems(wasm(module="x")) == {}
    assert problems(wasm(module_url="https://example.com/x.wasm", module_sha256="0" * 64)) == {}
    assert problems(wasm(module_cid="ipfs://bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy")) == {}
    assert problems(node(ports=[{"private": 1, "allocation": "a"}, {"private": 2, "allocation": "a"}])) == {}
    assert problems(docker(image="reg:5000/a/b_c:V1.0@sha256:" + "0" * 64)) == {}


def test_what_is_broken_itself_is_not_reported_missing_too() -> None:
    document = ensemble({"a": allocation(type="x"), "b": allocation(depends_on=["a"])})
    assert list(problems(document)) == ["allocations.a.type"]
    document = ensemble({"a_b": allocation(), "b": allocation(depends_on=["a_b"])})
    assert "there is no" not in str(problems(document))
