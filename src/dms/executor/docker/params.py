"""Engine parameters of type ``docker`` (``spec/execution.md`` 2.1, ``spec/ensemble.md`` 2.4), of every era."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dms.executor.docker.images import RegistryAuth
from dms.executor.docker.mounts import checked_target
from dms.executor.params import Params
from dms.types.errors import BadInput
from dms.types.resources import SpecConfig
from dms.types.units import parse_bytes

ENGINE = "docker"
MAX_IMAGE_CHARS = 512
MAX_AUTH_CHARS = 16 * 1024
RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
MAX_PIDS = 4096
MAX_TMPFS = 16


@dataclass(frozen=True, slots=True)
class DockerParams:
    """The parameters, checked."""

    image: str
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    working_directory: str = ""
    privileged: bool = False
    user: str = ""
    """Owner of delivered keys; the workload runs as the image says."""
    restart_policy: str = "no"
    registry_auth: RegistryAuth | None = field(default=None, repr=False)
    read_only: bool = False
    """Ours: nothing of the root file system can be written but ``/tmp``, ``/run`` and the volumes."""
    tmpfs: tuple[tuple[str, int], ...] = ()
    """Ours: (path, bytes) of directories in memory."""
    shm_bytes: int = 0
    """Ours: size of ``/dev/shm``; 0 means the engine's default."""
    pids_limit: int = 0
    """Ours: fewer or more processes than usual; 0 means the usual number."""

    @classmethod
    def parse(cls, spec: SpecConfig) -> DockerParams:
        """Check. Unknown parameters are ignored, as older and newer versions have others.

        :raises InvalidEngineSpec: with the parameter and the reason.
        """
        params = Params(spec, ENGINE)
        image = image_name(params)
        params.environment()  # each must be KEY=VALUE
        policy = params.text("restart_policy") or "no"
        if policy not in RESTART_POLICIES:
            raise params.error(f'restart_policy "{policy[:32]}" is none of {", ".join(RESTART_POLICIES)}')
        return cls(
            image,
            params.texts("entrypoint"),
            params.texts("cmd"),
            params.texts("environment"),
            params.text("working_directory"),
            params.flag("privileged"),
            params.text("user"),
            policy,
            _registry_auth(params, spec),
            params.flag("read_only"),
            tuple(_tmpfs(params)),
            _size(params, "shm_size", params.text("shm_size")) if params.has("shm_size") else 0,
            params.integer("pids_limit", maximum=MAX_PIDS) or 0,
        )


def image_name(params: Params) -> str:
    """The parameter ``image``, which every kind of container has.

    :raises InvalidEngineSpec: it is absent or no name.
    """
    image = params.text("image").strip()
    if not image:
        raise params.error("image cannot be empty")
    if len(image) > MAX_IMAGE_CHARS or not re.fullmatch(r"[\w][\w.:/@+-]*", image, re.ASCII) or ".." in image:
        raise params.error(f'image "{image[:64]}" is not the name of an image')
    if "@" in image and not re.fullmatch(r"[^@]+@sha256:[0-9a-f]{64}", image):
        raise params.error(f'image "{image[:64]}" has a digest that is not sha256:<64 hexadecimal digits>')
    return image


def _registry_auth(params: Params, spec: SpecConfig) -> RegistryAuth | None:
    given = (spec.params or {}).get("registry_auth")
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise params.error("registry_auth must hold username and password")
    name, password = given.get("username"), given.get("password")
    if not isinstance(name, str) or not isinstance(password, str) or not name or not password:
        raise params.error("registry_auth must hold username and password")  # and never what it does hold
    if len(name) + len(password) > MAX_AUTH_CHARS:
        raise params.error(f"registry_auth is longer than {MAX_AUTH_CHARS} characters")
    return RegistryAuth(name, password)


def _tmpfs(params: Params) -> list[tuple[str, int]]:
    found = []
    for target, size in params.mapping("tmpfs").items():
        found.append((checked_target(target), _size(params, "tmpfs", size)))
    if len(found) > MAX_TMPFS:
        raise params.error(f"tmpfs has {len(found)} entries, more than {MAX_TMPFS}")
    return found


def _size(params: Params, key: str, text: str) -> int:
    try:
        size = parse_bytes(text, default_unit="B", what=key)
    except BadInput as exc:
        raise params.error(exc.message[:200], hint=exc.hint) from None
    if size <= 0:
        raise params.error(f"{key} must be larger than 0")
    return size
