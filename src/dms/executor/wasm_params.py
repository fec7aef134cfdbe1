"""Engine parameters of type ``wasm``.

=================  ==========================================================================================
``module``         the program itself, base64: an ensemble carries everything that its providers need
``module_path``    … or an absolute path on the provider, inside a directory that the provider allows
``module_url``     … or an address of http or https; ``module_sha256`` is required then
``module_cid``     … or the content id of a file in IPFS, whose blocks are verified
``module_gateway`` the trustless gateway to ask for it; without, the provider's own
``module_sha256``  what the program's SHA-256 must be, in hex, wherever it comes from
``args``           list of text; the program sees them from ``argv[1]`` on
``environment``    list of ``KEY=VALUE``; nothing else is in the program's environment
``stdin``          text that the program can read from its standard input
``files``          path inside the sandbox → base64: small input files that travel with the ensemble
``fuel``           CPU limit in executed instructions, about; deterministic
``max_cpu_s``      CPU limit in seconds of processor time, compilation included
``timeout``        limit of wall-clock time, such as ``90s``
=================  ==========================================================================================

A program is a core module of WASI preview 1 or a component of WASI 0.2; its first bytes tell which.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import PurePosixPath

from dms.executor.params import Params
from dms.types.errors import DMSError
from dms.types.resources import SpecConfig

ENGINE = "wasm"
MAX_MODULE_BYTES = 64 * 1024 * 1024
MAX_STDIN_BYTES = 512 * 1024
MAX_FILES = 256
MAX_FILES_BYTES = 512 * 1024
"""Of all files together."""
MAX_PATH_BYTES, MAX_NAME_BYTES = 1024, 255
MAGIC, CORE_VERSION, COMPONENT_LAYER = b"\0asm", b"\1\0\0\0", b"\1\0"
SOURCES = ("module", "module_path", "module_url", "module_cid")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_KNOWN = (
    *SOURCES,
    "module_gateway",
    "module_sha256",
    "args",
    "environment",
    "stdin",
    "files",
    "fuel",
    "max_cpu_s",
    "timeout",
)


@dataclass(frozen=True, slots=True)
class WasmParams:
    """The parameters, checked; exactly one of ``module``, ``module_path`` and ``source`` is given."""

    module: bytes | None
    module_path: str
    source: SpecConfig | None
    """Where else it is, as a storage provider is asked for it."""
    sha256: str
    """What its SHA-256 must be, in lower case; empty: whatever it is."""
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
        if len([name for name in SOURCES if params.has(name)]) != 1:
            raise params.error(f"exactly one of {', '.join(SOURCES)} must be given", hint="module: ${file:prog.wasm}")
        stdin = params.text("stdin")
        if len(stdin.encode()) > MAX_STDIN_BYTES:
            raise params.error(f"stdin is longer than {MAX_STDIN_BYTES} bytes")
        sha256 = _sha256(params)
        module = None
        if params.has("module"):
            module = _decode(params, params.text("module"), "module")
            if reason := module_defect(module, sha256):
                raise params.error(f"module {reason}")
        module_path = params.text("module_path")
        if params.has("module_path") and not posixpath.isabs(module_path):
            raise params.error("module_path must be absolute")
        return cls(
            module,
            module_path,
            _source(params, sha256),
            sha256,
            params.texts("args"),
            params.environment(),
            stdin,
            _files(params),
            params.integer("fuel"),
            params.number("max_cpu_s"),
            params.duration_s("timeout"),
        )


def is_component(code: bytes) -> bool:
    """Whether it is a component, not a core module."""
    return code[6:8] == COMPONENT_LAYER


def module_defect(code: bytes, sha256: str = "") -> str:
    """Why these bytes cannot be the program, as the end of a sentence; empty when they may be."""
    if not code.startswith(MAGIC):
        return "is not a WebAssembly module: it does not begin with \\0asm"
    if code[4:8] != CORE_VERSION and not is_component(code):
        return "is of a version of WebAssembly that cannot run here"
    if len(code) > MAX_MODULE_BYTES:
        return f"is longer than {MAX_MODULE_BYTES} bytes"
    if sha256 and (found := hashlib.sha256(code).hexdigest()) != sha256:
        return f"is not what was named: its SHA-256 is {found}"
    return ""


def _sha256(params: Params) -> str:
    text = params.text("module_sha256")
    if params.has("module_sha256") and not _SHA256.fullmatch(text):
        raise params.error("module_sha256 must be 64 hexadecimal digits", hint="sha256sum prog.wasm tells them")
    if params.has("module_url") and not text:
        raise params.error("module_url needs module_sha256", hint="sha256sum prog.wasm tells it")
    return text.lower()


def _source(params: Params, sha256: str) -> SpecConfig | None:
    if params.has("module_gateway") and not params.has("module_cid"):
        raise params.error("module_gateway means nothing without module_cid")
    if params.has("module_url"):
        from dms.storage.http import HttpParams

        spec = SpecConfig(
            type="http", params={"URL": params.text("module_url"), "SHA256": sha256, "Name": "program.wasm"}
        )
        _checked(params, "module_url", HttpParams.read, spec)
        return spec
    if params.has("module_cid"):
        from dms.storage.ipfs import IpfsParams

        asked: dict[str, object] = {"CID": params.text("module_cid"), "Name": "program.wasm"}
        if params.has("module_gateway"):
            asked["Gateway"] = params.text("module_gateway")
        spec = SpecConfig(type="ipfs", params=asked)
        _checked(params, "module_cid", IpfsParams.read, spec)
        return spec
    return None


def _checked(params: Params, name: str, read: Callable[[SpecConfig], object], spec: SpecConfig) -> None:
    try:
        read(spec)
    except DMSError as exc:
        raise params.error(f"{name}: {exc.message[:300]}", hint=exc.hint) from None


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
