"""Errors of the job format.

::

    DMSError
    └── EnsembleError                (BadInput)
        ├── InvalidEnsemble          the description has problems; carries all of them
        └── InvalidID                text that is not an identifier of an ensemble or an allocation
"""

from __future__ import annotations

from collections.abc import Iterable

from dms.ensemble.problem import Problem
from dms.types.errors import BadInput


class EnsembleError(BadInput):
    """The ensemble is not valid."""

    code = "ensemble"


class InvalidEnsemble(EnsembleError):
    """invalid ensemble config"""

    code = "invalid_ensemble"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        """Everything that is wrong, in the order of the document."""
        if not self.problems:
            super().__init__()
            return
        first, more = self.problems[0], len(self.problems) - 1
        message = first.located() + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")
        super().__init__(message, hint=first.hint)


class InvalidID(EnsembleError):
    """This is not the id of an ensemble or an allocation."""

    code = "invalid_id"
