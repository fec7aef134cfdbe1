"""What runs in a Kubernetes pod: containers become allocations of one node."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass, field

from dms.ensemble.config import COMPLETED
from dms.ensemble.translate import amounts
from dms.ensemble.translate.draft import Draft, Members, literal
from dms.ensemble.translate.files import NEEDS, writing_script
from dms.ensemble.translate.source import Part
from dms.ensemble.tree import Sequence

_PLACE = ("machines are chosen by resources and location", "write location in the node, or peer for a certain machine")
_ISOLATION = ("providers choose the isolation", "")
_POD = {
    "affinity": _PLACE,
    "tolerations": _PLACE,
    "nodeName": ("machines have peer ids", "write peer in the node"),
    "topologySpreadConstraints": ("equal nodes go where there is room", "write location in the nodes"),
    "securityContext": _ISOLATION,
    "serviceAccountName": ("there is no cluster to have rights in", ""),
    "serviceAccount": ("there is no cluster to have rights in", ""),
    "imagePullSecrets": ("passwords do not belong into files", "write registry_auth with ${NAME} placeholders"),
    "hostNetwork": ("every allocation has its own address", "publish ports in the node"),
    "hostPID": ("namespaces are not shared with others", ""),
    "hostIPC": ("namespaces are not shared with others", ""),
    "hostAliases": ("names are those of the private network", ""),
    "dnsConfig": ("names are those of the private network", ""),
    "priorityClassName": ("there are no priorities", ""),
    "runtimeClassName": ("the provider chooses the runtime", ""),
    "terminationGracePeriodSeconds": ("the provider decides how long it waits", ""),
    "activeDeadlineSeconds": ("there is no limit of time", "end it in the program"),
    "shareProcessNamespace": ("containers share nothing but volumes", ""),
    "ephemeralContainers": ("they serve debugging only", ""),
}
_CONTAINER = {
    "lifecycle": ("nothing runs beside the program at start and stop", "provision runs scripts before the start"),
    "startupProbe": ("a check has an interval only", "make healthcheck patient"),
    "readinessProbe": ("nothing shares requests out", "healthcheck watches the program"),
    "volumeDevices": ("block devices are not handed out", "use a volume"),
    "resizePolicy": ("resources stay as they are", ""),
}
_VARIABLE = re.compile(r"\$(?:\$|\(([A-Za-z_][A-Za-z0-9_]*)\))")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
_GPUS = {
    "nvidia.com/gpu": "NVIDIA",
    "amd.com/gpu": "AMD/ATI",
    "gpu.intel.com/i915": "Intel",
    "gpu.intel.com/xe": "Intel",
}


@dataclass
class Shared:
    """What pods refer to."""

    maps: dict[tuple[str, str], dict[str, str | bytes]] = field(default_factory=dict)
    """Content of ConfigMaps and Secrets, by kind and name."""
    claims: set[str] = field(default_factory=set)
    ports: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)
    """By node and by name or number of a port: the allocation, and the number."""


class Pod:
    """One pod; ``spec`` is that of the pod itself."""

    def __init__(self, spec: Part, draft: Draft, shared: Shared, *, name: str, is_task: bool) -> None:
        self._spec, self._draft, self._shared, self._name, self._is_task = spec, draft, shared, name, is_task
        self.claim_templates: set[str] = set()
        self._volumes: dict[str, Part] = {}

    def build(self) -> str:
        """Add node and allocations to the draft; the node's name, or nothing when no container can run."""
        spec = self._spec
        self._volumes = {volume.text("name"): volume for volume in spec.parts("volumes")}
        before = [part for part in spec.parts("initContainers") if self._has_image(part)]
        containers = [part for part in spec.parts("containers") if self._has_image(part)]
        if not containers:
            spec.notes.note(spec.tree, spec.path, "left out: no container with an image is in it")
            return ""
        node = self._draft.name(self._name, spec, what="node")
        parts = before + containers
        alone = len(parts) == 1
        names = [self._allocation_name(part, alone=alone) for part in parts]
        self._draft.nodes[node] = {"allocations": names}

        def after(part: Part, other: str) -> Members | str:
            return other if _stays(part) else {"allocation": other, "condition": COMPLETED}

        for index, (part, name) in enumerate(zip(parts, names, strict=True)):
            is_before = index < len(before) and not _stays(part)
            allocation = self._allocation(part, name, node, is_task=self._is_task or is_before)
            if before and index >= len(before):
                allocation["depends_on"] = [after(part, other) for part, other in zip(before, names, strict=False)]
            elif 0 < index < len(before):
                allocation["depends_on"] = [after(before[index - 1], names[index - 1])]
            self._draft.allocations[name] = allocation
        architecture = _ARCHITECTURES.get(spec.part("nodeSelector").text("kubernetes.io/arch"), "")
        for name in names if architecture else ():
            self._draft.allocations[name]["resources"]["cpu"]["architecture"] = architecture
        selector = spec.part("nodeSelector")
        selector.ignore("kubernetes.io/os")
        selector.rest(dict.fromkeys(selector.names, _PLACE))
        spec.ignore(
            "containers", "initContainers", "volumes", "restartPolicy", "dnsPolicy", "schedulerName", "hostname"
        )
        spec.ignore(
            "nodeSelector", "subdomain", "enableServiceLinks", "automountServiceAccountToken", "setHostnameAsFQDN"
        )
        spec.rest(_POD)
        return node

    def _allocation_name(self, part: Part, *, alone: bool) -> str:
        own = part.text("name", "container")
        part.path = f"{self._spec.path}.{own}"
        wanted = self._name if alone else f"{self._name}-{own}"
        return self._draft.name(wanted, part, what="allocation")

    def _has_image(self, part: Part) -> bool:
        if part.text("image"):
            return True
        part.notes.note(part.tree, part.path, "left out: it has no image")
        return False

    def _allocation(self, part: Part, name: str, node: str, *, is_task: bool) -> Members:
        environment = self._environment(part)
        execution: Members = {"type": "docker", "image": literal(part.text("image"))}
        for key, target in (("command", "entrypoint"), ("args", "cmd")):
            words = [literal(_expanded(text, environment)) for text in part.texts(key)]
            if words:
                execution[target] = words
        if environment:
            execution["environment"] = {key: literal(text) for key, text in environment.items()}
        if "workingDir" in part:
            execution["working_directory"] = literal(part.text("workingDir"))
        self._security(part.part("securityContext"), execution)
        allocation: Members = {
            "type": "task" if is_task else "service",
            "executor": "docker",
            "resources": self._resources(part.part("resources"), name),
            "execution": execution,
        }
        for port in part.parts("ports"):
            number = port.count("containerPort", 0)
            for known in (port.text("name"), str(number)):
                self._shared.ports.setdefault((node, known), (name, number))
            host = port.count("hostPort", 0)
            if host and number:
                self._draft.port(node, name, number, host, port.text("protocol", "TCP").lower(), port)
            port.ignore("hostIP", "protocol")
            port.rest()
        self._probe(part, allocation)
        self._mounts(part, name, allocation, execution)
        part.ignore(
            "name", "imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy", "stdin", "tty", "stdinOnce"
        )
        part.rest(_CONTAINER)
        return allocation

    def _security(self, context: Part, execution: Members) -> None:
        if context.flag("privileged"):
            execution["privileged"] = True
        if context.flag("readOnlyRootFilesystem"):
            execution["read_only"] = True
        context.ignore("allowPrivilegeEscalation", "runAsNonRoot", "seccompProfile")
        user = ("the container runs as the user of its image", "set USER in the image")
        context.rest(
            {
                "runAsUser": user,
                "runAsGroup": user,
                "capabilities": (
                    "containers get few capabilities anyway",
                    "privileged: true, where a provider allows it",
                ),
            }
        )

    def _resources(self, part: Part, name: str) -> Members:
        limits, requests = part.part("limits"), part.part("requests")

        def amount(key: str) -> str:
            return limits.text(key) or requests.text(key)

        gpus: list[Members] = []
        for key, vendor in _GPUS.items():
            number = amount(key)
            if number.isascii() and number.isdecimal() and 0 < int(number[:6]) <= 256:
                gpus.append({"vendor": vendor} | ({"count": int(number)} if int(number) > 1 else {}))
        for side in (limits, requests):
            side.ignore("cpu", "memory", "ephemeral-storage", *_GPUS)
        limits.rest()
        part.ignore("limits", "requests")
        part.rest()
        return self._draft.resources(
            name,
            cores=amounts.cores(amounts.kubernetes_amount(amount("cpu"))),
            ram_bytes=amounts.kubernetes_bytes(amount("memory")),
            disk_bytes=amounts.kubernetes_bytes(amount("ephemeral-storage")),
            gpus=gpus,
        )

    def _environment(self, part: Part) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in part.parts("envFrom"):
            prefix = source.text("prefix")
            for kind, key in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if key not in source:
                    continue
                name = source.part(key).text("name")
                content = self._shared.maps.get((kind, name))
                if content is None:
                    source.note(key, f"left out: there is no {kind} {name!r} in this file", "add its file")
                for member, text in (content or {}).items():
                    if isinstance(text, str) and _ENV_NAME.fullmatch(prefix + member):
                        found[prefix + member] = text
        for variable in part.parts("env"):
            name = variable.text("name")
            if not _ENV_NAME.fullmatch(name):
                variable.notes.note(
                    variable.tree, variable.path, f"left out: {name!r} is not a valid name of a variable"
                )
            elif "valueFrom" in variable:
                value = self._referred(variable)
                if value is not None:
                    found[name] = value
            else:
                found[name] = _expanded(variable.text("value"), found)
        return found

    def _referred(self, variable: Part) -> str | None:
        source = variable.part("valueFrom")
        for kind, key in (("ConfigMap", "configMapKeyRef"), ("Secret", "secretKeyRef")):
            if key in source:
                name, member = source.part(key).text("name"), source.part(key).text("key")
                value = self._shared.maps.get((kind, name), {}).get(member)
                if isinstance(value, str):
                    return value
                variable.note(
                    "valueFrom", f"left out: there is no {member!r} in {kind} {name!r} of this file", "add its file"
                )
                return None
        field_path = source.part("fieldRef").text("fieldPath")
        hint = "members of a group know NUNET_INDEX, NUNET_COUNT and NUNET_GROUP"
        variable.note("valueFrom", f"left out: {field_path or 'it'} is known to Kubernetes only", hint)
        return None

    def _probe(self, part: Part, allocation: Members) -> None:
        probe = part.part("livenessProbe")
        if not probe and "readinessProbe" in part:
            probe = part.part("readinessProbe")
        if not probe:
            return
        words = [literal(text) for text in probe.part("exec").texts("command")]
        http = probe.part("httpGet")
        if words:
            allocation["healthcheck"] = {"type": "command", "exec": words}
        elif http:
            number = self._port_number(part, http.text("port", "80"))
            path = http.text("path", "/")
            if number and re.fullmatch(r"/[!-~]*", path) and http.text("scheme", "HTTP") == "HTTP":
                url = f"http://localhost:{number}{literal(path)}"
                allocation["healthcheck"] = {"type": "http", "endpoint": url}
            else:
                probe.note("httpGet", "left out: a check asks http://localhost:PORT/PATH", "write healthcheck")
        else:
            probe.notes.note(probe.tree, probe.path, "left out: checks are commands or HTTP", "write healthcheck")
        interval = amounts.interval_text(probe.text("periodSeconds", "10"))
        if "healthcheck" in allocation and interval:
            allocation["healthcheck"]["interval"] = interval
        probe.ignore("exec", "httpGet", "tcpSocket", "grpc", "successThreshold")
        for key in ("initialDelaySeconds", "timeoutSeconds", "failureThreshold", "terminationGracePeriodSeconds"):
            probe.refuse(key, "a check has an interval only")
        probe.rest()

    def _port_number(self, part: Part, text: str) -> int:
        if text.isascii() and text.isdecimal() and len(text) <= 5:
            return int(text)
        return next((port.count("containerPort", 0) for port in part.parts("ports") if port.text("name") == text), 0)

    # volumes ---------------------------------------------------------------------------------------------------------

    def _mounts(self, part: Part, name: str, allocation: Members, execution: Members) -> None:
        for mount in part.parts("volumeMounts"):
            wanted, target, below = mount.text("name"), mount.text("mountPath"), mount.text("subPath")
            read_only = mount.flag("readOnly")
            mount.ignore("mountPropagation", "recursiveReadOnly")
            mount.rest()
            volume = self._volumes.get(wanted)
            if wanted in self.claim_templates:
                self._draft.volume(allocation, f"{self._name}-{wanted}", target, read_only=read_only, part=mount)
            elif volume is None or not target.startswith("/"):
                mount.notes.note(mount.tree, mount.path, f"left out: there is no volume {wanted!r} in the pod")
            else:
                self._mount(volume, mount, name, allocation, execution, target, below, read_only=read_only)

    def _mount(
        self,
        volume: Part,
        mount: Part,
        name: str,
        allocation: Members,
        execution: Members,
        target: str,
        below: str,
        *,
        read_only: bool,
    ) -> None:
        if "configMap" in volume or "secret" in volume:
            self._files(volume, mount, name, allocation, target, below)
        elif "emptyDir" in volume:
            empty = volume.part("emptyDir")
            if empty.text("medium") == "Memory":
                size = amounts.kubernetes_bytes(empty.text("sizeLimit")) or 64 * amounts.MEBI
                execution.setdefault("tmpfs", {})[literal(target)] = amounts.size_text(size)
            else:
                self._draft.volume(
                    allocation, f"{self._name}-{volume.text('name')}", target, read_only=read_only, part=mount
                )
        elif "hostPath" in volume:
            self._draft.volume(
                allocation, volume.part("hostPath").text("path"), target, read_only=read_only, part=mount
            )
        elif "persistentVolumeClaim" in volume:
            claim = volume.part("persistentVolumeClaim").text("claimName")
            if below:
                mount.note("subPath", "left out: the whole volume is mounted", "name a volume for it")
            self._draft.volume(allocation, claim, target, read_only=read_only, part=mount)
        else:
            kind = next((key for key in volume.names if key != "name"), "unknown")
            hint = "use a volume of type s3, http, ipfs, glusterfs or local"
            mount.notes.note(mount.tree, mount.path, f"left out: volumes of type {kind} have no counterpart", hint)

    def _files(self, volume: Part, mount: Part, name: str, allocation: Members, target: str, below: str) -> None:
        is_secret = "secret" in volume
        source = volume.part("secret" if is_secret else "configMap")
        kind, wanted = ("Secret", source.text("secretName")) if is_secret else ("ConfigMap", source.text("name"))
        content = self._shared.maps.get((kind, wanted))
        if content is None:
            reason = f"left out: there is no {kind} {wanted!r} in this file"
            mount.notes.note(mount.tree, mount.path, reason, "add its file")
            return
        items = {item.text("key"): item.text("path") for item in source.parts("items")} if "items" in source else None
        paths = items if isinstance(source.get("items"), Sequence) and items else {key: key for key in content}
        chosen = {path: content[key] for key, path in paths.items() if key in content}
        if below:
            chosen = {"": chosen[below]} if below in chosen else {}
        files = {posixpath.join(target, path).rstrip("/"): value for path, value in chosen.items()}
        if not files:
            return
        script = self._draft.add_script(f"{name}-{wanted}", literal(writing_script(files)))
        allocation.setdefault("provision", []).append(script)
        mount.notes.note(mount.tree, mount.path, NEEDS, "put the file into the image where there is no shell")


def _stays(part: Part) -> bool:
    """Whether a container that initialises is a sidecar, which never ends."""
    return part.text("restartPolicy") == "Always"


def _expanded(text: str, environment: dict[str, str]) -> str:
    """``$(NAME)`` replaced; ``$$`` is a dollar sign."""

    def value(match: re.Match[str]) -> str:
        return "$" if match[1] is None else environment.get(match[1], match[0])

    return _VARIABLE.sub(value, text)
