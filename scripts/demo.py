"""The main job, shown as it happens: a local network of three nodes deploys a real ensemble, and nothing is left behind.

Every step is a command that a person could type; the demo prints it and runs it. Needs neither root nor Docker; where a
Docker engine answers, a container is deployed as well, and for root a web server that another container finds by its name.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NUNET = Path(sys.executable).with_name("nunet")
NODES = 3
TIMEOUT_S = 180
IMAGE = "nunet-demo/hello:latest"
PYTHON_IMAGE = "nunet-demo/python:latest"


class DemoFailed(Exception):
    """A step did not do what it should."""


class Demo:
    """Runs commands against one local network."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = os.environ | {
            "DMS_NETWORK": "devnet",
            "DMS_NETWORK_FILE": str(directory / "network.json"),
            "PYTHONUNBUFFERED": "1",
        }
        for name in ("DMS_PASSPHRASE", "DMS_NODE", "BOOTSTRAP_PEERS"):
            self.env.pop(name, None)

    def show(self, *args: str) -> None:
        """Run ``nunet ARGS`` before the audience's eyes."""
        print(f"\n\x1b[1m$ nunet {' '.join(args)}\x1b[0m" if sys.stdout.isatty() else f"\n$ nunet {' '.join(args)}")
        sys.stdout.flush()
        code = subprocess.run([NUNET, *args], env=self.env, cwd=ROOT, timeout=TIMEOUT_S, check=False).returncode
        if code != 0:
            raise DemoFailed(f"nunet {' '.join(args)} ended with code {code}")

    def ask(self, *args: str) -> str:
        """Run ``nunet ARGS`` for its output."""
        done = subprocess.run(
            [NUNET, *args], env=self.env, cwd=ROOT, timeout=TIMEOUT_S, check=False, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise DemoFailed(f"nunet {' '.join(args)} ended with code {done.returncode}: {done.stderr.strip()}")
        return done.stdout.strip()

    def wait_for(self, what: str, *args: str, holds: str, within_s: float = 30.0) -> None:
        """Ask until the answer contains ``holds``."""
        give_up = time.monotonic() + within_s
        while holds not in self.ask(*args):
            if time.monotonic() > give_up:
                raise DemoFailed(f"{what} did not happen within {within_s:.0f} s")
            time.sleep(0.3)


def main() -> int:
    """Run the demo; the exit code."""
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="nunet-demo-"))
    demo = Demo(directory / "net")
    is_up = False
    try:
        title("A network of three nodes, each a process with its own keys, capabilities, directories and ports")
        is_up = True
        demo.show("devnet", "up", "-n", str(NODES), "--dir", str(demo.directory))
        wordcount(demo)
        if docker_answers():
            container(demo)
            web(demo)
        else:
            title("No Docker engine answers here: the container example is left out")
    except (DemoFailed, subprocess.TimeoutExpired) as exc:
        print(f"\nThe demo failed: {exc}", file=sys.stderr)
        return_code = 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return_code = 130
    else:
        return_code = 0
    finally:
        if is_up and (demo.directory / "network.json").exists():
            title("The end: every process is stopped, every file is removed")
            demo.show("devnet", "down", "--dir", str(demo.directory))
        shutil.rmtree(directory, ignore_errors=True)
    if return_code == 0:
        print(f"\nDone in {time.monotonic() - began:.0f} s; nothing is left behind.")
    return return_code


def wordcount(demo: Demo) -> None:
    """Two tasks and a service, as WebAssembly, on two machines."""
    title("Two of them offer resources; from the third we deploy two tasks and a service, run as WebAssembly")
    demo.show("validate", "examples/wordcount.yaml")
    demo.show("deploy", "-f", "examples/wordcount.yaml", "--progress")
    deployment = json.loads(demo.ask("get", "deployments", "--output", "json"))
    identifier = find_id(deployment)[:12]
    demo.wait_for("the end of both tasks", "events", identifier, holds="left.wordcount ended: completed")
    demo.wait_for("the end of both tasks", "events", identifier, holds="right.linestats ended: completed")
    demo.show("status", identifier)
    for allocation in ("left.wordcount", "right.linestats", "right.ticker"):
        demo.show("logs", identifier, allocation, "--tail", "14")
    title("While the service runs, its provider has less to give")
    for node in ("1", "2"):
        demo.show("--node", node, "get", "allocations")
        demo.show("--node", node, "get", "resources")
    title("The service ends when we say so; then everything is given back")
    demo.show("shutdown", identifier)
    demo.show("status", identifier)
    demo.show("events", identifier)
    for node in ("1", "2"):
        demo.show("--node", node, "get", "resources")


