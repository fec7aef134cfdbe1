"""Resources of this node: counting, comparing, promising and giving them.

:mod:`~dms.resources.arithmetic`  exact sums and differences
:mod:`~dms.resources.comparison`  does a machine have what is wanted, and if not, why not
:mod:`~dms.resources.gpus`        which GPU serves which requirement
:mod:`~dms.resources.capability`  the whole capability of a machine, and what a job asks of one
:mod:`~dms.resources.capability_arithmetic`, :mod:`~dms.resources.capability_comparison`, :mod:`~dms.resources.preferences`
                                  adding and comparing capabilities, choosing between them
:mod:`~dms.resources.declared`    what the owner of a machine says of it in the settings
:mod:`~dms.resources.ledger`      onboarded, committed, allocated, free: the rules, as a value
:mod:`~dms.resources.manager`     :class:`~dms.resources.manager.ResourceManager`: the ledger on the disk
:mod:`~dms.resources.onboarding`  :class:`~dms.resources.onboarding.Onboarding`: what part of the machine is offered
:mod:`~dms.resources.offer`       GPUs as people write them, and what is little for an offer
:mod:`~dms.resources.monitor`     :class:`~dms.resources.monitor.UsageMonitor`: how busy the machine is, smoothed
:mod:`~dms.resources.measuring`   what the machine really does, a :mod:`~dms.resources.benchmark`;
                                  :mod:`~dms.resources.benchmarks` keeps it
:mod:`~dms.resources.ports`       host ports for allocations
:mod:`~dms.resources.errors`      the tree of errors

The manager and onboarding need the database; import them from their modules.
"""

from dms.resources.arithmetic import add, fits, subtract, total
from dms.resources.comparison import Comparison, Unmet, compare, unmet
from dms.resources.ports import PortAllocator, Ports

__all__ = ["Comparison", "PortAllocator", "Ports", "Unmet", "add", "compare", "fits", "subtract", "total", "unmet"]
