"""What is asked and answered about the logger: request and reply of ``/dms/node/logger/config``."""

from __future__ import annotations

from typing import Final

import msgspec

from dms.types.gojson import Wire

LOGGER_CONFIG: Final = "/dms/node/logger/config"


class LoggerConfig(Wire):
    """What to change; what is left out stays. ``interval`` in seconds. Where several are given, all or none take effect."""

    interval: int | None = None
    url: str | None = None
    level: str | None = None
    api_key: str | None = None
    apm_url: str | None = None
    elastic_enabled: bool | None = None


class LoggerReply(Wire):
    """Whether it was done; ``changed``, ours: the settings that have another value now."""

    error: str = ""
    ok: bool = msgspec.field(default=False, name="OK")
    hint: str = ""
    changed: tuple[str, ...] = ()
