"""Errors of private networks; the texts of the first five are those of ``spec/network.md`` 7.2.

::

    DMSError
    └── SubnetError
        ├── SubnetExists      created twice                                   (Conflict)
        ├── SubnetNotFound    never created, or destroyed                     (NotFound)
        ├── NetworkTaken      its addresses belong to another network here    (Conflict)
        ├── InvalidIP         not an address of the network                   (BadInput)
        ├── PortMapped        the public port leads elsewhere                 (Conflict)
        ├── PortNotMapped     nothing to undo                                 (NotFound)
        ├── NoAddressLeft     every network or host is taken                  (Conflict)
        ├── InvalidName       not a name that DNS can carry                   (BadInput)
        ├── BadPacket         bytes that are no packet of ours                (BadInput)
        ├── KernelRefused     no device, address or rule can be made          (Unavailable)
        ├── NamespaceGone     the container ended                             (NotFound)
        ├── DeviceGone        a device was closed, or its container ended     (Unavailable)
        ├── FirewallRefused   the firewall takes no rules                     (Unavailable)
        ├── NotConnected      no connection to a member's port                (Unavailable)
        ├── NotActive         used before its start or after its end          (Unavailable)
        └── TooManySubnets    over the limits of one node                     (Conflict)
"""

from __future__ import annotations

from dms.types.errors import BadInput, Conflict, DMSError, NotFound, Unavailable


class SubnetError(DMSError):
    """The private network failed."""

    code = "subnet"


class SubnetExists(Conflict, SubnetError):
    """The private network exists already."""

    code = "subnet_exists"


class SubnetNotFound(NotFound, SubnetError):
    """The private network does not exist."""

    code = "subnet_not_found"
    default_hint = "create it first"


class NetworkTaken(Conflict, SubnetError):
    """The addresses of this private network are in use on this machine."""

    code = "network_taken"
    default_hint = "the orchestrator chooses another network with its next attempt"


class InvalidIP(BadInput, SubnetError):
    """Not an address of this private network."""

    code = "invalid_ip"
    default_hint = "give an IPv4 address inside the network that is neither its first, its gateway nor its last"


class PortMapped(Conflict, SubnetError):
    """The port is already mapped."""

    code = "port_mapped"
    default_hint = "choose another public port, or 0 to get a free one"


class PortNotMapped(NotFound, SubnetError):
    """The port is not mapped."""

    code = "port_not_mapped"


class NoAddressLeft(Conflict, SubnetError):
    """No address is left."""

    code = "no_address_left"
    default_hint = "remove members, or spread them over several ensembles"


class InvalidName(BadInput, SubnetError):
    """Not a name that DNS can carry."""

    code = "invalid_name"
    default_hint = "letters, digits, hyphens and dots; at most 63 characters between dots and 244 in all"


class BadPacket(BadInput, SubnetError):
    """Not a packet of this private network."""

    code = "bad_packet"


class KernelRefused(Unavailable, SubnetError):
    """The kernel refused a device or an address of the private network."""

    code = "kernel_refused"
    default_hint = (
        "run the node as root, or give it CAP_NET_ADMIN and CAP_SYS_ADMIN, and see that /dev/net/tun is there"
    )


class NamespaceGone(NotFound, SubnetError):
    """The network namespace is gone."""

    code = "namespace_gone"
    default_hint = "the container ended; start it again"


class DeviceGone(Unavailable, SubnetError):
    """The device of the private network is gone."""

    code = "device_gone"


class FirewallRefused(Unavailable, SubnetError):
    """The firewall takes no rules."""

    code = "firewall_refused"
    default_hint = "apt-get install iptables, and run the node as root"


class NotConnected(Unavailable, SubnetError):
    """The port is not reached."""

    code = "not_connected"


class NotActive(Unavailable, SubnetError):
    """Private networks are not running on this node."""

    code = "subnets_not_active"


class TooManySubnets(Conflict, SubnetError):
    """This node has too many private networks, or this one too many members."""

    code = "too_many_subnets"
