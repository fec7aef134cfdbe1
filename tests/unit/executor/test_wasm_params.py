"""WebAssembly's engine parameters."""

from __future__ import annotations

import base64
import hashlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.executor.errors import InvalidEngineSpec
from dms.executor.wasm_params import MAX_FILES_BYTES, WasmParams, is_component, module_defect
from dms.types.resources import SpecConfig

MODULE = base64.b64encode(b"\0asm\1\0\0\0").decode()
NEWER = base64.b64encode(b"\0asm\2\0\0\0").decode()
SHA256 = hashlib.sha256(b"\0asm\1\0\0\0").hexdigest()
CID = "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy"
URL = "https://example.com/prog.wasm"


def parse(**params: object) -> WasmParams:
    if not {"module_path", "module_url", "module_cid"} & params.keys():
        params.setdefault("module", MODULE)
    return WasmParams.parse(SpecConfig(type="wasm", params=params))


def test_all_parameters() -> None:
    params = parse(
        args=["a", "b"],
        environment=["A=1", "B=x=y", "C="],
        stdin="text",
        files={"/data/in.txt": base64.b64encode(b"in").decode()},
        fuel=1000,
        max_cpu_s=1.5,
        timeout="1m30s",
    )
    assert params.module == b"\0asm\1\0\0\0"
    assert params.args == ("a", "b")
    assert params.environment == (("A", "1"), ("B", "x=y"), ("C", ""))
    assert [(str(path), content) for path, content in params.files] == [("/data/in.txt", b"in")]
    assert (params.stdin, params.fuel, params.max_cpu_s, params.timeout_s) == ("text", 1000, 1.5, 90.0)


def test_a_program_may_be_somewhere_else() -> None:
    by_url = parse(module_url=URL, module_sha256=SHA256.upper())
    assert (by_url.module, by_url.module_path, by_url.sha256) == (None, "", SHA256)
    assert by_url.source == SpecConfig(type="http", params={"URL": URL, "SHA256": SHA256, "Name": "program.wasm"})
    assert parse(module_cid=CID).source == SpecConfig(type="ipfs", params={"CID": CID, "Name": "program.wasm"})
    asked = parse(module_cid=CID, module_gateway="https://gateway.example").source
    assert asked is not None
    assert asked.params["Gateway"] == "https://gateway.example"
    assert parse(module_sha256=SHA256).source is None


def test_a_component_is_told_from_a_module_by_its_first_bytes() -> None:
    assert is_component(b"\0asm\x0d\0\1\0")
    assert not is_component(b"\0asm\1\0\0\0")
    assert module_defect(b"\0asm\x0d\0\1\0") == ""


