"""Which format a file is in, and its translation as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

from dms.ensemble.document import MAX_DOCUMENT_BYTES, parse_documents, text_of
from dms.ensemble.errors import EnsembleFileNotFound, InvalidEnsemble, Untranslatable
from dms.ensemble.problem import Problem
from dms.ensemble.translate import compose, kubernetes, nomad
from dms.ensemble.translate.draft import Draft, Translation
from dms.ensemble.translate.hcl import parse_hcl
from dms.ensemble.translate.nomad_json import as_job_file
from dms.ensemble.translate.source import Notes, Part
from dms.ensemble.tree import Mapping as MapTree
from dms.ensemble.tree import Tree


class Source(StrEnum):
    """Formats that can be translated."""

    COMPOSE = "docker-compose"
    KUBERNETES = "kubernetes"
    NOMAD = "nomad"


HCL_SUFFIXES = (".hcl", ".nomad")


def translate_file(path: Path, env: Mapping[str, str], source: Source | None = None) -> Translation:
    """Translate a file; the format is found out unless ``source`` tells it.

    :raises EnsembleFileNotFound: there is no file.
    :raises InvalidEnsemble: it cannot be parsed.
    :raises Untranslatable: it is in none of the formats, or nothing in it can run.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        raise EnsembleFileNotFound(f"there is no file {path}") from None
    except OSError as exc:
        raise InvalidEnsemble([Problem("", f"the file cannot be read: {exc.strerror}", file=str(path))]) from None
    return translate(data, file=str(path), base=path.parent, env=env, source=source)


def translate(
    data: bytes, *, file: str, base: Path, env: Mapping[str, str], source: Source | None = None
) -> Translation:
    """As :func:`translate_file`, from bytes; ``base`` is where files lie that are named in it.

    :raises InvalidEnsemble: it cannot be parsed.
    :raises Untranslatable: it is in none of the formats, or nothing in it can run.
    """
    notes = Notes(file)
    draft = Draft(notes)
    trees, problems = _parse(data, file, source)
    if problems:
        raise InvalidEnsemble(problems)
    match source or _detect(trees):
        case Source.COMPOSE:
            compose.Compose(Part(trees[0], "", notes), draft, base, env).translate()
            return draft.finish(compose.SOURCE, base, env)
        case Source.KUBERNETES:
            kubernetes.Kubernetes(trees, draft).translate()
            return draft.finish(kubernetes.SOURCE, base, env)
        case Source.NOMAD:
            nomad.Nomad(as_job_file(trees[0]), draft).translate()
            return draft.finish(nomad.SOURCE, base, env)
    hint = f"say what it is: --from {', --from '.join(Source)}"
    raise Untranslatable(f"{file} is no Compose file, Kubernetes manifest or Nomad job", hint=hint)


def _parse(data: bytes, file: str, source: Source | None) -> tuple[tuple[Tree, ...], tuple[Problem, ...]]:
    looks_like_json = data.lstrip()[:1] in (b"{", b"[")
    is_hcl = source is Source.NOMAD or (source is None and file.endswith(HCL_SUFFIXES))
    if is_hcl and not looks_like_json:
        return (parse_hcl(text_of(data, file), file),), ()
    trees, problems = parse_documents(data, file)
    if not trees:
        raise InvalidEnsemble([Problem("", "the file is empty", file=file)])
    return trees, problems


def _detect(trees: tuple[Tree, ...]) -> Source | None:
    first = trees[0]
    if not isinstance(first, MapTree):
        return None
    keys = first.entries.keys()
    if "kind" in keys and "apiVersion" in keys:
        return Source.KUBERNETES
    if "services" in keys:
        return Source.COMPOSE
    if keys & {"job", "Job", "TaskGroups"}:
        return Source.NOMAD
    return None
