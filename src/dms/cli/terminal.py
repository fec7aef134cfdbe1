"""What programs of others wrote, made harmless for a terminal.

A terminal obeys what it is shown: it can be told to clear the screen, to show another title, to put text over what stands
there, even to type something. So of all control characters only line breaks, tabs and colours reach it; the others are
shown as symbols. Characters that turn the direction of text around are shown as such, too.
"""

from __future__ import annotations

import codecs
import re

RESET = "\x1b[0m"
_COLOUR = re.compile(r"\x1b\[[0-9;]{0,28}m")
_BEGUN = re.compile(r"(\r|\x1b(\[[0-9;]{0,28})?)\Z")
"""What may become a colour, or the end of a line, with the next piece."""
_HARMFUL = re.compile("\x1b\\[[0-9;]{0,28}m|\r\n|[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Harmless:
    """Makes one stream of bytes harmless, piece by piece."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._has_colour = False

    def feed(self, data: bytes) -> str:
        """The next text."""
        text = self._rest + self._decoder.decode(data)
        begun = _BEGUN.search(text)
        self._rest = begun[0] if begun is not None else ""
        return _HARMFUL.sub(self._shown, text[: len(text) - len(self._rest)])

    def end(self) -> str:
        """What was left, and the end of all colours."""
        text = _HARMFUL.sub(self._shown, self._rest + self._decoder.decode(b"", final=True))
        self._rest = ""
        return text + RESET if self._has_colour else text

    def _shown(self, match: re.Match[str]) -> str:
        found = match[0]
        if found == "\r\n":
            return "\n"
        if _COLOUR.fullmatch(found):
            self._has_colour = found not in (RESET, "\x1b[m")
            return found
        number = ord(found)
        if number < 0x20:
            return chr(0x2400 + number)
        return "\u2421" if number == 0x7F else f"<{number:02X}>"
