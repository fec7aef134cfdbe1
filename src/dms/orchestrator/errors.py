"""Errors of orchestration; texts as in the original where scripts may look for them.

::

    DMSError
    └── OrchestratorError
        ├── InvalidBid              a bid that cannot be used                (BadInput)
        ├── InvalidDeployment       an ensemble that cannot be deployed here (BadInput)
        ├── DeploymentTooShort      not enough time was given                (BadInput)
        ├── DeploymentNotFound      no deployment with this id               (NotFound)
        ├── QueueFull               too many deployments wait for capacity  (Unavailable)
        ├── ScheduleNotFound        no schedule with this id                 (NotFound)
        ├── TooManySchedules        there are enough of them                 (Conflict)
        ├── NoLongerAuthorized      what its owner may not do any more       (Denied)
        ├── UpdateRefused           an update that cannot be made            (Conflict)
        ├── NoUpdate                there is no update to be undone          (Conflict)
        ├── VersionNotFound         no such version of a deployment          (NotFound)
        ├── DeploymentNotRunning    it is not in a state for this            (Conflict)
        ├── NothingToRead           an allocation that has no logs           (NotFound)
        ├── NotTheOwner             only who submitted it may do this        (Denied)
        └── NotAllocated            it has no place on any machine           (Conflict)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, Denied, DMSError, NotFound, Unavailable


class OrchestratorError(DMSError):
    """The orchestrator failed."""

    code = "orchestrator"


class InvalidBid(BadInput, OrchestratorError):
    """The bid cannot be used."""

    code = "invalid_bid"


class InvalidDeployment(BadInput, OrchestratorError):
    """This ensemble cannot be deployed."""

    code = "invalid_deployment"


class DeploymentTooShort(BadInput, OrchestratorError):
    """requested deployment time too short"""

    code = "deployment_too_short"
    default_hint = "give the deployment at least 1 minute, for instance with --timeout 2m"


class DeploymentNotFound(NotFound, OrchestratorError):
    """deployment not found"""

    code = "deployment_not_found"
    default_hint = "nunet get deployments lists those that this node knows"


class QueueFull(Unavailable, OrchestratorError):
    """Too many deployments wait for capacity already."""

    code = "queue_full"
    default_hint = "try again when some of them have begun, or end some: nunet get deployments"


class ScheduleNotFound(NotFound, OrchestratorError):
    """schedule not found"""

    code = "schedule_not_found"
    default_hint = "nunet schedule list shows those that this node knows"


class TooManySchedules(Conflict, OrchestratorError):
    """There are too many schedules already."""

    code = "too_many_schedules"
    default_hint = "delete some: nunet schedule list, nunet schedule delete"


class NoLongerAuthorized(Denied, OrchestratorError):
    """The owner may not do this any more."""

    code = "no_longer_authorized"


class DeploymentNotRunning(Conflict, OrchestratorError):
    """deployment is not running"""

    code = "deployment_not_running"


class NothingToRead(NotFound, OrchestratorError):
    """There are no logs."""

    code = "nothing_to_read"


class NotTheOwner(Denied, OrchestratorError):
    """only who submitted the deployment may do this"""

    code = "not_the_owner"


class NotAllocated(Conflict, OrchestratorError):
    """The allocation is on no machine."""

    code = "not_allocated"


class UpdateRefused(Conflict, OrchestratorError):
    """The deployment cannot be updated so."""

    code = "update_refused"


class NoUpdate(Conflict, OrchestratorError):
    """The deployment is not being updated."""

    code = "no_update"
    default_hint = "nunet versions ID shows what became of its updates"


class VersionNotFound(NotFound, OrchestratorError):
    """The deployment has no such version."""

    code = "version_not_found"
    default_hint = "nunet versions ID lists those that are kept"
