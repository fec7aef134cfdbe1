"""``nunet exec``: both directions, exit codes, and what becomes of answers that are lost."""

from __future__ import annotations

import base64
import os
import pty
import signal
import subprocess
import sys
import threading
from typing import Any

import pytest

from dms.testing.commandline import Nunet
from dms.testing.daemon import ScriptedDaemon

NS = "/dms/node/deployment/exec"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class Command:
    """Says what it has to say piece by piece, and then what it was told; ends when its input does."""

    def __init__(self, node: ScriptedDaemon, *pieces: tuple[str, bytes], code: int = 0, echoes: bool = False) -> None:
        self.pieces, self.code, self.echoes = list(pieces), code, echoes
        self.heard, self.is_input_over, self.is_stopped = b"", not echoes, False
        self.got_input = threading.Event()
        """Set once it was told two bytes."""
        node.answers |= {
            f"{NS}/start": self.start,
            f"{NS}/io": self.turn,
            f"{NS}/stop": self.stop,
        }

    def start(self, payload: Any) -> object:
        self.asked = payload
        return {"ok": True, "session": "s1"}

    def turn(self, payload: Any) -> object:
        assert payload["session"] == "s1"
        data = base64.b64decode(payload.get("input", ""))
        if payload.get("is_deaf"):
            data = data[:3]  # it takes three bytes at a time
            assert payload.get("input_offset", 0) == len(self.heard)
            self.heard += data
            if len(self.heard) >= 2:
                self.got_input.set()
            self.is_input_over |= payload.get("input_end", False)
            return {"ok": True, "input_taken": len(self.heard)}
        said = b"".join(data for _, data in self.pieces)
        if self.pieces and payload.get("offset", 0) < len(said):
            output, offset = [], 0
            for stream, data in self.pieces:
                if offset >= payload.get("offset", 0):
                    output.append({"stream": stream, "data": b64(data)})
                offset += len(data)
            return {
                "ok": True,
                "output": output[:1],
                "next_offset": payload.get("offset", 0) + len(base64.b64decode(output[0]["data"])),
            }
        if self.is_input_over and self.echoes:
            self.pieces.append(("stdout", self.heard))
            self.echoes = False
            return self.turn(payload)
        ended = self.is_input_over
        answer: dict[str, Any] = {"ok": True, "next_offset": payload.get("offset", 0), "ended": ended}
        return answer | ({"exit_code": self.code} if ended else {})

    def stop(self, _payload: Any) -> object:
        self.is_stopped = self.is_input_over = True
        return {"ok": True}


def test_both_outputs_and_the_exit_code_come_back(node: ScriptedDaemon, nunet: Nunet) -> None:
    command = Command(node, ("stdout", b"out\xff"), ("stderr", b"err"), ("stdout", b"put"), code=7)
    done = nunet("exec", "3f2a", "serve", "--", "sh", "-c", "echo -t")
    assert (done.code, done.out, done.err) == (7, "out�put", "err")
    assert command.asked == {"id": "3f2a", "allocation": "serve", "command": ["sh", "-c", "echo -t"]} | {
        "rows": 24,
        "columns": 80,
    }


def test_our_input_is_its_input_to_the_last_byte(node: ScriptedDaemon) -> None:
    command = Command(node, echoes=True)
    words = [sys.executable, "-m", "dms.cli.main", "exec", "-i", "3f2a", "serve", "--", "cat"]
    done = subprocess.run(words, input=b"hello\x00 world", capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"hello\x00 world", b"")
    assert command.asked["stdin"]
    assert command.heard == b"hello\x00 world"


def test_ctrl_c_ends_the_command(node: ScriptedDaemon) -> None:
    command = Command(node, ("stdout", b"up\n"), echoes=True)
    words = [sys.executable, "-m", "dms.cli.main", "exec", "3f2a", "serve", "--", "sleep", "100"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert command.is_stopped


def test_at_a_terminal_every_key_goes_to_the_command_but_the_way_out(node: ScriptedDaemon) -> None:
    command = Command(node, ("stdout", b"\x1b[2Jready\r\n"), echoes=True)
    main, side = pty.openpty()
    words = [sys.executable, "-m", "dms.cli.main", "exec", "-it", "3f2a", "serve", "--", "sh"]
    with subprocess.Popen(words, stdin=side, stdout=side, stderr=side) as process:
        os.close(side)
        shown = b""
        while b"ready" not in shown:
            shown += os.read(main, 1024)
        assert b"\x1b[2J" in shown, "it was given this terminal"
        os.write(main, b"\x03a")
        assert command.got_input.wait(60)
        os.write(main, b"\x10\x11")
        assert process.wait(timeout=60) == 130
    os.close(main)
    assert command.heard == b"\x03a"
    assert command.asked["tty"]


def test_without_a_terminal_here_none_can_be_given(node: ScriptedDaemon, nunet: Nunet) -> None:
    done = nunet("exec", "-it", "3f2a", "serve", "--", "sh")
    assert (done.code, node.requests) == (2, [])
    assert done.err.splitlines() == [
        "Error: there is no terminal here to give to the command",
        "Hint: leave -t out",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("only who submitted the deployment may do this", 3),
        ("deployment not found: 3f2a", 4),
        ("deployment is not running: it is Completed", 5),
        ("this machine runs no commands in the jobs of others", 1),
    ],
)
def test_what_is_refused_is_told_in_one_line(node: ScriptedDaemon, nunet: Nunet, error: str, code: int) -> None:
    node.answers[f"{NS}/start"] = lambda _payload: {"ok": False, "error": error, "hint": "so it is"}
    done = nunet("exec", "3f2a", "serve", "--", "ls")
    assert (done.code, done.err.splitlines()) == (code, [f"Error: {error}", "Hint: so it is"])


def test_a_command_that_was_ended_from_outside_is_an_error(node: ScriptedDaemon, nunet: Nunet) -> None:
    Command(node)
    node.answers[f"{NS}/io"] = lambda _payload: {"ok": True, "ended": True, "error": "the allocation ended"}
    done = nunet("exec", "3f2a", "serve", "--", "ls")
    assert (done.code, done.err.splitlines()[0]) == (1, "Error: the allocation ended")
