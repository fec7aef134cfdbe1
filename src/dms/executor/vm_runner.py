"""The process that stands beside one microVM: started by an executor, survives the end of the daemon.

It starts the machine's own process (QEMU or Firecracker), is the other end of its serial line, writes the logs, keeps
the wall-clock limit, passes commands to the agent in the guest, and tells how it ended. It is started with a bare
interpreter and uses the standard library only. Its private directory holds:

``job.json``
    What to do: see :class:`Job`.
``pid``, ``machine.pid``
    Process id and start time of itself and of the machine.
``machine/``
    Working directory of the machine: its drives, its sockets. The machine may run as a user of its own.
``control.sock``
    Takes one line ``{"argv": […]}`` per connection, answers ``{"exit_code", "stdout", "stderr"}`` (base64) or
    ``{"error"}``.
``ready``
    Exists once the agent in the guest has spoken.
``exit.json``
    ``{"exit_code", "reason", "error_msg"}``, written last.

``SIGTERM`` asks the program to stop; a guest that cannot hear that is ended at once. When this process is killed, the
kernel ends the machine too.
"""

from __future__ import annotations

import base64
import contextlib
import ctypes
import json
import os
import resource
import selectors
import signal
import socket
import tarfile
import time
from typing import Any, NoReturn

from dms.executor.console import TERM_LINE, ConsoleDecoder, Frame, exec_line
from dms.executor.detached import LogFile, start_ticks, write_file, write_pid
from dms.executor.dhcp import DhcpServer, Lease
from dms.executor.vm_network import DEVICE, Private, enter_namespace, lend_tap, make_namespace, make_tap, open_tap
from dms.executor.vm_outputs import unpack

MAX_EXEC_OUTPUT_BYTES = 1 << 20
MAX_EXECS = 16
MAX_REQUEST_BYTES = 1 << 16
MAX_PENDING_BYTES = 1 << 16
"""Of what waits to be sent to the guest."""
CHUNK_BYTES = 1 << 16
CONSOLE_PART = 8
"""The console's log may be this part of the others'."""
EXIT_TIMED_OUT, EXIT_PANICKED, EXIT_TERMINATED, EXIT_OUT_OF_MEMORY = 124, 134, 143, 137
MAX_ERROR_CHARS = 2000
NICENESS, OOM_SCORE = 5, 600
PANIC = b"Kernel panic - not syncing: "
SIGNAL_EXIT_CODES = {128 + 9: "SIGKILL", 128 + 15: "SIGTERM"}
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 1, 38, 47, 4


class Job:
    """``job.json`` as attributes; paths are absolute, sizes bytes, times seconds, ``None`` means no limit."""

    def __init__(self, raw: dict[str, Any]) -> None:
        self.argv: list[str] = raw["argv"]
        """``{tap}`` stands for the descriptor of the TAP device, ``{private}`` for that of the private network."""
        self.has_agent: bool = raw["has_agent"]
        """Whether ours runs in the guest; if not, the console is the program's output."""
        self.stdout: str = raw["stdout"]
        self.stderr: str = raw["stderr"]
        self.log_limit_bytes: int = raw["log_limit_bytes"]
        self.timeout_s: float | None = raw["timeout_s"]
        self.user: tuple[int, int, list[int]] | None = raw["user"]
        """(uid, gid, further groups) of the machine."""
        self.tap: str = raw["tap"]
        self.lent_tap: str = raw["lent_tap"]
        """The TAP device that the machine opens by its name."""
        self.private: Private | None = Private(raw["private"]) if raw["private"] else None
        """The machine is a member of a private network."""
        self.files_limit_bytes: int | None = raw["files_limit_bytes"]
        self.outputs: list[tuple[str, str]] = raw["outputs"]
        """(drive with an archive, directory that gets its content)"""
        self.cgroups: list[str] = raw["cgroups"]
        """Files to which the machine's process id is written."""


class Command:
    """One command inside, and who waits for it."""

    def __init__(self, client: socket.socket, argv: list[str]) -> None:
        self.client, self.argv, self.number = client, argv, 0
        self.outputs = {"1": bytearray(), "2": bytearray()}


