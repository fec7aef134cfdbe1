"""The types of settings: what a value must be like, the same wherever it is used.

Each carries a :class:`Kind`, its name for people. Types are strict, as the file is JSON: a port is a number, never a text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, Field, SecretStr, ValidationInfo

from dms.types.errors import BadInput
from dms.types.units import parse_duration_ns

MAX_PORT: Final = 65535
LOG_LEVELS: Final = ("DEBUG", "INFO", "WARN", "ERROR", "FATAL")
MAX_SECRET_CHARS: Final = 8192

_HTTP = re.compile(r"https?://[^\s/?#@]+(/[^\s?#]*)?")
_PEER_ID = re.compile(r"(12D3KooW|16Uiu2HA[1-9A-HJ-NP-Za-km-z]|Qm)[1-9A-HJ-NP-Za-km-z]{44}")
_NETWORK_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_POSITION = re.compile(r"\s*([+-]?\d{1,3}(?:\.\d+)?)\s*,\s*([+-]?\d{1,3}(?:\.\d+)?)\s*")
_POSTGRESQL = re.compile(r"postgres(ql)?://[^\s/?#]*/[^\s/?#]+(\?\S*)?")


@dataclass(frozen=True, slots=True)
class Kind:
    """What people call the type of a value."""

    name: str


def _expand(path: Path, info: ValidationInfo) -> Path:
    text, home = str(path), (info.context or {}).get("home") or Path.home()
    for mark in ("~", "$HOME", "${HOME}"):
        if text == mark or text.startswith(mark + "/"):
            return Path(home, text[len(mark) :].lstrip("/"))
    return path.absolute()


def _file(value: str, info: ValidationInfo) -> str:
    return str(_expand(Path(value), info)) if value else ""


def _duration(value: str) -> str:
    try:
        parse_duration_ns(value, what="duration")
    except BadInput as exc:
        raise ValueError(f"{exc.message}; write it like 30d") from None
    return value


def _http(value: str) -> str:
    if value and not _HTTP.fullmatch(value):
        raise ValueError(f'"{value[:80]}" is not the address of a service; write it like https://service.example.org')
    return value.rstrip("/")


def _multiaddress(value: str) -> str:
    if not value.startswith("/"):
        raise ValueError(f'"{value[:80]}" is not a multiaddress; write it like /ip4/127.0.0.1/tcp/9000')
    return value


def _peer_id(value: str) -> str:
    if not _PEER_ID.fullmatch(value):
        raise ValueError(f'"{value[:80]}" is not a peer id; nunet peers shows those of the connected peers')
    return value


def _network(value: str) -> str:
    try:
        ip_network(value)
    except ValueError:
        raise ValueError(f'"{value[:80]}" is not a network; write it like 10.1.0.0/16') from None
    return value


def _level(value: str) -> str:
    level = {"WARNING": "WARN", "CRITICAL": "FATAL"}.get(value.upper(), value.upper())
    if level not in LOG_LEVELS:
        raise ValueError(f'"{value[:80]}" is not a level; use one of {", ".join(LOG_LEVELS)}')
    return level


def _when(value: str) -> str:
    if value not in ("auto", "on", "off"):
        raise ValueError(f'"{value[:80]}" is none of auto, on, off')
    return value


def _network_id(value: str) -> str:
    if value and not _NETWORK_ID.fullmatch(value):
        raise ValueError(
            f'"{value[:80]}" is not the name of a network; use up to 32 of a-z, 0-9 and -, such as acme-lab'
        )
    return value


def _secret(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().isprintable() or len(value) > MAX_SECRET_CHARS:
        raise ValueError("a secret is one line of text")
    return value


def _database(value: SecretStr) -> SecretStr:
    text = _secret(value).get_secret_value()
    if text and not _POSTGRESQL.fullmatch(text):  # which may hold a password: it is not repeated
        raise ValueError("not the address of a PostgreSQL database; write it like postgresql://user@host/name")
    return value


def _position(value: str) -> str:
    if not value:
        return value
    match = _POSITION.fullmatch(value)
    if match is None or abs(float(match[1])) > 90 or abs(float(match[2])) > 180:
        raise ValueError(f'"{value[:80]}" is not a position; write degrees north and east, such as 52.52, 13.40')
    return value


def _name_server(value: str) -> str:
    if value == "system":
        return value
    try:
        return str(ip_address(value))
    except ValueError:
        raise ValueError(f'"{value[:80]}" is not a name server; write an IP address, or system') from None


_LIST = Field(strict=False)
"""JSON has no tuples."""

Duration = Annotated[str, AfterValidator(_duration), Kind("duration")]
"""A duration as text, such as ``30d`` or ``1h30m``."""
Directory = Annotated[Path, Field(strict=False, validate_default=True), AfterValidator(_expand), Kind("path")]
"""May begin with ``~`` or ``$HOME``."""
File = Annotated[str, AfterValidator(_file), Kind("file")]
"""May begin with ``~`` or ``$HOME``; empty where there is none."""
HttpAddress = Annotated[str, AfterValidator(_http), Kind("address")]
"""Of an HTTP service, without a slash at its end; empty where there is none."""
Level = Annotated[str, AfterValidator(_level), Kind("log level")]
When = Annotated[str, AfterValidator(_when), Kind("auto, on or off")]
NetworkID = Annotated[str, AfterValidator(_network_id), Kind("name")]
"""The same as :func:`dms.network.names.check_network_id`."""
Multiaddress = Annotated[str, AfterValidator(_multiaddress), Kind("multiaddress")]
Network = Annotated[str, AfterValidator(_network), Kind("network")]
Secret = Annotated[SecretStr, Field(validate_default=True), AfterValidator(_secret), Kind("secret")]
"""Never shown. ``file:PATH`` stands for the content of a file."""

DatabaseAddress = Annotated[SecretStr, Field(validate_default=True), AfterValidator(_database), Kind("secret address")]
"""Of a PostgreSQL database, as a secret: it may hold a password."""

Position = Annotated[str, AfterValidator(_position), Kind("position")]
"""Degrees north and east, or nothing."""
Text = Annotated[str, Kind("text")]
Flag = Annotated[bool, Kind("true or false")]
Number = Annotated[int, Kind("number")]
Count = Annotated[int, Field(ge=1), Kind("number")]
"""At least one."""
CountOrNone = Annotated[int, Field(ge=0), Kind("number")]
Port = Annotated[int, Field(ge=0, le=MAX_PORT), Kind("number")]

Texts = Annotated[tuple[Text, ...], _LIST]
Directories = Annotated[tuple[Annotated[Path, Field(strict=False), AfterValidator(_expand), Kind("path")], ...], _LIST]
PeerIDs = Annotated[tuple[Annotated[str, AfterValidator(_peer_id), Kind("peer id")], ...], _LIST]
Multiaddresses = Annotated[tuple[Multiaddress, ...], _LIST]
Networks = Annotated[tuple[Network, ...], _LIST]
NameServers = Annotated[tuple[Annotated[str, AfterValidator(_name_server), Kind("name server")], ...], _LIST]
