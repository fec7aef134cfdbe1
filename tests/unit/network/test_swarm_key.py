"""The key of a private network and its file."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.network.errors import InvalidSwarmKey
from dms.network.swarm_key import SwarmKey, decode_swarm_key, encode_swarm_key, new_swarm_key
from dms.network.swarm_key_file import read_swarm_key, write_swarm_key
from dms.types.errors import Conflict, NotFound

SECRET = bytes(range(100, 132))
HEADER = b"/key/swarm/psk/1.0.0/\n"
BASE16 = HEADER + b"/base16/\n" + SECRET.hex().encode()


def test_a_new_key_is_read_back() -> None:
    key = new_swarm_key()
    assert decode_swarm_key(encode_swarm_key(key)) == key != new_swarm_key()


@pytest.mark.parametrize(
    "data",
    [
        BASE16,
        BASE16 + b"\n",
        BASE16.upper().replace(b"/KEY/SWARM/PSK/1.0.0/", b"/key/swarm/psk/1.0.0/").replace(b"BASE", b"base"),
        BASE16.replace(b"\n", b"\r\n") + b"\r\n",
        HEADER + b"/base64/\n" + base64.b64encode(SECRET) + b"\n",
        HEADER + b"/bin/\n" + SECRET,
    ],
)
def test_every_encoding_is_read(data: bytes) -> None:
    assert decode_swarm_key(data) == SwarmKey(SECRET)


def test_what_is_written_is_what_every_implementation_reads() -> None:
    assert encode_swarm_key(SwarmKey(SECRET)) == BASE16 + b"\n"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "first line"),
        (BASE16.replace(b"1.0.0", b"2.0.0"), "first line"),
        (BASE16.replace(b"base16", b"base32"), "second line"),
        (BASE16[:-1], "hexadecimal"),
        (BASE16[:-2], "32 bytes, not 31"),
        (BASE16 + b"00", "32 bytes, not 33"),
        (BASE16[:-2] + b"zz", "hexadecimal"),
        (HEADER + b"/base64/\n!" + base64.b64encode(SECRET), "base64"),
        (HEADER + b"/bin/\n" + SECRET + b"\n", "32 bytes, not 33"),
        (HEADER + b"/base16/\n" + b"00" * 32, "weak"),
        (HEADER + b"/base16/\n" + b"0123456789abcdef" * 4, "weak"),
        (HEADER + b"/base64/\n" + base64.b64encode(b"\x08\x02\x12\x20" + SECRET[:28]), "weak: its first bytes"),
        (BASE16 + b" " * 2000, "at most"),
    ],
)
def test_what_is_no_key_or_a_weak_one_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(InvalidSwarmKey, match=why):
        decode_swarm_key(data)


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for text in (data, HEADER + data, HEADER + b"/base16/\n" + data, HEADER + b"/base64/\n" + data):
        try:
            decode_swarm_key(text)
        except InvalidSwarmKey:
            continue


def test_a_key_is_never_shown() -> None:
    key = SwarmKey(SECRET)
    for shown in (repr(key), str(key), f"{key}"):
        assert SECRET.hex() not in shown
        assert str(SECRET) not in shown


def test_the_fingerprint_is_that_of_other_implementations() -> None:
    # SHAKE128 over 64 bytes of Salsa20 under the nonce "finprint"
    assert SwarmKey(bytes(range(32))).fingerprint == "41dfbf48d882a8ee665983adfa7a48f7"


# the file ------------------------------------------------------------------------------------------------------------


def test_a_file_is_written_for_its_owner_only_and_read_back(tmp_path: Path) -> None:
    path, key = tmp_path / "swarm.key", new_swarm_key()
    write_swarm_key(path, key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_swarm_key(path) == key


def test_a_file_that_is_there_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    write_swarm_key(path, SwarmKey(SECRET))
    with pytest.raises(Conflict, match="already"):
        write_swarm_key(path, new_swarm_key())
    assert read_swarm_key(path) == SwarmKey(SECRET)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "swarm.key"
    write_swarm_key(path, SwarmKey(SECRET))
    path.chmod(mode)
    with pytest.raises(InvalidSwarmKey, match="others can read") as caught:
        read_swarm_key(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    path = tmp_path / "swarm.key"
    with pytest.raises(InvalidSwarmKey, match=f"{path}: No such file"):
        read_swarm_key(path)
    with pytest.raises(InvalidSwarmKey, match=str(tmp_path)):
        read_swarm_key(tmp_path)
    path.write_bytes(BASE16[:-2])
    path.chmod(0o600)
    with pytest.raises(InvalidSwarmKey, match=f"{path}: a network key has 32 bytes"):
        read_swarm_key(path)


def test_a_directory_that_is_missing_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"there is no directory {tmp_path}/new"):
        write_swarm_key(tmp_path / "new" / "swarm.key", new_swarm_key())
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidSwarmKey, match="cannot write"):
        write_swarm_key(tmp_path / "file" / "swarm.key", new_swarm_key())
