"""Kubernetes manifests: a pod becomes a node, its containers the allocations of that node, replicas a count.

Objects that serve others (Service, ConfigMap, Secret, PersistentVolumeClaim) are taken in where pods refer to them; every
other kind is named and left out.
"""

from __future__ import annotations

import base64
import re

from dms.ensemble.problem import path_part
from dms.ensemble.translate.draft import Draft
from dms.ensemble.translate.pods import Pod, Shared
from dms.ensemble.translate.source import Part
from dms.ensemble.tree import Sequence, Tree

SOURCE = "Kubernetes manifests"
MAX_OBJECTS = 2_000
MAX_MEMBERS = 20_000
_PODS = ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet", "DaemonSet", "Job", "CronJob", "Pod")
_SHARED = ("Service", "ConfigMap", "Secret", "PersistentVolumeClaim", "PersistentVolume", "Namespace")
_OTHERS = {
    "Ingress": ("nothing routes HTTP by name", "publish a port, or run a reverse proxy as an allocation"),
    "HorizontalPodAutoscaler": ("the count stays as it is", "change count and deploy again"),
    "PodDisruptionBudget": ("nobody drains machines by plan", ""),
    "NetworkPolicy": ("only the ensemble itself is in its private network", "deploy what must not meet separately"),
    "ServiceAccount": ("there is no cluster to have rights in", ""),
    "Role": ("there is no cluster to have rights in", ""),
    "RoleBinding": ("there is no cluster to have rights in", ""),
    "ClusterRole": ("there is no cluster to have rights in", ""),
    "ClusterRoleBinding": ("there is no cluster to have rights in", ""),
    "StorageClass": ("storage is that of the provider", "use volumes of type s3, http, ipfs or glusterfs"),
    "LimitRange": ("limits are written in each allocation", ""),
    "ResourceQuota": ("limits are written in each allocation", ""),
    "PriorityClass": ("there are no priorities", ""),
    "CustomResourceDefinition": ("there is no cluster to extend", ""),
}
_LABEL = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,50}[a-zA-Z0-9])?")
_STRATEGY = ("updates have their own order", "")


