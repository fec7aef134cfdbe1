"""What ``nunet actor cmd`` knows of the behaviours about updates (``spec/orchestration.md`` 2.4, 8)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dms.cli.behaviour_flags import Flag, Flags, KnownBehaviour
from dms.types.errors import BadInput

UPDATE_TIMEOUT_S = 600.0


def _terms(flags: Flags) -> dict[str, Any]:
    from dms.types.units import parse_duration_ns

    terms: dict[str, Any] = {
        "batch": flags.get("batch", 0),
        "expect": flags.get("expect", 0),
        "no_gap": flags.get("no_gap", False),
        "request": flags.get("request", ""),
    }
    if text := flags.get("healthy_for"):
        terms["healthy_for_ms"] = parse_duration_ns(text, what="time to be healthy") // 10**6
    if text := flags.get("queue_timeout"):
        terms["queue_timeout_ms"] = parse_duration_ns(text, what="queue timeout") // 10**6
    return terms


def _update(flags: Flags) -> object:
    from dms.ensemble.loading import load_ensemble
    from dms.node.updating_payloads import UpdateRequest

    config = load_ensemble(Path(flags["spec_file"]), os.environ).config
    return UpdateRequest(ensemble_id=flags["id"], ensemble=config, **_terms(flags))


def _scale(flags: Flags) -> object:
    from dms.node.updating_payloads import ScaleRequest

    counts = {}
    for text in flags["counts"]:
        name, _, number = str(text).partition("=")
        if not (name and number.isdecimal()):
            raise BadInput(f"{text} is not GROUP=N", hint="for instance worker=20")
        counts[name] = int(number)
    return ScaleRequest(id=flags["id"], counts=counts, **_terms(flags))


def _revert(flags: Flags) -> object:
    from dms.node.updating_payloads import RevertRequest

    return RevertRequest(id=flags["id"], to=flags.get("to", 0), **_terms(flags))


def _versions(flags: Flags) -> object:
    from dms.node.updating_payloads import VersionsRequest

    return VersionsRequest(id=flags["id"], number=flags.get("number", 0))


_ID = Flag("id", "Id of the deployment.", short="-i", is_required=True)
_TERMS = (
    Flag("batch", "Nodes at a time; 0 for all.", int),
    Flag("healthy-for", "How long what is new must be well, such as 30s."),
    Flag("queue-timeout", "How long to wait for capacity."),
    Flag("no-gap", "Rather fail than end something before its successor runs.", bool),
    Flag("expect", "The version that must be in force.", int),
    Flag("request", "A name: the same request again is no second one."),
)

UPDATES = (
    KnownBehaviour(
        "/dms/node/deployment/update",
        "Have a running deployment become another version",
        (_ID, Flag("spec-file", "The new ensemble.", short="-f", is_required=True), *_TERMS),
        _update,
        timeout_s=UPDATE_TIMEOUT_S,
    ),
    KnownBehaviour("/dms/node/deployment/update/cancel", "Undo the update that is under way", (_ID,), _versions),
    KnownBehaviour(
        "/dms/node/deployment/scale",
        "Change the size of groups",
        (_ID, Flag("counts", "GROUP=N; once for each.", list, is_required=True), *_TERMS),
        _scale,
        timeout_s=UPDATE_TIMEOUT_S,
    ),
    KnownBehaviour(
        "/dms/node/deployment/revert",
        "Become an earlier version again",
        (_ID, Flag("to", "Which; the one before, if not given.", int), *_TERMS),
        _revert,
        timeout_s=UPDATE_TIMEOUT_S,
    ),
    KnownBehaviour("/dms/node/deployment/versions", "List the versions of a deployment", (_ID,), _versions),
    KnownBehaviour(
        "/dms/node/deployment/version",
        "The ensemble of one version",
        (_ID, Flag("number", "Which.", int, is_required=True)),
        _versions,
    ),
)
