"""The table of places: what is in it, and that its circles hold what they should."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.resources.places import parse_position, place_of
from dms.resources.places.folding import folded
from dms.types.errors import BadInput
from dms.types.places import Place
from dms.types.resources import Location


@pytest.mark.parametrize(
    ("country", "city", "point"),
    [
        ("DE", "Berlin", Place(52.52, 13.41)),
        ("de", "münchen", Place(48.14, 11.58)),
        ("AT", "Wien", Place(48.21, 16.37)),
        ("BR", "Sao Paulo", Place(-23.55, -46.64)),
        ("US", "New York City", Place(40.71, -74.01)),
        ("US", "Springfield", Place(39.80, -89.64)),
        ("US", "Springfield", Place(42.10, -72.59)),
        ("US", "", Place(21.31, -157.86)),
        ("CL", "", Place(-27.15, -109.43)),
        ("FR", "a village that is not in it", Place(48.85, 2.35)),
        ("TW", "台北", Place(25.05, 121.53)),
    ],
)
def test_a_place_is_within_the_circle_of_its_name(country: str, city: str, point: Place) -> None:
    found = place_of(Location(country=country, city=city))
    assert found is not None
    assert found.least_km(point) == 0


def test_a_city_is_more_exact_than_its_country_unless_several_share_the_name() -> None:
    berlin, germany = place_of(Location(country="DE", city="Berlin")), place_of(Location(country="DE"))
    springfield = place_of(Location(country="US", city="Springfield"))
    assert berlin is not None
    assert germany is not None
    assert springfield is not None
    assert berlin.radius_km < 100 < germany.radius_km < springfield.radius_km


@pytest.mark.parametrize(
    "location", [Location(), Location(continent="EU"), Location(country="ZZ"), Location(country="D\t")]
)
def test_what_is_not_known_is_nowhere(location: Location) -> None:
    assert place_of(location) is None


@given(st.text(max_size=40), st.text(max_size=3))
def test_whatever_is_asked_there_is_an_answer(city: str, country: str) -> None:
    found = place_of(Location(country=country, city=city))
    assert found is None or found.is_sane


def test_names_are_compared_without_accents_case_and_marks() -> None:
    assert folded("Saint-Étienne") == folded("saint etienne") == "saint etienne"
    assert folded("Łódź") == "lodz"
    assert folded("東京") == ""


def test_a_position_is_degrees_north_and_east() -> None:
    found = parse_position(" 52.52, 13.40 ")
    assert found is not None
    assert (found.latitude, found.longitude) == (52.52, 13.4)
    assert parse_position("") is None
    for text in ("Berlin", "52.52", "91, 0", "1,2,3", "nan, 0"):
        with pytest.raises(BadInput, match="not a position"):
            parse_position(text)


def test_the_table_is_only_read_when_it_is_asked() -> None:
    code = "from dms.resources.places import table; assert not table._text.cache_info().currsize"
    subprocess.run([sys.executable, "-c", code], check=True)
