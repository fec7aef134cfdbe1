"""What ``nunet actor cmd`` knows of the behaviours about settings and health."""

from __future__ import annotations

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour


def _get(flags: Flags) -> object:
    from dms.node.config_payloads import ConfigRequest

    return ConfigRequest(key=flags["key"] or "")


def _set(flags: Flags) -> object:
    from dms.node.config_payloads import ConfigSetRequest

    return ConfigSetRequest(values={flags["key"]: flags["value"]})


def _reset(flags: Flags) -> object:
    from dms.node.config_payloads import ConfigResetRequest

    return ConfigResetRequest(keys=(flags["key"],) if flags["key"] else ())


def _history(flags: Flags) -> object:
    from dms.node.config_payloads import ConfigHistoryRequest

    return ConfigHistoryRequest(limit=flags["limit"] or 0)


_KEY = Flag("key", "Dotted key or section; all without it.", short="-k")

SETTINGS: tuple[KnownBehaviour, ...] = (
    KnownBehaviour("/dms/node/config/get", "Settings of the running node", (_KEY,), _get),
    KnownBehaviour(
        "/dms/node/config/set",
        "Change a setting of the running node",
        (
            Flag("key", "Dotted key.", short="-k", is_required=True),
            Flag("value", "As in an environment variable; nothing secret.", is_required=True),
        ),
        _set,
    ),
    KnownBehaviour("/dms/node/config/reset", "Forget what was set at run time", (_KEY,), _reset),
    KnownBehaviour("/dms/node/config/reload", "Read the configuration file again"),
    KnownBehaviour(
        "/dms/node/config/history",
        "Who changed which settings",
        (Flag("limit", "How many of the last changes; all without it.", int),),
        _history,
    ),
    KnownBehaviour("/dms/node/doctor/checkup", "What stands in the way of the node"),
    KnownBehaviour("/public/time", "What time it is there"),
)
