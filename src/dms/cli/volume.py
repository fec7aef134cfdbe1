"""``nunet volume``: the volumes of the node, for its owner.

Keys of encrypted volumes are files of mode 0600 beside whoever asks, never words of a command line: the content goes to
the node in a signed message.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from dms.cli.options import Context, Format, Output, Timeout

if TYPE_CHECKING:
    from dms.cli.client import Client
    from dms.node.volume_payloads import VolumeInfo, VolumeReply, VolumesReply

app = typer.Typer(name="volume", help="List, make, lock, encrypt and remove volumes of the node.", no_args_is_help=True)

NAMESPACE = "/dms/node/volume"
WORK_TIMEOUT_S = 600.0
"""For what reads or writes a whole volume."""
COLUMNS = ("ID", "NAME", "SOURCE", "STATE", "SIZE", "USED BY", "AGE")

Volume = Annotated[
    str, typer.Argument(metavar="VOLUME", help="Its id or the beginning of it, its content id, or its name.")
]
Volumes = Annotated[list[str], typer.Argument(metavar="VOLUME...", help="As above; several may be given.")]
KeyFile = Annotated[Path, typer.Option("--key-file", metavar="FILE", help="File with the key, mode 0600.")]


@app.command("list")
def list_(ctx: typer.Context, context: Context = None, output: Output = Format.TABLE) -> None:
    """List all volumes of the node, the oldest first. The size of one that may change is not counted: see size.

    Examples:
      nunet volume list
      nunet volume list --output json
    """
    from dms.cli.output import print_table, show
    from dms.node.volume_payloads import ListRequest, VolumeInfo
    from dms.types import gojson

    client, volumes = _client(ctx, context), list[VolumeInfo]()
    while True:
        reply = _volumes(client, "list", ListRequest(offset=len(volumes)))
        volumes += reply.volumes
        if not (reply.has_more and reply.volumes):
            break
    if output is not Format.TABLE:
        show({"volumes": [gojson.to_builtins(volume) for volume in volumes]}, output)
        return
    print_table(COLUMNS, [_row(volume) for volume in volumes])


@app.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As descriptions name it, under src.")],
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Make a named volume of your own, so that something can be put into it before a workload sees it.

    Examples:
      nunet volume create results
    """
    from dms.node.volume_payloads import CreateRequest

    _tell(_volume(_client(ctx, context), "create", CreateRequest(name=name)), output, "created")


@app.command("inspect")
def inspect(ctx: typer.Context, volume: Volume, context: Context = None, output: Output = Format.TABLE) -> None:
    """Show all that is known of a volume, and who uses it.

    Examples:
      nunet volume inspect results
      nunet volume inspect bafybeiht6dtwk3les7vqm6ibpvz6qpohidvlshsfyr7l5mpysdw2vmbbhe --output json
    """
    from dms.cli.output import clean, pairs, show
    from dms.node.volume_payloads import VolumeRequest
    from dms.types import gojson

    reply = _volume(_client(ctx, context), "inspect", VolumeRequest(volume=volume), timeout_s=WORK_TIMEOUT_S)
    document = gojson.to_builtins(reply.volume)
    if output is not Format.TABLE:
        show(document, output)
        return
    uses = document.pop("used_by") or [""]
    for key, value in document.items():
        print(f"{key:<12}{clean(str(value))}".rstrip())
    for index, use in enumerate(uses):
        print(f"{'used_by' if not index else '':<12}{clean(pairs(use)) if use else ''}".rstrip())


