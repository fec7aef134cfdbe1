"""Private keys on disk, one encrypted file each (``spec/security.md`` 2).

Layout as in Ethereum's version 3, but not interchangeable with it: AES-256-CTR, 64 derived bytes (cipher key, MAC key)
and SHA3-256. A file is foreign input: every parameter is bounded before work or memory is spent on it.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from dms.identity.errors import (
    BadKeyFile,
    CipherMismatch,
    EmptyPassphrase,
    InvalidKey,
    KeyNotFound,
    KeystoreError,
    VersionMismatch,
    WrongPassphrase,
)
from dms.identity.files import check_name, make_private_directory, sync_directory, write_private
from dms.identity.keys import PrivateKey, private_key_from_protobuf
from dms.types import gojson
from dms.types.errors import BadJSON
from dms.types.gojson import Wire

VERSION: Final = 3
CIPHER: Final = "aes-256-ctr"
KDF: Final = "scrypt"
SCRYPT_N: Final = 2**18
SCRYPT_R: Final = 8
SCRYPT_P: Final = 1
DERIVED_BYTES: Final = 64
IV_BYTES: Final = 16
SALT_BYTES: Final = 64
MAX_FILE_BYTES: Final = 65536
MAX_SCRYPT_BYTES: Final = 512 * 2**20
"""Memory (128·N·r) that a key file may ask for; our own files need half of it."""
MAX_SCRYPT_P: Final = 16
MAX_SCRYPT_WORK: Final = 2**30
"""128·N·r·p, which is what the time grows with: about two seconds."""
_MAC_BYTES: Final = 32
_MAX_DERIVED_BYTES: Final = 1024
_SUFFIX: Final = ".json"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


class _CipherParams(Wire):
    iv: str


class _KdfParams(Wire):
    n: int
    r: int
    p: int
    dklen: int
    salt: str


class _Crypto(Wire):
    cipher: str
    ciphertext: str
    cipherparams: _CipherParams
    kdf: str
    kdfparams: _KdfParams
    mac: str


class _KeyFile(Wire):
    id: str
    crypto: _Crypto
    version: int


class Keystore:
    """The keys in ``directory``, created on first use.

    :param scrypt_n: the cost of new files, a power of two.
    :param warn: is told when a file was open to others, as older programs left them, and is not any more.
    """

    def __init__(
        self, directory: Path, *, scrypt_n: int = SCRYPT_N, warn: Callable[[str], object] = lambda _: None
    ) -> None:
        if not str(directory) or directory == Path():
            raise KeystoreError("keysDir is empty", hint="set general.user_dir")
        self.directory = directory
        self._scrypt_n = scrypt_n
        self._warn = warn

    def save(self, name: str, key: PrivateKey, passphrase: str) -> None:
        """Encrypt and write ``key``, durably, over one of the same name.

        :raises EmptyPassphrase: nothing given.
        :raises BadName: ``name`` cannot be a file name.
        """
        path = self._path(name)
        data = _seal(key.to_protobuf(), _passphrase_bytes(passphrase), self._scrypt_n)
        try:
            make_private_directory(self.directory)
        except OSError as exc:
            raise KeystoreError(f"failed to create keystore directory {self.directory}: {exc.strerror}") from None
        write_private(path, data)

    def get(self, name: str, passphrase: str) -> PrivateKey:
        """Read and decrypt a key. Takes about half a second of CPU and 256 MiB of memory: call it from a thread in a
        daemon.

        :raises EmptyPassphrase: nothing given.
        :raises KeyNotFound: no such key.
        :raises WrongPassphrase: it does not open the key.
        :raises BadKeyFile: damaged, foreign or absurd.
        """
        path = self._path(name)
        secret = _passphrase_bytes(passphrase)
        try:
            return private_key_from_protobuf(_open(_parse(self._read(name, path)), secret))
        except WrongPassphrase as exc:
            raise WrongPassphrase(f"{exc.message}: cannot open the key '{name}' ({path})") from None
        except BadKeyFile as exc:
            raise type(exc)(f"{exc.message} ({path})", hint=exc.hint) from None
        except InvalidKey as exc:
            raise BadKeyFile(f"failed to process key: {exc.message} ({path})") from None

    def delete(self, name: str, passphrase: str) -> None:
        """Remove a key; only who can open it may.

        :raises WrongPassphrase: and all others of :meth:`get`.
        """
        self.get(name, passphrase)
        self._path(name).unlink(missing_ok=True)
        sync_directory(self.directory)

    def exists(self, name: str) -> bool:
        """Whether there is a key of this name.

        :raises BadName: ``name`` cannot be a file name.
        """
        return self._path(name).is_file()

    def names(self) -> list[str]:
        """The names of all keys, sorted."""
        names = []
        with contextlib.suppress(FileNotFoundError):
            names = [p.name.removesuffix(_SUFFIX) for p in self.directory.iterdir() if _is_key_file(p)]
        return sorted(names)

    def path(self, name: str) -> Path:
        """The file of a key, whether it exists or not.

        :raises BadName: ``name`` cannot be a file name.
        """
        return self._path(name)

    def _path(self, name: str) -> Path:
        return self.directory / f"{check_name(name)}{_SUFFIX}"

    def _read(self, name: str, path: Path) -> bytes:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not stop us
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise BadKeyFile("failed to decode key: not a file")
                if status.st_mode & _OTHERS:
                    self._close_to_others(descriptor, status.st_mode, path)
                data = file.read(MAX_FILE_BYTES + 1)
        except FileNotFoundError:
            raise KeyNotFound(
                f"key not found on this node: '{name}'", hint=f"create it with `nunet key new {name}`"
            ) from None
        except OSError as exc:
            raise KeystoreError(f"cannot read {path}: {exc.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise BadKeyFile(f"failed to decode key: larger than {MAX_FILE_BYTES} bytes")
        return data

    def _close_to_others(self, descriptor: int, mode: int, path: Path) -> None:
        try:
            os.fchmod(descriptor, stat.S_IMODE(mode) & ~_OTHERS)
        except OSError as exc:
            self._warn(f"others may read {path}, and that cannot be changed: {exc.strerror}")
        else:
            self._warn(f"others could read {path}; now only its owner can")


def _is_key_file(path: Path) -> bool:
    return path.suffix == _SUFFIX and not path.name.startswith(".") and path.is_file() and os.access(path, os.R_OK)


def _passphrase_bytes(passphrase: str) -> bytes:
    if not passphrase:
        raise EmptyPassphrase
    return passphrase.encode("utf-8", "surrogateescape")


def _seal(plain: bytes, passphrase: bytes, n: int) -> bytes:
    salt, iv = os.urandom(SALT_BYTES), os.urandom(IV_BYTES)
    params = _KdfParams(n=n, r=SCRYPT_R, p=SCRYPT_P, dklen=DERIVED_BYTES, salt=salt.hex())
    cipher_key, mac_key = _derive(passphrase, salt, params)
    ciphertext = _aes_ctr(cipher_key, iv, plain)
    file = _KeyFile(
        id=str(uuid.uuid4()),
        crypto=_Crypto(
            cipher=CIPHER,
            ciphertext=ciphertext.hex(),
            cipherparams=_CipherParams(iv=iv.hex()),
            kdf=KDF,
            kdfparams=params,
            mac=_mac(mac_key, ciphertext).hex(),
        ),
        version=VERSION,
    )
    return msgspec.json.format(gojson.encode(file), indent=2)


def _parse(data: bytes) -> _KeyFile:
    try:
        file = gojson.decode(data, _KeyFile)
    except BadJSON as exc:
        raise BadKeyFile(f"failed to decode key: {exc.message}") from None
    if file.version != VERSION:
        raise VersionMismatch(f"version mismatch: {file.version}, not {VERSION}")
    if file.crypto.cipher != CIPHER:
        raise CipherMismatch(f"cipher mismatch: {file.crypto.cipher[:40]!r}, not {CIPHER!r}")
    if file.crypto.kdf != KDF:
        raise BadKeyFile(f"failed to process key: {file.crypto.kdf[:40]!r} instead of {KDF!r}")
    return file


def _open(file: _KeyFile, passphrase: bytes) -> bytes:
    crypto = file.crypto
    mac = _hex(crypto.mac, "mac", _MAC_BYTES)
    iv = _hex(crypto.cipherparams.iv, "iv", IV_BYTES)
    salt = _hex(crypto.kdfparams.salt, "salt")
    ciphertext = _hex(crypto.ciphertext, "ciphertext")
    cipher_key, mac_key = _derive(passphrase, salt, crypto.kdfparams)
    if not hmac.compare_digest(_mac(mac_key, ciphertext), mac):
        raise WrongPassphrase
    return _aes_ctr(cipher_key, iv, ciphertext)


def _hex(text: str, what: str, length: int | None = None) -> bytes:
    try:
        data = bytes.fromhex(text)
    except ValueError:
        raise BadKeyFile(f"failed to decode key: {what} is not hexadecimal") from None
    if not data or (length is not None and len(data) != length):
        raise BadKeyFile(f"failed to decode key: {what} has {len(data)} bytes")
    return data


def _derive(passphrase: bytes, salt: bytes, params: _KdfParams) -> tuple[bytes, bytes]:
    n, r, p = params.n, params.r, params.p
    sane = n > 1 and n & (n - 1) == 0 and r > 0 and 0 < p <= MAX_SCRYPT_P
    if not sane or 128 * n * r > MAX_SCRYPT_BYTES or 128 * n * r * p > MAX_SCRYPT_WORK:
        raise BadKeyFile(f"failed to process key: scrypt parameters n={n}, r={r}, p={p} are out of bounds")
    if not DERIVED_BYTES <= params.dklen <= _MAX_DERIVED_BYTES:
        raise BadKeyFile(f"failed to process key: dklen={params.dklen} is out of bounds")
    memory = 128 * r * (n + p + 2) + 2**20
    try:
        derived = hashlib.scrypt(passphrase, salt=salt, n=n, r=r, p=p, maxmem=memory, dklen=params.dklen)
    except (ValueError, MemoryError) as exc:
        raise BadKeyFile(f"failed to process key: {exc}") from None
    return derived[:32], derived[32:64]


def _mac(mac_key: bytes, ciphertext: bytes) -> bytes:
    return hashlib.sha3_256(mac_key + ciphertext).digest()


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(key), modes.CTR(iv)).encryptor()
    return encryptor.update(data) + encryptor.finalize()
