"""Capability contexts on disk: one private JSON file each, ``<user_dir>/cap/<name>.cap`` (``spec/security.md`` 4.6).

Written in the newest form, read in every form. A token that cannot be used is skipped and reported in
``context.load_problems``: one bad token never costs the others. The first save after that keeps the file as it was
beside the new one, as ``<name>.cap.bad``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from dms.capability.context import CapabilityContext
from dms.capability.errors import BadContext, BadToken, ContextNotFound
from dms.capability.token import Token, TokenList, encode_token_list
from dms.identity.errors import UnresolvedDID
from dms.identity.files import check_name, make_private_directory, write_private
from dms.identity.ids import DID
from dms.identity.trust import TrustContext
from dms.types import gojson
from dms.types.errors import BadJSON, DMSError

MAX_FILE_BYTES: Final = 16 * 2**20
SUFFIX: Final = ".cap"


def context_path(directory: Path, name: str) -> Path:
    """The file of a context.

    :raises BadName: ``name`` cannot be a file name.
    """
    return directory / f"{check_name(name)}{SUFFIX}"


def load_context(
    path: Path,
    trust: TrustContext,
    *,
    name: str = "",
    clock_ns: Callable[[], int] = time.time_ns,
    need_provider: bool = True,
) -> CapabilityContext:
    """Read a context; expired tokens are dropped, unusable ones are reported in ``load_problems``.

    :param name: that of the context; by default that of the file.
    :param need_provider: refuse a context for which ``trust`` cannot sign. Without one it can be read and changed, but
        issues nothing.
    :raises ContextNotFound: no such file.
    :raises BadContext: not a context file.
    :raises NoProvider: ``trust`` does not hold the key of the context.
    """
    name = name or path.name.removesuffix(SUFFIX)
    members = _members(_read(path, name), path)
    try:
        did = DID.parse(gojson.convert(members.get("did"), DID).uri)
    except DMSError as exc:
        raise _damaged(path, exc.message) from None
    if not did:
        raise _damaged(path, "it names no DID")
    if need_provider:
        trust.provider(did)
    context = CapabilityContext(name, did, trust, clock_ns=clock_ns)
    problems: list[str] = []
    now_ns = clock_ns()
    for index, value in enumerate(_list(members.get("roots"))):
        with _reporting(problems, f"roots[{index}]"):
            context.add_roots([gojson.convert(value, DID)])
    for part, add in (
        ("revoke", context.restore),
        ("require", lambda tokens: context.add_roots(require=tokens)),
        ("provide", lambda tokens: context.add_roots(provide=tokens)),
    ):
        found = _tokens(members.get(part), part, problems)
        current = {where: token for where, token in found.items() if not token.expires_before(now_ns)}
        context.unresolved[part] = _add_usable(add, current, problems)
    context.load_problems = tuple(problems)
    return context


def save_context(context: CapabilityContext, path: Path) -> None:
    """Write a context, mode 0600, whole and durable.

    :raises OSError: it could not be written; the old file is untouched.
    """
    make_private_directory(path.parent)
    if context.load_problems:
        with contextlib.suppress(FileNotFoundError):
            write_private(path.with_name(f"{path.name}.bad"), path.read_bytes())
        context.load_problems = ()
    roots, require, provide, revoke = context.list_roots()
    parts = (
        (b"did", gojson.encode(context.did)),
        (b"roots", gojson.encode(roots) if roots else b"null"),
        (b"require", _encoded(require, context, "require")),
        (b"provide", _encoded(provide, context, "provide")),
        (b"revoke", _encoded(revoke, context, "revoke")),
    )
    write_private(path, b"{%b}\n" % b",".join(b'"%b":%b' % part for part in parts))


@contextlib.contextmanager
def edit_context(
    path: Path,
    trust: TrustContext,
    *,
    name: str = "",
    clock_ns: Callable[[], int] = time.time_ns,
    need_provider: bool = True,
) -> Iterator[CapabilityContext]:
    """Load a context, let the caller change it, save it; other editors of the same file wait. Nothing is saved after
    an exception.

    :raises ContextNotFound: and all others of :func:`load_context`.
    """
    if not path.parent.is_dir():
        raise _missing(path, name)
    lock = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        context = load_context(path, trust, name=name, clock_ns=clock_ns, need_provider=need_provider)
        yield context
        save_context(context, path)
    finally:
        os.close(lock)


def _encoded(tokens: TokenList, context: CapabilityContext, part: str) -> bytes:
    """A part with the tokens that are not in use because a service did not answer: that must not cost them."""
    known = set(tokens.tokens)
    kept = (token for token in context.unresolved.get(part, ()) if token not in known)
    return encode_token_list(TokenList.of(*tokens.tokens, *kept))


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise _missing(path, name) from None
    except OSError as exc:
        raise ContextNotFound(f"unable to open capability context file {path}: {exc.strerror}") from None
    if len(data) > MAX_FILE_BYTES:
        raise _damaged(path, f"it is larger than {MAX_FILE_BYTES} bytes")
    return data


def _members(data: bytes, path: Path) -> dict[str, Any]:  # JSON of unknown shape
    try:
        value = gojson.parse(data)
    except BadJSON as exc:
        raise _damaged(path, exc.message) from None
    if not isinstance(value, dict):
        raise _damaged(path, "it is not a JSON object")
    return {key.lower(): member for key, member in value.items()}


def _tokens(value: Any, part: str, problems: list[str]) -> dict[str, Token]:  # JSON of unknown shape
    """The tokens of one part by their place in the file."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"{part}: not a token list")
        return {}
    tokens = {}
    members = {key.lower(): member for key, member in value.items()}
    for index, item in enumerate(_list(members.get("tok"))):
        where = f"{part}[{index}]"
        with _reporting(problems, where):
            if item is None:
                raise BadToken("bad token: null")
            token = gojson.convert(item, Token)
            _ = token.levels
            tokens[where] = token
    return tokens


def _add_usable(add: Callable[[TokenList], None], tokens: dict[str, Token], problems: list[str]) -> tuple[Token, ...]:
    """Add all at once; if that fails, one by one, and report those that cannot be added.

    :returns: those of them that may be usable another time, when the key of their issuer can be fetched.
    """
    with contextlib.suppress(DMSError):
        add(TokenList.of(*tokens.values()))
        return ()
    unresolved: list[Token] = []
    for where, token in tokens.items():
        with _reporting(problems, where):
            try:
                add(TokenList.of(token))
            except UnresolvedDID:
                unresolved.append(token)
                raise
    return tuple(unresolved)


@contextlib.contextmanager
def _reporting(problems: list[str], where: str) -> Iterator[None]:
    try:
        yield
    except DMSError as exc:
        problems.append(f"{where}: {exc.message}")


def _list(value: Any) -> list[Any]:  # JSON of unknown shape
    return value if isinstance(value, list) else []


def _missing(path: Path, name: str) -> ContextNotFound:
    name = name or path.name.removesuffix(SUFFIX)
    return ContextNotFound(
        f"unable to open capability context file {path}", hint=f"create the context with `nunet cap new {name}`"
    )


def _damaged(path: Path, why: str) -> BadContext:
    return BadContext(
        f"failed to load capability context {path}: {why}",
        hint="restore the file from a backup, or begin anew with `nunet cap new --force`",
    )
