"""Stand-ins for the programs of wallets: they sign with real keys, and follow the protocol to the letter.

Each is a program of its own that is put on PATH. What it was asked is appended to ``calls`` beside it, one JSON list of
arguments a line. ``behaviour`` makes it misbehave, for the tests of those who call it.
"""

from __future__ import annotations

import json
import stat
import sys
from pathlib import Path
from typing import Final

_HEAD: Final = """#!{python} -I
import json, os, sys, time
secret = bytes.fromhex({secret!r})
behaviour = {behaviour!r}
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "calls"), "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
if behaviour == "refuse":
    print("the owner said no", file=sys.stderr)
    sys.exit(1)
if behaviour == "sleep":
    time.sleep(600)
"""

_LEDGER: Final = """
command, o, path, a, account, *rest = sys.argv[1:]
assert o == "-o" and a == "-a" and os.path.basename(path).startswith("ledger.out"), sys.argv
print("Look at your device ...")
if behaviour == "silent":
    sys.exit(0)
import coincurve
from Crypto.Hash import keccak
if command == "sign" and behaviour == "other device":
    account = "999"
scalar = (int.from_bytes(secret, "big") + int(account)).to_bytes(32, "big")
key = coincurve.PrivateKey(scalar)
hash_of = lambda data: keccak.new(digest_bits=256, data=data).digest()
if command == "key":
    assert not rest
    point = key.public_key.format(compressed=False)[1:]
    answer = {"key": key.public_key.format().hex(), "address": "0x" + hash_of(point)[12:].hex()}
else:
    message, = map(bytes.fromhex, rest)
    text = b"\\x19Ethereum Signed Message:\\n" + str(len(message)).encode() + message
    signed = key.sign_recoverable(hash_of(text), hasher=None)
    answer = {"ecdsa": {"v": 27 + signed[64], "r": signed[:32].hex(), "s": signed[32:64].hex()}}
    if behaviour == "beyond the order":
        answer["ecdsa"]["r"] = "ff" * 32
data = json.dumps(answer)
data = {"huge": " " * 100000 + data, "garbage": "{]", "no hex": json.dumps({"key": "0x" + "zz" * 33})}.get(behaviour, data)
with open(path, "w") as file:
    file.write(data)
"""

_ETERNL: Final = """
message, = map(bytes.fromhex, sys.argv[1:])
import hashlib
from nacl.signing import SigningKey
key = SigningKey(secret)
if behaviour == "other wallet" and message != b"get_pubkey":
    key = SigningKey(bytes(32))
raw = bytes(key.verify_key)
def string(data, kind=0x40):
    n = len(data)
    head = bytes([kind + n]) if n < 24 else bytes([kind + 24, n]) if n < 256 else bytes([kind + 25]) + n.to_bytes(2, "big")
    return head + data
address = b"\\x61" + hashlib.blake2b(raw, digest_size=28).digest()
protected = b"\\xa2\\x01\\x27" + string(b"address", 0x60) + string(address)
signed = b"\\x84" + string(b"Signature1", 0x60) + string(protected) + string(b"") + string(message)
sign1 = b"\\x84" + string(protected) + b"\\xa1" + string(b"hashed", 0x60) + b"\\xf4" + string(message)
sign1 += string(key.sign(signed).signature)
shown = raw if behaviour == "bare key" else b"\\xa4\\x01\\x01\\x03\\x27\\x20\\x06\\x21" + string(raw)
print("Opening the browser ...")
if behaviour == "endless":
    while True:
        print("x" * 1000)
if behaviour == "garbage":
    print("PubKeyRaw:[nothing] Signature:[nothing]")
elif behaviour == "huge":
    print("PubKeyRaw:[" + "ab" * 1000 + "]")
elif behaviour != "silent":
    print("PubKeyRaw:[" + shown.hex() + "]")
    if behaviour != "no signature":
        print("Signature:[" + sign1.hex() + "]")
"""


def install_ledger(directory: Path, secret: bytes, behaviour: str = "") -> Path:
    """Put ``ledger-cli`` into ``directory``; account n signs with the scalar ``secret`` + n."""
    return _install(directory / "ledger-cli", _LEDGER, secret, behaviour)


def install_eternl(directory: Path, secret: bytes, behaviour: str = "") -> Path:
    """Put ``eternl-cli`` into ``directory``; it signs with the Ed25519 seed ``secret``."""
    return _install(directory / "eternl-cli", _ETERNL, secret, behaviour)


def calls(directory: Path) -> list[list[str]]:
    """The arguments of every call of the programs in ``directory``."""
    log = directory / "calls"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def _install(path: Path, body: str, secret: bytes, behaviour: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = _HEAD.format(python=sys.executable, secret=secret.hex(), behaviour=behaviour)
    path.write_text(head + body)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path