def test_null_is_as_if_absent_and_base64_may_be_folded() -> None:
    params = parse(module=f"{MODULE[:4]}\n  {MODULE[4:]}\n", module_path=None, fuel=None, timeout=None, args=None)
    assert (params.fuel, params.timeout_s, params.args) == (None, None, ())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"module": None}, "exactly one of module, module_path, module_url, module_cid"),
        ({"module": MODULE, "module_path": "/x.wasm"}, "exactly one of module, "),
        ({"module_url": URL, "module_sha256": SHA256, "module_cid": CID}, "exactly one of module, "),
        ({"module_url": URL}, "module_url needs module_sha256"),
        ({"module_url": "ftp://example.com/x", "module_sha256": SHA256}, "module_url: "),
        ({"module_url": "http:///x", "module_sha256": SHA256}, "module_url: "),
        ({"module_sha256": "12ab"}, "module_sha256 must be 64 hexadecimal digits"),
        ({"module_sha256": "00" * 32}, "module is not what was named: its SHA-256 is 93a44bbb96c751218e4c00d479e4c143"),
        ({"module_cid": "Qm"}, "module_cid: "),
        ({"module_cid": CID, "module_gateway": "gopher://x"}, "module_cid: "),
        ({"module_gateway": "https://example.com"}, "module_gateway means nothing without module_cid"),
        ({"module": "not base64!"}, "module is not base64"),
        ({"module": "aGVsbG8="}, "module is not a WebAssembly module"),
        ({"module": ""}, "module is not a WebAssembly module"),
        ({"module": NEWER}, "is of a version of WebAssembly that cannot run here"),
        ({"module": 7}, "module must be text"),
        ({"module_path": "x.wasm"}, "module_path must be absolute"),
        ({"modul": MODULE}, 'unknown parameter "modul"'),
        ({"args": "one"}, "args must be a list of text"),
        ({"args": ["a\0b"]}, "args holds a character that cannot be passed on"),
        ({"args": ["\ud800"]}, "args holds a character that cannot be passed on"),
        ({"args": ["x"] * 2000}, "args has 2000 items"),
        ({"args": ["x" * 200_000]}, "args is longer than"),
        ({"environment": ["=x"]}, 'environment holds "=x"'),
        ({"environment": {"A": "1"}}, "environment must be a list of text"),
        ({"stdin": "x" * 600_000}, "stdin is longer than"),
        ({"fuel": 0}, "fuel must be a positive number"),
        ({"fuel": 1.5}, "fuel must be a whole number"),
        ({"fuel": 2**63}, "fuel must be a whole number"),
        ({"fuel": True}, "fuel must be a positive number"),
        ({"max_cpu_s": -1}, "max_cpu_s must be a positive number"),
        ({"max_cpu_s": float("nan")}, "max_cpu_s must be a positive number"),
        ({"max_cpu_s": float("inf")}, "max_cpu_s must be a positive number"),
        ({"timeout": "soon"}, 'invalid timeout "soon"'),
        ({"timeout": 30}, "timeout must be a duration"),
        ({"timeout": "-5s"}, "timeout must be longer than 0"),
        ({"files": ["/a"]}, "files must map text to text"),
        ({"files": {"/a": "?"}}, "files[/a] is not base64"),
        ({"files": {"/a": "", "/a/b": ""}}, 'files has "/a/b" below another file'),
        ({"files": {f"/{n}": "" for n in range(300)}}, "files has 300 entries"),
        ({"files": {"/" + "x" * 300: ""}}, "files has a path that is too long"),
        ({"files": {"/a": base64.b64encode(bytes(MAX_FILES_BYTES + 1)).decode()}}, "files hold more than"),
    ],
)
def test_parameters_that_cannot_work_are_refused_with_the_reason(params: dict[str, object], reason: str) -> None:
    with pytest.raises(InvalidEngineSpec) as caught:
        parse(**params)
    assert caught.value.message.startswith("invalid wasm engine params: ")
    assert reason in caught.value.message


@pytest.mark.parametrize(
    "path", ["a", "", "/", "//a", "/a/", "/a//b", "/../a", "/a/../b", "/a/./b", "/a/..", "./a", "/a\0b"]
)
def test_files_cannot_leave_the_sandbox(path: str) -> None:
    with pytest.raises(InvalidEngineSpec):
        parse(files={path: ""})


def test_another_type_is_refused() -> None:
    with pytest.raises(InvalidEngineSpec, match="expected wasm, but received: docker"):
        WasmParams.parse(SpecConfig(type="docker", params={"module": MODULE}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=10), children, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(
    ["module", "module_sha256", "module_cid", "args", "environment", "stdin", "files", "fuel", "max_cpu_s", "timeout"]
)


@given(st.dictionaries(keys, json_values))
def test_whatever_json_is_given_it_is_accepted_or_refused(params: dict[str, object]) -> None:
    with suppress(InvalidEngineSpec):
        parse(**params)


def test_what_is_quoted_in_a_message_stays_on_its_line() -> None:
    with pytest.raises(InvalidEngineSpec) as caught:
        parse(files={"/a\n\x1b[31m/..": ""})
    assert caught.value.message.isprintable()