def container(demo: Demo) -> None:
    """One container from an image that is built here and now."""
    title(f"A Docker engine answers: the image {IMAGE} is made from this machine's shell, and deployed")
    build_image()
    try:
        demo.show("deploy", "-f", "examples/hello-docker.yaml", "--progress", "--until", "ended")
        identifier = find_id(json.loads(demo.ask("get", "deployments", "--output", "json")))[:12]
        demo.show("logs", identifier)
        demo.show("status", identifier)
    finally:
        subprocess.run(["docker", "rmi", "-f", IMAGE], check=False, capture_output=True)


def web(demo: Demo) -> None:
    """A server and a visitor in containers on two machines."""
    if os.geteuid() != 0:
        title("Without root there are no private networks between containers: that example is left out")
        return
    title("A web server in one container, found by its name from a container on the other machine")
    build_python_image()
    demo.env["IMAGE"] = PYTHON_IMAGE
    try:
        demo.show("deploy", "-f", "examples/web.yaml", "--progress")
        identifier = find_id(json.loads(demo.ask("get", "deployments", "--output", "json")))[:12]
        demo.wait_for("the visit", "events", identifier, holds="there.visitor ended: completed")
        demo.show("logs", identifier, "there.visitor")
        demo.show("shutdown", identifier)
    finally:
        subprocess.run(["docker", "rmi", "-f", PYTHON_IMAGE], check=False, capture_output=True)


def find_id(listed: object) -> str:
    """The newest deployment's id out of the JSON of ``get deployments``."""
    rows = listed.get("deployments", []) if isinstance(listed, dict) else listed
    if not isinstance(rows, list) or not rows:
        raise DemoFailed("there is no deployment")
    return str(rows[0]["orchestrator_id"])


def docker_answers() -> bool:
    """Whether ``docker`` is installed and reaches an engine."""
    if shutil.which("docker") is None:
        return False
    try:
        return subprocess.run(["docker", "version"], check=False, capture_output=True, timeout=10).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def build_image() -> None:
    """An image with nothing but this machine's shell and the libraries that it needs: no registry is asked."""
    shell = Path("/bin/sh").resolve()
    import_image(IMAGE, {"bin/sh": shell} | libraries_of([shell]))


def build_python_image() -> None:
    """An image with this machine's Python and its standard library."""
    python, library = Path(sys.executable).resolve(), Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "__pycache__"}
    modules = [path for path in library.rglob("*") if path.is_file() and not left_out & set(path.parts)]
    files = {str(path).lstrip("/"): path for path in (python, *modules)}
    files |= libraries_of([python, *(path for path in modules if path.suffix == ".so")])
    import_image(PYTHON_IMAGE, files, links={"usr/bin/python3": python})  # it finds its library beside where it is


def libraries_of(programs: list[Path]) -> dict[str, Path]:
    """The shared libraries that programs of this machine need, by their places without the first slash."""
    command = ["ldd", *map(str, programs)]
    linked = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    found = {word for word in linked.split() if word.startswith("/") and not word.endswith(":")}
    return {path.lstrip("/"): Path(path) for path in sorted(found)}


def import_image(name: str, files: dict[str, Path], links: dict[str, Path] | None = None) -> None:
    """Make an image of files and of links to them."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for target, source in files.items():
            data = source.read_bytes()
            info = tarfile.TarInfo(target)
            info.size, info.mode = len(data), 0o755
            tar.addfile(info, io.BytesIO(data))
        for target, source in (links or {}).items():
            info = tarfile.TarInfo(target)
            info.type, info.linkname = tarfile.SYMTYPE, str(source)
            tar.addfile(info)
    command = ["docker", "import", "-", name]
    done = subprocess.run(command, input=archive.getvalue(), check=False, capture_output=True)
    if done.returncode != 0:
        raise DemoFailed(f"docker import: {done.stderr.decode(errors='replace').strip()}")


def title(text: str) -> None:
    """A heading."""
    rule = "─" * min(len(text), 100)
    print(f"\n{rule}\n{text}\n{rule}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
