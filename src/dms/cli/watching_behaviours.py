"""The behaviours of events and logs that ``nunet actor cmd`` knows (``spec/security.md`` 6.3)."""

from __future__ import annotations

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour


def _events(flags: Flags) -> object:
    from dms.node.watch_payloads import EventsRequest

    return EventsRequest(after=flags["after"] or 0, names=tuple(flags["name"] or ()), ensemble=flags["ensemble"] or "")


def _log(flags: Flags) -> object:
    from dms.node.watch_payloads import LogRequest

    return LogRequest(
        after=flags["after"] or 0,
        level=flags["level"] or "",
        logger=flags["logger"] or "",
        match=flags["match"] or "",
    )


def _logger(flags: Flags) -> object:
    from dms.node.logger_payloads import LoggerConfig

    return LoggerConfig(
        url=flags["url"],
        level=flags["level"],
        interval=flags["interval"],
        api_key=flags["api_key"],
        apm_url=flags["apm_url"],
        elastic_enabled=True if flags["enable_elastic"] else False if flags["disable_elastic"] else None,
    )


_AFTER = Flag("after", "After this number; -N for the last N.", int)

WATCHING = (
    KnownBehaviour(
        "/dms/node/events",
        "The last events of the node",
        (
            _AFTER,
            Flag("name", "These events only; a * at the end stands for any.", list),
            Flag("ensemble", "Of this deployment."),
        ),
        _events,
    ),
    KnownBehaviour(
        "/dms/node/log",
        "The last log entries of the node",
        (
            _AFTER,
            Flag("level", "From this level on.", short="-l"),
            Flag("logger", "Of this module and those below."),
            Flag("match", "That hold this text."),
        ),
        _log,
    ),
    KnownBehaviour(
        "/dms/node/logger/config",
        "Change what is logged, and where to; nunet logger takes the key from a file",
        (
            Flag("url", "Where Elasticsearch answers.", short="-u"),
            Flag("level", "From this level on.", short="-l"),
            Flag("interval", "Seconds between two deliveries.", int, short="-i"),
            Flag("api-key", "API key of Elasticsearch; file:PATH stands for a file on the node."),
            Flag("apm-url", "Where Elastic APM answers."),
            Flag("enable-elastic", "Send entries to Elasticsearch.", bool),
            Flag("disable-elastic", "Send none.", bool),
        ),
        _logger,
    ),
)
