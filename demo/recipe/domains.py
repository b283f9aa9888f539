"""All domains of the extraction task."""

from typing import Final

from outrider.demo.recipe.commerce import COMMERCE
from outrider.demo.recipe.domain import Domain
from outrider.demo.recipe.people import PEOPLE
from outrider.demo.recipe.places import PLACES

DOMAINS: Final[tuple[Domain, ...]] = (*COMMERCE, *PEOPLE, *PLACES)
