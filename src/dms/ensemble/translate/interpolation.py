"""Variables in Compose files: ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``$$``.

Text that is only passed on keeps its variables, as placeholders of the ensemble; what the translation itself must
understand, such as a port, gets their values of now.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_VARIABLE = re.compile(
    r"\$(?:(?P<escaped>\$)|(?P<plain>[A-Za-z_]\w*)"
    r"|\{(?P<name>[A-Za-z_]\w*)(?:(?P<how>:?[-?+])(?P<rest>(?:[^{}]|\$\{[^{}]*\})*))?\})",
    re.ASCII,
)


def kept(text: str, env: Mapping[str, str]) -> str:
    """The text for an ensemble, with placeholders; a variable that is not set is empty, as in Compose.

    What placeholders cannot say (``${NAME:+other}``, a dollar sign right before a variable) gets its value of now.
    """
    done, literal, end = "", "", 0
    for match in _VARIABLE.finditer(text):
        literal += text[end : match.start()]
        end = match.end()
        if match["escaped"] or (match["how"] or "").endswith("+") or literal.endswith("$"):
            literal += _value(match, env)
            continue
        done += _escaped(literal) + _placeholder(match, env)
        literal = ""
    return done + _escaped(literal + text[end:])


def resolved(text: str, env: Mapping[str, str]) -> str:
    """The text with the values of now."""
    return _VARIABLE.sub(lambda match: _value(match, env), text)


def _value(match: re.Match[str], env: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    how, rest = match["how"] or "", match["rest"] or ""
    found = env.get(match["plain"] or match["name"], "")
    if how.endswith("+"):
        return resolved(rest, env) if found else ""
    return found or (resolved(rest, env) if how.endswith("-") else "")


def _placeholder(match: re.Match[str], env: Mapping[str, str]) -> str:
    name, how, rest = match["plain"] or match["name"], match["how"] or "", match["rest"] or ""
    if how.endswith("?"):
        return f"${{{name}}}"
    return f"${{{name}:-{kept(rest, env) if how.endswith('-') else ''}}}"


def _escaped(text: str) -> str:
    return text.replace("${", "$${")
