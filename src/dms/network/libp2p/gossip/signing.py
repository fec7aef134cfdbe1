"""Signatures of broadcasts: every message must carry one of its publisher ("strict signing")."""

from __future__ import annotations

from google.protobuf.message import DecodeError
from libp2p.crypto.keys import PrivateKey
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.validators import signature_validator

from dms.identity.keys import KeyType, PublicKey
from dms.network.gossip import Message
from dms.network.libp2p.gossip.wire import message_of

_PREFIX = b"libp2p-pubsub:"
_ED25519_ID = b"\x00\x24\x08\x01\x12\x20"
_ED25519_ID_BYTES = 38
_SEQNO_BYTES = 8


class Signer:
    """Makes our messages.

    :param first_seqno: greater than any number that we used before: a repeated one would be taken for a message that
        everybody saw already. Nanoseconds of the wall clock are.
    """

    def __init__(self, own: bytes, key: PrivateKey, first_seqno: int) -> None:
        self._own = own
        self._key = key
        self._seqno = first_seqno

    def make(self, topic: str, data: bytes) -> Message:
        """A signed message with the next number."""
        self._seqno += 1
        made = rpc_pb2.Message(
            from_id=self._own, data=data, seqno=self._seqno.to_bytes(_SEQNO_BYTES, "big"), topicIDs=[topic]
        )
        made.signature = self._key.sign(_PREFIX + made.SerializeToString())
        return message_of(made)


def is_genuine(message: Message) -> bool:
    """Whether the publisher signed it; whatever cannot be checked is not."""
    try:
        one = rpc_pb2.Message.FromString(message.raw)
        if not one.signature or not one.seqno:
            return False
        if not one.from_id.startswith(_ED25519_ID) or len(one.from_id) != _ED25519_ID_BYTES:
            return bool(signature_validator(one))
        key = PublicKey(KeyType.ED25519, one.from_id[len(_ED25519_ID) :])
        signature = one.signature
        one.ClearField("signature")
        one.ClearField("key")
        return key.verify(_PREFIX + one.SerializeToString(), signature)
    except (DecodeError, ValueError):
        return False
    except Exception:  # noqa: BLE001  the library parses keys of any shape here
        return False
