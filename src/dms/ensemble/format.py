"""The format itself: every key, what it may hold, and what it is for (``spec/ensemble.md`` 2).

To add a field: add it here, in :mod:`~dms.ensemble.config`, and, when it refers to something else, a rule in
:mod:`~dms.ensemble.rules`. Reading, suggestions and the JSON schema follow from this table.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from dms.ensemble.checks import (
    WASM_SOURCES,
    check_healthcheck,
    check_key,
    check_location,
    check_volume,
    check_wasm,
)
from dms.ensemble.containers import Lazy, ListOf, MapOf, Member, Object
from dms.ensemble.dependencies import DependsOn
from dms.ensemble.dialect import (
    CONTINENTS,
    Edge,
    Environment,
    HealthCheck,
    Keys,
    Remembered,
    ResourcesOrTemplate,
    Templates,
    Volumes,
    continent_code,
    version_name,
)
from dms.ensemble.execution import ANYTHING, ByType, Execution, TypeName
from dms.ensemble.groups import MAX_COUNT
from dms.ensemble.kinds import Bool, Bytes, Duration, Integer, Number, Text
from dms.ensemble.machine_format import RESOURCES
from dms.ensemble.storage import ANY_STORAGE, STORAGE
from dms.ensemble.texts import (
    DNS_NAME,
    FILLED,
    IMAGE,
    LABEL_KEY,
    MAX_DNS_NAME_CHARS,
    MAX_TEXT_CHARS,
    NAME,
    REFERENCE,
    SCRIPT_NAME,
    TEXT,
    TEXTS,
)
from dms.resources.declared import MAX_HOURS, PRICE, PROOF, WANTED_LIBRARY

NODE_RECOVERY = ("stay_down", "restart", "redeploy")
ALLOCATION_RECOVERY = ("stay_down", "one_for_one", "one_for_all", "rest_for_one")
EXECUTORS = ("docker", "wasm", "null", "qemu", "firecracker", "containerd")


ENVIRONMENT = Environment(
    Text(
        pattern=r"[a-zA-Z_][a-zA-Z0-9_]*=[\s\S]*",
        max_chars=MAX_TEXT_CHARS,
        what="KEY=VALUE",
        advice="the key begins with a letter and holds letters, digits and underscores",
    ),
    name=Text(
        pattern=r"[a-zA-Z_][a-zA-Z0-9_]*", what="a valid name of a variable", advice="letters, digits, underscores"
    ),
)
IMAGE_NAME = Text(
    pattern=IMAGE, what="a valid image name", advice="write [registry/]name[:tag][@sha256:digest], in lower case"
)
_CONTAINER = {
    "image": Member(IMAGE_NAME, "image: [registry/]name[:tag]", required=True),
    "entrypoint": Member(TEXTS, "in place of the image's entry point"),
    "cmd": Member(TEXTS, "arguments of the entry point"),
    "environment": Member(ENVIRONMENT, "variables, as a map or a list of KEY=VALUE"),
    "working_directory": Member(TEXT, "directory in which it starts"),
}
TEXT_SIZE = Text(pattern=r"\d+ ?([kKMGT]i?)?B?", what="a size", advice="write it like 16MiB")
DOCKER = Object(
    _CONTAINER
    | {
        "privileged": Member(Bool(), "all rights on the machine; the provider must allow it"),
        "restart_policy": Member(
            Text(choices=("no", "on-failure", "always", "unless-stopped"), what="a restart policy"),
            "no, on-failure, always or unless-stopped",
        ),
        "registry_auth": Member(
            Object(
                {
                    "username": Member(FILLED, "name at the registry", required=True),
                    "password": Member(FILLED, "password; travels in clear inside the ensemble", required=True),
                }
            ),
            "login at the registry",
        ),
        "user": Member(TEXT, "owner of delivered keys; root unless given"),
        "read_only": Member(Bool(), "the root file system cannot be written, but /tmp, /run and /var/tmp"),
        "tmpfs": Member(
            MapOf(TEXT_SIZE, Text(pattern=r"/[^\0]{1,255}", what="an absolute path")),
            "directories in memory: path to size, such as 16MiB",
        ),
        "shm_size": Member(TEXT_SIZE, "size of /dev/shm, such as 128MiB"),
        "pids_limit": Member(Integer(minimum=1, maximum=4096), "number of processes; 1024 unless given"),
    }
)
CONTAINERD = Object(
    _CONTAINER
    | {
        "runtime": Member(
            Text(choices=("io.containerd.runc.v2", "io.containerd.kata.v2", "runc", "kata"), what="a runtime"),
            "how it is isolated",
        )
    }
)
_MACHINE = {
    "kernel_image": Member(FILLED, "kernel: path on the provider", required=True),
    "root_file_system": Member(FILLED, "root file system: an image or a folder on the provider", required=True),
    "kernel_args": Member(TEXT, "added to the command line of the kernel"),
    "initrd_path": Member(TEXT, "initial RAM disk: path on the provider", also=("initrd",)),
    "cmd": Member(TEXTS, "the program and its arguments; without it the image boots its own init"),
    "environment": Member(ENVIRONMENT, "variables, as a map or a list of KEY=VALUE"),
    "working_directory": Member(TEXT, "directory in which the program starts"),
    "kernel_modules": Member(TEXT, "lib/modules/VERSION on the provider, where the kernel needs modules"),
    "tap_device": Member(TEXT, "TAP device of the provider; none: no network"),
    "ip_address": Member(TEXT, "address of the guest on it, such as 10.20.0.2/24"),
    "gateway": Member(TEXT, "the guest's way out"),
    "dns": Member(TEXT, "the guest's name server"),
    "timeout": Member(Duration(stays_text=True), "limit of wall-clock time, such as 90s"),
}
FIRECRACKER = Object(_MACHINE | {"mmds_message": Member(TEXT, "content of the metadata service: a JSON object")})
QEMU = Object(
    _MACHINE | {"machine": Member(Text(choices=("pc", "microvm"), what="a machine"), "pc (default) or microvm")}
)
WASM = Object(
    {
        "module": Member(Bytes(), "the program: ${file:prog.wasm}"),
        "module_path": Member(
            Text(pattern=r"/[\s\S]*", max_chars=4096, what="an absolute path"), "or where the provider has it"
        ),
        "module_url": Member(
            Text(pattern=r"https?://[^\s/][\S]*", max_chars=4096, what="an address of http or https"),
            "or its address; module_sha256 is required then",
        ),
        "module_cid": Member(
            Text(
                pattern=r"(?:ipfs://|/ipfs/)?[0-9A-Za-z]{2,256}",
                max_chars=264,
                what="a content id",
                advice="ipfs add --cid-version=1 prog.wasm tells it",
            ),
            "or its content id in IPFS",
        ),
        "module_gateway": Member(
            Text(pattern=r"https?://[^\s/][\S]*", max_chars=4096, what="an address of http or https"),
            "the trustless gateway to ask for module_cid; the provider's unless given",
        ),
        "module_sha256": Member(
            Text(
                pattern=r"[0-9a-fA-F]{64}",
                max_chars=64,
                what="64 hexadecimal digits",
                advice="sha256sum prog.wasm tells them",
            ),
            "what the program's SHA-256 must be",
        ),
        "args": Member(TEXTS, "arguments, the first is argv[1]"),
        "environment": Member(ENVIRONMENT, "variables, as a map or a list of KEY=VALUE"),
        "stdin": Member(TEXT, "text on standard input"),
        "fuel": Member(Integer(minimum=1), "limit of executed instructions, about"),
        "timeout": Member(Duration(stays_text=True), "limit of wall-clock time, such as 90s"),
        "max_cpu_s": Member(Number("max_cpu_s"), "limit of processor time in seconds"),
        "files": Member(
            MapOf(
                Bytes(),
                Text(
                    pattern=r"(?:/(?!\.{1,2}(?:/|$))[^/\0]{1,255})+",
                    max_chars=1024,
                    what="a path inside the sandbox",
                    advice="begin with /, without . and .. and a final /",
                ),
            ),
            "files inside the sandbox: absolute path to content",
        ),
    },
    check=check_wasm,
    constraint={
        "oneOf": [{"required": [source]} for source in WASM_SOURCES],
        "dependentRequired": {"module_url": ["module_sha256"], "module_gateway": ["module_cid"]},
    },
)
NULL = Object({"duration": Member(Duration(stays_text=True), "how long it runs")})
EXECUTION = Execution(
    {"docker": DOCKER, "wasm": WASM, "null": NULL, "qemu": QEMU, "firecracker": FIRECRACKER, "containerd": CONTAINERD}
)

KEY = Object(
    {
        "type": Member(Text(choices=("ssh", "gpg"), what="a type of key"), "ssh or gpg", required=True),
        "file": Member(FILLED, "content of the key: ${file:…}", required=True),
        "dest": Member(FILLED, "path in the sandbox; ssh keys go to the user's authorized keys without it"),
    },
    check=check_key,
)
HEALTH_CHECK = Object(
    {
        "type": Member(
            Text(choices=("command", "http", "tcp"), what="a healthcheck type"), "command, http or tcp", required=True
        ),
        "exec": Member(ListOf(TEXT, minimum=1, what="text"), "command inside the sandbox"),
        "endpoint": Member(
            Text(
                pattern=r"(https?|tcp)://\S+",
                max_chars=2048,
                what="an http or tcp URL",
                advice="write http://localhost:port/path or tcp://localhost:port",
            ),
            "URL asked from the provider",
        ),
        "response": Member(
            Object(
                {
                    "type": Member(TEXT, "string"),
                    "value": Member(TEXT, "text that the answer must contain (command) or be (http)"),
                }
            ),
            "expected answer",
        ),
        "interval": Member(Duration(), "time between two checks; 30s unless given"),
        "timeout": Member(Duration(), "how long one may take; 5s unless given, at most 10s"),
        "start_delay": Member(Duration(), "how long after a start failures do not count"),
        "failures": Member(Integer(maximum=100), "how many in a row are a failure of the allocation; 3 unless given"),
    },
    check=check_healthcheck,
)
_VOLUME: Final[dict[str, Member]] = {
    "type": Member(
        TypeName(choices=("local", "glusterfs", *STORAGE), what="a type of volume"),
        "local, glusterfs, s3, http, ipfs or, with a dot, a plugin's",
        required=True,
    ),
    "mount_destination": Member(
        FILLED, "path in the sandbox", required=True, aliases=("path", "mountpoint", "mount_point")
    ),
    "read_only": Member(Bool(), "whether it can be written to"),
    "name": Member(TEXT, "name of a glusterfs volume"),
    "src": Member(FILLED, "local: absolute path on the provider, or a name"),
    "servers": Member(ListOf(FILLED, what="host"), "hosts of glusterfs"),
    "client_private_key": Member(TEXT, "TLS key", aliases=("ssl_key",)),
    "client_pem": Member(TEXT, "TLS certificate", aliases=("ssl_cert",)),
    "client_ca": Member(TEXT, "TLS authority", aliases=("ssl_ca",)),
    "params": Member(
        ANY_STORAGE,
        "s3, http, ipfs: what is downloaded; the members of that type",
    ),
    "upload": Member(Execution(STORAGE, what="a storage"), "where the content goes when the workload has ended"),
}
VOLUME = ByType(
    _VOLUME,
    check=partial(check_volume, storage=STORAGE),
    foreign=Object(_VOLUME | {"params": Member(ANYTHING, "what the plugin understands")}),
)
ALLOCATION = Object(
    {
        "type": Member(
            Text(choices=("task", "service"), what="a type of allocation"),
            "task (ends by itself) or service (runs until shut down)",
            required=True,
        ),
        "executor": Member(
            TypeName(choices=EXECUTORS, what="an executor"),
            "docker, wasm, qemu, firecracker, null or, with a dot, a plugin's; the same as execution.type",
            required=True,
        ),
        "resources": Member(
            ResourcesOrTemplate(RESOURCES), "cpu, ram and disk, or the name of a template in resources", required=True
        ),
        "execution": Member(EXECUTION, "type, and beside it the parameters of the executor", required=True),
        "dns_name": Member(
            Text(
                pattern=DNS_NAME,
                max_chars=MAX_DNS_NAME_CHARS,
                what="a valid DNS name",
                advice="use letters, digits and dashes, parted by dots",
            ),
            "name in the private network; the allocation's name unless given",
        ),
        "keys": Member(Keys(KEY), "keys to deliver: type, file, dest"),
        "provision": Member(ListOf(REFERENCE, what="script"), "names in scripts, run in this order before it starts"),
        "healthcheck": Member(HealthCheck(HEALTH_CHECK), "how to see whether it is well", aliases=("health_check",)),
        "volume": Member(Volumes(VOLUME), "storage that it sees", aliases=("volumes",)),
        "failure_recovery": Member(
            Text(choices=ALLOCATION_RECOVERY, what="a way to recover"), f"one of {', '.join(ALLOCATION_RECOVERY)}"
        ),
        "depends_on": Member(
            DependsOn(REFERENCE), "allocations, of any node, that start before; a name, or allocation and condition"
        ),
    },
    definition="allocation",
)

LOCATION = Object(
    {
        "continent": Member(
            Text(choices=tuple(CONTINENTS), what="a continent", fold=continent_code),
            "AF, AN, AS, EU, NA, OC or SA",
            aliases=("region",),
        ),
        "country": Member(Text(pattern=r"[A-Za-z]{2}", what="a country code", advice="use two letters"), "two letters"),
        "city": Member(FILLED, "name; needs country"),
        "asn": Member(Integer(minimum=1, maximum=2**32 - 1), "number of the autonomous system"),
        "isp": Member(FILLED, "name of the network's provider"),
    },
    minimum=1,
    check=check_location,
    constraint={"dependentRequired": {"city": ["country"]}},
    definition="location",
)
PORT = Object(
    {
        "public": Member(
            Integer(minimum=1025, maximum=65535, extra=frozenset({0})),
            "port of the provider; 0 or nothing lets it choose",
        ),
        "private": Member(Integer(minimum=1, maximum=65535), "port of the allocation", required=True),
        "allocation": Member(REFERENCE, "allocation of this node", required=True),
        "protocol": Member(Text(choices=("tcp", "udp"), what="a protocol"), "tcp (unless given) or udp"),
    }
)
REQUIREMENTS = Object(
    {
        "libraries": Member(
            ListOf(Text(pattern=WANTED_LIBRARY, what="a library", advice="write it like openmpi >= 4.1, or openmpi")),
            "software that the machine must have: its name, and the version that will do",
        ),
        "prices": Member(
            ListOf(
                Text(pattern=PRICE, what="a price", advice="write it like NTX 0.5, or NTX 0.5 2 with a fee per job")
            ),
            "the most that is paid, per hour and perhaps once; of several currencies one will do",
        ),
        "proofs": Member(
            ListOf(Text(pattern=PROOF, what="a proof", advice="write it like iso27001, or iso27001 certificate-77")),
            "proofs of who runs the machine: a type, and perhaps its data",
        ),
        "max_hours": Member(Integer(minimum=1, maximum=MAX_HOURS), "how long it runs at most"),
    },
    definition="requirements",
)
NODE = Object(
    {
        "allocations": Member(ListOf(REFERENCE, minimum=1, what="name"), "names of its allocations", required=True),
        "ports": Member(ListOf(PORT, what="port"), "ports that are open to the world"),
        "location": Member(
            Object(
                {
                    "accept": Member(ListOf(LOCATION, what="place"), "one of these must match"),
                    "reject": Member(ListOf(LOCATION, what="place"), "none of these may match"),
                }
            ),
            "where the machine may be",
        ),
        "peer": Member(Text(pattern=r"\S+", what="a peer id"), "id of the one machine that shall run it"),
        "redundancy": Member(Integer(maximum=100), "number of standby copies"),
        "failure_recovery": Member(
            Text(choices=NODE_RECOVERY, what="a way to recover"), f"one of {', '.join(NODE_RECOVERY)}"
        ),
        "count": Member(
            Integer(minimum=1, maximum=MAX_COUNT), "a group of so many equal nodes: NAME-0001, NAME-0002 …"
        ),
        "requires": Member(REQUIREMENTS, "what the machine must have or accept beside resources"),
    },
    definition="node",
)
SUPERVISOR: Object = Object(
    {
        "strategy": Member(
            Text(choices=("OneForOne", "AllForOne", "RestForOne"), what="a strategy"),
            "OneForOne, AllForOne or RestForOne",
            required=True,
        ),
        "allocations": Member(ListOf(REFERENCE, what="name"), "who is supervised"),
        "children": Member(ListOf(Lazy(lambda: SUPERVISOR), what="supervisor"), "supervisors below"),
    },
    definition="supervisor",
)
DID = Text(pattern=r"did:\S+", what="a DID", advice="a DID begins with did:", max_chars=2048)
CONTRACT = Object(
    {
        "did": Member(DID, "DID of the contract", required=True),
        "host": Member(DID, "DID of the contract's host", required=True),
        "provider": Member(DID, "DID of the provider"),
        "requestor": Member(DID, "DID of the requestor"),
    }
)

V1 = Object(
    {
        # what allocations refer to comes first
        "keys": Member(Remembered(MapOf(FILLED, LABEL_KEY), "root_keys"), "public SSH keys by name"),
        "scripts": Member(Remembered(MapOf(Bytes(), SCRIPT_NAME), "root_scripts"), "scripts by name: ${file:setup.sh}"),
        "allocations": Member(
            MapOf(ALLOCATION, NAME, minimum=1, when_empty="at least one allocation must be defined"),
            "the workloads by name",
            required=True,
        ),
        "nodes": Member(
            MapOf(NODE, NAME, minimum=1, when_empty="at least one node must be defined"),
            "places on machines by name, each with its allocations",
            required=True,
        ),
        "edges": Member(ListOf(Edge(REFERENCE), what="edge"), "bounds between two nodes", also=("edge_constraints",)),
        "supervisor": Member(SUPERVISOR, "who is restarted with whom"),
        "escalation_strategy": Member(
            Text(choices=("redeploy", "teardown"), what="an escalation strategy"), "redeploy or teardown"
        ),
        "subnet": Member(
            Object(
                {
                    "join": Member(Bool(), "whether the orchestrator's own node becomes a member"),
                    "required": Member(Bool(), "whether to run only where allocations get an address of their own"),
                }
            ),
            "the private network",
        ),
        "exclude_peers": Member(ListOf(FILLED, what="peer id"), "machines that must not be used"),
        "metadata": Member(MapOf(TEXT, LABEL_KEY), "free labels"),
        "contracts": Member(MapOf(CONTRACT, LABEL_KEY), "contracts under which it runs"),
    }
)
"""The canonical root, inside its version envelope."""

FILE = Object(
    {
        "version": Member(
            Text(choices=("V1",), what="a version of this format", fold=version_name),
            'write version: "V1"',
            required=True,
        ),
        "resources": Member(Templates("resource_templates"), "templates of resources by name"),
        "volumes": Member(Templates("volume_templates"), "templates of volumes by name"),
    }
    | dict(V1.members),
    free_keys=r"^x-",
)
"""What a person writes; keys that begin with ``x-``, and those that bear an anchor, are theirs."""
