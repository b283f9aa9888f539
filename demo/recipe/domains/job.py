"""Job advertisements.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, joined, phrases
from outrider.demo.recipe.words import Writer

JOB: Final = Domain(
    "job",
    {
        "title": Field(
            "string",
            lambda writer: writer.known(words.JOBS),
            "position",
            ("title", "role", "job"),
            (
                "They need a {}.",
                "The position is {}.",
                "We hire a {}.",
                "The title is {}.",
                "They want a {}.",
                "You work as a {}.",
                "The work is that of a {}.",
                "A {} is needed.",
            ),
        ),
        "company": Field(
            "string",
            Writer.company,
            "company",
            ("employer", "firm", "organisation"),
            (
                "The employer is {}.",
                "You work for {}.",
                "The firm is {}.",
                "The company is {}.",
                "{} offers the job.",
                "It is a job at {}.",
                "{} is hiring.",
                "You would join {}.",
            ),
        ),
        "city": Field(
            "string",
            Writer.city,
            "city",
            ("location", "place", "office"),
            (
                "The office is in {}.",
                "You work in {}.",
                "It is based in {}.",
                "The job is in {}.",
                "The place is {}.",
                "You go to {} for it.",
                "The place of work is {}.",
                "The firm sits in {}.",
            ),
        ),
        "salary": Field(
            "integer",
            lambda writer: writer.integer(200, 1500) * 100,
            "salary",
            ("pay", "yearly salary", "wage"),
            (
                "They pay {} a year.",
                "The pay is {}.",
                "You earn {} a year.",
                "The salary is {}.",
                "It pays {} a year.",
                "You get {} a year.",
                "It comes with {} a year.",
                "A year brings {}.",
            ),
        ),
        "start": Field(
            "string",
            Writer.date,
            "start date",
            ("start", "from", "begins"),
            (
                "The work starts on {}.",
                "You begin on {}.",
                "It starts {}.",
                "It begins on {}.",
                "The start is on {}.",
                "They need you from {}.",
                "The first day is {}.",
                "You work from {} on.",
            ),
        ),
        "remote": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "remote",
            ("remote work", "is remote"),
            (
                "The job {}.",
                "It {}.",
                "This work {}.",
                "By the way, it {}.",
                "The work {}.",
                "As far as we know it {}.",
                "And it {}.",
                "We know that it {}.",
            ),
            phrases("is remote", "is not remote"),
        ),
        "skills": Field(
            "strings",
            lambda writer: writer.several(words.SKILLS, 4),
            "skills",
            ("requirements", "required skills"),
            (
                "You know {}.",
                "Needed: {}.",
                "You should know {}.",
                "The skills are {}.",
                "They want {}.",
                "It takes {}.",
                "You bring {}.",
                "You need {}.",
            ),
            joined,
        ),
    },
    (
        "{company} in {city} is looking for a {title}.",
        "{company} hires a {title} in {city} for {salary} a year.",
        "Job: {title} at {company}, {city}, {salary} a year.",
        "Wanted: a {title} who knows {skills} for {company}.",
        "Work as a {title} in {city} from {start}.",
        "{company} needs a {title} from {start}; the job {remote}.",
        "A {title} can start on {start} at {company}.",
        "We at {company} in {city} want a {title}.",
        "{title} wanted in {city}: {company} pays {salary} a year.",
        "A {title} is wanted by {company} in {city}, to start on {start}.",
        "Become a {title} at {company} and earn {salary} a year.",
        "The firm {company} from {city} needs a {title}.",
    ),
)
