"""Docker Compose: each service becomes an allocation, and services that need each other share a node.

Compose runs everything on one machine. Here named volumes hold inside a node only, so services that share one are put into
one node, and so are those that ``depends_on`` each other or share a network stack, as they talk to each other most; all
others are placed by themselves and find each other by name in the private network.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

from dms.ensemble.config import COMPLETED, HEALTHY, STARTED
from dms.ensemble.translate import amounts
from dms.ensemble.translate.compose_keys import NO_SUCH_PLACE, UNSUPPORTED
from dms.ensemble.translate.draft import Draft, Members, literal
from dms.ensemble.translate.files import MAX_FILES_BYTES, NEEDS, including_script, read_beside, writing_script
from dms.ensemble.translate.interpolation import kept, resolved
from dms.ensemble.translate.source import Part
from dms.ensemble.tree import Mapping as MapTree
from dms.ensemble.tree import Scalar, Sequence

SOURCE = "Docker Compose"
_ARCHITECTURES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}
_PORT = re.compile(
    r"(?:(?P<host>\[[^]]*\]|[\d.]*):)?(?:(?P<public>\d*(?:-\d+)?):)?(?P<private>\d+(?:-\d+)?)(?:/(?P<kind>\w+))?"
)
MAX_PORT_RANGE = 64


class Compose:
    """One translation; ``base`` is the directory of the file, ``env`` gives the values of variables."""

    def __init__(self, root: Part, draft: Draft, base: Path, env: Mapping[str, str]) -> None:
        self._root, self._draft, self._base, self._env = root, draft, base, env
        self._services: dict[str, Part] = {}
        self._names: dict[str, str] = {}
        self._together: dict[str, str] = {}
        """A service that shares its node, by union-find."""
        self._volumes = root.part("volumes")
        self._shared: dict[str, str] = {}
        """The first service that uses a named volume."""

    def translate(self) -> None:
        """Add everything to the draft."""
        root = self._root
        root.ignore("version", "volumes")
        if "name" in root:
            self._draft.metadata["name"] = literal(resolved(root.text("name"), self._env))
        self._services = {name: part for name, part in root.part("services").members() if self._runs(part)}
        for name, part in self._services.items():
            self._names[name] = self._draft.name(name, part, what="allocation")
            self._together[name] = name
        built = {name: self._allocation(name, part) for name, part in self._services.items()}
        self._conditions(built)
        self._place(built)
        for name, volume in self._volumes.members():
            self._named_volume(name, volume)
        root.ignore("configs", "secrets")
        root.rest(
            {
                "networks": (
                    "there is one private network for the whole ensemble",
                    "nothing, unless parts must not meet",
                ),
                "include": ("other files are not read", "translate the output of: docker compose config"),
            }
        )

    def _runs(self, part: Part) -> bool:
        if part.text("image"):
            return True
        hint = "build it, push it to a registry and write image: NAME"
        part.notes.note(part.tree, part.path, "left out: it has no image", hint)
        return False

    # one service -----------------------------------------------------------------------------------------------------

    def _allocation(self, service: str, part: Part) -> Members:
        name = self._names[service]
        execution: Members = {"type": "docker", "image": self._kept(part.text("image"))}
        for key, target in (("entrypoint", "entrypoint"), ("command", "cmd")):
            words = self._command(part, key)
            if words:
                execution[target] = words
        environment = self._environment(part)
        if environment:
            execution["environment"] = environment
        if "working_dir" in part:
            execution["working_directory"] = self._kept(part.text("working_dir"))
        for key in ("privileged", "read_only"):
            if part.flag(key):
                execution[key] = True
        limit = part.count("pids_limit", 0)
        if 0 < limit <= 4096:
            execution["pids_limit"] = limit
        shm = amounts.docker_bytes(self._now(part.text("shm_size")))
        if shm:
            execution["shm_size"] = amounts.size_text(shm)
        allocation: Members = {
            "type": "service",
            "executor": "docker",
            "resources": self._resources(name, part),
            "execution": execution,
        }
        self._dns_name(service, part, allocation)
        self._health(part, allocation)
        self._depends(service, part, allocation)
        self._mounts(service, part, allocation, execution)
        self._files(service, part, allocation)
        part.ignore(
            "ports", "restart", "deploy", "scale", "expose", "container_name", "hostname", "image", "annotations"
        )
        part.ignore("pull_policy", "attach", "stdin_open", "env_file", "platform")
        mode = part.tree.entries.get("network_mode")
        if mode is not None and isinstance(mode.value, Scalar) and mode.value.raw.startswith("service:"):
            self._join(service, mode.value.raw.removeprefix("service:"))
        part.rest(UNSUPPORTED)
        return allocation

    def _command(self, part: Part, key: str) -> list[str]:
        value = part.get(key)
        if isinstance(value, Sequence):
            return [self._kept(text) for text in part.texts(key)]
        text = part.text(key)
        try:
            return [self._kept(word) for word in shlex.split(text)]
        except ValueError:
            part.note(key, "is not a command: a quote is not closed", "write it as a list")
            return []

    def _environment(self, part: Part) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, text in self._env_files(part).items():
            found[name] = literal(text)
        given = part.get("environment")
        listed = isinstance(given, Sequence)
        bare = {text for text in part.texts("environment") if "=" not in text} if listed else set()
        if isinstance(given, MapTree):
            bare = {key for key in given.entries if key not in part.part("environment")}
        for key, text in part.pairs("environment").items():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
                part.note("environment", f"the variable {key!r} is left out: it is not a valid name")
            else:
                found[key] = f"${{{key}:-}}" if key in bare else self._kept(text)
        return found

    def _env_files(self, part: Part) -> dict[str, str]:
        found: dict[str, str] = {}
        value = part.get("env_file")
        paths = [p.text("path") for p in part.parts("env_file")] if _holds_maps(value) else part.texts("env_file")
        for path in paths:
            content = read_beside(self._base, path)
            if content is None:
                part.note(
                    "env_file", "left out: there is no such file beside this one", "write environment", value=path
                )
                continue
            for line in content.decode("utf-8", "replace").splitlines():
                key, equals, text = line.strip().removeprefix("export ").partition("=")
                if equals and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key.strip()):
                    found[key.strip()] = text.strip().strip("\"'")
        return found

    def _resources(self, name: str, part: Part) -> Members:
        deploy = part.part("deploy")
        limits, reserved = deploy.part("resources").part("limits"), deploy.part("resources").part("reservations")
        cpu = limits.text("cpus") or part.text("cpus") or reserved.text("cpus")
        memory = (
            limits.text("memory") or part.text("mem_limit") or reserved.text("memory") or part.text("mem_reservation")
        )
        pids = limits.count("pids", 0)
        cores = amounts.cores(amounts.plain_number(self._now(cpu)))
        ram = amounts.docker_bytes(self._now(memory))
        for where, text, value in (("cpus", cpu, cores), ("memory", memory, ram)):
            if text and value is None:
                part.notes.note(part.tree, f"{part.path}.{where}", "is not an amount, and is ignored", value=text)
        if pids:
            limits.note("pids", "is left out here", "write execution.pids_limit")
        gpus: list[Members] = []
        for device in reserved.parts("devices"):
            gpus += self._gpu(device)
        part.ignore(
            "mem_reservation", "cpus", "mem_limit", "mem_swappiness", "memswap_limit", "cpu_shares", "cpu_quota", "gpus"
        )
        if "gpus" in part:
            count = self._now(part.text("gpus")) if not _holds_maps(part.get("gpus")) else ""
            gpus.append(
                {"vendor": "NVIDIA"} | ({"count": int(count)} if count.isdecimal() and 1 < int(count) < 257 else {})
            )
        platform = self._now(part.text("platform")).split("/")
        architecture = next((_ARCHITECTURES[word] for word in platform if word in _ARCHITECTURES), "")
        limits.rest()
        reserved.rest()
        deploy.ignore("resources", "replicas", "restart_policy", "mode", "labels")
        deploy.rest(
            {
                "placement": (NO_SUCH_PLACE, "write location in the node"),
                "update_config": ("updates have their own order", "nunet deploy --help"),
                "rollback_config": ("updates have their own order", ""),
                "endpoint_mode": ("each member of a group has an address of its own", ""),
            }
        )
        return self._draft.resources(name, cores=cores, ram_bytes=ram, architecture=architecture, gpus=gpus)

    def _gpu(self, device: Part) -> list[Members]:
        kinds = device.texts("capabilities")
        driver, count = device.text("driver"), self._now(device.text("count"))
        ids = device.texts("device_ids")
        device.ignore("options")
        device.rest()
        if "gpu" not in kinds and driver not in ("nvidia", "amd"):
            hint = "only GPUs are handed out: resources.gpus"
            device.notes.note(device.tree, device.path, "left out: devices of the provider are not handed out", hint)
            return []
        number = len(ids) or (int(count) if count.isdecimal() else 1)
        if ids or count == "all":
            device.notes.note(
                device.tree, device.path, f"asks for {number} GPU{'s' if number > 1 else ''}, whichever these are"
            )
        vendor: Members = {"vendor": "AMD/ATI" if driver == "amd" else "NVIDIA"}
        return [vendor | ({"count": min(number, 256)} if number > 1 else {})]

    def _dns_name(self, service: str, part: Part, allocation: Members) -> None:
        domain, host = self._now(part.text("domainname")), self._now(part.text("hostname"))
        wanted = domain or (host if host != service else "")
        if not wanted or wanted == self._names[service]:
            return
        used = {a.get("dns_name", n).lower() for n, a in self._draft.allocations.items()}
        label = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,50}[a-zA-Z0-9])?"
        if not domain and host:
            part.note("hostname", "others find it by the name of the service, not by this one", "write dns_name")
        elif re.fullmatch(rf"{label}(?:\.{label}){{0,3}}", wanted) and wanted.lower() not in used | set(
            self._names.values()
        ):
            allocation["dns_name"] = wanted
        else:
            part.note("domainname", "left out: it is no name for the private network, or taken", value=wanted)

    def _health(self, part: Part, allocation: Members) -> None:
        check = part.part("healthcheck")
        if not check or check.flag("disable"):
            return
        test = check.get("test")
        words = [self._kept(text) for text in check.texts("test")]
        if isinstance(test, Scalar) and words:
            words = ["sh", "-c", words[0]]
        elif words[:1] == ["CMD-SHELL"]:
            words = ["sh", "-c", " ".join(words[1:])]
        elif words[:1] == ["CMD"]:
            words = words[1:]
        if words and words != ["NONE"]:
            health: Members = {"type": "command", "exec": words}
            interval = amounts.interval_text(self._now(check.text("interval")))
            allocation["healthcheck"] = health | ({"interval": interval} if interval else {})
        check.ignore("disable", "interval")
        for key in ("timeout", "retries", "start_period", "start_interval"):
            check.refuse(key, "a check has an interval only")
        check.rest()

    def _depends(self, service: str, part: Part, allocation: Members) -> None:
        value = part.get("depends_on")
        conditions = part.part("depends_on") if isinstance(value, MapTree) else None
        names = conditions.names if conditions else tuple(part.texts("depends_on"))
        for name in dict.fromkeys(names):
            if name not in self._names or name == service:
                part.note("depends_on", f"{name!r} is left out: no such service is translated")
                continue
            condition = conditions.part(name).text("condition", STARTED) if conditions else STARTED
            allocation.setdefault("depends_on", []).append({"allocation": self._names[name], "condition": condition})
            self._join(service, name)

    def _conditions(self, built: Mapping[str, Members]) -> None:
        """A condition is written where it is not what a name alone means."""
        by_name = {self._names[service]: allocation for service, allocation in built.items()}
        for service, allocation in built.items():
            for need in allocation.get("depends_on", ()):
                if need["condition"] == COMPLETED:
                    by_name[need["allocation"]]["type"] = "task"
                    continue
                has_check = "healthcheck" in by_name[need["allocation"]]
                if need["condition"] == HEALTHY and not has_check:
                    reason = f"the start of {need['allocation']!r} is waited for: no health check of it is in this file"
                    self._services[service].note("depends_on", reason, "write its healthcheck out")
                if has_check == (need["condition"] == HEALTHY) or not has_check:
                    del need["condition"]
            if "depends_on" in allocation:
                allocation["depends_on"] = [
                    need if "condition" in need else need["allocation"] for need in allocation["depends_on"]
                ]

    # volumes and files -----------------------------------------------------------------------------------------------

    def _mounts(self, service: str, part: Part, allocation: Members, execution: Members) -> None:
        value = part.get("volumes")
        items = value.items if isinstance(value, Sequence) else ()
        for index, item in enumerate(items):
            place = Part(
                item if isinstance(item, MapTree) else MapTree({}, item.mark),
                f"{part.at('volumes')}[{index}]",
                part.notes,
            )
            if isinstance(item, Scalar):
                source, target, options = _split_mount(self._now(item.raw))
                read_only, kind = "ro" in options, "bind" if source.startswith(("/", ".", "~")) else "volume"
            else:
                source, target = self._now(place.text("source")), self._now(place.text("target"))
                read_only, kind = place.flag("read_only"), self._now(place.text("type", "volume"))
                place.ignore("consistency")
            if kind == "tmpfs":
                size = amounts.docker_bytes(self._now(place.part("tmpfs").text("size")))
                execution.setdefault("tmpfs", {})[target] = amounts.size_text(size or 64 * amounts.MEBI)
            elif kind not in ("bind", "volume"):
                place.notes.note(item, place.path, f"left out: volumes of type {kind!r} are not known")
            elif not target:
                place.notes.note(
                    item, place.path, "is an anonymous volume: files stay in the container", "name the volume"
                )
            else:
                self._mount(service, allocation, source, target, read_only=read_only, part=place)
            place.ignore("bind", "volume", "tmpfs")
            place.rest()
        for text in part.texts("tmpfs"):
            path, _, said = self._now(text).partition(":")
            size = amounts.docker_bytes(next((o[5:] for o in said.split(",") if o.startswith("size=")), ""))
            if path.startswith("/"):
                execution.setdefault("tmpfs", {})[literal(path)] = amounts.size_text(size or 64 * amounts.MEBI)

    def _mount(
        self, service: str, allocation: Members, source: str, target: str, *, read_only: bool, part: Part
    ) -> None:
        if not source.startswith(("/", ".", "~")):
            options = self._volumes.part(source).part("driver_opts")
            device = self._now(options.text("device"))
            if device.startswith("/"):
                source = device
            else:
                self._join(service, self._shared.setdefault(source, service))
        self._draft.volume(allocation, source, target, read_only=read_only, part=part)

    def _named_volume(self, name: str, volume: Part) -> None:
        options = volume.part("driver_opts")
        if not options.text("device").startswith("/"):
            volume.refuse(
                "driver_opts", "volumes lie on the provider's disk", "use a volume of type s3, http or glusterfs"
            )
        volume.ignore("driver_opts", "name", "labels")
        if volume.text("driver", "local") != "local":
            volume.note(
                "driver", "left out: volumes lie on the provider's disk", "use type glusterfs, s3, http or ipfs"
            )
        if volume.flag("external"):
            volume.note("external", f"{name!r} begins empty on the provider", "fill it from s3, http or ipfs")
        volume.rest()

    def _files(self, service: str, part: Part, allocation: Members) -> None:
        for kind, folder in (("configs", "/"), ("secrets", "/run/secrets/")):
            value = part.get(kind)
            items = value.items if isinstance(value, Sequence) else ()
            defined = self._root.part(kind)
            for index, item in enumerate(items):
                path = f"{part.at(kind)}[{index}]"
                entry = Part(item, path, part.notes) if isinstance(item, MapTree) else None
                name = entry.text("source") if entry else item.raw if isinstance(item, Scalar) else ""
                target = (entry.text("target") if entry else "") or name
                target = target if target.startswith("/") else folder + target
                body = self._file(defined.part(name), target)
                if body is None:
                    part.notes.note(
                        item, path, f"left out: the content of {name!r} is not in this file", "add a script"
                    )
                    continue
                script = self._draft.add_script(f"{self._names[service]}-{name}", body)
                allocation.setdefault("provision", []).append(script)
                part.notes.note(item, path, NEEDS, "put the file into the image where there is no shell")

    def _file(self, source: Part, target: str) -> str | None:
        if "content" in source:
            return literal(writing_script({target: source.text("content")}))
        if "environment" in source:
            return including_script(literal(target), f"${{{source.text('environment')}:-}}")
        path = self._now(source.text("file"))
        content = read_beside(self._base, path)
        if content is None or len(content) > MAX_FILES_BYTES:
            return None
        try:
            return literal(writing_script({target: content.decode()}))
        except UnicodeDecodeError:
            return literal(writing_script({target: content}))

    # places ----------------------------------------------------------------------------------------------------------

    def _place(self, built: dict[str, Members]) -> None:
        members: dict[str, list[str]] = {}
        for service in built:
            members.setdefault(self._leader(service), []).append(service)
        for services in members.values():
            first = services[0]
            part = self._services[first]
            node = self._draft.name(self._names[first], part, what="node")
            allocations = [self._names[service] for service in services]
            self._draft.nodes[node] = {"allocations": allocations}
            if len(services) > 1:
                self._draft.comment(("nodes", node), "On one machine: they depend on each other or share a volume.")
            counts = {service: self._count(self._services[service]) for service in services}
            if len(services) == 1 and counts[first] > 1:
                self._draft.nodes[node]["count"] = counts[first]
            for service, count in counts.items():
                if count > 1 and len(services) > 1:
                    reason = f"{count} replicas become one: it shares its machine with others"
                    self._services[service].note("deploy", reason, "give it a node of its own, with count")
            self._restart(services, node)
            for service in services:
                self._draft.allocations[self._names[service]] = built[service]
                self._ports(service, node)

    def _count(self, part: Part) -> int:
        count = part.part("deploy").count("replicas", part.count("scale", 1))
        return max(1, min(count, 20_000))

    def _restart(self, services: list[str], node: str) -> None:
        for service in services:
            part = self._services[service]
            policy = part.text("restart") or part.part("deploy").part("restart_policy").text("condition")
            if policy.partition(":")[0] in ("always", "unless-stopped", "on-failure", "any"):
                self._draft.nodes[node]["failure_recovery"] = "restart"

    def _ports(self, service: str, node: str) -> None:
        part = self._services[service]
        value = part.get("ports")
        for index, item in enumerate(value.items if isinstance(value, Sequence) else ()):
            place = Part(
                item if isinstance(item, MapTree) else MapTree({}, item.mark),
                f"{part.at('ports')}[{index}]",
                part.notes,
            )
            if isinstance(item, Scalar):
                text = self._now(item.raw)
                match = _PORT.fullmatch(text.strip())
                if match is None:
                    place.notes.note(item, place.path, "is not a port, and is ignored", value=text)
                    continue
                public, private, kind = match["public"] or match["host"] or "", match["private"], match["kind"] or "tcp"
                public = public if not match["host"] or match["public"] else (public if public.isdecimal() else "")
            else:
                public, private = self._now(place.text("published")), self._now(place.text("target"))
                kind = self._now(place.text("protocol", "tcp"))
                place.ignore("mode", "name", "app_protocol", "host_ip")
                place.rest()
            self._port_range(node, service, private, public, kind, place)

    def _port_range(self, node: str, service: str, private: str, public: str, kind: str, place: Part) -> None:
        inner, outer = _range(private), _range(public)
        if kind not in ("tcp", "udp") or not inner or len(inner) > MAX_PORT_RANGE:
            reason = "left out: ports are tcp or udp, and at most 64 in one range"
            place.notes.note(place.tree, place.path, reason, value=private)
            return
        for offset, port in enumerate(inner):
            number = outer[offset] if len(outer) == len(inner) else 0
            self._draft.port(node, self._names[service], port, number, kind, place)

    def _join(self, one: str, other: str) -> None:
        if other in self._together:
            self._together[self._leader(one)] = self._leader(other)

    def _leader(self, service: str) -> str:
        while self._together[service] != service:
            service = self._together[service]
        return service

    def _kept(self, text: str) -> str:
        return kept(text, self._env)

    def _now(self, text: str) -> str:
        return resolved(text, self._env)


def _holds_maps(value: object) -> bool:
    return isinstance(value, Sequence) and any(isinstance(item, MapTree) for item in value.items)


def _split_mount(text: str) -> tuple[str, str, tuple[str, ...]]:
    source, colon, rest = text.partition(":")
    if not colon:
        return "", "", ()
    target, _, options = rest.partition(":")
    return source, target, tuple(options.split(","))


def _range(text: str) -> range:
    first, dash, last = text.partition("-")
    if not (first.isascii() and first.isdecimal() and len(first) <= 5):
        return range(0)
    if dash and not (last.isascii() and last.isdecimal() and len(last) <= 5):
        return range(0)
    return range(int(first), int(last if dash else first) + 1)
