"""The JSON schema agrees with the validator."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ensemble.documents import allocation, ensemble, ensembles, load, mutate, outcome
from tests.unit.ensemble.test_loading import TREES

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.loading import LoadedEnsemble
from dms.ensemble.schema import json_schema

SCHEMA = json_schema()
EXAMPLES = Path(__file__).parents[3] / "examples"
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
}  # fmt: skip
ANNOTATIONS = frozenset(("$schema", "$defs", "title", "description"))


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """A checker for the part of JSON schema that is used; any other keyword is an error of the test."""
    return all(_keyword(name, rule, value, schema) for name, rule in schema.items() if name not in ANNOTATIONS)


def _keyword(name: str, rule: Any, value: Any, schema: dict[str, Any]) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    match name:
        case "$ref":
            return fits(value, SCHEMA["$defs"][rule.removeprefix("#/$defs/")])
        case "anyOf":
            return any(fits(value, option) for option in rule)
        case "oneOf":
            return sum(fits(value, option) for option in rule) == 1
        case "enum":
            return any(value == option and type(value) is type(option) for option in rule)
        case "type":
            return any(_is(value, kind) for kind in ([rule] if isinstance(rule, str) else rule))
        case "pattern":
            return not isinstance(value, str) or re.search(rule, value) is not None
        case "minimum":
            return not is_number or value >= rule
        case "maximum":
            return not is_number or value <= rule
        case "exclusiveMinimum":
            return not is_number or value > rule
        case "items":
            return not isinstance(value, list) or all(fits(item, rule) for item in value)
        case "minItems":
            return not isinstance(value, list) or len(value) >= rule
        case "maxItems":
            return not isinstance(value, list) or len(value) <= rule
        case "minProperties":
            return not isinstance(value, dict) or len(value) >= rule
        case "required":
            return not isinstance(value, dict) or all(key in value for key in rule)
        case "dependentRequired":
            return not isinstance(value, dict) or all(set(rule[k]) <= set(value) for k in value if k in rule)
        case "properties":
            return not isinstance(value, dict) or all(fits(v, rule[k]) for k, v in value.items() if k in rule)
        case "patternProperties":
            return not isinstance(value, dict) or all(
                fits(v, sub) for k, v in value.items() for p, sub in rule.items() if re.search(p, k)
            )
        case "propertyNames":
            return not isinstance(value, dict) or all(fits(key, rule) for key in value)
        case "additionalProperties":
            if not isinstance(value, dict):
                return True
            patterns = schema.get("patternProperties", {})
            rest = {
                k for k in value if k not in schema.get("properties", {}) and not any(re.search(p, k) for p in patterns)
            }
            return not rest if rule is False else all(fits(value[k], rule) for k in rest)
    raise AssertionError(f"the checker does not know {name}")


def _is(value: Any, kind: str) -> bool:
    if kind in ("number", "integer"):
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and (kind == "number" or float(value).is_integer())
    return isinstance(value, TYPES[kind])


def test_it_is_json_and_names_its_dialect() -> None:
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA
    assert SCHEMA["$schema"].startswith("https://json-schema.org/")


@pytest.mark.parametrize("name", ["wordcount.yaml", "hello-docker.yaml"])
def test_the_shipped_examples_fit(name: str) -> None:
    assert fits(yaml.safe_load((EXAMPLES / name).read_text()), SCHEMA)


@settings(max_examples=60)
@given(ensembles())
def test_what_is_valid_fits(document: dict[str, Any]) -> None:
    load(document)
    assert fits(document, SCHEMA)


@settings(max_examples=60)
@given(ensembles(), st.data())
def test_what_the_validator_accepts_without_a_warning_fits(document: dict[str, Any], data: st.DataObject) -> None:
    mutate(document, data, TREES)
    found = outcome(document, A="1")
    if isinstance(found, LoadedEnsemble) and not found.warnings:
        assert fits(document, SCHEMA)


BROKEN = {
    "no version": {k: v for k, v in ensemble().items() if k != "version"},
    "unknown key": ensemble({"a": allocation(dnsname="x")}),
    "choice": ensemble({"a": allocation(type="daemon")}),
    "missing member": ensemble({"a": allocation(execution=None)}),
    "number": ensemble({"a": allocation(resources={"cpu": {"cores": 0}, "ram": {"size": 1}, "disk": {"size": 1}})}),
    "unit": ensemble({"a": allocation(resources={"cpu": {"cores": 1}, "ram": {"size": "much"}, "disk": {"size": 1}})}),
    "image": ensemble({"a": allocation(execution={"type": "docker", "image": "A B"})}),
    "parameter of another executor": ensemble({"a": allocation(execution={"type": "null", "image": "a"})}),
    "two programs": ensemble(
        {"a": allocation(executor="wasm", execution={"type": "wasm", "module": "x", "module_path": "/x"})}
    ),
    "address without hash": ensemble(
        {"a": allocation(executor="wasm", execution={"type": "wasm", "module_url": "https://example.com/x"})}
    ),
    "city": ensemble(nodes={"n1": {"allocations": ["a"], "location": {"accept": [{"city": "Rome"}]}}}),
    "port": ensemble(nodes={"n1": {"allocations": ["a"], "ports": [{"public": 80, "private": 1, "allocation": "a"}]}}),
    "supervisor below": ensemble(supervisor={"strategy": "OneForOne", "children": [{"strategy": "x"}]}),
}


@pytest.mark.parametrize("document", BROKEN.values(), ids=BROKEN.keys())
def test_what_does_not_fit_the_validator_points_out(document: dict[str, Any]) -> None:
    assert not fits(document, SCHEMA)
    found = outcome(document)
    assert found.warnings or isinstance(found, InvalidEnsemble)