@app.command("size")
def size(
    ctx: typer.Context,
    volume: Volume,
    in_bytes: Annotated[bool, typer.Option("--bytes", help="The number of bytes alone.")] = False,
    context: Context = None,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Count what a volume holds.

    Examples:
      nunet volume size results
      nunet volume size results --bytes
    """
    from dms.cli.options import lifetime
    from dms.cli.output import show
    from dms.node.volume_payloads import VolumeRequest
    from dms.types.units import format_bytes

    timeout_s = lifetime(timeout, None, WORK_TIMEOUT_S)
    found = _volume(_client(ctx, context), "size", VolumeRequest(volume=volume), timeout_s=timeout_s).volume
    size_bytes, files = (found.size_bytes or 0, found.files or 0) if found else (0, 0)
    if output is not Format.TABLE:
        show({"id": found.id if found else "", "size_bytes": size_bytes, "files": files}, output)
    elif in_bytes:
        print(size_bytes)
    else:
        print(f"{format_bytes(size_bytes)} in {files} file{'' if files == 1 else 's'}")


@app.command("delete")
def delete(
    ctx: typer.Context,
    volumes: Volumes,
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    context: Context = None,
) -> None:
    """Remove volumes with all that they hold. One that is in use is left alone, and that is an error.

    Examples:
      nunet volume delete results
      nunet volume delete --yes s3-4k0v http-71ds
    """
    from dms.cli.prompts import confirm
    from dms.node.volume_payloads import VolumeRequest

    client = _client(ctx, context)
    found = [_volume(client, "inspect", VolumeRequest(volume=volume)).volume for volume in volumes]
    meant = {volume.id: volume for volume in found if volume is not None}  # two words may mean one
    if not is_sure:
        for volume in meant.values():
            typer.echo(_described(volume), err=True)
        confirm("Delete for good?")
    for id_ in meant:
        _volume(client, "delete", VolumeRequest(volume=id_), timeout_s=WORK_TIMEOUT_S)
        print(f"deleted {id_}")


@app.command("lock")
def lock(
    ctx: typer.Context,
    volume: Volume,
    cid: Annotated[str, typer.Option("--cid", metavar="CID", help="Only if this is its content.")] = "",
    context: Context = None,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Let a volume change no more, and compute its content id, which says exactly what is in it.

    Examples:
      nunet volume lock results
    """
    from dms.cli.options import lifetime
    from dms.node.volume_payloads import LockRequest

    request, timeout_s = LockRequest(volume=volume, cid=cid), lifetime(timeout, None, WORK_TIMEOUT_S)
    _tell(_volume(_client(ctx, context), "lock", request, timeout_s=timeout_s), output, "locked")


@app.command("unlock")
def unlock(
    ctx: typer.Context,
    volume: Volume,
    context: Context = None,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Let a locked volume change again; its content id is gone then. Nobody may use it meanwhile.

    Examples:
      nunet volume unlock results
    """
    from dms.cli.options import lifetime
    from dms.node.volume_payloads import VolumeRequest

    request, timeout_s = VolumeRequest(volume=volume), lifetime(timeout, None, WORK_TIMEOUT_S)
    _tell(_volume(_client(ctx, context), "unlock", request, timeout_s=timeout_s), output, "unlocked")


@app.command("encrypt")
def encrypt(
    ctx: typer.Context,
    volume: Volume,
    key_file: KeyFile,
    is_new: Annotated[
        bool, typer.Option("--new-key", help="Make the key, and the file; one that is there stays.")
    ] = False,
    context: Context = None,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Keep a volume as one encrypted file. Without the key its content is lost: keep a copy of the key file elsewhere.

    Examples:
      nunet volume encrypt results --key-file results.key --new-key
    """
    from dms.cli.options import lifetime
    from dms.node.volume_payloads import KeyRequest
    from dms.storage.sealing import SealingKey

    timeout_s = lifetime(timeout, None, WORK_TIMEOUT_S)
    if is_new:
        key = SealingKey.generate()
        key.save(key_file)
    else:
        key = SealingKey.load(key_file)
    request = KeyRequest(volume=volume, key=key.text())
    _tell(_volume(_client(ctx, context), "encrypt", request, timeout_s=timeout_s), output, "encrypted")


@app.command("decrypt")
def decrypt(
    ctx: typer.Context,
    volume: Volume,
    key_file: KeyFile,
    context: Context = None,
    timeout: Timeout = None,
    output: Output = Format.TABLE,
) -> None:
    """Make an encrypted volume a directory again; one that was locked must have its content id.

    Examples:
      nunet volume decrypt results --key-file results.key
    """
    from dms.cli.options import lifetime
    from dms.node.volume_payloads import KeyRequest
    from dms.storage.sealing import SealingKey

    request = KeyRequest(volume=volume, key=SealingKey.load(key_file).text())
    timeout_s = lifetime(timeout, None, WORK_TIMEOUT_S)
    _tell(_volume(_client(ctx, context), "decrypt", request, timeout_s=timeout_s), output, "decrypted")


@app.command("prune")
def prune(
    ctx: typer.Context,
    is_named: Annotated[bool, typer.Option("--named", help="Named volumes, too: their tenants lose them.")] = False,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Only unchanged for so long, such as 30d.")
    ] = None,
    is_dry: Annotated[bool, typer.Option("--dry-run", help="Show what would go, and remove nothing.")] = False,
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Remove what nobody uses: downloads that were kept for the next who wants them. What is in use stays.

    Examples:
      nunet volume prune --dry-run
      nunet volume prune --older-than 30d --yes
      nunet volume prune --named --older-than 365d
    """
    from dms.cli.output import show
    from dms.cli.prompts import confirm
    from dms.node.volume_payloads import PruneRequest
    from dms.types import gojson
    from dms.types.units import format_bytes, parse_duration_ns

    client = _client(ctx, context)
    older_than_s = parse_duration_ns(older_than, what="older-than") / 10**9 if older_than else 0.0
    reply = _volumes(
        client,
        "prune",
        PruneRequest(named=is_named, older_than_s=older_than_s, dry_run=True),
        timeout_s=WORK_TIMEOUT_S,
    )
    found = reply.volumes
    if found and not is_dry:
        if not is_sure:
            for volume in found:
                typer.echo(_described(volume), err=True)
            confirm("Delete for good?")
        ids = tuple(volume.id for volume in found)
        request = PruneRequest(named=is_named, older_than_s=older_than_s, ids=ids)
        found = _volumes(client, "prune", request, timeout_s=WORK_TIMEOUT_S).volumes
    total = sum(volume.size_bytes or 0 for volume in found)
    if output is not Format.TABLE:
        volumes = [gojson.to_builtins(volume) for volume in found]
        show({"deleted": not is_dry, "bytes": total, "volumes": volumes}, output)
        return
    if not found:
        print("nothing to prune")
        return
    for volume in found:
        print(f"{'would delete' if is_dry else 'deleted'} {_described(volume)}")
    print(f"{format_bytes(total)} {'would be free' if is_dry else 'freed'}")
    if reply.has_more:
        typer.echo("there are more: prune again", err=True)


def _client(ctx: typer.Context, context: str | None) -> Client:
    from dms.cli.session import Session

    return Session.of(ctx).client(context)


def _volume(client: Client, name: str, request: object, *, timeout_s: float = 30.0) -> VolumeReply:
    from dms.node.volume_payloads import VolumeReply

    reply = client.call(f"{NAMESPACE}/{name}", request, VolumeReply, timeout_s=timeout_s)
    if not reply.ok:
        _refuse(reply)
    return reply


def _volumes(client: Client, name: str, request: object, *, timeout_s: float = 30.0) -> VolumesReply:
    from dms.node.volume_payloads import VolumesReply

    reply = client.call(f"{NAMESPACE}/{name}", request, VolumesReply, timeout_s=timeout_s)
    if not reply.ok:
        _refuse(reply)
    return reply


def _refuse(reply: VolumeReply | VolumesReply) -> NoReturn:
    """What the node says, as the kind of error that its code names."""
    from dms.cli.errors import Refused, RefusedState, RefusedUnknown
    from dms.storage import errors
    from dms.types.errors import BadInput, Conflict, NotFound

    kinds = (kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StorageError))
    kind = {kind.code: kind for kind in kinds}.get(reply.code, errors.StorageError)
    if issubclass(kind, BadInput):
        raise BadInput(reply.error, hint=reply.hint)
    if issubclass(kind, NotFound):
        raise RefusedUnknown(reply.error, hint=reply.hint)
    if issubclass(kind, Conflict):
        raise RefusedState(reply.error, hint=reply.hint)
    raise Refused(reply.error, hint=reply.hint)


def _tell(reply: VolumeReply, output: Format, done: str) -> None:
    from dms.cli.output import show
    from dms.types import gojson

    if output is not Format.TABLE:
        show(gojson.to_builtins(reply.volume), output)
    elif reply.volume is not None:
        print(f"{done} {_described(reply.volume)}")


def _described(volume: VolumeInfo) -> str:
    """In a few words."""
    from dms.cli.output import clean
    from dms.types.units import format_bytes

    words = [volume.id, *([f'"{volume.name}"'] if volume.name else []), *([volume.cid] if volume.cid else [])]
    size = [] if volume.size_bytes is None else [f"({format_bytes(volume.size_bytes)})"]
    return clean(" ".join([*words, *size]))


def _row(volume: VolumeInfo) -> tuple[str, ...]:
    from dms.cli.output import age
    from dms.types.units import format_bytes

    state = "encrypted" if volume.encrypted else "locked" if volume.locked else "open"
    used_by = volume.used_by[0].owner if volume.users == 1 else f"{volume.users} users" if volume.users else ""
    return (
        volume.id,
        volume.name,
        volume.source,
        state,
        "" if volume.size_bytes is None else format_bytes(volume.size_bytes),
        used_by if len(used_by) <= 40 else f"{used_by[:12]}…{used_by[-24:]}",
        age(volume.created_at),
    )
