"""What a linter does not look for: `make check` fails where this prints a line.

The repository describes itself only and installs from wherever the machine says, so it may hold neither paths of
somebody's machine nor addresses of package registries. Product code holds no promises to finish it later, its files
stay short, and what `pyproject.toml` asks for is what `requirements/` pins.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MAX_SOURCE_LINES = 600
MAX_FILE_BYTES = 1 << 20

# Spelled as patterns, so that this file does not hold what it looks for.
MACHINE_PATH = re.compile(r"(?<![\w.$}~])/(?:work|root|home/(?!(?:user|alice|bob|nunet)\b)\w+|Users/\w+)/(?!\.\.\.)")
REGISTRY = re.compile(
    r"\b(?:(?:test[.])?pypi|(?:files[.])?pythonhosted|npmjs|yarnpkg|crates)[.](?:org|com|io)\b"
    r"|\bproxy[.]golang[.]org\b"
    r"|\b(?:deb|security|ftp|snapshot)[.]debian[.]org\b"
)
UNFINISHED = re.compile(r"\b(?:TODO|FIXME|XXX)\b|\braise NotImplementedError\b")
ADDRESS = re.compile(r"://|^\s*(?:--(?:index|extra-index|find-links|trusted-host)|-[if]\s)| @ ")
FOREIGN_LOCKS = {"uv.lock", "poetry.lock", "Pipfile.lock", "pdm.lock"}
NPM_LOCK = "package-lock.json"


def main() -> int:
    """Prints the problems; returns the exit status."""
    problems = [*find_problems(ROOT)]
    for problem in problems:
        print(problem)
    print(f"hygiene: {len(problems)} problems" if problems else "hygiene: clean")
    return 1 if problems else 0


def find_problems(root: Path) -> Iterator[str]:
    """Yields one line per problem, ``path:line: what``."""
    for name in repository_files(root):
        path = root / name
        if path.name in FOREIGN_LOCKS:
            yield f"{name}: versions are pinned in requirements/ only"
        data = path.read_bytes()
        if len(data) > MAX_FILE_BYTES:
            yield f"{name}: {len(data)} bytes; files above {MAX_FILE_BYTES} do not belong into the repository"
        if b"\0" not in data[:8192]:
            yield from text_problems(name, data.decode("utf-8", "replace"))
    yield from pin_problems(root)


def text_problems(name: str, text: str) -> Iterator[str]:
    """Yields the problems of one text file, called ``name`` relative to the root."""
    lines = text.splitlines()
    is_source = name.startswith("src/")
    if is_source and len(lines) > MAX_SOURCE_LINES:
        yield f"{name}: {len(lines)} lines; split what passes {MAX_SOURCE_LINES}"
    for number, line in enumerate(lines, start=1):
        where = f"{name}:{number}"
        if MACHINE_PATH.search(line):
            yield f"{where}: a path of one machine: {line.strip()[:100]}"
        if REGISTRY.search(line):
            yield f"{where}: the address of a package registry"
        if is_source and UNFINISHED.search(line):
            yield f"{where}: unfinished: {line.strip()[:100]}"
        if name.startswith("requirements/") and ADDRESS.search(line):
            yield f"{where}: an address in a lock file"
        if name.endswith(NPM_LOCK) and '"resolved":' in line:
            yield f"{where}: an address in a lock file; npm leaves it out where .npmrc has omit-lockfile-registry-resolved"


def pin_problems(root: Path) -> Iterator[str]:
    """Yields what ``pyproject.toml`` asks for and ``requirements/`` does not pin fittingly."""
    project = tomllib.loads((root / "pyproject.toml").read_text())
    runtime: list[str] = project["project"]["dependencies"]
    groups: dict[str, list[str]] = project["dependency-groups"]
    wanted = {"runtime.txt": runtime, "dev.txt": [*runtime, *groups["dev"]], "docs.txt": groups["docs"]}
    if "bench" in groups:
        wanted["bench.txt"] = groups["bench"]
    for name, asked in wanted.items():
        pins = read_pins(root / "requirements" / name)
        for requirement in map(Requirement, asked):
            version = pins.get(canonicalize_name(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                yield f"requirements/{name}: {requirement} is not pinned there; run: make lock"


def read_pins(path: Path) -> dict[str, str]:
    """Reads which version of which package a requirements file pins."""
    pins = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", path.read_text(), re.MULTILINE)
    return {canonicalize_name(name): version for name, version in pins}


def repository_files(root: Path) -> list[str]:
    """Names of all files that are tracked, or new and not ignored."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    )
    names = sorted(set(listing.stdout.split("\0")) - {""})
    return [name for name in names if (root / name).is_file() and not (root / name).is_symlink()]


if __name__ == "__main__":
    sys.exit(main())
