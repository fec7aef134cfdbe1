"""What a node does with an ensemble that arrives: the same rules as at the user's side, without places in a file."""

from __future__ import annotations

from typing import Any

from dms.ensemble.config import EnsembleConfig
from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.format import V1
from dms.ensemble.problem import ROOT, Problem
from dms.ensemble.reading import Reader
from dms.ensemble.rules import apply_rules, with_defaults
from dms.ensemble.sizes import size_problems
from dms.ensemble.tree import lift
from dms.types import gojson


def decode_ensemble(value: object) -> EnsembleConfig:
    """A configuration from parsed JSON of unknown origin: the member ``Ensemble`` of a message.

    It may have any spelling that ever was: keys in any case, names of keys, a volume outside a list, ``health_check`` …

    :raises InvalidEnsemble: with all problems.
    """
    inner = _inner(value)
    if inner is None:
        raise InvalidEnsemble([Problem("", "invalid ensemble config: there is no member v1")])
    r = Reader(is_wire=True)
    values = _read(inner, r)
    if r.problems:
        raise InvalidEnsemble(r.problems)
    config = canonical(values)
    too_large = size_problems(config)
    if too_large:
        raise InvalidEnsemble(too_large)
    return config


def validate_config(config: EnsembleConfig) -> tuple[Problem, ...]:
    """Everything that is wrong with a configuration; empty when it is valid."""
    r = Reader(is_wire=True)
    _read(gojson.to_builtins(config).get("v1"), r)
    return tuple(r.problems) or size_problems(config)


def canonical(v1: dict[str, Any]) -> EnsembleConfig:
    """The structures from a canonical form that is valid."""
    return gojson.convert({"v1": with_defaults(v1)}, EnsembleConfig)


def _read(inner: object, r: Reader) -> dict[str, Any]:
    try:
        tree = lift(inner)
    except ValueError as exc:
        r.fail(None, ROOT, str(exc))
        return {}
    values = V1.read(tree, ROOT, r)
    if not isinstance(values, dict):
        return {}
    apply_rules(values, r)
    return values


def _inner(value: object) -> object:
    if not isinstance(value, dict):
        return None
    return next((member for key, member in value.items() if isinstance(key, str) and key.lower() == "v1"), None)
