"""The keystore, against files made independently with other libraries."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import pytest
from Crypto.Cipher import AES
from Crypto.Util import Counter
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dms.identity.errors import (
    BadKeyFile,
    BadName,
    CipherMismatch,
    EmptyPassphrase,
    IdentityError,
    KeyNotFound,
    KeystoreError,
    VersionMismatch,
    WrongPassphrase,
)
from dms.identity.keys import KeyType, PrivateKey
from dms.identity.keystore import MAX_SCRYPT_BYTES, MAX_SCRYPT_WORK, Keystore

KEY = PrivateKey(KeyType.ED25519, b"\x5a" * 32)
PASSPHRASE = "correct horse ☃"


@pytest.fixture
def keystore(tmp_path: Path) -> Keystore:
    return Keystore(tmp_path / "key", scrypt_n=16)


def independent_file(
    *, n: int = 32, r: int = 1, p: int = 2, dklen: int = 64, plain: bytes | None = None
) -> dict[str, Any]:
    salt, iv = bytes(range(32)), bytes(range(16))
    derived = Scrypt(salt=salt, length=dklen, n=n, r=r, p=p).derive(PASSPHRASE.encode())
    counter = Counter.new(128, initial_value=int.from_bytes(iv, "big"))
    ciphertext = AES.new(derived[:32], AES.MODE_CTR, counter=counter).encrypt(
        KEY.to_protobuf() if plain is None else plain
    )
    return {
        "id": "a",
        "crypto": {
            "cipher": "aes-256-ctr",
            "ciphertext": ciphertext.hex(),
            "cipherparams": {"iv": iv.hex()},
            "kdf": "scrypt",
            "kdfparams": {"n": n, "r": r, "p": p, "dklen": dklen, "salt": salt.hex()},
            "mac": hashlib.sha3_256(derived[32:64] + ciphertext).hexdigest(),
        },
        "version": 3,
    }


def put(keystore: Keystore, content: object) -> None:
    keystore.directory.mkdir(exist_ok=True)
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    (keystore.directory / "user.json").write_bytes(data)


def change(content: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    place = content
    *parents, last = path.split(".")
    for parent in parents:
        place = place[parent]
    place[last] = value
    return content


@pytest.mark.parametrize("key", [KEY, PrivateKey(KeyType.SECP256K1, b"\x07" * 32)])
def test_what_is_saved_comes_back(keystore: Keystore, key: PrivateKey) -> None:
    assert not keystore.exists("user")
    keystore.save("user", key, PASSPHRASE)
    assert keystore.exists("user")
    assert keystore.get("user", PASSPHRASE).to_protobuf() == key.to_protobuf()


def test_files_have_the_exact_form_and_are_private(keystore: Keystore) -> None:
    keystore.save("user", KEY, PASSPHRASE)
    path = keystore.path("user")
    text = path.read_text()
    content = json.loads(text)
    assert text == json.dumps(content, indent=2)
    assert list(content) == ["id", "crypto", "version"]
    assert list(content["crypto"]) == ["cipher", "ciphertext", "cipherparams", "kdf", "kdfparams", "mac"]
    assert list(content["crypto"]["kdfparams"]) == ["n", "r", "p", "dklen", "salt"]
    assert content["version"] == 3
    assert content["crypto"]["cipher"] == "aes-256-ctr"
    assert (content["crypto"]["kdfparams"]["r"], content["crypto"]["kdfparams"]["p"]) == (8, 1)
    assert len(bytes.fromhex(content["crypto"]["kdfparams"]["salt"])) == 64
    assert "5a5a5a" not in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_the_default_cost_is_that_of_the_original(tmp_path: Path) -> None:
    keystore = Keystore(tmp_path / "key")
    keystore.save("user", KEY, PASSPHRASE)
    params = json.loads(keystore.path("user").read_text())["crypto"]["kdfparams"]
    assert (params["n"], params["r"], params["p"], params["dklen"]) == (262144, 8, 1, 64)


def test_a_file_made_elsewhere_with_other_parameters_opens(keystore: Keystore) -> None:
    for content in (independent_file(), independent_file(n=16, r=8, p=1, dklen=96)):
        put(keystore, content)
        assert keystore.get("user", PASSPHRASE) == KEY


def test_a_wrong_passphrase_is_a_mac_mismatch(keystore: Keystore) -> None:
    put(keystore, independent_file())
    with pytest.raises(WrongPassphrase, match=r"^mac mismatch"):
        keystore.get("user", "wrong")


def test_an_empty_passphrase_is_refused_before_anything_else(keystore: Keystore) -> None:
    for call in (
        lambda: keystore.get("absent", ""),
        lambda: keystore.save("user", KEY, ""),
        lambda: keystore.delete("absent", ""),
    ):
        with pytest.raises((EmptyPassphrase), match="passphrase is empty"):
            call()
    assert keystore.names() == []


def test_missing_keys_are_not_found(keystore: Keystore) -> None:
    with pytest.raises(KeyNotFound, match=r"^key not found on this node"):
        keystore.get("user", PASSPHRASE)


@pytest.mark.parametrize(
    ("path", "value", "error", "text"),
    [
        ("version", 1, VersionMismatch, "version mismatch"),
        ("version", "3", BadKeyFile, "failed to decode key"),
        ("crypto.cipher", "aes-128-ctr", CipherMismatch, "cipher mismatch"),
        ("crypto.kdf", "pbkdf2", BadKeyFile, "failed to process key"),
        ("crypto.mac", "zz", BadKeyFile, "failed to decode key"),
        ("crypto.mac", "00", BadKeyFile, "failed to decode key"),
        ("crypto.mac", "00" * 32, WrongPassphrase, "mac mismatch"),
        ("crypto.ciphertext", "0", BadKeyFile, "failed to decode key"),
        ("crypto.ciphertext", "", BadKeyFile, "failed to decode key"),
        ("crypto.cipherparams.iv", "00" * 12, BadKeyFile, "failed to decode key"),
        ("crypto.cipherparams", None, BadKeyFile, "failed to decode key"),
        ("crypto.kdfparams.salt", "xy", BadKeyFile, "failed to decode key"),
        ("crypto.kdfparams.n", 2**30, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.n", 1000, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.n", 1, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.n", 0, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.n", -4, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.r", 2**40, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.r", 0, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.p", 2**20, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.dklen", 32, BadKeyFile, "out of bounds"),
        ("crypto.kdfparams.dklen", 2**40, BadKeyFile, "out of bounds"),
        ("crypto", [], BadKeyFile, "failed to decode key"),
    ],
)
def test_damaged_and_absurd_files_are_refused_with_the_reason(
    keystore: Keystore, path: str, value: object, error: type[KeystoreError], text: str
) -> None:
    put(keystore, change(independent_file(), path, value))
    with pytest.raises(error, match=text) as caught:
        keystore.get("user", PASSPHRASE)
    assert type(caught.value) is error
    assert "user.json" in caught.value.message


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}" + b" " * 70_000, b"[" * 10_000])
def test_files_that_are_no_key_are_refused(keystore: Keystore, data: bytes) -> None:
    put(keystore, data)
    with pytest.raises(BadKeyFile):
        keystore.get("user", PASSPHRASE)


def test_a_file_that_holds_no_key_inside_is_refused(keystore: Keystore) -> None:
    put(keystore, independent_file(plain=b"not a key"))
    with pytest.raises(BadKeyFile, match="failed to process key"):
        keystore.get("user", PASSPHRASE)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 600), noise=st.binary(max_size=6))
def test_no_damage_whatsoever_escapes_the_error_tree(keystore: Keystore, cut: int, noise: bytes) -> None:
    data = json.dumps(independent_file(n=2)).encode()
    cut %= len(data)
    put(keystore, data[:cut] + noise + data[cut + len(noise) :])
    try:
        key = keystore.get("user", PASSPHRASE)
    except IdentityError:
        return
    assert key == KEY


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_no_key_file(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        keystore = Keystore(Path(directory))
        put(keystore, data)
        with pytest.raises(BadKeyFile):
            keystore.get("user", PASSPHRASE)


_MEMBERS = [
    "crypto",
    "version",
    "crypto.cipher",
    "crypto.ciphertext",
    "crypto.cipherparams.iv",
    "crypto.kdf",
    "crypto.mac",
]
_COSTS = [f"crypto.kdfparams.{name}" for name in ("n", "r", "p", "dklen", "salt")]
_NUMBERS = st.one_of(st.integers(-(2**70), 2**70), st.integers(0, 70).map(lambda power: 2**power), st.floats())
_ANYTHING = st.one_of(_NUMBERS, st.none(), st.booleans(), st.text(max_size=5), st.binary(max_size=70).map(bytes.hex))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(_MEMBERS + _COSTS), _ANYTHING, min_size=1, max_size=3))
def test_a_changed_file_is_an_error_of_ours_and_never_costs_more_than_the_bound(
    keystore: Keystore, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    asked: list[dict[str, Any]] = []

    def counting_scrypt(password: bytes, **params: Any) -> bytes:
        asked.append(params)
        return bytes(params["dklen"])

    monkeypatch.setattr(hashlib, "scrypt", counting_scrypt)  # the cost is what is looked at, not paid
    content = independent_file()
    for path in sorted(changes, key=lambda path: -path.count(".")):
        change(content, path, changes[path])
    put(keystore, content)
    with pytest.raises(KeystoreError):
        keystore.get("user", PASSPHRASE)
    for params in asked:
        assert 128 * params["n"] * params["r"] <= MAX_SCRYPT_BYTES
        assert 128 * params["n"] * params["r"] * params["p"] <= MAX_SCRYPT_WORK
        assert params["dklen"] <= 1024


def test_a_file_that_others_can_read_is_closed_to_them_with_a_warning(tmp_path: Path) -> None:
    warnings: list[str] = []
    keystore = Keystore(tmp_path, scrypt_n=2, warn=warnings.append)
    put(keystore, independent_file())
    keystore.path("user").chmod(0o644)
    assert keystore.get("user", PASSPHRASE) == KEY
    assert stat.S_IMODE(keystore.path("user").stat().st_mode) == 0o600
    assert warnings == [f"others could read {keystore.path('user')}; now only its owner can"]
    keystore.get("user", PASSPHRASE)
    assert len(warnings) == 1


def test_a_pipe_in_the_place_of_a_key_stops_nobody(keystore: Keystore) -> None:
    keystore.directory.mkdir()
    os.mkfifo(keystore.path("user"))
    with pytest.raises(BadKeyFile, match="not a file"):
        keystore.get("user", PASSPHRASE)


def test_deleting_needs_the_passphrase(keystore: Keystore) -> None:
    put(keystore, independent_file())
    with pytest.raises(WrongPassphrase):
        keystore.delete("user", "wrong")
    assert keystore.names() == ["user"]
    keystore.delete("user", PASSPHRASE)
    assert keystore.names() == []


def test_names_are_those_of_key_files_only(keystore: Keystore) -> None:
    assert keystore.names() == []
    for name in ("user", "dms", "a.b"):
        keystore.save(name, KEY, PASSPHRASE)
    (keystore.directory / ".hidden.json").write_text("")
    (keystore.directory / "notes.txt").write_text("")
    (keystore.directory / "folder.json").mkdir()
    assert keystore.names() == ["a.b", "dms", "user"]


@pytest.mark.parametrize("name", ["../user", "a/b", "", "..", ".x"])
def test_names_cannot_leave_the_directory(keystore: Keystore, name: str) -> None:
    for call in (
        lambda: keystore.save(name, KEY, PASSPHRASE),
        lambda: keystore.get(name, PASSPHRASE),
        lambda: keystore.exists(name),
    ):
        with pytest.raises(BadName):
            call()


def test_a_keystore_needs_a_directory(tmp_path: Path) -> None:
    with pytest.raises(KeystoreError, match="keysDir is empty"):
        Keystore(Path())
    (tmp_path / "file").write_text("")
    with pytest.raises(KeystoreError, match="failed to create keystore directory"):
        Keystore(tmp_path / "file" / "key", scrypt_n=2).save("user", KEY, PASSPHRASE)
