"""Settings: one documented schema, read from ``dms_config.json``, the environment and flags.

:mod:`~dms.config.schema`    every key with its type, default and meaning: :class:`Settings`
:mod:`~dms.config.setting`   how one key is declared
:mod:`~dms.config.values`    the types that values have
:mod:`~dms.config.keys`      all keys as a list, values from text, the nearest key for a mistyped one
:mod:`~dms.config.load`      the sources and their precedence: :func:`load_settings`
:mod:`~dms.config.origin`    where a value comes from
:mod:`~dms.config.file`      where the file lies, comments, lines, atomic writing
:mod:`~dms.config.edit`      changes to the file: :func:`set_key`, :func:`unset_key`, :func:`migrate_file`
:mod:`~dms.config.describe`  the JSON schema, and an example with comments
:mod:`~dms.config.errors`    the tree of errors
"""

from dms.config.edit import migrate_file, set_key, unset_key
from dms.config.errors import (
    ConfigError,
    ConfigUnreadable,
    ConfigUnwritable,
    InvalidSetting,
    SettingNotFound,
    UnknownKey,
)
from dms.config.file import file_to_write, find_file
from dms.config.load import load_settings
from dms.config.origin import Origin, Source
from dms.config.schema import Settings

__all__ = [
    "ConfigError",
    "ConfigUnreadable",
    "ConfigUnwritable",
    "InvalidSetting",
    "Origin",
    "SettingNotFound",
    "Settings",
    "Source",
    "UnknownKey",
    "file_to_write",
    "find_file",
    "load_settings",
    "migrate_file",
    "set_key",
    "unset_key",
]
