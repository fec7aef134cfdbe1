"""The texts that occur all over the format: names, references, images."""

from __future__ import annotations

from typing import Final

from dms.ensemble.containers import ListOf
from dms.ensemble.kinds import Text

LABEL: Final = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
DNS_NAME: Final = rf"{LABEL}(?:\.{LABEL})*"
FILE_NAME: Final = r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,63}"
_PATH_PART: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
IMAGE: Final = (
    r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?(?::\d{1,5})?/)?"
    rf"{_PATH_PART}(?:/{_PATH_PART})*(?::\w[\w.-]{{0,127}})?(?:@sha256:[0-9a-f]{{64}})?"
)
MAX_DNS_NAME_CHARS: Final = 253
MAX_TEXT_CHARS: Final = 128 * 1024
"""One argument or environment variable; kernels take no more."""

TEXT = Text(may_be_empty=True)
FILLED = Text()
TEXTS = ListOf(TEXT, what="text")

NAME = Text(
    pattern=LABEL,
    max_chars=63,
    what="a valid name",
    advice="use letters, digits and dashes, at most 63; it becomes part of a host name",
)
SCRIPT_NAME = Text(pattern=FILE_NAME, what="a valid name", advice="use letters, digits, dots, dashes and underscores")
REFERENCE = Text()
"""A name that is defined elsewhere; whether it is, the rules say."""
LABEL_KEY = Text()
