"""What ``nunet actor cmd`` knows of the behaviours about volumes (``spec/execution.md`` 6)."""

from __future__ import annotations

from pathlib import Path

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour
from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns


def _volume(flags: Flags) -> object:
    from dms.node.volume_payloads import LockRequest, VolumeRequest

    if cid := flags.get("cid"):
        return LockRequest(volume=flags["volume"], cid=cid)
    return VolumeRequest(volume=flags["volume"])


def _volume_key(flags: Flags) -> object:
    from dms.node.volume_payloads import KeyRequest
    from dms.storage.sealing import SealingKey

    return KeyRequest(volume=flags["volume"], key=SealingKey.load(Path(flags["key_file"])).text())


def _volume_name(flags: Flags) -> object:
    from dms.node.volume_payloads import NameRequest

    return NameRequest(name=flags["name"])


def _volume_create(flags: Flags) -> object:
    from dms.node.volume_payloads import CreateRequest

    file = flags.get("client_pem_file")
    try:
        pem = Path(file).read_text("ascii") if file else ""
    except (OSError, UnicodeDecodeError):
        raise BadInput(f"cannot read the certificate {file}") from None
    return CreateRequest(name=flags["name"], client_pem=pem)


def _volume_prune(flags: Flags) -> object:
    from dms.node.volume_payloads import PruneRequest

    age = flags["older_than"]
    return PruneRequest(
        named=bool(flags["named"]),
        older_than_s=parse_duration_ns(age, what="older-than") / 10**9 if age else 0.0,
        dry_run=bool(flags["dry_run"]),
    )


def _file(flags: Flags) -> object:
    from dms.node.file_payloads import FileRequest

    return FileRequest(name=flags["name"], path=flags["path"])


def _file_receive(flags: Flags) -> object:
    from dms.node.file_payloads import ReceiveRequest

    return ReceiveRequest(
        name=flags["name"], path=flags["path"], size=flags["size"], version=flags["version"] or "", peer=flags["peer"]
    )


def _file_send(flags: Flags) -> object:
    from dms.node.file_payloads import SendRequest

    return SendRequest(
        name=flags["name"],
        path=flags["path"],
        version=flags["version"] or "",
        peer=flags["peer"],
        ticket=Path(flags["ticket_file"]).read_text("ascii").strip(),
    )


_VOLUME = Flag("volume", "Its id, the beginning of it, its content id or its name.", short="-v", is_required=True)
_NAME = Flag("name", "Name of the volume.", short="-n", is_required=True)
_KEY_FILE = Flag("key-file", "File with the key, mode 0600.", short="-k", is_required=True)
_PATH = Flag("path", "Path of the file in it.", is_required=True)
_VERSION = Flag("version", "Its version, as file tells it.")
_PEER = Flag("peer", "Peer id of the other node.", is_required=True)
_VOLUME_TIMEOUT_S = 600.0

VOLUMES: tuple[KnownBehaviour, ...] = (
    KnownBehaviour("/dms/node/volume/list", "Volumes of the node"),
    KnownBehaviour("/dms/node/volume/create", "Make a named volume", (_NAME,), _volume_create),
    KnownBehaviour(
        "/dms/node/volume/inspect", "All that is known of a volume", (_VOLUME,), _volume, timeout_s=_VOLUME_TIMEOUT_S
    ),
    KnownBehaviour("/dms/node/volume/size", "What a volume holds", (_VOLUME,), _volume, timeout_s=_VOLUME_TIMEOUT_S),
    KnownBehaviour("/dms/node/volume/delete", "Remove a volume", (_VOLUME,), _volume, timeout_s=_VOLUME_TIMEOUT_S),
    KnownBehaviour(
        "/dms/node/volume/lock",
        "Let a volume change no more",
        (_VOLUME, Flag("cid", "Only if this is its content.")),
        _volume,
        timeout_s=_VOLUME_TIMEOUT_S,
    ),
    KnownBehaviour("/dms/node/volume/unlock", "Let it change again", (_VOLUME,), _volume, timeout_s=_VOLUME_TIMEOUT_S),
    KnownBehaviour(
        "/dms/node/volume/encrypt",
        "Keep a volume encrypted",
        (_VOLUME, _KEY_FILE),
        _volume_key,
        timeout_s=_VOLUME_TIMEOUT_S,
    ),
    KnownBehaviour(
        "/dms/node/volume/decrypt",
        "Make it a directory again",
        (_VOLUME, _KEY_FILE),
        _volume_key,
        timeout_s=_VOLUME_TIMEOUT_S,
    ),
    KnownBehaviour(
        "/dms/node/volume/prune",
        "Remove volumes that nobody uses",
        (
            Flag("named", "Named ones, too.", bool),
            Flag("older-than", "Unchanged for so long, such as 30d."),
            Flag("dry-run", "Remove nothing.", bool),
        ),
        _volume_prune,
        timeout_s=_VOLUME_TIMEOUT_S,
    ),
    KnownBehaviour("/dms/volume/list", "Volumes of one's own on a node"),
    KnownBehaviour(
        "/dms/volume/create",
        "Make one",
        (_NAME, Flag("client-pem-file", "Certificate for a storage provider of GlusterFS.")),
        _volume_create,
    ),
    KnownBehaviour("/dms/volume/file", "Size and version of a file in one", (_NAME, _PATH), _file),
    KnownBehaviour(
        "/dms/volume/receive",
        "Let a peer bring a file into one, for a ticket",
        (_NAME, _PATH, Flag("size", "Its bytes.", int, is_required=True), _VERSION, _PEER),
        _file_receive,
    ),
    KnownBehaviour(
        "/dms/volume/send",
        "Bring a file to a peer that gave a ticket",
        (_NAME, _PATH, _VERSION, _PEER, Flag("ticket-file", "File with the ticket.", is_required=True)),
        _file_send,
    ),
    KnownBehaviour("/dms/volume/transfers", "Files under way, and the last that were"),
    KnownBehaviour("/dms/volume/start", "See that there is one", (_NAME,), _volume_name),
    KnownBehaviour("/dms/volume/delete", "Remove one", (_NAME,), _volume_name, timeout_s=_VOLUME_TIMEOUT_S),
)
