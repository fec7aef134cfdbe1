"""Settings: one documented schema, read from ``dms_config.json``, the environment and flags.

:mod:`~dms.config.schema`  every key with its type, default and bounds: :class:`Settings`
:mod:`~dms.config.load`    the four sources and their precedence: :func:`load_settings`, :func:`set_key`
:mod:`~dms.config.keys`    dotted keys, values from text, the nearest key for a mistyped one
:mod:`~dms.config.file`    where the file lies, comments, atomic writing
:mod:`~dms.config.errors`  the tree of errors
"""

from dms.config.errors import ConfigError, ConfigUnreadable, InvalidSetting, SettingNotFound, UnknownKey
from dms.config.file import file_to_write, find_file
from dms.config.load import load_settings, set_key
from dms.config.schema import Settings

__all__ = [
    "ConfigError",
    "ConfigUnreadable",
    "InvalidSetting",
    "SettingNotFound",
    "Settings",
    "UnknownKey",
    "file_to_write",
    "find_file",
    "load_settings",
    "set_key",
]
