"""Builds the Debian package: `make deb`. Prints its path.

    scripts/package.py [--out dist]

The package holds an environment of its own in /usr/lib/nunet: everything that requirements/runtime.txt pins, compiled for
the minor version of Python that builds it, on which it then depends. Two builds of one commit are equal.
"""

from __future__ import annotations

import argparse
import compileall
import gzip
import os
import py_compile
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from string import Template

from dms import __version__

ROOT = Path(__file__).resolve().parent.parent
BIN = ROOT / ".venv" / "bin"
HOME = "usr/lib/nunet"
PLUGINS = "/usr/local/lib/nunet/plugins"
SHELLS = {
    "bash": "usr/share/bash-completion/completions/nunet",
    "zsh": "usr/share/zsh/vendor-completions/_nunet",
    "fish": "usr/share/fish/vendor_completions.d/nunet.fish",
}
SOURCE_ONLY = ("varint", "python-baseconv")
"""Pure Python that its authors do not publish as wheels."""


def main() -> int:
    """Builds; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="nunet-package-") as folder:
        stage = Path(folder, "stage")
        lay_out(stage, Path(folder))
        print(pack(stage, options.out))
    return 0


def lay_out(stage: Path, scratch: Path) -> None:
    """Put below ``stage`` what lies below / on a machine that has the package."""
    minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
    home, site = stage / HOME, stage / HOME / "lib" / minor / "site-packages"
    site.mkdir(parents=True)
    (home / "bin").mkdir()
    for name in ("python", "python3"):
        (home / "bin" / name).symlink_to(f"/usr/bin/{minor}")
    (home / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {minor.removeprefix('python')}\n"
    )
    install(site, scratch)
    (site / "nunet-plugins.pth").write_text(f"{PLUGINS}\n")
    shutil.rmtree(site / "trio-stubs", ignore_errors=True)  # of a trio of years ago
    shutil.rmtree(site / "bin", ignore_errors=True)
    for record in site.glob("*.dist-info/RECORD"):
        record.unlink()  # names of what was installed elsewhere; dpkg keeps the list
    compileall.compile_dir(
        site,
        quiet=1,
        stripdir=str(stage),
        prependdir="/",
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
    )
    program = _copied(ROOT / "packaging" / "nunet", stage / "usr/bin/nunet")
    program.chmod(0o755)
    _copied(ROOT / "packaging" / "nunet.service", stage / "usr/lib/systemd/system/nunet.service")
    _copied(ROOT / "LICENSE", stage / "usr/share/doc/nunet-dms/copyright")
    _zipped((ROOT / "CHANGELOG.md").read_bytes(), stage / "usr/share/doc/nunet-dms/changelog.gz")
    _zipped(_output(sys.executable, "scripts/manual_page.py"), stage / "usr/share/man/man1/nunet.1.gz")
    for shell, place in SHELLS.items():
        path = stage / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_output(str(BIN / "nunet"), "completion", shell))


def install(site: Path, scratch: Path) -> None:
    """Install what is pinned, and the project, into ``site``."""
    uv = str(BIN / "uv")
    target = [uv, "pip", "install", "--quiet", "--python", sys.executable, "--target", str(site), "--link-mode=copy"]
    source = [word for name in SOURCE_ONLY for word in ("--no-binary", name, "--no-build-isolation-package", name)]
    environ = os.environ | {"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    pins = ["--require-hashes", "--only-binary", ":all:", *source, "-r", "requirements/runtime.txt"]
    subprocess.run([*target, *pins], check=True, cwd=ROOT, env=environ)
    wheels = scratch / "wheels"
    build = [uv, "build", "--quiet", "--wheel", "--no-build-isolation", "--python", sys.executable]
    subprocess.run([*build, "--out-dir", str(wheels)], check=True, cwd=ROOT, env=environ)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run([*target, "--no-deps", str(wheel)], check=True, cwd=ROOT, env=environ)


def pack(stage: Path, out: Path) -> Path:
    """Make the package out of ``stage``; where it lies."""
    arch = _output("dpkg", "--print-architecture").decode().strip() if shutil.which("dpkg") else "amd64"
    path = out / f"nunet-dms_{__version__}_{arch}.deb"
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or _output("git", "log", "-1", "--format=%ct").decode().strip()
    values = {
        "STAGE": str(stage),
        "ARCH": arch,
        "VERSION": __version__,
        "PYTHON": f"{sys.version_info.major}.{sys.version_info.minor}",
    }
    recipe = stage.with_name("nfpm.yaml")
    recipe.write_text(Template((ROOT / "packaging" / "nfpm.yaml").read_text()).substitute(values))
    command = [str(BIN / "nfpm"), "package", "--config", str(recipe), "--packager", "deb", "--target", str(path)]
    environ = os.environ | {"SOURCE_DATE_EPOCH": epoch}
    subprocess.run(command, check=True, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL)
    return path


def _copied(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    return target


def _zipped(data: bytes, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(gzip.compress(data, 9, mtime=0))


def _output(*command: str) -> bytes:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("DMS_")}
    return subprocess.run(command, check=True, cwd=ROOT, env=environ, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    sys.exit(main())
