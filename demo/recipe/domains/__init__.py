"""All domains of the extraction task, one file each."""

from typing import Final

from outrider.demo.recipe.domain import Domain
from outrider.demo.recipe.domains.book import BOOK
from outrider.demo.recipe.domains.bug import BUG
from outrider.demo.recipe.domains.calendar import CALENDAR
from outrider.demo.recipe.domains.flight import FLIGHT
from outrider.demo.recipe.domains.invoice import INVOICE
from outrider.demo.recipe.domains.job import JOB
from outrider.demo.recipe.domains.match import MATCH
from outrider.demo.recipe.domains.order import ORDER
from outrider.demo.recipe.domains.patient import PATIENT
from outrider.demo.recipe.domains.person import PERSON
from outrider.demo.recipe.domains.property import PROPERTY
from outrider.demo.recipe.domains.recipe import RECIPE
from outrider.demo.recipe.domains.sensor import SENSOR
from outrider.demo.recipe.domains.weather import WEATHER

DOMAINS: Final[tuple[Domain, ...]] = (
    ORDER,
    INVOICE,
    PROPERTY,
    JOB,
    PERSON,
    PATIENT,
    CALENDAR,
    MATCH,
    BUG,
    FLIGHT,
    SENSOR,
    RECIPE,
    WEATHER,
    BOOK,
)
