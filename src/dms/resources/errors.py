"""Errors of resources; most texts are fixed by ``spec/execution.md`` 8 to 10.

::

    DMSError
    └── ResourceError
        ├── InvalidResources      negative, not finite or absurdly large          (BadInput)
        ├── Underflow             more taken than there is                        (Conflict)
        ├── NoFreeResources       the onboarded part is taken                     (Unavailable)
        ├── NoHardwareCapacity    the machine itself is full                      (Unavailable)
        ├── AlreadyCommitted      another commitment has this id                  (Conflict)
        ├── AlreadyAllocated      an allocation has this id                       (Conflict)
        ├── NotCommitted          no commitment has this id, or it expired        (NotFound)
        ├── NotAllocated          no allocation has this id                       (NotFound)
        ├── DemandTooHigh         less would be onboarded than is allocated       (Conflict)
        ├── NotOnboarded          the machine offers nothing                      (Conflict)
        ├── CapacityNotMet        more asked for than the machine may offer       (BadInput)
        ├── HighUsage             others use the machine too much now             (Unavailable)
        ├── PortsTaken            a port is in use or asked for twice             (Conflict)
        ├── PortOutOfRange        a port that is not offered                      (BadInput)
        └── NoDynamicPorts        too few ports are left                          (Unavailable)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, NotFound, Unavailable


class ResourceError(DMSError):
    """Resources cannot be had."""

    code = "resources"


class InvalidResources(BadInput, ResourceError):
    """These resources cannot be meant."""

    code = "invalid_resources"


class Underflow(Conflict, ResourceError):
    """underflow"""

    code = "resource_underflow"


class NoFreeResources(Unavailable, ResourceError):
    """no free resources"""

    code = "no_free_resources"


class NoHardwareCapacity(Unavailable, ResourceError):
    """no capacity left on the hardware"""

    code = "no_hardware_capacity"


class AlreadyCommitted(Conflict, ResourceError):
    """resources already committed"""

    code = "already_committed"


class AlreadyAllocated(Conflict, ResourceError):
    """resources already allocated"""

    code = "already_allocated"


class NotCommitted(NotFound, ResourceError):
    """resources not committed"""

    code = "not_committed"


class NotAllocated(NotFound, ResourceError):
    """resources not allocated"""

    code = "not_allocated"


class DemandTooHigh(Conflict, ResourceError):
    """couldn't subtract allocation: Demand too high"""

    code = "demand_too_high"
    default_hint = "shut down the deployments that run here first"


class NotOnboarded(Conflict, ResourceError):
    """machine is not onboarded"""

    code = "not_onboarded"
    default_hint = "onboard it with /dms/node/onboarding/onboard"


class CapacityNotMet(BadInput, ResourceError):
    """The machine does not have what should be onboarded."""

    code = "capacity_not_met"


class HighUsage(Unavailable, ResourceError):
    """The machine has high usage."""

    code = "high_usage"
    default_hint = "stop other programs, or onboard less"


class PortsTaken(Conflict, ResourceError):
    """ports are already allocated"""

    code = "ports_taken"


class PortOutOfRange(BadInput, ResourceError):
    """This port is not offered."""

    code = "port_out_of_range"
    default_hint = "see general.port_available_range_from and general.port_available_range_to"


class NoDynamicPorts(Unavailable, ResourceError):
    """dynamic ports not available"""

    code = "no_dynamic_ports"
