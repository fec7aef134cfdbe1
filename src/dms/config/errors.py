"""Errors of the configuration.

::

    DMSError
    └── ConfigError                 the settings cannot be used                  (BadInput)
        ├── ConfigUnreadable        no file there, or not JSON
        ├── ConfigUnwritable        a change cannot be kept
        ├── UnknownKey              a key that no setting has
        ├── InvalidSetting          a key with a value of the wrong kind
        ├── NotLive                 a key that does not change while the node runs  (Conflict)
        ├── FixedSetting            a key that environment or flags decide       (Conflict)
        └── SettingNotFound         asked for a key that does not exist          (NotFound)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, NotFound


class ConfigError(BadInput):
    """The configuration cannot be used."""

    code = "config"


class ConfigUnreadable(ConfigError):
    """The configuration file cannot be read."""

    code = "config_unreadable"


class ConfigUnwritable(ConfigError):
    """The configuration file cannot be written."""

    code = "config_unwritable"
    default_hint = "name another file with --config, or look at the rights of its directory"


class UnknownKey(ConfigError):
    """There is no such configuration key."""

    code = "config_unknown_key"
    default_hint = "`nunet config get` shows all keys"


class InvalidSetting(ConfigError):
    """A configuration value is of the wrong kind."""

    code = "config_invalid"


class SettingNotFound(NotFound, ConfigError):
    """There is no such configuration key."""

    code = "config_key_not_found"
    default_hint = "`nunet config get` shows all keys"


class NotLive(Conflict, ConfigError):
    """This setting does not change while the node runs."""

    code = "config_not_live"
    default_hint = "change it in the file, nunet config set KEY VALUE, and start the node again"


class FixedSetting(Conflict, ConfigError):
    """This setting is decided by the environment or a flag."""

    code = "config_fixed"
    default_hint = "start the node without the variable or the flag"
