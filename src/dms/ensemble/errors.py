"""Errors of the job format.

::

    DMSError
    └── EnsembleError
        ├── InvalidEnsemble          the description has problems; carries all of them           (BadInput)
        ├── Untranslatable           the job file of another system has no counterpart           (BadInput)
        ├── InvalidID                not the identifier of an ensemble or an allocation          (BadInput)
        └── EnsembleFileNotFound     there is no such file                                       (NotFound)
"""

from __future__ import annotations

from collections.abc import Iterable

from dms.ensemble.problem import Problem
from dms.types.errors import BadInput, DMSError, NotFound


class EnsembleError(DMSError):
    """The ensemble cannot be used."""

    code = "ensemble"


class InvalidEnsemble(BadInput, EnsembleError):
    """invalid ensemble config"""

    code = "invalid_ensemble"

    def __init__(self, problems: Iterable[Problem], warnings: Iterable[Problem] = ()) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        """Everything that is wrong, in the order of the document."""
        self.warnings: tuple[Problem, ...] = tuple(warnings)
        """What would be accepted, such as unknown keys; often it explains the problems."""
        if not self.problems:
            super().__init__()
            return
        first, more = self.problems[0], len(self.problems) - 1
        message = first.located() + (f" (and {more} more problem{'s' if more > 1 else ''})" if more else "")
        super().__init__(message, hint=first.hint)


class Untranslatable(BadInput, EnsembleError):
    """This file cannot be translated into an ensemble."""

    code = "untranslatable"


class InvalidID(BadInput, EnsembleError):
    """This is not the id of an ensemble or an allocation."""

    code = "invalid_id"


class EnsembleFileNotFound(NotFound, EnsembleError):
    """There is no such ensemble file."""

    code = "ensemble_file_not_found"
    default_hint = "look at its path; nunet ensemble init writes an example to begin with"
