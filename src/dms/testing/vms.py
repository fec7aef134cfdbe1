"""What tests of microVMs boot: Debian's kernel, a folder with BusyBox, and a Firecracker that only plays one."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
from functools import cache
from pathlib import Path

import yaml

from dms.executor.docker.holder import program_of
from dms.executor.kvm import kvm_works

KERNEL_VARIABLE = "DMS_TEST_VM_KERNEL"
"""Where a kernel lies that QEMU boots; else one of the system's is taken."""
MODULES_VARIABLE = "DMS_TEST_VM_MODULES"
"""``lib/modules/VERSION`` of that kernel."""
FIRECRACKER_KERNEL_VARIABLE = "DMS_TEST_FIRECRACKER_KERNEL"
"""Where a kernel lies that Firecracker boots, which takes none that is packed."""
APPLETS = ("cat", "echo", "false", "head", "id", "kill", "ls", "mkdir", "sh", "sleep", "touch", "true", "yes", "httpd")

ECHO_PORT = 9000
_X86_64 = 62
_ECHO = bytes.fromhex(
    "4881ec00100000bf0a000000be0200000031d2b8290000000f0589c3"  # socket(AF_INET6, SOCK_DGRAM, 0)
    "31c048890424488944240848894424104889442418c704240a002328"  # at any address of both families, port 9000
    "89df4889e6ba1c000000b8310000000f05"  # bind
    "c74424201c00000089df488d742440bad00700004531d24989e04c8d4c2420b82d0000000f05"  # recvfrom, of at most 2,000 bytes
    "89c289df488d7424404531d24989e041b91c000000b82c0000000f05ebbc"  # sendto whoever that was, and again
)
"""As BusyBox serves nothing by UDP."""

_JAILER = """#!/bin/sh
set -eu
echo "$@" >"$0.args"
while [ $# -gt 0 ]; do
  case $1 in
    --id) id=$2 ;;
    --exec-file) file=$2 ;;
    --uid | --gid) [ "$2" -ge 0 ] ;;
    --chroot-base-dir) base=$2 ;;
    --) shift && break ;;
    *) echo "Found argument '$1' which wasn't expected" >&2 && exit 1 ;;
  esac
  shift 2
done
expr "$id" : '[A-Za-z0-9-]\\{1,64\\}$' >/dev/null || { echo "Invalid instance ID" >&2 && exit 1; }
name=${file##*/}
case $name in *firecracker*) ;; *) echo "Jailer: the file name must contain firecracker" >&2 && exit 1 ;; esac
cd "$base/$name/$id/root"
cp "$file" "$name"
exec "./$name" --id "$id" "$@"
"""


@cache
def test_kernel() -> Path | None:
    """A kernel for QEMU, if there is one."""
    given = os.environ.get(KERNEL_VARIABLE)
    if given:
        return Path(given)
    found = sorted(Path("/boot").glob("vmlinuz-*cloud*")) + sorted(Path("/boot").glob("vmlinuz-*"))
    return found[0] if found else None


def test_modules() -> Path | None:
    """The modules of that kernel, if they are there."""
    given = os.environ.get(MODULES_VARIABLE)
    if given:
        return Path(given)
    kernel = test_kernel()
    modules = Path("/lib/modules") / kernel.name.removeprefix("vmlinuz-") if kernel else None
    return modules if modules is not None and modules.is_dir() else None


def missing_for_qemu() -> str:
    """Why machines of QEMU cannot be booted here; empty when they can."""
    if platform.machine() != "x86_64":
        return "needs an x86-64 machine"
    if shutil.which("qemu-system-x86_64") is None or shutil.which("busybox") is None:
        return "needs QEMU and BusyBox: apt-get install qemu-system-x86 busybox-static"
    kernel = test_kernel()
    if kernel is None or not os.access(kernel, os.R_OK):
        return f"needs a kernel: apt-get install linux-image-cloud-amd64, or {KERNEL_VARIABLE}=path"
    return ""


def make_images(directory: Path) -> Path:
    """A folder of images: ``vmlinuz``, ``modules`` where there are some, and the folder ``root`` with BusyBox."""
    directory.mkdir(parents=True, exist_ok=True)
    kernel = test_kernel()
    if kernel is not None:
        shutil.copy(kernel, directory / "vmlinuz")
    else:
        (directory / "vmlinuz").write_bytes(b"no kernel, but a file")
    modules = test_modules()
    if modules is not None:
        shutil.copytree(modules, directory / "modules", ignore=_but_virtio)
    make_root(directory / "root")
    return directory


def make_root(directory: Path) -> Path:
    """A root file system of BusyBox and ``udp_echo``, which sends back what comes by UDP at :data:`ECHO_PORT`."""
    found = shutil.which("busybox")
    if found is None:
        raise FileNotFoundError("busybox not found: apt-get install -y busybox-static")
    for name in ("bin", "etc", "tmp"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(found, directory / "bin" / "busybox")
    for name in APPLETS:
        (directory / "bin" / name).symlink_to("busybox")
    echo = directory / "bin" / "udp_echo"
    echo.write_bytes(program_of(_X86_64, _ECHO))
    echo.chmod(0o755)
    return directory


def make_firecracker(directory: Path, description: Path) -> Path:
    """A program that is used in place of ``firecracker``; see :mod:`dms.testing.firecracker`."""
    directory.mkdir(parents=True, exist_ok=True)
    schema = directory / "description.json"
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the fast one is not always there
    schema.write_text(json.dumps(yaml.load(description.read_bytes(), Loader=loader)))  # noqa: S506  both are safe
    program = directory / "firecracker"
    source = Path(__file__).with_name("firecracker.py")
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S {source} --description {schema} "$@"\n')
    program.chmod(0o755)
    return program


def make_jailer(directory: Path) -> Path:
    """A program that is used in place of ``jailer``: it takes what the real one must be given and nothing else, puts the
    program into the jail as that does, and starts it there; it keeps nobody in. ``jailer.args`` beside it has the words."""
    directory.mkdir(parents=True, exist_ok=True)
    program = directory / "jailer"
    program.write_text(_JAILER)
    program.chmod(0o755)
    return program


def missing_for_firecracker() -> str:
    """Why no machine of the real Firecracker can be booted here; empty when one can."""
    if shutil.which("firecracker") is None or shutil.which("busybox") is None:
        return "needs Firecracker on the PATH, and BusyBox: apt-get install busybox-static"
    if not os.environ.get(FIRECRACKER_KERNEL_VARIABLE):
        return (
            f"needs an uncompressed kernel with a serial line and virtio built in: {FIRECRACKER_KERNEL_VARIABLE}=path"
        )
    return "" if kvm_works() else "needs KVM that works"


def _but_virtio(directory: str, names: list[str]) -> set[str]:
    """Of a kernel's hundreds of megabytes of modules, what tests do not need."""
    wanted = ("virtio", "failover")
    return {
        name for name in names if not (Path(directory) / name).is_dir() and not any(part in name for part in wanted)
    }
