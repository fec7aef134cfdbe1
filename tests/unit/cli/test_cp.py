"""``nunet cp``: both directions, with a real ``tar`` in the part of the allocation's."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dms.cli.cp import Place, read_place
from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon
from dms.testing.localnet import nunet_command
from dms.types.errors import BadInput

NS = "/dms/node/deployment/exec"
PIECE = 100_000


class Allocation:
    """Runs what it is asked to in a directory that stands for its root, one command at a time; ``lacks`` is not there."""

    def __init__(self, node: ScriptedDaemon, root: Path) -> None:
        self.root, self.lacks = root, ""
        self.argv: list[str] = []
        self.said: list[tuple[str, bytes]] | None = None
        node.answers |= {f"{NS}/start": self.start, f"{NS}/io": self.turn, f"{NS}/stop": lambda _: {"ok": True}}

    def start(self, payload: Any) -> object:
        self.argv = payload["command"]
        self.heard, self.said, self.code = b"", None, 0
        if not payload.get("stdin"):
            self.run()
        return {"ok": True, "session": "s1"}

    def run(self) -> None:
        if self.argv[0] == self.lacks:
            said = f'exec: "{self.lacks}": executable file not found in $PATH'.encode()
            self.said, self.code = [("stdout", said)], 127
            return
        words = [f"{self.root}{word}" if word.startswith("/") else word for word in self.argv]
        done = subprocess.run(words, input=self.heard, capture_output=True, cwd=self.root, check=False)
        self.said, self.code = [("stdout", done.stdout), ("stderr", done.stderr)], done.returncode

    def turn(self, payload: Any) -> object:
        if payload.get("is_deaf"):
            self.heard += base64.b64decode(payload.get("input", ""))
            if payload.get("input_end"):
                self.run()
            return {"ok": True, "input_taken": len(self.heard)}
        if self.said is None:
            return {"ok": True}
        at, offset = payload.get("offset", 0), 0
        for stream, data in self.said:
            if at < offset + len(data):
                piece = data[at - offset : at - offset + PIECE]
                output = [{"stream": stream, "data": base64.b64encode(piece).decode()}]
                return {"ok": True, "output": output, "offset": at, "next_offset": at + len(piece)}
            offset += len(data)
        return {"ok": True, "offset": offset, "next_offset": offset, "ended": True, "exit_code": self.code}


@pytest.fixture
def there(node: ScriptedDaemon, tmp_path: Path) -> Allocation:
    (tmp_path / "root/data").mkdir(parents=True)
    return Allocation(node, tmp_path / "root")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a tree in it."""
    work = tmp_path / "work"
    (work / "tree/in").mkdir(parents=True)
    (work / "tree/big").write_bytes(os.urandom(1_000_000))
    (work / "tree/in/small").write_text("small")
    (work / "tree/in/up").symlink_to("../big")
    monkeypatch.chdir(work)
    return work


def hashes(of: Path) -> dict[str, str]:
    return {
        str(path.relative_to(of)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(of.rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("web:/data", Place("/data", "web")),
        ("n1.web:rel", Place("rel", "n1.web")),
        ("./a:b", Place("./a:b")),
        ("/a:b", Place("/a:b")),
        ("-", Place("-")),
        ("web:/a:b", Place("/a:b", "web")),
    ],
)
def test_places_are_read(text: str, meant: Place) -> None:
    assert read_place(text) == meant


@pytest.mark.parametrize("text", ["", "web:", ":/data", ":"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        read_place(text)


def test_a_tree_goes_there_and_comes_back(nunet: Nunet, there: Allocation, here: Path) -> None:
    assert nunet("cp", "3f2a", "tree", "web:/data") == (done := nunet("cp", "3f2a", "tree", "web:/data/second"))
    assert (done.code, done.out, done.err) == (0, "", "")
    assert hashes(there.root / "data/tree") == hashes(there.root / "data/second") == hashes(here / "tree")
    assert nunet("cp", "3f2a", "web:/data/tree", "back").code == 0
    assert nunet("cp", "3f2a", "web:/data/tree", ".").code == 0
    assert hashes(here / "back") == hashes(here / "tree")
    assert (here / "back/in/up").readlink() == Path("../big")


def test_one_file_gets_the_name_of_the_target(nunet: Nunet, there: Allocation, here: Path) -> None:
    assert nunet("cp", "3f2a", "tree/in/small", "web:data/other").code == 0
    assert (there.root / "data/other").read_text() == "small"
    assert nunet("cp", "3f2a", "web:/data/other", "mine").code == 0
    assert (here / "mine").read_text() == "small"


def test_standard_input_and_output_carry_bytes(there: Allocation, here: Path) -> None:
    data = os.urandom(300_000)
    command = nunet_command("cp", "3f2a", "-", "web:/data/raw")
    assert subprocess.run(command, input=data, check=True, timeout=60, capture_output=True).stdout == b""
    command = nunet_command("cp", "3f2a", "web:/data/raw", "-")
    assert subprocess.run(command, check=True, timeout=60, capture_output=True).stdout == data


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("tree", "other"), 2, "one of both must be in an allocation"),
        (("web:/a", "web:/b"), 2, "one of both must be in an allocation"),
        (("missing", "web:/data"), 4, "missing does not exist"),
        (("tree", "web:/none/"), 4, "/none/ is no directory in web"),
        (("web:/data", "none/x/y"), 4, "is no directory"),
        (("web:/none", "x"), 1, "No such file or directory"),
        (("tree", "web:/none/x"), 1, "web: tar: "),
        (("web:/none", "-"), 1, "No such file or directory"),
        (("web:/", "x"), 2, "the root of an allocation is not copied"),
    ],
)
def test_what_cannot_be_is_one_line(
    nunet: Nunet, there: Allocation, here: Path, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = nunet("cp", "3f2a", *arguments)
    assert (done.code, done.out) == (code, "")
    assert words in done.err.splitlines()[0]
    assert sorted(path.name for path in here.iterdir()) == ["tree"]


@pytest.mark.parametrize("arguments", [("tree", "web:/data"), ("web:/data", "x")])
def test_without_tar_it_says_so(nunet: Nunet, there: Allocation, here: Path, arguments: tuple[str, ...]) -> None:
    there.lacks = "tar"
    done = nunet("cp", "3f2a", *arguments)
    assert (done.code, done.err.splitlines()[0]) == (4, "Error: there is no tar in web")


def test_a_file_in_the_way_is_named(nunet: Nunet, there: Allocation, here: Path) -> None:
    (there.root / "data/x").write_text("x")
    (here / "taken").write_text("mine")
    done = nunet("cp", "3f2a", "web:/data", "taken")
    assert (done.code, done.err.splitlines()[0]) == (2, "Error: cannot write taken: Not a directory")
    assert (here / "taken").read_text() == "mine"


def test_who_may_not_is_told(nunet: Nunet, there: Allocation, here: Path, node: ScriptedDaemon) -> None:
    refusal = {"ok": False, "error": "this machine runs no commands in the jobs of others"}
    node.answers[f"{NS}/start"] = lambda _: refusal
    done = nunet("cp", "3f2a", "web:/data", "x")
    assert (done.code, done.err) == (1, "Error: this machine runs no commands in the jobs of others\n")
