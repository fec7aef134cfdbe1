"""Points on earth, and how long light takes between them.

Whoever says where a machine is says it more or less exactly: a place has a radius, within which the machine is. Bounds that
follow from places count on the nearest points of both, so that they hold wherever in there the machines are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

EARTH_RADIUS_KM = 6371.0
LIGHT_KM_PER_S = 299_792.458
MAX_RADIUS_KM = 20_038.0
"""Anywhere."""


@dataclass(frozen=True, slots=True)
class Place:
    """All points within ``radius_km`` of one, in degrees."""

    latitude: float
    longitude: float
    radius_km: float = 0.0

    def distance_km(self, other: Place) -> float:
        """Along the great circle, from centre to centre."""
        cosine = sum(a * b for a, b in zip(self.direction(), other.direction(), strict=True))
        return math.acos(max(-1.0, min(1.0, cosine))) * EARTH_RADIUS_KM

    def least_km(self, other: Place) -> float:
        """From edge to edge: no two points of the two are nearer."""
        return max(0.0, self.distance_km(other) - self.radius_km - other.radius_km)

    def least_rtt_ms(self, other: Place) -> float:
        """What light takes there and back at least."""
        return self.least_km(other) * (2000.0 / LIGHT_KM_PER_S)

    def direction(self) -> tuple[float, float, float]:
        """The unit vector from the centre of the earth."""
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        ring = math.cos(latitude)
        return (ring * math.cos(longitude), ring * math.sin(longitude), math.sin(latitude))

    @property
    def is_sane(self) -> bool:
        """Whether there is such a place on earth."""
        return -90 <= self.latitude <= 90 and -180 <= self.longitude <= 180 and 0 <= self.radius_km <= MAX_RADIUS_KM

    def __str__(self) -> str:
        around = f" and {self.radius_km:g} km around" if self.radius_km else ""
        return f"{self.latitude:g}, {self.longitude:g}{around}"
