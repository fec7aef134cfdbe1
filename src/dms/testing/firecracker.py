"""A Firecracker without a machine: its API, held to the published description, and a guest that is only played.

It is a program of its own, run in place of ``firecracker``. Every request is checked against the description: path,
method, types, required and unknown fields, ranges, and whether it is allowed before or after the start. Then, in place
of booting, it takes the program out of the initial RAM disk, runs it on this machine, and speaks the console protocol as
the agent in a guest would. All that it accepted stands in ``requests.jsonl`` in its working directory.

Standard library only, so that it starts fast. ``description`` is the published one as JSON.
"""

from __future__ import annotations

import argparse
import base64
import http.server
import json
import os
import re
import signal
import socketserver
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

HOME = ".nunet"
VERSION = "1.17.0-test"


class Refused(Exception):
    """The request is wrong; Firecracker answers 400."""


class Description:
    """The published description, asked whether a request is right."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self._paths: dict[str, Any] = raw["paths"]
        self._definitions: dict[str, Any] = raw["definitions"]

    def check(self, method: str, path: str, body: bytes, *, has_started: bool) -> Any:
        """The body, parsed.

        :raises Refused: with the reason.
        """
        operation = self._operation(method, path)
        summary = operation.get("summary", "")
        if "Pre-boot only" in summary and has_started:
            raise Refused("The requested operation is not supported after starting the microVM.")
        if "Post-boot only" in summary and not has_started:
            raise Refused("The requested operation is not supported before starting the microVM.")
        schema = next((p["schema"] for p in operation.get("parameters", ()) if p["in"] == "body"), None)
        if schema is None:
            if body:
                raise Refused(f"{method} {path} takes no body")
            return None
        try:
            value = json.loads(body)
        except ValueError:
            raise Refused("the body is not JSON") from None
        self._value(value, schema, "body")
        named = re.fullmatch(r"/(?:drives|network-interfaces)/([^/]+)", path)
        if named and named[1] not in (value.get("drive_id"), value.get("iface_id")):
            raise Refused("the id in the path is not that in the body")
        return value

    def _operation(self, method: str, path: str) -> dict[str, Any]:
        for template, operations in self._paths.items():
            pattern = re.sub(r"\\\{[a-z_]+\\\}", "[A-Za-z0-9_]+", re.escape(template))
            if re.fullmatch(pattern, path) and method.lower() in operations:
                found: dict[str, Any] = operations[method.lower()]
                return found
        raise Refused(f"there is no {method} {path}")

    def _value(self, value: Any, schema: dict[str, Any], where: str) -> None:
        if "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        kinds: dict[str, Any] = {
            "object": dict,
            "string": str,
            "boolean": bool,
            "integer": int,
            "number": (int, float),
            "array": list,
        }
        kind = kinds.get(schema.get("type", "object"), object)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Refused(f"{where} is not of type {schema.get('type', 'object')}")
        if "enum" in schema and value not in schema["enum"]:
            raise Refused(f"{where} is none of {schema['enum']}")
        if isinstance(value, int) and not schema.get("minimum", value) <= value <= schema.get("maximum", value):
            raise Refused(f"{where} is out of range")
        if isinstance(value, list):
            for index, item in enumerate(value):
                self._value(item, schema.get("items", {}), f"{where}[{index}]")
        if isinstance(value, dict):
            self._object(value, schema, where)

    def _object(self, value: dict[str, Any], schema: dict[str, Any], where: str) -> None:
        known = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                raise Refused(f"{where} lacks {name}")
        for name, item in value.items():
            if name in known:
                self._value(item, known[name], f"{where}.{name}")
            elif known:
                raise Refused(f"{where} has the unknown field {name}")


class Instance:
    """One machine as its API knows it."""

    def __init__(self, number: str, description: Description) -> None:
        self.number, self._description = number, description
        self.state = "Not started"
        self._config: dict[str, Any] = {}
        self._guest: Guest | None = None
        self._is_answered = threading.Event()

    def answered(self) -> None:
        """What was handled last is answered: a guest that has been started may run, and end this process."""
        if self._guest is not None:
            self._is_answered.set()

    def handle(self, method: str, path: str, body: bytes) -> Any:
        """Do it; returns what is answered.

        :raises Refused: it cannot be done.
        """
        value = self._description.check(method, path, body, has_started=self.state != "Not started")
        with Path("requests.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps([method, path, value]) + "\n")
        if (method, path) == ("GET", "/"):
            return {"id": self.number, "state": self.state, "vmm_version": VERSION, "app_name": "Firecracker"}
        if (method, path) == ("GET", "/vm/config"):
            return self._config
        if path == "/actions" and value["action_type"] == "InstanceStart":
            self._start()
        elif path == "/vm":
            self._pause(is_paused=value["state"] == "Paused")
        elif path == "/machine-config" and method == "PUT" and value["vcpu_count"] % 2 and value["vcpu_count"] != 1:
            raise Refused("The vCPU number is invalid! The vCPU number can only be 1 or an even number.")
        elif method == "PUT":
            for key in ("kernel_image_path", "initrd_path", "path_on_host", "log_path", "metrics_path"):
                if isinstance(value, dict) and key in value and not Path(value[key]).exists():
                    raise Refused(f"{key}: No such file or directory (os error 2)")
            self._config[path] = value
        return None

    def _start(self) -> None:
        if self.state != "Not started":
            raise Refused("The requested operation is not supported after starting the microVM.")
        boot = self._config.get("/boot-source")
        if boot is None:
            raise Refused("Cannot start microvm without kernel configuration.")
        self.state = "Running"
        self._guest = Guest(boot.get("initrd_path", ""))
        threading.Thread(target=self._guest.run, args=(self._is_answered,), daemon=True).start()

    def _pause(self, *, is_paused: bool) -> None:
        if self._guest is None:
            raise Refused("The requested operation is not supported before starting the microVM.")
        self._guest.freeze(is_frozen=is_paused)
        self.state = "Paused" if is_paused else "Running"


class Guest:
    """The agent's part, played on this machine: the program of the RAM disk is run here, without its kernel."""

    def __init__(self, initrd: str) -> None:
        self._files = read_cpio(Path(initrd).read_bytes()) if initrd else {}
        self._lock = threading.Lock()
        self._home = Path("guest").resolve()
        self._program: subprocess.Popen[bytes] | None = None
        self._deaths: list[subprocess.Popen[bytes]] = []
        self._has_begun = threading.Event()

    def run(self, may_begin: threading.Event) -> None:
        """From boot to the program's end; the process ends with it."""
        may_begin.wait()
        self._say("noise", raw=b"[    0.000000] a kernel that is not there\r\n")
        if f"{HOME}/launch" not in self._files:  # an image with its own init: it says something and shuts down
            self._say("", raw=b"no agent here\r\n")
            os._exit(0)
        for name, data in self._files.items():
            if name.startswith(f"{HOME}/"):
                path = self._home / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data.replace(f"/{HOME}/".encode(), f"{self._home}/{HOME}/".encode()))
                path.chmod(0o755)
        self._program = self._spawn([str(self._home / HOME / "launch")])
        self._has_begun.set()
        threading.Thread(target=self._listen, daemon=True).start()
        self._say("r 1")
        code = self._follow(self._program, "o", "e")
        self._say(f"x {code} ")
        threading.Event().wait()

    def freeze(self, *, is_frozen: bool) -> None:
        """Stop the program, or let it go on."""
        self._has_begun.wait(10)
        if self._program is not None:
            os.killpg(self._program.pid, signal.SIGSTOP if is_frozen else signal.SIGCONT)

    def _spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        # A guest dies with its machine: this one hears that by the end of its input, which nobody else holds.
        death = subprocess.Popen(
            ["/bin/sh", "-c", "read -r group && read -r _; [ $group ] && kill -9 -$group"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._deaths.append(death)
        return subprocess.Popen(
            ["/bin/sh", "-c", 'echo $$ >&0; exec /bin/sh "$@" </dev/null', "sh", *argv],
            stdin=death.stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def _follow(self, process: subprocess.Popen[bytes], out: str, err: str) -> int:
        def pump(tag: str, fd: int) -> None:
            while chunk := os.read(fd, 2880):
                self._say(f"{tag} {base64.b64encode(chunk).decode()}")

        assert process.stdout is not None
        assert process.stderr is not None
        pumps = [
            threading.Thread(target=pump, args=(tag, end.fileno()))
            for tag, end in ((out, process.stdout), (err, process.stderr))
        ]
        for thread in pumps:
            thread.start()
        code = process.wait()
        for thread in pumps:
            thread.join(2)
        return code if code >= 0 else 128 - code

    def _listen(self) -> None:
        for line in sys.stdin.buffer:
            words = line.split()
            if words[:1] == [b"term"] and self._program is not None:
                os.killpg(self._program.pid, signal.SIGTERM)
            elif words[:1] == [b"exec"]:
                threading.Thread(target=self._execute, args=(words[1].decode(), words[2]), daemon=True).start()

    def _execute(self, number: str, words: bytes) -> None:
        command = self._home / HOME / f"command.{number}"
        command.write_bytes(base64.b64decode(words))
        process = self._spawn([str(self._home / HOME / "execute"), str(command)])
        code = self._follow(process, f"1.{number}", f"2.{number}")
        self._say(f"d.{number} {code}")

    def _say(self, text: str, *, raw: bytes = b"") -> None:
        with self._lock:
            sys.stdout.buffer.write(raw or f"\x1e{text}\n".encode())
            sys.stdout.buffer.flush()


def read_cpio(data: bytes) -> dict[str, bytes]:
    """The files of an archive of format ``newc`` by name; the last of a name counts."""
    files: dict[str, bytes] = {}
    at = 0
    while True:
        if data[at : at + 6] != b"070701":
            raise ValueError("this is no archive of format newc")
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = data[at + 110 : at + 110 + name_size - 1].decode()
        start = at + 110 + name_size
        start += -start % 4
        if name == "TRAILER!!!":
            return files
        if mode & 0o170000 == 0o100000:
            files[name] = data[start : start + size]
        at = start + size
        at += -at % 4


def serve(socket: str, instance: Instance) -> None:
    """Answer on the socket, for ever."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = 204, b""
            try:
                value = instance.handle(self.command, self.path, body)
                if value is not None:
                    status, answer = 200, json.dumps(value).encode()
            except Refused as exc:
                status, answer = 400, json.dumps({"fault_message": str(exc)}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            if answer:  # nothing is an error too, once the caller has gone with the head
                self.wfile.write(answer)
            instance.answered()

        do_GET = do_PUT = do_PATCH = _do  # noqa: N815  the library's names

        def address_string(self) -> str:
            return socket

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
            return

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True
        request_queue_size = 64

    # it gets its name once it listens: in between a caller would be refused
    unnamed = f"{socket}.new"
    server = Server(unnamed, Handler)
    Path(unnamed).rename(socket)
    server.serve_forever()


def main() -> None:
    """Be Firecracker."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--description", required=True)
    parser.add_argument("--api-sock", default="/run/firecracker.socket")
    parser.add_argument("--id", default="anonymous-instance")
    parser.add_argument("--version", action="store_true")
    options = parser.parse_args()
    if options.version:
        sys.stdout.write(f"Firecracker v{VERSION}\n")
        return
    if Path(options.api_sock).exists():
        sys.exit("the socket is there already")
    description = Description(json.loads(Path(options.description).read_bytes()))
    serve(options.api_sock, Instance(options.id, description))


if __name__ == "__main__":
    main()
