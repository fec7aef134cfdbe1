"""The table of cities and countries, read when it is first needed (some 20 ms), from the data of GeoNames (CC BY 4.0).

Each row is a circle: of a country round everything in it where people live, of a city round all places of that name in its
country. So what follows from a place is true of whichever was meant. A city that is not in the table (it has fewer than
15,000 inhabitants, or the name is spelled otherwise) is somewhere in its country.
"""

from __future__ import annotations

import lzma
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files

from dms.resources.places.folding import folded
from dms.types.errors import BadInput
from dms.types.places import Place
from dms.types.resources import Location

STATED_RADIUS_KM = 10.0
"""How exact a position is taken to be."""
_MAX_COUNTRIES = 64


@lru_cache(maxsize=4096)
def place_of(location: Location) -> Place | None:
    """The circle in which a machine is that says this; ``None`` if no country is said, or one that is not known."""
    if not location.country:
        return None
    country, cities = _country(location.country.strip().upper()[:2])
    return cities.get(folded(location.city), country) if location.city else country


def parse_position(text: str) -> Place | None:
    """A position as people write it: ``52.52, 13.40``, degrees north and east; nothing if it is empty.

    :raises BadInput: it is not written like that.
    """
    if not text.strip():
        return None
    try:
        latitude, longitude = (float(part) for part in text.split(","))
    except ValueError:
        latitude = longitude = float("nan")
    place = Place(latitude, longitude, STATED_RADIUS_KM)
    if not place.is_sane:
        raise BadInput(
            f'"{text[:40]}" is not a position', hint="write degrees north and degrees east, such as 52.52, 13.40"
        )
    return place


@lru_cache(maxsize=_MAX_COUNTRIES)
def _country(code: str) -> tuple[Place | None, Mapping[str, Place]]:
    """The circle of a country, and those of its cities by name."""
    text = _text()
    start = text.find(f"\n#{code}\t") + 1
    if not start or len(code) != 2:
        return None, {}
    end = text.find("\n#", start)
    first, *rows = text[start : end if end >= 0 else None].strip().split("\n")
    cities = {}
    for row in rows:
        names, *circle = row.split("\t")
        cities.update(dict.fromkeys(names.split("|"), _place(circle)))
    return _place(first.split("\t")[1:]), cities


def _place(columns: list[str]) -> Place:
    latitude, longitude, radius_km = map(float, columns)
    return Place(latitude, longitude, radius_km)


@lru_cache(maxsize=1)
def _text() -> str:
    data = files("dms.resources.places").joinpath("table.txt.xz").read_bytes()
    return "\n" + lzma.decompress(data).decode()