class Runner:
    """One machine from its start to its end."""

    def __init__(self, directory: str, job: Job) -> None:
        self._directory, self._job, self._started = directory, job, time.monotonic()
        self._logs = {
            "o": LogFile(job.stdout, job.log_limit_bytes),
            "e": LogFile(job.stderr, job.log_limit_bytes),
        }
        console = os.path.join(os.path.dirname(job.stdout), "console.log")  # noqa: PTH118, PTH120  (no pathlib: start time)
        self._console = LogFile(console, job.log_limit_bytes // CONSOLE_PART) if job.has_agent else self._logs["o"]
        self._decoder = ConsoleDecoder()
        self._selector = selectors.DefaultSelector()
        self._pending = bytearray()
        self._waiting: list[Command] = []
        self._running: dict[str, Command] = {}
        self._numbers = 0
        self._is_ready = self._is_stopping = False
        self._end: tuple[int, str, str] | None = None
        self._tail, self._complaint = b"", b""

    def start(self) -> None:
        """Start the machine's process.

        :raises OSError: it cannot be.
        """
        job = self._job
        tap = open_tap(job.tap) if job.tap else -1
        if job.lent_tap:
            lend_tap(job.lent_tap, job.user)
        private, home = -1, -1
        if job.private is not None:
            home = make_namespace()  # we stay in it: it is there for as long as we are
            private = make_tap(job.private, job.user)
        argv = [word.replace("{tap}", str(tap)).replace("{private}", str(private)) for word in job.argv]
        (stdin, self._stdin), (self._stdout, stdout), (self._stderr, stderr) = os.pipe(), os.pipe(), os.pipe()
        failure, failed = os.pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if not self.pid:
            is_inside = job.private is None or job.private.is_inside
            self._become(argv, (stdin, stdout, stderr), (tap, private), failed, parent, -1 if is_inside else home)
        for fd in (stdin, stdout, stderr, failed, *(fd for fd in (tap, private, home) if fd >= 0)):
            os.close(fd)
        with os.fdopen(failure, "rb") as file:  # closed by the start of the program
            reason = file.read().decode("utf-8", "replace")
        if reason:
            os.waitpid(self.pid, 0)
            raise OSError(reason)
        write_file(
            os.path.join(self._directory, "machine.pid"),  # noqa: PTH118
            f"{self.pid} {start_ticks(self.pid)}".encode(),
            sync=False,
        )

    def run(self) -> tuple[int, str, str]:
        """Until the end; returns exit code, reason and message."""
        for fd in (self._stdin, self._stdout, self._stderr):
            os.set_blocking(fd, False)
        wakeup, signalled = os.pipe()
        os.set_blocking(signalled, False)
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(signalled)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("control.sock")  # relative: names of sockets are short
        listener.listen(MAX_EXECS)
        pidfd = os.pidfd_open(self.pid)
        for fd, what in ((self._stdout, "serial"), (self._stderr, "errors"), (wakeup, "signal"), (pidfd, "ended")):
            self._selector.register(fd, selectors.EVENT_READ, what)
        self._selector.register(listener, selectors.EVENT_READ, "control")
        if self._job.private is not None and self._job.private.lease is not None:
            dhcp = DhcpServer(DEVICE, Lease(**self._job.private.lease))
            self._selector.register(dhcp.socket, selectors.EVENT_READ, dhcp)
        while True:
            for key, _ in self._selector.select(self._left_s()):
                if key.data == "ended":
                    self._drain()
                    return self._tell_end()
                self._serve(key)
            if self._end is not None or self._left_s() == 0:
                self._kill()

    def close(self) -> None:
        """Answer who still waits, and finish the logs."""
        for command in (*self._waiting, *self._running.values()):
            answer(command.client, {"error": "the machine has ended"})
        for log in (*self._logs.values(), self._console):
            log.close()

    def _become(
        self,
        argv: list[str],
        ends: tuple[int, int, int],
        taps: tuple[int, int],
        failed: int,
        parent: int,
        namespace: int,
    ) -> NoReturn:
        """In the new process: give up what a machine does not need, and become it."""
        try:
            for fd, end in enumerate(ends):
                os.dup2(end, fd)
            for tap in taps:
                if tap >= 0:
                    os.set_inheritable(tap, True)
            os.set_inheritable(failed, False)
            if namespace >= 0:
                enter_namespace(namespace)
            for path in self._job.cgroups:
                with open(path, "w", encoding="ascii") as file:  # noqa: PTH123
                    file.write(str(os.getpid()))
            os.chdir("machine")
            restrict(self._job)
            if os.getppid() != parent:
                os._exit(1)  # it was killed before the kernel knew that we must follow
            os.execve(argv[0], argv, {"TMPDIR": "."})  # noqa: S606
        except BaseException as exc:  # noqa: BLE001  there is nobody to catch it
            os.write(failed, f"{argv[0]}: {exc}".encode()[:500])
        os._exit(1)

    def _left_s(self) -> float | None:
        if self._end is not None or self._job.timeout_s is None:
            return None if self._end is None else 1.0
        return max(0.0, self._started + self._job.timeout_s - time.monotonic())

    def _serve(self, key: selectors.SelectorKey) -> None:
        match key.data:
            case "serial":
                self._read_serial()
            case "errors":
                self._read_errors()
            case "signal":
                os.read(key.fd, 64)
                self._stop()
            case "control":
                self._accept(key.fileobj)
            case "send":
                self._flush()
            case Command() as command:
                self._read_request(command)
            case DhcpServer() as dhcp:
                dhcp.serve()

    def _read_serial(self) -> bool:
        chunk = _read(self._stdout)
        if chunk is None:
            return False
        if not chunk:
            self._forget(self._stdout)
            return False
        for piece in self._decoder.feed(chunk):
            if isinstance(piece, Frame):
                self._heard(piece)
            else:
                self._console.write(piece)
                self._tail = (self._tail + piece)[-4096:]
        return True

    def _read_errors(self) -> bool:
        chunk = _read(self._stderr)
        if not chunk:
            if chunk is not None:
                self._forget(self._stderr)
            return False
        self._complaint = (self._complaint + chunk)[-4096:]
        return True

    def _forget(self, fd: int) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _heard(self, frame: Frame) -> None:
        """The agent spoke."""
        if frame.tag in self._logs:
            self._logs[frame.tag].write(frame.data)
        elif frame.tag == "r":
            self._is_ready = True
            write_file(os.path.join(self._directory, "ready"), b"", sync=False)  # noqa: PTH118
            waiting, self._waiting = self._waiting, []
            for command in waiting:
                self._execute(command)
        elif frame.tag == "x" and self._end is None:
            self._end = self._program_ended(frame)
        elif frame.tag == "f" and self._end is None:
            self._end = (-1, "infrastructure", frame.data.decode("utf-8", "replace")[:MAX_ERROR_CHARS])
        elif frame.tag.startswith(("1.", "2.", "d.")):
            self._command_spoke(frame)

    def _program_ended(self, frame: Frame) -> tuple[int, str, str]:
        code = frame.number
        if code is None:
            return -1, "infrastructure", "the agent in the guest told no exit code"
        if frame.text.endswith(" oom"):
            return code, "out_of_memory", "the guest's kernel killed it: the machine's memory was used up"
        if self._is_stopping:
            return code or EXIT_TERMINATED, "signalled", "stopped by SIGTERM"
        if code in SIGNAL_EXIT_CODES:
            return code, "killed", f"killed inside the machine by {SIGNAL_EXIT_CODES[code]}"
        return code, "exited", f"the program ended with exit code {code}" if code else ""

    def _command_spoke(self, frame: Frame) -> None:
        what, _, number = frame.tag.partition(".")
        command = self._running.get(number)
        if command is None:
            return
        if what != "d":
            output = command.outputs[what]
            output += frame.data[: MAX_EXEC_OUTPUT_BYTES - len(output)]
            return
        del self._running[number]
        outputs = {
            name: base64.b64encode(command.outputs[key]).decode() for name, key in (("stdout", "1"), ("stderr", "2"))
        }
        code = frame.number
        answer(command.client, {"exit_code": -1 if code is None else code, **outputs})

    def _accept(self, listener: Any) -> None:  # Any: the selector knows only "something with a descriptor"
        client, _ = listener.accept()
        if len(self._waiting) + len(self._running) >= MAX_EXECS:
            answer(client, {"error": "too many commands at once"})
            return
        client.settimeout(1.0)  # it is our own executor
        self._selector.register(client, selectors.EVENT_READ, Command(client, []))

    def _read_request(self, command: Command) -> None:
        self._selector.unregister(command.client)
        line = b""
        try:
            while not line.endswith(b"\n") and len(line) < MAX_REQUEST_BYTES:
                chunk = command.client.recv(CHUNK_BYTES)
                if not chunk:
                    break
                line += chunk
            command.argv = [str(word) for word in json.loads(line)["argv"]]
        except (OSError, ValueError, KeyError, TypeError):
            answer(command.client, {"error": "the request is garbled"})
            return
        if self._is_ready:
            self._execute(command)
        else:
            self._waiting.append(command)

    def _execute(self, command: Command) -> None:
        self._numbers += 1
        try:
            line = exec_line(self._numbers, command.argv)
            if len(self._pending) + len(line) > MAX_PENDING_BYTES:
                raise ValueError("the guest does not listen")
        except ValueError as exc:
            answer(command.client, {"error": str(exc)})
            return
        self._running[str(self._numbers)] = command
        self._send(line)

    def _send(self, line: bytes) -> None:
        if not self._pending:
            self._selector.register(self._stdin, selectors.EVENT_WRITE, "send")
        self._pending += line

    def _flush(self) -> None:
        try:
            del self._pending[: os.write(self._stdin, self._pending)]
        except BlockingIOError:
            return
        except OSError:
            self._pending.clear()
        if not self._pending:
            self._selector.unregister(self._stdin)

    def _stop(self) -> None:
        """Ask the program; where nobody listens, there is nobody to ask."""
        self._is_stopping = True
        if self._is_ready:
            self._send(TERM_LINE)
        else:
            self._kill()

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _drain(self) -> None:
        """What the machine wrote before its end; bounded by what pipes hold."""
        while self._read_serial():
            pass
        while self._read_errors():
            pass

    def _tell_end(self) -> tuple[int, str, str]:
        _, status = os.waitpid(self.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        if self._end is not None:
            return self._end
        if self._job.timeout_s is not None and self._left_s() == 0:
            return EXIT_TIMED_OUT, "timed_out", f"it ran longer than {self._job.timeout_s:g} s"
        if self._is_stopping:
            return EXIT_TERMINATED, "signalled", "stopped by SIGTERM"
        if PANIC in self._tail:
            panic = self._tail.rpartition(PANIC)[2].splitlines()[0].decode("utf-8", "replace")[:200]
            is_memory = "memory" in panic.lower()
            exit_code = EXIT_OUT_OF_MEMORY if is_memory else EXIT_PANICKED
            return exit_code, "out_of_memory" if is_memory else "trapped", f"the guest's kernel panicked: {panic}"
        if code < 0:
            return 128 - code, "killed", f"its machine was killed from outside by signal {-code}"
        if code:
            lines = self._complaint.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
            return -1, "infrastructure", f"the machine failed with exit code {code}: {lines[-1][:500]}"
        if self._job.has_agent:
            return EXIT_PANICKED, "trapped", "the machine stopped before the program's end was told"
        return 0, "exited", ""


def restrict(job: Job) -> None:
    """What the machine's process may do; called in it."""
    os.nice(NICENESS)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123
            file.write(str(OOM_SCORE))
    except OSError:
        pass
    limits = {resource.RLIMIT_CORE: 0}
    if job.files_limit_bytes is not None:
        limits[resource.RLIMIT_FSIZE] = job.files_limit_bytes
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (allowed, allowed))
    if job.user is not None:
        uid, gid, groups = job.user
        os.setgroups(groups)
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # after the change of user, which resets it
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # what the daemon was given is not for guests


def answer(client: socket.socket, reply: dict[str, Any]) -> None:
    """Send the only reply of a connection and close it; who has gone away gets none."""
    try:
        client.settimeout(5.0)
        client.sendall(json.dumps(reply).encode() + b"\n")
    except OSError:
        pass
    finally:
        client.close()


def main(directory: str) -> None:
    """Run the job in ``directory`` and end the process."""
    write_pid(directory, os.getpid())
    os.chdir(directory)
    os.umask(0o077)
    os.closerange(3, 1 << 16)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    with open("job.json", encoding="utf-8") as file:  # noqa: PTH123
        job = Job(json.load(file))
    end: tuple[int, str, str]
    try:
        runner = Runner(directory, job)
        try:
            runner.start()
            end = runner.run()
        finally:
            runner.close()
        for drive, target in job.outputs if end[1] == "exited" else ():
            unpack(drive, target)
    except OSError as exc:
        end = (-1, "infrastructure", str(exc)[:MAX_ERROR_CHARS])
    except tarfile.TarError as exc:
        end = (-1, "infrastructure", f"what the program left cannot be taken over: {exc}"[:MAX_ERROR_CHARS])
    exit_code, reason, message = end
    result = {"exit_code": exit_code, "reason": reason, "error_msg": message}
    write_file(os.path.join(directory, "exit.json"), json.dumps(result).encode())  # noqa: PTH118
    os._exit(0)


def _read(fd: int) -> bytes | None:
    """What there is; nothing at the end; ``None`` when there is nothing yet."""
    try:
        return os.read(fd, CHUNK_BYTES)
    except BlockingIOError:
        return None
