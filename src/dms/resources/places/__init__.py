"""Where on earth a machine is that says it is in some city or country.

- :mod:`~dms.resources.places.table`: the lookup in the table of cities and countries that is shipped;
- :mod:`~dms.resources.places.folding`: how names are compared.

The table is made by ``scripts/places.py`` from the data of GeoNames (https://www.geonames.org), licensed under CC BY 4.0.
"""

from dms.resources.places.table import parse_position, place_of

__all__ = ["parse_position", "place_of"]
