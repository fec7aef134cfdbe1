"""Engine parameters of type ``wasm``.

=================  ==========================================================================================
``module``         the program itself, base64: an ensemble carries everything that its providers need
``module_path``    … or an absolute path on the provider, inside a directory that the provider allows
``args``           list of text; the program sees them from ``argv[1]`` on
``environment``    list of ``KEY=VALUE``; nothing else is in the program's environment
``stdin``          text that the program can read from its standard input
``files``          path inside the sandbox → base64: small input files that travel with the ensemble
``fuel``           CPU limit in executed instructions, about; deterministic
``max_cpu_s``      CPU limit in seconds of processor time, compilation included
``timeout``        limit of wall-clock time, such as ``90s``
=================  ==========================================================================================
"""

from __future__ import annotations

import base64
import binascii
import posixpath
from dataclasses import dataclass
from pathlib import PurePosixPath

from dms.executor.params import Params
from dms.types.resources import SpecConfig

ENGINE = "wasm"
MAX_MODULE_BYTES = 64 * 1024 * 1024
MAX_STDIN_BYTES = 512 * 1024
MAX_FILES = 256
MAX_FILES_BYTES = 512 * 1024
"""Of all files together."""
MAX_PATH_BYTES, MAX_NAME_BYTES = 1024, 255
MAGIC, CORE_VERSION = b"\0asm", b"\1\0\0\0"
_KNOWN = ("module", "module_path", "args", "environment", "stdin", "files", "fuel", "max_cpu_s", "timeout")


@dataclass(frozen=True, slots=True)
class WasmParams:
    """The parameters, checked; exactly one of ``module`` and ``module_path`` is given."""

    module: bytes | None
    module_path: str
    args: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    stdin: str
    files: tuple[tuple[PurePosixPath, bytes], ...]
    fuel: int | None
    max_cpu_s: float | None
    timeout_s: float | None

    @classmethod
    def parse(cls, spec: SpecConfig) -> WasmParams:
        """Check and decode.

        :raises InvalidEngineSpec: with the parameter and the reason.
        """
        params = Params(spec, ENGINE, known=_KNOWN)
        if params.has("module") == params.has("module_path"):
            raise params.error("exactly one of module and module_path must be given", hint="module: ${file:prog.wasm}")
        stdin = params.text("stdin")
        if len(stdin.encode()) > MAX_STDIN_BYTES:
            raise params.error(f"stdin is longer than {MAX_STDIN_BYTES} bytes")
        module = None
        if params.has("module"):
            module = _decode(params, params.text("module"), "module")
            if reason := module_defect(module):
                raise params.error(f"module {reason}")
        module_path = params.text("module_path")
        if params.has("module_path") and not posixpath.isabs(module_path):
            raise params.error("module_path must be absolute")
        return cls(
            module,
            module_path,
            params.texts("args"),
            params.environment(),
            stdin,
            _files(params),
            params.integer("fuel"),
            params.number("max_cpu_s"),
            params.duration_s("timeout"),
        )


def module_defect(code: bytes) -> str:
    """Why these bytes cannot be a program, as the end of a sentence; empty when they may be one."""
    if not code.startswith(MAGIC):
        return "is not a WebAssembly module: it does not begin with \\0asm"
    if code[4:8] != CORE_VERSION:
        return "is a WebAssembly component; only core modules (wasm32-wasi, preview 1) can run"
    if len(code) > MAX_MODULE_BYTES:
        return f"is longer than {MAX_MODULE_BYTES} bytes"
    return ""


def _files(params: Params) -> tuple[tuple[PurePosixPath, bytes], ...]:
    given = params.mapping("files")
    if len(given) > MAX_FILES:
        raise params.error(f"files has {len(given)} entries, more than {MAX_FILES}")
    files = []
    for path, text in sorted(given.items()):
        if not path.startswith("/") or path.startswith("//") or posixpath.normpath(path) != path or path == "/":
            raise params.error(
                f'files has the path "{path[:64]}"', hint="a path must be absolute, without ., .., // or a final /"
            )
        if len(path.encode()) > MAX_PATH_BYTES or any(len(n.encode()) > MAX_NAME_BYTES for n in path.split("/")):
            raise params.error(f'files has a path that is too long: "{path[:64]}…"')
        files.append((PurePosixPath(path), _decode(params, text, f"files[{path[:64]}]")))
    paths = {path for path, _ in files}
    nested = [path for path in paths if not paths.isdisjoint(path.parents)]
    if nested:
        raise params.error(f'files has "{nested[0]}" below another file')
    if sum(len(content) for _, content in files) > MAX_FILES_BYTES:
        raise params.error(f"files hold more than {MAX_FILES_BYTES} bytes together")
    return tuple(files)


def _decode(params: Params, text: str, what: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise params.error(f"{what} is not base64") from None
