"""The part of HCL2 that job files are written in, as a tree with places.

Attributes, blocks with labels, lists, objects, numbers, texts and heredocs are read. Expressions are not evaluated: a
reference such as ``var.image``, a call or a condition becomes the text ``${…}``, which whoever reads the tree may resolve.
The blocks of one type become a list of maps; labels stand in them under :data:`LABEL`, joined by a blank.

A reader of its own rather than a library, because notes must name the line of each attribute, and because size and depth are
bounded while reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from dms.ensemble.errors import InvalidEnsemble
from dms.ensemble.problem import Problem, shorten
from dms.ensemble.tree import MAX_DEPTH, MAX_VALUES, Entry, Mapping, Mark, Scalar, Sequence, Tree

LABEL = "(label)"

_TOKEN = re.compile(
    r"(?P<blank>[ \t\r\ufeff]+|#[^\n]*|//[^\n]*|/\*[\s\S]*?(?:\*/|\Z))"
    r"|(?P<newline>\n)"
    r"|(?P<heredoc><<-?[A-Za-z_][A-Za-z0-9_-]*[ \t]*\r?\n)"
    r"|(?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<quote>\")"
    r"|(?P<sign>=>|==|!=|<=|>=|&&|\|\||\.\.\.|[-+*/%<>!?:=.,(){}\[\]])"
)
_ESCAPE = re.compile(r'\\(?:([nrt"\\])|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8}))')
_INNER = re.compile(r'"(?:[^"\\\n]|\\.)*"')
"""A text inside a template."""
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_WORDS = {"true": True, "false": False, "null": None}
_GOES_ON = frozenset(("+", "-", "*", "/", "%", "<", ">", "==", "!=", "<=", ">=", "&&", "||", "?", ".", "[", "("))
"""What may stand behind a value inside an expression."""
_OPEN, _CLOSE = "([{", ")]}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse_hcl(text: str, file: str) -> Mapping:
    """The tree of a file.

    :raises InvalidEnsemble: it is not HCL, too deep or too large.
    """
    reader = _Reader(text, file)
    return reader.body(until="", depth=0)


class _Reader:
    def __init__(self, text: str, file: str) -> None:
        self._text, self._file = text, file
        self._values = 0
        self._lines = [0, *(match.end() for match in re.finditer("\n", text))]
        self._position = 0
        self._token = self._next()

    # blocks and attributes -------------------------------------------------------------------------------------------

    def body(self, *, until: str, depth: int) -> Mapping:
        """Attributes and blocks up to a closing brace, or to the end of the file."""
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested deeper than {MAX_DEPTH} levels")
        mark = self._mark()
        entries: dict[str, Entry] = {}
        blocks: dict[str, list[Tree]] = {}
        while True:
            self._skip_newlines()
            if self._token.text == until and self._token.kind in ("sign", "end"):
                break
            if self._token.kind != "name":
                raise self._wrong("a name was expected")
            name, here = self._take().text, self._mark(self._last)
            if self._token.text in ("=", ":") and self._token.kind == "sign":
                self._take()
                if name in entries or name in blocks:
                    raise self._wrong(f"{shorten(name)!r} is given twice")
                entries[name] = Entry(self._value(depth), here)
                self._end_of_line(until)
                continue
            if name in entries and name not in blocks:
                raise self._wrong(f"{shorten(name)!r} is given twice")
            labels: list[str] = []
            while self._token.kind in ("quote", "name"):
                labels.append(self._string() if self._token.kind == "quote" else self._take().text)
            self._expect("{")
            block = self.body(until="}", depth=depth + 1)
            self._expect("}")
            if labels:
                label = " ".join(labels)
                block = Mapping({LABEL: Entry(Scalar(label, label, here), here)} | block.entries, here)
            blocks.setdefault(name, []).append(Mapping(block.entries, here))
            entries.setdefault(name, Entry(block, here))
            self._count()
        for name, found in blocks.items():
            entries[name] = Entry(Sequence(tuple(found), found[0].mark), entries[name].mark)
        return Mapping(entries, mark)

    def _end_of_line(self, until: str) -> None:
        if self._token.kind in ("newline", "end") or (until and self._token.text == until) or self._token.text == ",":
            if self._token.text == ",":
                self._take()
            return
        raise self._wrong("the line should end here")

    # values ----------------------------------------------------------------------------------------------------------

    def _value(self, depth: int) -> Tree:
        """A value; what must be computed becomes ``${…}``."""
        if depth > MAX_DEPTH:
            raise self._wrong(f"nested deeper than {MAX_DEPTH} levels")
        self._count()
        start, mark = self._token, self._mark()
        tree = self._simple(depth, mark)
        if tree is not None and self._at_end_of_value():
            return tree
        if tree is not None and not (self._token.kind == "sign" and self._token.text in _GOES_ON):
            raise self._wrong("the line should end here")
        return self._expression(start, mark)

    def _simple(self, depth: int, mark: Mark) -> Tree | None:
        token = self._token
        if token.kind == "quote":
            text = self._string()
            return Scalar(text, text, mark)
        if token.kind == "heredoc":
            text = self._heredoc()
            return Scalar(text, text, mark)
        if token.kind == "number":
            self._take()
            return Scalar(_number(token.text), token.text, mark)
        if token.kind == "name" and token.text in _WORDS:
            self._take()
            value = _WORDS[token.text]
            return Scalar(value, "" if value is None else token.text, mark)
        if token.text == "-":
            self._take()
            number = self._token
            if number.kind != "number":
                return None
            self._take()
            return Scalar(-_number(number.text), f"-{number.text}", mark)
        if token.text == "[":
            return self._list(depth, mark)
        return self._object(depth, mark) if token.text == "{" else None

    def _list(self, depth: int, mark: Mark) -> Tree | None:
        self._take()
        items: list[Tree] = []
        self._skip_newlines()
        while self._token.text != "]" or self._token.kind != "sign":
            if self._token.text == "for":
                return None
            items.append(self._value(depth + 1))
            self._skip_newlines()
            if self._token.text == ",":
                self._take()
                self._skip_newlines()
            elif self._token.text != "]":
                raise self._wrong("a comma or ] was expected")
        self._take()
        return Sequence(tuple(items), mark)

    def _object(self, depth: int, mark: Mark) -> Tree | None:
        self._take()
        entries: dict[str, Entry] = {}
        self._skip_newlines()
        while self._token.text != "}" or self._token.kind != "sign":
            if self._token.text == "for" and self._token.kind == "name":
                return None
            here = self._mark()
            if self._token.kind == "quote":
                key = self._string()
            elif self._token.kind in ("name", "number"):
                key = self._take().text
            else:
                raise self._wrong("a key was expected")
            if self._token.text not in ("=", ":"):
                raise self._wrong("= was expected")
            self._take()
            self._skip_newlines()
            entries[key] = Entry(self._value(depth + 1), here)
            if self._token.text == ",":
                self._take()
            elif self._token.kind != "newline" and self._token.text != "}":
                raise self._wrong("a comma or } was expected")
            self._skip_newlines()
        self._take()
        return Mapping(entries, mark)

    def _at_end_of_value(self) -> bool:
        return self._token.kind in ("newline", "end") or self._token.text in (",", "]", "}", ")")

    def _expression(self, start: _Token, mark: Mark) -> Scalar:
        """Skip what is to be computed; brackets inside are balanced."""
        self._position, depth = start.start, 0
        self._token = self._next()
        end = start.start
        while True:
            token = self._token
            if token.kind == "end" or (depth == 0 and self._at_end_of_value() and token.text not in _OPEN):
                break
            if token.kind == "sign" and token.text in _OPEN:
                depth += 1
            elif token.kind == "sign" and token.text in _CLOSE:
                depth -= 1
            if token.kind == "quote":
                self._string()
                end = self._last.end
                continue
            if token.kind == "heredoc":
                self._heredoc()
                end = self._last.end
                continue
            end = token.end
            self._take()
        if end == start.start:
            raise self._wrong("a value was expected")
        text = "${" + self._text[start.start : end].strip() + "}"
        return Scalar(text, text, mark)

    # texts -----------------------------------------------------------------------------------------------------------

    def _string(self) -> str:
        """A quoted text; templates in it stay as they are."""
        start = self._token.end
        position, nested = start, 0
        text = self._text
        while position < len(text):
            char = text[position]
            if char == "\\" and not nested:
                position += 2
            elif text.startswith(("${", "%{"), position) and text[position - 1 : position] != char:
                nested += 1
                position += 2
            elif nested and char == '"':
                inner = _INNER.match(text, position)
                position = inner.end() if inner else len(text)
            elif nested and char == "{":
                nested += 1
                position += 1
            elif nested and char == "}":
                nested -= 1
                position += 1
            elif char == '"' and not nested:
                break
            elif char == "\n" and not nested:
                raise self._wrong("a quote is not closed")
            else:
                position += 1
        if position >= len(text):
            raise self._wrong("a quote is not closed")
        raw = text[start:position]
        self._last = _Token("string", raw, self._token.start, position + 1)
        self._position = position + 1
        self._token = self._next()
        return _ESCAPE.sub(_unescaped, raw)

    def _heredoc(self) -> str:
        head = self._token
        word = head.text.strip().lstrip("<").lstrip("-")
        pattern = re.compile(rf"^[ \t]*{re.escape(word)}[ \t]*\r?$", re.MULTILINE)
        match = pattern.search(self._text, head.end)
        if match is None:
            raise self._wrong(f"{shorten(word)} that ends the text is missing")
        body = self._text[head.end : match.start()]
        self._last = _Token("heredoc", "", head.start, match.end())
        self._position = match.end()
        self._token = self._next()
        return _dedented(body) if head.text.startswith("<<-") else body

    # tokens ----------------------------------------------------------------------------------------------------------

    def _next(self) -> _Token:
        while True:
            if self._position >= len(self._text):
                return _Token("end", "", self._position, self._position)
            match = _TOKEN.match(self._text, self._position)
            if match is None:
                self._token = _Token("bad", "", self._position, self._position + 1)
                raise self._wrong(f"{self._text[self._position]!r} means nothing here")
            self._position = match.end()
            if match.lastgroup != "blank":
                return _Token(str(match.lastgroup), match[0], match.start(), match.end())

    def _take(self) -> _Token:
        self._last = self._token
        self._token = self._next()
        return self._last

    def _expect(self, text: str) -> None:
        if self._token.text != text or self._token.kind != "sign":
            raise self._wrong(f"{text} was expected")
        self._take()

    def _skip_newlines(self) -> None:
        while self._token.kind == "newline":
            self._take()

    def _count(self) -> None:
        self._values += 1
        if self._values > MAX_VALUES:
            raise self._wrong(f"more than {MAX_VALUES} values")

    def _mark(self, token: _Token | None = None) -> Mark:
        position = (token or self._token).start
        low, high = 0, len(self._lines)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._lines[middle] <= position else (low, middle)
        return Mark(low + 1, position - self._lines[low] + 1)

    def _wrong(self, reason: str) -> InvalidEnsemble:
        mark = self._mark()
        hint = "check the braces and quotes around this place"
        problem = Problem("", f"not HCL: {reason}", hint, file=self._file, line=mark.line, column=mark.column)
        return InvalidEnsemble([problem])


def _number(text: str) -> int | float:
    if text.isdecimal() and len(text) <= 18:
        return int(text)
    number = float(text)
    return number if number < 1e300 else 0.0


def _unescaped(match: re.Match[str]) -> str:
    if match[1]:
        return _ESCAPES[match[1]]
    code = int(match[2] or match[3], 16)
    return chr(code) if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def _dedented(body: str) -> str:
    lines = body.split("\n")
    indents = [len(line) - len(line.lstrip(" \t")) for line in lines if line.strip()]
    cut = min(indents, default=0)
    return "\n".join(line[cut:] for line in lines)
