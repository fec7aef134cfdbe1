"""What ``/dms/node/config/*`` takes and answers; apart, so that the command line need load nothing else."""

from __future__ import annotations

from typing import Any

import msgspec

from dms.types.gojson import Wire

MAX_CHANGES = 1000
"""That are accounted for; older ones are forgotten."""
CONFIG = "/dms/node/config"
MAX_KEYS = 100
"""That one request may change."""


class SettingChange(Wire):
    """One change: what was done by whom; values as JSON in text, those of secrets hidden."""

    key: str
    how: str
    old: str
    new: str
    by: str = ""
    at_ns: int = 0


class ConfigRequest(Wire):
    """A key, a section, or nothing for all."""

    key: str = ""


class ConfigSetRequest(Wire):
    """Values by key: JSON, or text as in an environment variable. All are changed, or none."""

    values: dict[str, Any] = msgspec.field(default_factory=dict)


class ConfigResetRequest(Wire):
    """Keys whose values of run time are forgotten; none: all."""

    keys: tuple[str, ...] = ()


class ConfigHistoryRequest(Wire):
    """How many of the last changes; 0: all that are known."""

    limit: int = 0


class SettingInfo(Wire):
    """A setting as it is in force; ``source`` and ``place`` tell where it comes from; ``pending``: it was changed in the
    file, which holds after a restart.
    """

    key: str
    value: Any  # JSON; of a secret hidden
    source: str
    place: str = ""
    live: bool = False
    pending: bool = False


class ConfigReply(Wire):
    """Settings; what was changed; what needs a restart."""

    ok: bool = msgspec.field(default=False, name="OK")
    error: str = ""
    hint: str = ""
    settings: tuple[SettingInfo, ...] = ()
    changes: tuple[SettingChange, ...] = ()
    needs_restart: tuple[str, ...] = ()