class Kubernetes:
    """One translation of all documents of a file."""

    def __init__(self, trees: tuple[Tree, ...], draft: Draft) -> None:
        self._draft = draft
        self._objects: list[Part] = []
        self._shared = Shared()
        self._pods: dict[str, tuple[dict[str, str], list[str]]] = {}
        """By node: the labels of its pods, and its allocations."""
        for index, tree in enumerate(trees):
            self._collect(tree, f"document {index + 1}" if len(trees) > 1 else "")

    def translate(self) -> None:
        """Add everything to the draft."""
        for part in self._objects:
            kind = part.text("kind")
            if kind in ("ConfigMap", "Secret"):
                self._shared.maps[(kind, _name(part))] = _content(part, is_secret=kind == "Secret")
            elif kind == "PersistentVolumeClaim":
                self._claim(part)
        for part in self._objects:
            kind = part.text("kind")
            if kind in _PODS:
                self._workload(part, kind)
            elif kind not in _SHARED:
                reason, hint = _OTHERS.get(kind, ("this kind has no counterpart in an ensemble", ""))
                part.notes.note(part.tree, part.path, f"left out: {reason}", hint)
        for part in self._objects:
            if part.text("kind") == "Service":
                self._service(part)

    def _collect(self, tree: Tree, where: str) -> None:
        part = Part(tree, where, self._draft.notes)
        items = part.get("items") if part.text("kind").endswith("List") else None
        if isinstance(items, Sequence):
            for item in items.items:
                self._collect_one(Part(item, where, self._draft.notes))
            return
        self._collect_one(part)

    def _collect_one(self, part: Part) -> None:
        if not part:
            return
        kind, name = part.text("kind"), _name(part)
        if not kind:
            part.notes.note(part.tree, part.path, "left out: it has no kind")
            return
        part.path = f"{kind}/{path_part(name)}"
        if len(self._objects) < MAX_OBJECTS:
            self._objects.append(part)

    def _claim(self, part: Part) -> None:
        self._shared.claims.add(_name(part))
        text = part.part("spec").part("resources").part("requests").text("storage")
        reason = (
            f"{text or 'storage'} of its own becomes a named volume on the provider's disk; it stays when the pod moves"
        )
        part.notes.note(part.tree, part.path, reason, "add its size to the disk of the allocation")

    # workloads -------------------------------------------------------------------------------------------------------

    def _workload(self, part: Part, kind: str) -> None:
        spec = part.part("spec")
        if kind == "CronJob":
            part.notes.note(
                part.tree, f"{part.path}.spec.schedule", "it is deployed once", "call nunet deploy from a timer"
            )
            spec.ignore("schedule", "concurrencyPolicy", "suspend", "timeZone", "startingDeadlineSeconds")
            spec.ignore("successfulJobsHistoryLimit", "failedJobsHistoryLimit", "jobTemplate")
            spec.rest()
            spec = spec.part("jobTemplate").part("spec")
        template = part if kind == "Pod" else spec.part("template")
        is_task = kind in ("Job", "CronJob") or (
            kind == "Pod" and part.part("spec").text("restartPolicy", "Always") != "Always"
        )
        pod = Pod(template.part("spec"), self._draft, self._shared, name=_name(part), is_task=is_task)
        for claim in spec.parts("volumeClaimTemplates") if kind == "StatefulSet" else ():
            self._claim(Part(claim.tree, f"{part.path}.spec.volumeClaimTemplates", claim.notes))
            pod.claim_templates.add(_name(claim))
        node = pod.build()
        if not node:
            return
        labels = {**template.part("metadata").pairs("labels")}
        self._pods[node] = (labels, self._draft.nodes[node]["allocations"])
        count = self._count(spec, kind)
        if count > 1:
            self._draft.nodes[node]["count"] = count
        if kind == "StatefulSet":
            text = f"members are {node}-0001, {node}-0002 …; Kubernetes would have called them {_name(part)}-0, {_name(part)}-1 …"
            self._draft.comment(("nodes", node), text)
        if kind == "DaemonSet":
            hint = "write count in the node"
            part.notes.note(part.tree, part.path, "runs on every machine of a cluster; here it runs once", hint)
        if not is_task:
            self._draft.nodes[node]["failure_recovery"] = "restart"
        if kind != "Pod":
            spec.ignore(
                "selector", "template", "replicas", "revisionHistoryLimit", "serviceName", "volumeClaimTemplates"
            )
            spec.ignore(
                "parallelism", "completions", "progressDeadlineSeconds", "minReadySeconds", "manualSelector", "suspend"
            )
            spec.rest(
                {
                    "strategy": _STRATEGY,
                    "updateStrategy": _STRATEGY,
                    "podManagementPolicy": ("all members start together", ""),
                    "backoffLimit": ("a task that fails is not run again", "failure_recovery: restart in the node"),
                    "activeDeadlineSeconds": ("there is no limit of time", "end it in the program"),
                    "ttlSecondsAfterFinished": ("history is kept as the orchestrator is configured", ""),
                    "completionMode": ("each member knows its number: NUNET_INDEX", ""),
                }
            )

    def _count(self, spec: Part, kind: str) -> int:
        if kind in ("Job", "CronJob"):
            parallel, total = spec.count("parallelism", 1), spec.count("completions", 1)
            if total > max(parallel, 1) or (parallel > 1 and "completions" in spec):
                reason = f"{total} completions become {max(total, 1)} members that run at the same time"
                spec.note("completions", reason, "each knows its number: NUNET_INDEX")
            return max(1, min(max(total, parallel), MAX_MEMBERS))
        count = spec.count("replicas", 1) if kind not in ("Pod", "DaemonSet") else 1
        if count == 0:
            spec.note("replicas", "none is asked for; here one is started", "delete the node")
        return max(1, min(count, MAX_MEMBERS))

    # services --------------------------------------------------------------------------------------------------------

    def _service(self, part: Part) -> None:
        spec, name = part.part("spec"), _name(part)
        kind = spec.text("type", "ClusterIP")
        selector = spec.pairs("selector")
        spec.ignore("selector", "ports", "clusterIP", "clusterIPs", "sessionAffinity", "ipFamilies", "ipFamilyPolicy")
        spec.ignore("type", "internalTrafficPolicy", "publishNotReadyAddresses")
        spec.rest()
        nodes = [node for node, (labels, _) in self._pods.items() if selector and selector.items() <= labels.items()]
        if not nodes or kind == "ExternalName":
            part.notes.note(part.tree, part.path, "left out: it selects no pod of this file")
            return
        node = nodes[0]
        owner = self._owner(spec, node)
        if len(nodes) > 1 or self._draft.nodes[node].get("count", 1) > 1:
            first = f"{owner}-0001" if self._draft.nodes[node].get("count", 1) > 1 else owner
            reason = f"nothing shares requests out among the pods behind {name!r}"
            part.notes.note(part.tree, part.path, reason, f"ask them by name, such as {first}, or run a proxy")
        else:
            self._dns_name(part, name, owner)
        if kind == "ClusterIP":
            return
        for port in spec.parts("ports"):
            self._port(port, node, kind)

    def _owner(self, spec: Part, node: str) -> str:
        """The allocation that has the ports; the last one when that is not known, since init containers come first."""
        targets = [port.text("targetPort") or port.text("port") for port in spec.parts("ports")]
        known = (self._shared.ports.get((node, target)) for target in targets)
        return next((found[0] for found in known if found), self._pods[node][1][-1])

    def _dns_name(self, part: Part, name: str, allocation: str) -> None:
        members = self._draft.allocations[allocation]
        used = {a.get("dns_name", key).lower() for key, a in self._draft.allocations.items() if key != allocation}
        if name.lower() == members.get("dns_name", allocation).lower():
            return
        if "dns_name" in members or name.lower() in used or not _LABEL.fullmatch(name):
            other = members.get("dns_name", allocation)
            part.notes.note(part.tree, part.path, f"the name {name!r} leads nowhere", f"use {other!r}")
            return
        members["dns_name"] = name

    def _port(self, port: Part, node: str, kind: str) -> None:
        protocol = port.text("protocol", "TCP").lower()
        target = port.text("targetPort") or port.text("port")
        owner, number = self._shared.ports.get((node, target), (self._pods[node][1][-1], 0))
        private = number or (int(target) if target.isascii() and target.isdecimal() and len(target) <= 5 else 0)
        public = port.count("nodePort", 0) if kind == "NodePort" else port.count("port", 0)
        port.ignore("name", "appProtocol", "nodePort", "port")
        if protocol not in ("tcp", "udp") or not private:
            port.notes.note(port.tree, port.path, "left out: it is no port of TCP or UDP that is known by number")
            return
        self._draft.port(node, owner, private, public, protocol, port)


def _name(part: Part) -> str:
    return part.part("metadata").text("name") or part.text("kind").lower() or "pod"


def _content(part: Part, *, is_secret: bool) -> dict[str, str | bytes]:
    found: dict[str, str | bytes] = dict(part.pairs("stringData") if is_secret else part.pairs("data"))
    encoded = part.pairs("data") if is_secret else part.pairs("binaryData")
    for key, text in encoded.items():
        try:
            content = base64.b64decode("".join(text.split()), validate=True)
        except ValueError:
            part.notes.note(part.tree, f"{part.path}.data.{path_part(key)}", "left out: it is not base64")
            continue
        try:
            found[key] = content.decode()
        except UnicodeDecodeError:
            found[key] = content
    if is_secret:
        reason = "its content stands in the ensemble, which providers and the database keep in clear"
        part.notes.note(part.tree, part.path, reason, "put ${NAME} placeholders in its place")
    return found
