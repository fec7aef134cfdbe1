"""The statistics events of release 0.5 (``spec/platform.md`` 6.1), made of the events of today.

They go onto the bus as ``statistics``, and with that to Elasticsearch under the label ``metric``. Members have the names of
the original, which had no others; numbers are rounded to 32 bits, as they were there. ``NtxPayment`` comes with payments.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec

from dms.allocation.machine import AllocationState
from dms.observe import catalogue
from dms.observe.events import Event, EventBus
from dms.orchestrator.messages import ResourceUsage
from dms.types import gojson
from dms.types.gojson import Wire
from dms.types.ids import PeerID

MAX_SERVICES: Final = 1_000
"""Of which it is remembered when they began."""
ONBOARDED, OFFBOARDED, OFFLINE = "onboarded", "offboarded", "offline"


class Amounts(Wire):
    """What a device offers: cores, memory in bytes; network and time are not promised here."""

    cpu: float = msgspec.field(name="CPU")
    ram: float = msgspec.field(name="RAM")
    network: float = msgspec.field(name="Network")
    dedicated_time: float = msgspec.field(name="DedicatedTime")


class NewDeviceOnboarded(Wire):
    """A machine offers resources for the first time."""

    peer_id: str = msgspec.field(name="PeerID")
    cpu: float = msgspec.field(name="CPU")
    ram: float = msgspec.field(name="RAM")
    network: float = msgspec.field(name="Network")
    dedicated_time: float = msgspec.field(name="DedicatedTime")
    timestamp: float = msgspec.field(name="Timestamp")


class DeviceStatusChange(Wire):
    """A machine is there, or is not."""

    peer_id: str = msgspec.field(name="PeerID")
    status: str = msgspec.field(name="Status")
    timestamp: float = msgspec.field(name="Timestamp")


class DeviceResourceChange(Wire):
    """A machine offers other resources than before."""

    peer_id: str = msgspec.field(name="PeerID")
    changed: Amounts = msgspec.field(name="ChangedAttributeAndValue")
    timestamp: float = msgspec.field(name="Timestamp")


class DeviceResourceConfig(Wire):
    """What a machine is set to offer; the same members as a change."""

    peer_id: str = msgspec.field(name="PeerID")
    changed: Amounts = msgspec.field(name="ChangedAttributeAndValue")
    timestamp: float = msgspec.field(name="Timestamp")


class NewService(Wire):
    """An allocation was made here."""

    service_id: str = msgspec.field(name="ServiceID")
    service_name: str = msgspec.field(name="ServiceName")
    service_description: str = msgspec.field(name="ServiceDescription")
    timestamp: float = msgspec.field(name="Timestamp")


class ServiceCall(Wire):
    """An allocation has ended: what it used, in percent of a core, bytes and seconds."""

    call_id: float = msgspec.field(name="CallID")
    peer_id: str = msgspec.field(name="PeerIDOfServiceHost")
    service_id: str = msgspec.field(name="ServiceID")
    cpu_used: float = msgspec.field(name="CPUUsed")
    max_ram: float = msgspec.field(name="MaxRAM")
    memory_used: float = msgspec.field(name="MemoryUsed")
    network_used: float = msgspec.field(name="NetworkBwUsed")
    time_taken: float = msgspec.field(name="TimeTaken")
    status: str = msgspec.field(name="Status")
    amount_of_ntx: int = msgspec.field(name="AmountOfNtx")
    timestamp: float = msgspec.field(name="Timestamp")


class ServiceStatus(Wire):
    """An allocation is in another state."""

    call_id: float = msgspec.field(name="CallID")
    peer_id: str = msgspec.field(name="PeerIDOfServiceHost")
    service_id: str = msgspec.field(name="ServiceID")
    status: str = msgspec.field(name="Status")
    timestamp: float = msgspec.field(name="Timestamp")


class ServiceRemove(Wire):
    """An allocation is gone."""

    service_id: str = msgspec.field(name="ServiceID")
    timestamp: float = msgspec.field(name="Timestamp")


class NtxPayment(Wire):
    """A payment; recognised, and not made yet."""

    call_id: float = msgspec.field(name="CallID")
    service_id: str = msgspec.field(name="ServiceID")
    amount_of_ntx: int = msgspec.field(name="AmountOfNtx")
    peer_id: str = msgspec.field(name="PeerID")
    success_fail_status: str = msgspec.field(name="SuccessFailStatus")
    timestamp: float = msgspec.field(name="Timestamp")


TYPES: Final[Mapping[str, type[Wire]]] = {
    kind.__name__: kind
    for kind in (
        NewDeviceOnboarded,
        DeviceStatusChange,
        DeviceResourceChange,
        DeviceResourceConfig,
        NewService,
        ServiceCall,
        ServiceStatus,
        ServiceRemove,
        NtxPayment,
    )
}


class Statistics:
    """Hears the events of a node and tells what of them is a statistics event.

    :param usage: what an allocation used when it was last looked at.
    """

    def __init__(self, bus: EventBus, peer: PeerID, usage: Callable[[str], ResourceUsage | None]) -> None:
        self._bus = bus
        self._peer = str(peer)
        self._usage = usage
        self._is_known = False
        self._calls = 0
        self._services: OrderedDict[str, tuple[int, float]] = OrderedDict()
        bus.listen(self._hear)

    def _hear(self, event: Event) -> None:
        if event.name == catalogue.STATISTICS.name:
            return
        for told in self.of(event):
            members = gojson.to_builtins(told)
            self._bus.emit(catalogue.STATISTICS, type=type(told).__name__, members=members)

    def of(self, event: Event) -> Iterator[Wire]:
        """The statistics events that an event is."""
        fields: Mapping[str, Any] = event.fields
        at = float32(event.at)
        match event.name:
            case catalogue.MACHINE_ONBOARDED.name:
                cpu, ram = float32(fields["cores"]), float32(fields["ram_bytes"])
                if self._is_known:
                    amounts = Amounts(cpu=cpu, ram=ram, network=0.0, dedicated_time=0.0)
                    yield DeviceResourceChange(peer_id=self._peer, changed=amounts, timestamp=at)
                else:
                    yield NewDeviceOnboarded(
                        peer_id=self._peer, cpu=cpu, ram=ram, network=0.0, dedicated_time=0.0, timestamp=at
                    )
                self._is_known = True
                yield DeviceStatusChange(peer_id=self._peer, status=ONBOARDED, timestamp=at)
            case catalogue.MACHINE_OFFBOARDED.name:
                yield DeviceStatusChange(peer_id=self._peer, status=OFFBOARDED, timestamp=at)
            case catalogue.NODE_STOPPING.name:
                yield DeviceStatusChange(peer_id=self._peer, status=OFFLINE, timestamp=at)
            case catalogue.ALLOCATION_CHANGED.name:
                yield from self._service(fields, event.at)
            case catalogue.ALLOCATION_FORGOTTEN.name:
                self._services.pop(str(fields["allocation"]), None)
                yield ServiceRemove(service_id=str(fields["allocation"]), timestamp=at)

    def _service(self, fields: Mapping[str, Any], at: float) -> Iterator[Wire]:
        service, state, stamp = str(fields["allocation"]), str(fields["state"]), float32(at)
        if service not in self._services:
            self._calls += 1
            self._services[service] = (self._calls, at)
            while len(self._services) > MAX_SERVICES:
                self._services.popitem(last=False)
            yield NewService(
                service_id=service,
                service_name=service.partition("_")[2],
                service_description=f"of ensemble {fields['ensemble']}",
                timestamp=stamp,
            )
        number, begun = self._services[service]
        call = float32(number)
        yield ServiceStatus(call_id=call, peer_id=self._peer, service_id=service, status=state, timestamp=stamp)
        if not AllocationState(state).is_final:
            return
        used = self._usage(service) or ResourceUsage()
        yield ServiceCall(
            call_id=call,
            peer_id=self._peer,
            service_id=service,
            cpu_used=float32(used.cpu_usage_percent),
            max_ram=float32(used.memory_limit_bytes),
            memory_used=float32(used.memory_used_bytes),
            network_used=float32(used.network_rx_bytes + used.network_tx_bytes),
            time_taken=float32(at - begun),
            status=state,
            amount_of_ntx=0,
            timestamp=stamp,
        )


def float32(value: float) -> float:
    """The number that is left of ``value`` in 32 bits."""
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return 0.0
