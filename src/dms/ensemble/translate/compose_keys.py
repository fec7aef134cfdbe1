"""What Docker Compose has and no provider does: why, and what to do instead."""

from __future__ import annotations

NO_SUCH_PLACE = "which machine runs it is chosen by resources and location"
UNSUPPORTED = {
    "build": ("images are not built by providers", "build it, push it to a registry and name it under image"),
    "extends": ("other files are not read", "write the service out: docker compose config"),
    "networks": ("all services are in one private network", "nothing, unless they must not reach each other"),
    "network_mode": ("every allocation has its own address", "use the names of the services"),
    "devices": ("devices of the provider are not handed out", "ask for GPUs with resources.gpus"),
    "cap_add": ("providers grant no more capabilities", "privileged: true, where a provider allows it"),
    "cap_drop": ("containers get few capabilities anyway", "nothing"),
    "security_opt": ("providers choose the isolation", "nothing"),
    "user": ("the container runs as the user of its image", "set USER in the image"),
    "links": ("services find each other by name", "use depends_on for the order"),
    "extra_hosts": ("names are those of the private network", "write the address into the configuration"),
    "dns": ("names are those of the private network", ""),
    "sysctls": ("the kernel belongs to the provider", ""),
    "ulimits": ("limits are those of the resources", ""),
    "logging": ("logs are read with nunet logs", "nothing"),
    "cgroup_parent": ("the provider decides", ""),
    "pid": ("namespaces are not shared with others", ""),
    "ipc": ("namespaces are not shared with others", ""),
    "stop_grace_period": ("the provider decides how long it waits", ""),
    "stop_signal": ("it is stopped with SIGTERM", "trap SIGTERM"),
    "profiles": ("all services are translated", "delete those that are not wanted"),
    "init": ("the entry point is process 1", "use tini in the image"),
    "runtime": ("the provider chooses the runtime", ""),
    "volumes_from": ("volumes are named one by one", "write them under volumes"),
    "labels": ("nobody reads them", "metadata of the ensemble is searchable"),
    "tty": ("there is no terminal", "nunet runs without one"),
    "group_add": ("the container runs as the user of its image", "set it in the image"),
}
