"""Nomad: a group becomes a node (with a count), its tasks become the allocations of that node."""

from __future__ import annotations

import re

from dms.ensemble.config import COMPLETED
from dms.ensemble.translate import amounts
from dms.ensemble.translate.draft import Draft, Members, literal
from dms.ensemble.translate.files import NEEDS, writing_script
from dms.ensemble.translate.hcl import LABEL
from dms.ensemble.translate.source import Part
from dms.ensemble.tree import Scalar, Tree

SOURCE = "a Nomad job"
MHZ_PER_CORE = 1000.0
"""Nomad counts processors in MHz, an ensemble in cores."""
_CONTAINERS = ("docker", "podman", "containerd-driver")
_REFERENCE = re.compile(r"\$\{\s*(?:var\.)?([A-Za-z0-9_.-]+)\s*\}")
_PLACE = ("machines are chosen by resources and location", "write location in the node, or peer for a certain machine")
_ORDER = ("updates have their own order", "")
_JOB = {
    "datacenters": _PLACE,
    "region": _PLACE,
    "node_pool": _PLACE,
    "constraint": _PLACE,
    "affinity": _PLACE,
    "spread": ("equal nodes go where there is room", "write location in the nodes"),
    "periodic": ("it is deployed once", "call nunet deploy from a timer"),
    "parameterized": ("it is deployed once", "use ${NAME} placeholders for what differs"),
    "update": _ORDER,
    "migrate": _ORDER,
    "multiregion": _PLACE,
    "vault": ("secrets of Vault are not reached", "use keys, or ${NAME} placeholders"),
    "reschedule": ("a lost machine is replaced by the orchestrator", "failure_recovery: redeploy in the node"),
    "consul": ("names are those of the private network", ""),
    "scaling": ("the count stays as it is", "change count and deploy again"),
    "max_client_disconnect": ("the orchestrator decides", ""),
    "disconnect": ("the orchestrator decides", ""),
}
_TASK = {
    "artifact": ("nothing is downloaded before the start", "a volume of type http, s3 or ipfs"),
    "dispatch_payload": ("it is deployed once", "use a volume, or ${NAME} placeholders"),
    "constraint": _PLACE,
    "affinity": _PLACE,
    "user": ("the container runs as the user of its image", "set USER in the image"),
    "vault": _JOB["vault"],
    "identity": ("allocations have identities of their own", ""),
    "secret": ("secrets are not reached", "use keys, or ${NAME} placeholders"),
    "schedule": ("it runs all the time", ""),
    "scaling": _JOB["scaling"],
    "action": ("commands are not kept", "nunet deployment exec runs one"),
    "csi_plugin": ("storage plugins are the provider's", ""),
}


