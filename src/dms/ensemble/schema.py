"""The format as JSON schema, for editors that check and complete while one types (``nunet validate --schema``)."""

from __future__ import annotations

from dms.ensemble.format import FILE
from dms.ensemble.kinds import JSON

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, JSON]:
    """The schema of what a person writes.

    It knows the present spellings only: what the validator accepts without a warning, the schema accepts. References
    between parts are beyond it.
    """
    defs: dict[str, JSON] = {}
    root = FILE.schema(defs)
    return {"$schema": DIALECT, "title": "Ensemble", **root, "$defs": defs}
