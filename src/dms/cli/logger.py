"""``nunet logger``: what the node logs and where to, shown and changed while it runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dms.cli.options import Context, Format, Output

SECTIONS = ("observability", "apm")
MAX_KEY_BYTES = 8_192


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


def logger(
    ctx: typer.Context,
    level: Annotated[
        str | None,
        typer.Option("-l", "--level", metavar="LEVEL", help="Log from this level on: DEBUG, INFO, WARN, ERROR."),
    ] = None,
    elastic: Annotated[Switch | None, typer.Option("--elastic", help="Send entries to Elasticsearch.")] = None,
    url: Annotated[str | None, typer.Option("-u", "--url", metavar="URL", help="Where Elasticsearch answers.")] = None,
    interval: Annotated[
        int | None, typer.Option("-i", "--interval", min=1, metavar="SECONDS", help="Time between two deliveries.")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option("--api-key-file", metavar="FILE", help="Its API key; - reads the standard input.")
    ] = None,
    apm_url: Annotated[str | None, typer.Option("--apm-url", metavar="URL", help="Where Elastic APM answers.")] = None,
    context: Context = None,
    output: Output = Format.TABLE,
) -> None:
    """Show the settings of logs and outputs that are in force, or change some of them while the node runs.

    A change is kept over restarts; nunet config reset takes it back. Keys are read from files, as arguments are seen by
    everybody on the machine.

    Examples:
      nunet logger
      nunet logger --level DEBUG
      nunet logger --elastic on --url https://es.example.org --api-key-file key.txt
      nunet logger --elastic off
    """
    from dms.cli.client import refused
    from dms.cli.output import print_table, show
    from dms.cli.session import Session
    from dms.node.config_payloads import CONFIG, ConfigReply, ConfigRequest, SettingInfo
    from dms.node.logger_payloads import LOGGER_CONFIG, LoggerConfig, LoggerReply

    client = Session.of(ctx).client(context)
    wanted = LoggerConfig(
        level=level,
        url=url,
        interval=interval,
        apm_url=apm_url,
        elastic_enabled=None if elastic is None else elastic is Switch.ON,
        api_key=None if api_key_file is None else _read_key(api_key_file),
    )
    if wanted != LoggerConfig():
        done = client.call(LOGGER_CONFIG, wanted, LoggerReply)
        if not done.ok:
            raise refused(done.error, done.hint)
        if output is not Format.TABLE:
            show({"changed": list(done.changed)}, output)
        else:
            print(f"changed: {', '.join(done.changed) or 'nothing, it was so already'}")
        return
    settings: list[SettingInfo] = []
    for section in SECTIONS:
        reply = client.call(f"{CONFIG}/get", ConfigRequest(key=section), ConfigReply)
        if not reply.ok:
            raise refused(reply.error, reply.hint)
        settings += reply.settings
    if output is not Format.TABLE:
        show({setting.key: setting.value for setting in settings}, output)
        return
    print_table(
        ("SETTING", "VALUE", "FROM"),
        [(setting.key, "" if setting.value is None else str(setting.value), setting.source) for setting in settings],
    )


def _read_key(path: Path) -> str:
    import sys

    from dms.types.errors import BadInput

    try:
        data = sys.stdin.buffer.read(MAX_KEY_BYTES) if str(path) == "-" else path.read_bytes()[:MAX_KEY_BYTES]
        key = data.decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadInput(f"cannot read the key in {path}: {getattr(exc, 'strerror', None) or exc}") from None
    if not key:
        raise BadInput(f"there is no key in {path}")
    return key
