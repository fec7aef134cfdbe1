"""From a user's file to the canonical configuration (``spec/ensemble.md`` 1); all that is wrong is told at once."""

from __future__ import annotations

from collections.abc import Mapping as MappingABC
from dataclasses import dataclass
from pathlib import Path

from dms.ensemble.arrival import canonical
from dms.ensemble.config import EnsembleConfig
from dms.ensemble.document import MAX_DOCUMENT_BYTES, parse_document
from dms.ensemble.errors import EnsembleFileNotFound, InvalidEnsemble
from dms.ensemble.format import FILE, V1
from dms.ensemble.placeholders import Placeholders
from dms.ensemble.problem import ROOT, Problem
from dms.ensemble.reading import Reader
from dms.ensemble.rules import apply_rules
from dms.ensemble.sizes import size_problems
from dms.ensemble.tree import Mapping, Tree
from dms.types.legacy import recognise


@dataclass(frozen=True, slots=True)
class LoadedEnsemble:
    """A valid ensemble, and what is worth a look although it is accepted."""

    config: EnsembleConfig
    warnings: tuple[Problem, ...] = ()


def load_ensemble(path: Path, env: MappingABC[str, str]) -> LoadedEnsemble:
    """Read and validate a file, YAML or JSON; ``env`` gives the values of ``${NAME}``.

    :raises EnsembleFileNotFound: there is no file.
    :raises InvalidEnsemble: with all problems.
    """
    return parse_ensemble(_read(path), file=str(path), base=path.parent, env=env)


def parse_ensemble(data: bytes, *, file: str, base: Path, env: MappingABC[str, str]) -> LoadedEnsemble:
    """As :func:`load_ensemble`, from bytes; ``base`` is the directory in which ``${file:…}`` may read.

    A document whose only key is ``v1`` holds the canonical form already and is taken as such: bytes in base64, sizes in
    bytes, no placeholders.

    :raises InvalidEnsemble: with all problems.
    """
    tree, problems = parse_document(data, file)
    _refuse_legacy(tree, file)
    inner = _envelope(tree)
    if inner is not None:
        r = Reader(is_wire=True, file=file)
        values = V1.read(inner, ROOT, r)
    else:
        r = Reader(is_wire=False, file=file, placeholders=Placeholders(base, env))
        values = FILE.read(tree, ROOT, r)
        _note_modifiers(r)
    r.problems[:0] = problems
    if isinstance(values, dict):
        values.pop("version", None)
        apply_rules(values, r)
    if r.problems:
        raise InvalidEnsemble(r.in_order(r.problems), r.in_order(r.warnings))
    config = canonical(values)
    too_large = size_problems(config, file=file)
    if too_large:
        raise InvalidEnsemble(too_large)
    return LoadedEnsemble(config, r.in_order(r.warnings))


def _refuse_legacy(tree: Tree, file: str) -> None:
    shape = recognise(key.lower() for key in tree.entries) if isinstance(tree, Mapping) else None
    if shape is not None:
        reason = f"this is {shape.name}, as early releases had it, and no ensemble"
        raise InvalidEnsemble([Problem("", reason, shape.successor, file=file)])


def _envelope(tree: Tree) -> Tree | None:
    """What is inside the version envelope, if the document is one."""
    if not isinstance(tree, Mapping) or len(tree.entries) != 1:
        return None
    ((key, entry),) = tree.entries.items()
    return entry.value if key.lower() == "v1" else None


def _note_modifiers(r: Reader) -> None:
    ignored = sorted(set(r.placeholders.ignored_modifiers)) if r.placeholders else []
    if ignored:
        r.warn(None, "", f"modifiers in placeholders have no effect: {', '.join(ignored)[:60]}")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        raise EnsembleFileNotFound(f"there is no file {path}") from None
    except OSError as exc:
        raise InvalidEnsemble([Problem("", f"the file cannot be read: {exc.strerror}", file=str(path))]) from None
