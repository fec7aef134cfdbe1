"""The root of every error of this program.

Each package draws its own small tree at the top of its ``errors.py``::

    DMSError
    ├── BadInput          the caller gave something that cannot be right          exit code 2
    │   └── BadJSON       bytes that are not the JSON that was expected
    │       └── NoJSON    a number that JSON cannot hold (also a ValueError)
    ├── Denied            authority is missing                                    exit code 3
    ├── NotFound          the thing named does not exist                          exit code 4
    ├── Conflict          the thing is in a state that does not allow this        exit code 5
    ├── Unavailable       a part that is needed does not answer; try again        exit code 6
    │   └── TimedOut      no answer before the deadline
    └── Internal          a defect of ours                                        exit code 1

The docstring of a class is its default message, in one line that also tells what to do where that is known.
Users see ``message`` and ``hint``, never a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class DMSError(Exception):
    """Something went wrong."""

    code: ClassVar[str] = "error"
    exit_code: ClassVar[int] = 1
    retryable: ClassVar[bool] = False
    default_hint: ClassVar[str] = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        self.message = message or (self.__doc__ or "").strip().splitlines()[0]
        self.hint = hint or self.default_hint
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


class BadInput(DMSError):
    """The input is not valid."""

    code = "bad_input"
    exit_code = 2


class BadJSON(BadInput):
    """The text is not the JSON that was expected."""

    code = "bad_json"


class NoJSON(BadJSON, ValueError):
    """This number has no JSON form."""

    code = "no_json"


class Denied(DMSError):
    """Not authorized."""

    code = "not_authorized"
    exit_code = 3


class NotFound(DMSError):
    """Not found."""

    code = "not_found"
    exit_code = 4


class Conflict(DMSError):
    """The present state does not allow this."""

    code = "conflict"
    exit_code = 5


class Unavailable(DMSError):
    """A part that is needed does not answer; try again later."""

    code = "unavailable"
    exit_code = 6
    retryable = True


class TimedOut(Unavailable):
    """No answer came in time."""

    code = "timed_out"


class Internal(DMSError):
    """A defect in this program."""

    code = "internal"
