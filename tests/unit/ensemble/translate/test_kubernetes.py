"""Kubernetes manifests become ensembles."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.translate.samples import notes, translated, trees, words, written

from dms.ensemble.config import COMPLETED, Dependency
from dms.ensemble.errors import EnsembleError, Untranslatable
from dms.ensemble.groups import expanded
from dms.ensemble.translate.draft import Translation
from dms.ensemble.translate.translation import Source

KEYS = [
    "name", "image", "command", "args", "env", "value", "valueFrom", "configMapKeyRef", "envFrom", "configMapRef", "ports",
    "containerPort", "resources", "limits", "requests", "cpu", "memory", "livenessProbe", "httpGet", "exec", "path", "port",
    "periodSeconds", "volumeMounts", "mountPath", "subPath", "volumes", "configMap", "emptyDir", "hostPath", "items", "key",
    "persistentVolumeClaim", "claimName", "securityContext", "privileged", "nodeSelector", "initContainers", "containers",
    "replicas", "completions", "parallelism", "template", "spec", "metadata", "labels", "selector", "type", "targetPort",
]  # fmt: skip
KINDS = ["Pod", "Deployment", "StatefulSet", "Job", "CronJob", "DaemonSet", "Service", "ConfigMap", "Secret", "List", "X",
         "PersistentVolumeClaim"]  # fmt: skip


def manifest(kind: str, name: str, **members: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}} | members


def deployment(name: str = "web", kind: str = "Deployment", replicas: int = 1, **spec: Any) -> dict[str, Any]:
    pod = {
        "containers": [{"name": "main", "image": "nginx:1", "ports": [{"name": "http", "containerPort": 80}]}]
    } | spec
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    return manifest(kind, name, spec={"replicas": replicas, "selector": {}, "template": template})


def service(name: str, **spec: Any) -> dict[str, Any]:
    return manifest("Service", name, spec={"selector": {"app": "web"}} | spec)


def of(*objects: dict[str, Any]) -> Translation:
    return translated("\n---\n".join(json.dumps(each) for each in objects))


def container(**members: Any) -> dict[str, Any]:
    return {"containers": [{"name": "main", "image": "nginx:1"} | members]}


def first(*objects: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(written(of(*objects))["allocations"].values()))
    return found


def test_a_pod_is_a_node_and_its_containers_are_its_allocations() -> None:
    containers = [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]
    found = written(of(manifest("Pod", "pair", spec={"containers": containers})))
    assert found["nodes"] == {"pair": {"allocations": ["pair-a", "pair-b"], "failure_recovery": "restart"}}
    assert {name: a["type"] for name, a in found["allocations"].items()} == {"pair-a": "service", "pair-b": "service"}


def test_replicas_are_a_count() -> None:
    done = of(deployment(replicas=3))
    assert done.config.v1.nodes["web"].count == 3
    assert list(expanded(done.config).v1.allocations) == ["web-0001", "web-0002", "web-0003"]


def test_a_job_is_a_task_with_as_many_members_as_completions() -> None:
    job = manifest(
        "Job", "calc", spec={"completions": 5, "template": {"spec": container() | {"restartPolicy": "Never"}}}
    )
    done = of(job)
    assert done.config.v1.allocations["calc"].type == "task"
    assert done.config.v1.nodes["calc"].count == 5
    assert "run at the same time" in notes(done)["Job/calc.spec.completions"]


def test_a_cron_job_is_deployed_once() -> None:
    job = {"template": {"spec": container() | {"restartPolicy": "Never"}}}
    done = of(manifest("CronJob", "c", spec={"schedule": "* * * * *", "jobTemplate": {"spec": job}}))
    assert notes(done)["CronJob/c.spec.schedule"] == "it is deployed once"
    assert done.config.v1.allocations["c"].type == "task"


def test_commands_environment_and_limits() -> None:
    spec = container(
        command=["run"],
        args=["$(A)", "$$(A)", "$(B)", "${C}"],
        env=[{"name": "A", "value": "1"}, {"name": "D", "value": "$(A)2"}],
        resources={
            "limits": {"cpu": "500m", "memory": "128Mi", "nvidia.com/gpu": 2},
            "requests": {"ephemeral-storage": "2Gi"},
        },
        securityContext={"privileged": True, "readOnlyRootFilesystem": True, "runAsUser": 5},
        workingDir="/w",
    )
    done = of(deployment(**spec, nodeSelector={"kubernetes.io/arch": "arm64"}))
    allocation = done.config.v1.allocations["web"]
    assert allocation.execution.params == {
        "image": "nginx:1",
        "entrypoint": ["run"],
        "cmd": ["1", "$(A)", "$(B)", "${C}"],
        "environment": ["A=1", "D=12"],
        "working_directory": "/w",
        "privileged": True,
        "read_only": True,
    }
    assert (allocation.resources.cpu.cores, allocation.resources.cpu.architecture) == (0.5, "aarch64")
    assert (allocation.resources.ram.size, allocation.resources.disk.size) == (128 * 2**20, 2 * 2**30)
    assert [gpu.vendor for gpu in allocation.resources.gpus] == ["NVIDIA"] * 2
    assert "Deployment/web.spec.template.spec.main.securityContext.runAsUser" in notes(done)


def test_config_maps_and_secrets_are_environment_and_files() -> None:
    spec = container(
        envFrom=[{"configMapRef": {"name": "conf"}, "prefix": "P_"}],
        env=[{"name": "PW", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pw"}}}],
        volumeMounts=[{"name": "v", "mountPath": "/etc/app"}, {"name": "v", "mountPath": "/etc/one", "subPath": "b"}],
    )
    volumes = [{"name": "v", "configMap": {"name": "conf", "items": [{"key": "LEVEL", "path": "b"}]}}]
    done = of(
        deployment(**spec, volumes=volumes),
        manifest("ConfigMap", "conf", data={"LEVEL": "debug ${X}"}),
        manifest("Secret", "s", data={"pw": "aGk="}),
    )
    allocation = done.config.v1.allocations["web"]
    assert allocation.execution.params["environment"] == ["PW=hi", "P_LEVEL=debug ${X}"]
    assert list(allocation.provision) == ["web-conf", "web-conf-2"]
    assert b"printf %s 'debug ${X}' >/etc/app/b\n" in done.config.v1.scripts["web-conf"]
    assert b">/etc/one\n" in done.config.v1.scripts["web-conf-2"]
    assert "in clear" in notes(done)["Secret/s"]


def test_volumes_are_named_ones_paths_or_memory() -> None:
    mounts = [
        {"name": name, "mountPath": f"/{name}", "readOnly": name == "host"}
        for name in ("claim", "host", "mem", "tmp", "nfs")
    ]
    volumes = [
        {"name": "claim", "persistentVolumeClaim": {"claimName": "data"}},
        {"name": "host", "hostPath": {"path": "/srv/x"}},
        {"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "tmp", "emptyDir": {}},
        {"name": "nfs", "nfs": {"server": "x"}},
    ]
    done = of(deployment(**container(volumeMounts=mounts), volumes=volumes))
    allocation = written(done)["allocations"]["web"]
    assert [(v["src"], v["mount_destination"]) for v in allocation["volume"]] == [
        ("data", "/claim"), ("/srv/x", "/host"), ("web-tmp", "/tmp"),
    ]  # fmt: skip
    assert allocation["execution"]["tmpfs"] == {"/mem": "16MiB"}
    assert "volumes of type nfs" in notes(done)["Deployment/web.spec.template.spec.main.volumeMounts[4]"]


def test_a_stateful_set_names_its_volumes_and_members() -> None:
    whole = deployment("db", "StatefulSet", 2, **container(volumeMounts=[{"name": "data", "mountPath": "/d"}]))
    whole["spec"]["volumeClaimTemplates"] = [{"metadata": {"name": "data"}, "spec": {}}]
    done = of(whole)
    assert done.config.v1.allocations["db"].volume[0].src == "db-data"
    assert "db-0001, db-0002" in done.text


def test_containers_that_initialise_come_first() -> None:
    done = of(deployment(initContainers=[{"name": "one", "image": "x"}, {"name": "two", "image": "x"}]))
    allocations = done.config.v1.allocations
    one, two = (Dependency(allocation=f"web-{name}", condition=COMPLETED) for name in ("one", "two"))
    assert {name: a.depends_on for name, a in allocations.items()} == {
        "web-one": (), "web-two": (one,), "web-main": (one, two),
    }  # fmt: skip
    assert {name: a.type for name, a in allocations.items()} == {
        "web-one": "task", "web-two": "task", "web-main": "service",
    }  # fmt: skip
    stays = of(deployment(initContainers=[{"name": "one", "image": "x", "restartPolicy": "Always"}])).config.v1
    assert (stays.allocations["web-one"].type, stays.allocations["web-main"].depends_on) == ("service", ("web-one",))


def test_probes_are_health_checks() -> None:
    http = {"httpGet": {"path": "/up", "port": "http"}, "periodSeconds": 5, "failureThreshold": 3}
    ports = [{"name": "http", "containerPort": 8000}]
    assert first(deployment(**container(livenessProbe=http, ports=ports)))["healthcheck"] == {
        "type": "http", "endpoint": "http://localhost:8000/up", "interval": "5s",
    }  # fmt: skip
    command = {"exec": {"command": ["true"]}}
    assert first(deployment(**container(readinessProbe=command)))["healthcheck"]["exec"] == ["true"]
    assert "healthcheck" not in first(deployment(**container(livenessProbe={"grpc": {"port": 1}})))


def test_a_service_gives_a_lone_pod_its_name_and_opens_ports() -> None:
    ports = [{"port": 80, "targetPort": "http", "nodePort": 30080}]
    done = of(deployment(), service("front", type="NodePort", ports=ports))
    assert done.config.v1.allocations["web"].dns_name == "front"
    assert [(p.public, p.private) for p in done.config.v1.nodes["web"].ports] == [(30080, 80)]
    inner = of(deployment(), service("front", ports=[{"port": 80}]))
    assert inner.config.v1.nodes["web"].ports == ()


def test_a_service_in_front_of_several_pods_says_what_is_missing() -> None:
    done = of(deployment(replicas=2), service("front", ports=[{"port": 80}]))
    assert "nothing shares requests out" in notes(done)["Service/front"]


def test_lists_and_empty_documents_are_fine() -> None:
    done = translated("---\n" + json.dumps(manifest("List", "", items=[deployment()])) + "\n---\n")
    assert list(done.config.v1.nodes) == ["web"]


@pytest.mark.parametrize("kind", ["Ingress", "NetworkPolicy", "Whatever"])
def test_other_kinds_are_named(kind: str) -> None:
    assert notes(of(deployment(), manifest(kind, "i")))[f"{kind}/i"].startswith("left out: ")


def test_manifests_without_a_pod_are_refused() -> None:
    with pytest.raises(Untranslatable, match="nothing in this file runs"):
        of(manifest("ConfigMap", "c", data={}))


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), words, trees(KEYS), trees(KEYS)), min_size=1, max_size=3), st.booleans()
)
def test_whatever_stands_in_it_it_is_translated_validly_or_refused(parts: list[Any], is_pod: bool) -> None:
    objects = []
    for kind, name, spec, more in parts:
        pod = container(**more) if isinstance(more, dict) and is_pod else more
        body = {"template": {"spec": pod}} if kind not in ("Pod", "Service") else pod
        whole = (spec if isinstance(spec, dict) else {}) | (body if isinstance(body, dict) else {})
        objects.append(manifest(kind, name, spec=whole, data=spec, items=[spec]))
    with contextlib.suppress(EnsembleError):
        translated("\n---\n".join(json.dumps(each) for each in objects), source=Source.KUBERNETES)