class Nomad:
    """One translation; ``tree`` is a job file as :func:`~dms.ensemble.translate.hcl.parse_hcl` reads it."""

    def __init__(self, tree: Tree, draft: Draft) -> None:
        self._draft = draft
        self._root = Part(tree, "", draft.notes)
        self._variables: dict[str, str] = {}

    def translate(self) -> None:
        """Add everything to the draft."""
        for variable in self._root.parts("variable"):
            default = variable.get("default")
            if isinstance(default, Scalar):
                self._variables[_label(variable)] = default.raw
        for local in self._root.parts("locals"):
            self._variables |= {f"local.{name}": local.text(name) for name in local.names}
        for job in self._root.parts("job"):
            self._job(job)
        self._root.rest()

    def _job(self, job: Part) -> None:
        kind = self._text(job, "type", "service")
        name = _label(job)
        if name:
            self._draft.metadata.setdefault("job", literal(name))
        if kind in ("system", "sysbatch"):
            job.note("type", f"{kind} runs on every machine of a cluster; here it runs once", "write count in the node")
        for group in job.parts("group"):
            self._group(group, is_task=kind in ("batch", "sysbatch"))
        tasks = list(job.parts("task"))
        if tasks:  # a short form: a job of one group
            self._group(job, is_task=kind in ("batch", "sysbatch"))
        job.ignore(LABEL, "name", "id", "namespace", "priority", "meta", "all_at_once", "group", "task", "type", "ui")
        job.rest(_JOB)

    def _group(self, group: Part, *, is_task: bool) -> None:
        tasks = [task for task in group.parts("task") if self._runs(task)]
        if not tasks:
            return
        node = self._draft.name(_label(group) or "group", group, what="node")
        names = {_label(task): self._draft.name(_label(task) or "task", task, what="allocation") for task in tasks}
        self._draft.nodes[node] = {"allocations": list(names.values())}
        count = min(group.count("count", 1), 20_000)
        if count > 1:
            self._draft.nodes[node]["count"] = count
        if count == 0:
            group.note("count", "none is asked for; here one is started", "leave the group out")
        disk = self._disk(group)
        volumes = {_label(volume): volume for volume in group.parts("volume")}
        built: dict[str, Members] = {}
        before: list[Members | str] = []
        after: list[str] = []
        for task in tasks:
            name = names[_label(task)]
            built[name] = self._task(task, name, volumes, disk, is_task=is_task)
            cycle = next(iter(task.parts("lifecycle")), None)
            hook = self._text(cycle, "hook") if cycle else ""
            stays = cycle is not None and self._text(cycle, "sidecar").lower() == "true"
            if hook in ("prestart", "poststart"):
                built[name]["type"] = "service" if stays and not is_task else "task"
            if hook == "prestart":
                before.append(name if stays else {"allocation": name, "condition": COMPLETED})
            elif hook == "poststart":
                after.append(name)
            elif hook:
                task.note("lifecycle", f"the hook {hook} is left out: it starts with the others", "use depends_on")
        first = {need if isinstance(need, str) else need["allocation"] for need in before}
        main = [name for name in built if name not in first and name not in after]
        for name, allocation in built.items():
            if name in main and before:
                allocation["depends_on"] = list(before)
            elif name in after and main:
                allocation["depends_on"] = list(main)
            self._draft.allocations[name] = allocation
        self._network(group, node, tasks, names)
        self._services(group, built, names)
        if any(self._text(part, "attempts", "1") != "0" for part in group.parts("restart")) and not is_task:
            self._draft.nodes[node]["failure_recovery"] = "restart"
        for volume in volumes.values():
            volume.ignore(LABEL, "type", "source", "read_only", "name", "access_mode", "attachment_mode", "per_alloc")
            volume.rest()
        group.ignore(LABEL, "restart", "ephemeral_disk", "meta", "shutdown_delay", "stop_after_client_disconnect")
        if group.path.endswith("]") and ".group[" in f".{group.path}":
            group.rest(_JOB)

    def _disk(self, group: Part) -> int | None:
        sizes = [amounts.mebibytes(self._text(part, "size")) for part in group.parts("ephemeral_disk")]
        return next((size for size in sizes if size), None)

    def _runs(self, task: Part) -> bool:
        driver = self._text(task, "driver")
        image = any("image" in config for config in task.parts("config"))
        if driver in _CONTAINERS and image:
            return True
        reason = (
            f"left out: the driver {driver!r} has no counterpart"
            if image or driver not in _CONTAINERS
            else "has no image"
        )
        hint = "put the program into an image, or use executor wasm or qemu"
        task.notes.note(task.tree, task.path, f"the task {_label(task)!r} {reason}", hint)
        return False

    def _task(self, task: Part, name: str, volumes: dict[str, Part], disk: int | None, *, is_task: bool) -> Members:
        config = _first(task, "config")
        execution: Members = {"type": "docker", "image": literal(self._text(config, "image"))}
        entry = [literal(text) for text in self._texts(config, "entrypoint")]
        command = self._text(config, "command")
        words = [literal(text) for text in ([command] if command else []) + self._texts(config, "args")]
        execution |= {key: value for key, value in (("entrypoint", entry), ("cmd", words)) if value}
        if "work_dir" in config:
            execution["working_directory"] = literal(self._text(config, "work_dir"))
        for key, target in (("privileged", "privileged"), ("readonly_rootfs", "read_only")):
            if config.flag(key):
                execution[target] = True
        allocation: Members = {"type": "task" if is_task else "service", "executor": "docker"}
        environment = self._environment(task)
        if environment:
            execution["environment"] = environment
        allocation["resources"] = self._resources(task, name, disk)
        allocation["execution"] = execution
        self._mounts(task, config, volumes, allocation)
        self._templates(task, name, allocation)
        if "auth" in config:
            config.refuse("auth", "passwords do not belong into files", "write registry_auth with ${NAME} placeholders")
        config.ignore("ports", "force_pull", "image_pull_timeout")
        config.rest(
            {
                "network_mode": ("every allocation has its own address", "use the names of the allocations"),
                "logging": ("logs are read with nunet logs", ""),
                "mount": ("mounts are written as volumes", "write volume"),
                "port_map": ("ports are those of the group's network", "write to in the port"),
            }
        )
        task.ignore(
            LABEL, "driver", "lifecycle", "leader", "kill_timeout", "kill_signal", "meta", "logs", "shutdown_delay"
        )
        task.ignore("restart", "kind", "service")
        task.rest(_TASK)
        return allocation

    def _environment(self, task: Part) -> dict[str, str]:
        found: dict[str, str] = {}
        parts = list(task.parts("env"))
        for part in parts:
            for key in part.names:
                if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                    found[key] = literal(self._text(part, key))
                elif key != LABEL:
                    part.note(key, "left out: it is not a valid name of a variable")
        return found

    def _resources(self, task: Part, name: str, disk: int | None) -> Members:
        part = _first(task, "resources")
        cores = amounts.cores(amounts.plain_number(self._text(part, "cores")))
        mhz = amounts.plain_number(self._text(part, "cpu"))
        if cores is None and mhz:
            cores = amounts.cores(mhz / MHZ_PER_CORE)
            self._draft.comment(("allocations", name, "resources"), f"cpu = {mhz:g} MHz, counted as cores of 1000 MHz.")
        gpus: list[Members] = []
        for device in part.parts("device"):
            kind, number = _label(device) or self._text(device, "name"), device.count("count", 1)
            if "gpu" not in kind:
                device.notes.note(
                    device.tree, device.path, f"the device {kind!r} is left out: only GPUs are handed out"
                )
                continue
            vendor = "AMD/ATI" if "amd" in kind else "Intel" if "intel" in kind else "NVIDIA"
            model = kind.split("/")[2] if kind.count("/") == 2 else ""
            card: Members = {"vendor": vendor} | ({"model": literal(model)} if model else {})
            gpus.append(card | ({"count": min(number, 256)} if number > 1 else {}))
            device.ignore(LABEL, "name")
            device.rest({"constraint": ("cards are chosen by vendor, model and memory", "write vram")})
        own = amounts.mebibytes(self._text(part, "disk"))
        ram = amounts.mebibytes(self._text(part, "memory"))
        part.ignore("memory_max")
        part.rest()
        return self._draft.resources(name, cores=cores, ram_bytes=ram, disk_bytes=own or disk, gpus=gpus)

    def _mounts(self, task: Part, config: Part, volumes: dict[str, Part], allocation: Members) -> None:
        for text in self._texts(config, "volumes"):
            source, _, rest = text.partition(":")
            target, _, options = rest.partition(":")
            self._draft.volume(allocation, source, target, read_only=options == "ro", part=config)
        for mount in task.parts("volume_mount"):
            name = self._text(mount, "volume")
            volume = volumes.get(name)
            source = self._text(volume, "source", name) if volume is not None else name
            read_only = mount.flag("read_only") or (volume is not None and volume.flag("read_only"))
            self._draft.volume(allocation, source, self._text(mount, "destination"), read_only=read_only, part=mount)
            mount.ignore("propagation_mode", "selinux_label")
            mount.rest()

    def _templates(self, task: Part, name: str, allocation: Members) -> None:
        for template in task.parts("template"):
            target, data = self._text(template, "destination"), template.text("data")
            template.ignore("change_mode", "change_signal", "perms", "splay", "env", "uid", "gid", "left_delimiter")
            if not data or "{{" in data:
                reason = "left out: templates are not evaluated" if data else "left out: its source is not in this file"
                template.notes.note(template.tree, template.path, reason, "write the finished text into a script")
                continue
            if template.flag("env"):
                environment = allocation["execution"].setdefault("environment", {})
                for line in data.splitlines():
                    key, equals, text = line.strip().partition("=")
                    if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                        environment[key] = literal(text.strip("\"'"))
                continue
            path = target if target.startswith("/") else f"/{target}"
            script = self._draft.add_script(f"{name}-{path.rpartition('/')[2]}", literal(writing_script({path: data})))
            allocation.setdefault("provision", []).append(script)
            template.notes.note(
                template.tree, template.path, NEEDS, "put the file into the image where there is no shell"
            )

    def _network(self, group: Part, node: str, tasks: list[Part], names: dict[str, str]) -> None:
        for network in group.parts("network"):
            for port in network.parts("port"):
                label = _label(port)
                owner = next(
                    (task for task in tasks if label in self._texts(_first(task, "config"), "ports")), tasks[0]
                )
                static = port.count("static", 0)
                private = port.count("to", static)
                port.ignore(LABEL, "to", "static", "host_network")
                if private == 0:
                    hint = "write to = the port on which the program listens"
                    port.notes.note(port.tree, port.path, f"the port {label!r} is left out: it has no number", hint)
                    continue
                self._draft.port(node, names[_label(owner)], private, static, "tcp", port)
                port.rest()
            network.ignore("mode", "mbits", "m_bits", "hostname", "port")
            network.rest({"dns": ("names are those of the private network", "")})

    def _services(self, group: Part, built: dict[str, Members], names: dict[str, str]) -> None:
        owners = [(group, next(iter(built)))]
        owners += [(task, names[_label(task)]) for task in group.parts("task") if _label(task) in names]
        for owner, name in owners:
            for service in owner.parts("service"):
                wanted = self._text(service, "name")
                task = names.get(self._text(service, "task"), name)
                used = {allocation.get("dns_name", key).lower() for key, allocation in self._draft.allocations.items()}
                is_label = re.fullmatch(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,50}[a-zA-Z0-9])?", wanted)
                if is_label and wanted.lower() not in used and "dns_name" not in built[task]:
                    built[task]["dns_name"] = wanted
                for check in service.parts("check"):
                    self._check(check, built[task])
                service.ignore(
                    "name", "port", "provider", "tags", "canary_tags", "task", "check", "address_mode", "meta"
                )
                service.ignore("port_label", "on_update", "cluster")
                service.rest({"connect": ("there is one private network for the ensemble", "use its names")})

    def _check(self, check: Part, allocation: Members) -> None:
        command = self._text(check, "command")
        if self._text(check, "type") != "script" or not command or "healthcheck" in allocation:
            reason = "left out: only commands inside the container are translated"
            check.notes.note(check.tree, check.path, reason, "write healthcheck: {type: http, endpoint: …}")
            return
        words = [literal(text) for text in [command, *self._texts(check, "args")]]
        health: Members = {"type": "command", "exec": words}
        interval = amounts.interval_text(self._text(check, "interval"))
        allocation["healthcheck"] = health | ({"interval": interval} if interval else {})

    def _text(self, part: Part, name: str, default: str = "") -> str:
        return self._resolved(part, name, part.text(name, default))

    def _texts(self, part: Part, name: str) -> list[str]:
        return [self._resolved(part, name, text) for text in part.texts(name)]

    def _resolved(self, part: Part, name: str, text: str) -> str:
        """The text with the defaults of variables; what only a running cluster knows stays, and is noted."""

        def value(match: re.Match[str]) -> str:
            return self._variables.get(match[1], match[0])

        found = _REFERENCE.sub(value, text)
        if "${" in found:
            part.note(name, "holds an expression that is not evaluated", "write its value", value=found)
        return found


def _first(part: Part, name: str) -> Part:
    return next(part.parts(name), Part(None, part.at(name), part.notes))


def _label(part: Part) -> str:
    entry = part.tree.entries.get(LABEL)
    if entry is not None and isinstance(entry.value, Scalar):
        return entry.value.raw
    return ""
