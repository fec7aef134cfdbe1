"""Engine parameters of types ``qemu`` and ``firecracker`` (``spec/execution.md`` 3.1), the same for both.

======================  =====================================================================================
``kernel_image``        path of the kernel on the provider (required)
``root_file_system``    path of the root file system on the provider: an image, or a plain folder (required)
``kernel_args``         added to the kernel's command line
``initrd_path``         initial RAM disk of one's own; then nothing of ours runs in the guest
``mmds_message``        content of Firecracker's metadata service: a JSON object
``cmd``                 the program and its arguments; without it the image boots its own init
``environment``         list of ``KEY=VALUE`` for the program
``working_directory``   directory in which it starts
``kernel_modules``      path of ``lib/modules/VERSION`` where the kernel needs modules for its virtual devices
``tap_device``          an existing TAP device of the provider (``nunet tap``); none: no network
``ip_address``          address of the guest on it, such as ``10.20.0.2/24``
``gateway``, ``dns``    its way out, and who answers its questions for names
``timeout``             limit of wall-clock time, such as ``90s``
``machine``             QEMU only: ``pc`` (default) or ``microvm``
======================  =====================================================================================

All paths must lie below directories that the provider allows for this.
"""

from __future__ import annotations

import ipaddress
import json
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dms.executor.errors import InvalidEngineSpec
from dms.executor.params import Params
from dms.types.resources import SpecConfig

QEMU, FIRECRACKER = "qemu", "firecracker"
MACHINES = ("pc", "microvm")
MAX_KERNEL_ARGS_CHARS = 1500
"""Of our own and the user's together the kernel takes 2047."""
MAX_MMDS_CHARS = 50_000
MAX_DEVICE_CHARS = 15
_KNOWN = (
    *("kernel_image", "root_file_system", "kernel_args", "initrd_path", "mmds_message", "cmd", "environment"),
    *("working_directory", "kernel_modules", "tap_device", "ip_address", "gateway", "dns", "timeout", "machine"),
)


@dataclass(frozen=True, slots=True)
class MachineParams:
    """The parameters, checked; paths as they were given."""

    kernel_image: str
    root_file_system: str
    kernel_args: str
    initrd_path: str
    mmds_message: str
    cmd: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    working_directory: str
    kernel_modules: str
    tap_device: str
    ip_address: str
    gateway: str
    dns: str
    timeout_s: float | None
    machine: str

    @classmethod
    def parse(cls, spec: SpecConfig, engine: str) -> MachineParams:
        """Check.

        :raises InvalidEngineSpec: with the parameter and the reason.
        """
        params = Params(spec, engine, known=_KNOWN)
        for key in ("root_file_system", "kernel_image"):
            if not params.text(key).strip():
                raise params.error(f"{key} cannot be empty")
        kernel_args = params.text("kernel_args")
        if len(kernel_args) > MAX_KERNEL_ARGS_CHARS or not kernel_args.isprintable():
            raise params.error(f"kernel_args must be one line of at most {MAX_KERNEL_ARGS_CHARS} characters")
        for name, _ in params.environment():
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise params.error(f'environment holds the name "{name[:64]}"', hint="letters, digits, underscores")
        directory = params.text("working_directory")
        if directory and not PurePosixPath(directory).is_absolute():
            raise params.error("working_directory must be absolute")
        machine = params.text("machine") or MACHINES[0]
        if machine not in MACHINES or (engine != QEMU and params.has("machine")):
            raise params.error(f'machine "{machine[:64]}" is not known here', hint="qemu: pc or microvm")
        if params.has("cmd") and params.text("initrd_path"):
            raise params.error("cmd needs our initial RAM disk", hint="give either cmd or initrd_path")
        if params.text("mmds_message"):
            _check_mmds(params, engine)
        return cls(
            params.text("kernel_image").strip(),
            params.text("root_file_system").strip(),
            kernel_args.strip(),
            params.text("initrd_path").strip(),
            params.text("mmds_message"),
            params.texts("cmd"),
            params.environment(),
            directory,
            params.text("kernel_modules").strip(),
            *_network(params),
            params.duration_s("timeout"),
            machine,
        )


def allowed_path(engine: str, key: str, text: str, directories: tuple[Path, ...], *, is_folder: bool = False) -> Path:
    """The file or folder behind a parameter, resolved; relative names count from the first directory.

    :raises InvalidEngineSpec: it lies elsewhere, also by a link, or is not there.
    """
    path = Path(text)
    if not path.is_absolute() and directories:
        path = directories[0] / path
    path = path.resolve()
    if not any(path.is_relative_to(directory) for directory in directories):
        raise InvalidEngineSpec(
            f"invalid {engine} engine params: {key} is not allowed here: {text[:200]}",
            hint="its file must lie in a directory that the provider allows for images",
        )
    if not (path.is_dir() if is_folder else path.exists()):
        what = "folder" if is_folder else "file"
        raise InvalidEngineSpec(f"invalid {engine} engine params: {key}: there is no {what} {text[:200]}")
    return path


def _network(params: Params) -> tuple[str, str, str, str]:
    tap, address, gateway, dns = (params.text(key) for key in ("tap_device", "ip_address", "gateway", "dns"))
    if not tap:
        if address or gateway or dns:
            raise params.error("ip_address, gateway and dns need a tap_device")
        return "", "", "", ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", tap) or len(tap) > MAX_DEVICE_CHARS or tap in (".", ".."):
        raise params.error(f'tap_device "{tap[:64]}" is not the name of a device')
    try:
        ipaddress.ip_interface(address)
        for one in filter(None, (gateway, dns)):
            ipaddress.ip_address(one)
    except ValueError as exc:
        raise params.error(str(exc)[:200], hint="ip_address: 10.20.0.2/24, gateway: 10.20.0.1") from None
    return tap, address, gateway, dns


def _check_mmds(params: Params, engine: str) -> None:
    text = params.text("mmds_message")
    if engine != FIRECRACKER:
        raise params.error("mmds_message is for firecracker")
    if len(text) > MAX_MMDS_CHARS:
        raise params.error(f"mmds_message is longer than {MAX_MMDS_CHARS} characters")
    try:
        is_object = isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        is_object = False
    if not is_object:
        raise params.error("mmds_message is not a JSON object")
    if not params.text("tap_device"):
        raise params.error("mmds_message needs a network interface", hint="give tap_device and ip_address")
