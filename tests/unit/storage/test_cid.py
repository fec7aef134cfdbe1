import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.storage.cid import CID, DAG_PB, RAW, read_varint, varint
from dms.storage.errors import InvalidStorageSpec


def test_known_ids_are_read_and_written() -> None:
    cid = CID.of(RAW, b"hello\n")
    assert str(cid) == "bafkreicysg23kiwv34eg2d7qweipxwosdo2py4ldv42nbauguluen5v6am"
    assert CID.parse(str(cid)) == cid
    assert cid.matches(b"hello\n")
    assert not cid.matches(b"hello")


def test_the_versions_name_the_same_content() -> None:
    old = CID.parse("QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn")
    new = CID.parse("bafybeiczsscdsbs7ffqz55asqdf3smv6klcw3gofszvwlyarci47bgf354")
    assert old.version == 0
    assert old.codec == DAG_PB
    assert old.same_content(new)
    assert str(old) == "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3Nn"
    assert CID.parse("z" + "dj7WY8aNcxF49q1ZpFXfchNmbswnUxiVDVjmrHb53xRM8W4C") == CID.parse(
        "bafybeibiemewfzzdyhq2l74wrd6qj2oz42usjlktgnlqv4yfawgouaqn4u"
    )
    assert CID.parse("f" + new.to_bytes().hex()) == new


@pytest.mark.parametrize("code", [0x12, 0x13, 0x16, 0xB220])
def test_other_hash_functions_are_verified(code: int) -> None:
    digest = {
        0x12: hashlib.sha256(b"x").digest(),
        0x13: hashlib.sha512(b"x").digest(),
        0x16: hashlib.sha3_256(b"x").digest(),
        0xB220: hashlib.blake2b(b"x", digest_size=32).digest(),
    }[code]
    cid = CID(1, RAW, code, digest)
    assert CID.parse(str(cid)) == cid
    assert cid.matches(b"x")
    assert not cid.matches(b"y")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        "Qm",
        "hello",
        "/ipfs/x",
        "bafkreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5",
        "bAFKreifzjut3te7nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",
        "f0155d5142" + "00" * 20,  # another hash function
        "f01551220" + "00" * 31,
        "f01551220" + "00" * 33,
        "b" + "a" * 1000,
        "QmUNLLsPACCz1vLxQVkXqqLX5R1X345qqfHbsf67hvA3N0",
    ],
)
def test_what_is_no_content_id_is_refused(text: str) -> None:
    with pytest.raises(InvalidStorageSpec):
        CID.parse(text)


@given(st.text(max_size=80))
def test_no_text_whatsoever_escapes_the_error_tree(text: str) -> None:
    with contextlib.suppress(InvalidStorageSpec):
        CID.parse(text)


@given(st.integers(min_value=0, max_value=2**62))
def test_numbers_survive(number: int) -> None:
    assert read_varint(b"x" + varint(number), 1) == (number, 1 + len(varint(number)))
