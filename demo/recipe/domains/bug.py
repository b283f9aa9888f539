"""Bug reports.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, phrases
from outrider.demo.recipe.words import Writer

BUG: Final = Domain(
    "bug",
    {
        "id": Field(
            "integer",
            lambda writer: writer.integer(100, 99999),
            "bug number",
            ("id", "ticket", "issue"),
            (
                "It is bug {}.",
                "See number {}.",
                "Ticket {}.",
                "The bug has number {}.",
                "Look at bug {}.",
                "The ticket is {}.",
                "We track it as {}.",
                "In our list it is {}.",
            ),
        ),
        "reporter": Field(
            "string",
            Writer.person,
            "reporter",
            ("reported by", "user", "author"),
            (
                "Reported by {}.",
                "{} found it.",
                "{} told us.",
                "The reporter is {}.",
                "It was found by {}.",
                "{} wrote it up.",
                "We heard of it from {}.",
                "{} saw it first.",
            ),
        ),
        "component": Field(
            "string",
            lambda writer: writer.known(words.COMPONENTS),
            "component",
            ("module", "part", "area"),
            (
                "It is in the {}.",
                "The broken part is the {}.",
                "Look at the {}.",
                "The component is the {}.",
                "It is about the {}.",
                "The {} is broken.",
                "Something in the {} fails.",
                "The problem sits in the {}.",
            ),
        ),
        "version": Field(
            "string",
            Writer.version,
            "version",
            ("release", "found in"),
            (
                "It happens in version {}.",
                "Seen in {}.",
                "The release is {}.",
                "The version is {}.",
                "It was found in {}.",
                "We run {}.",
                "It runs version {}.",
                "It came with version {}.",
            ),
        ),
        "severity": Field(
            "enum",
            lambda writer: writer.known(words.PRIORITIES),
            "severity",
            ("priority", "level", "urgency"),
            (
                "The severity is {}.",
                "Its priority is {}.",
                "We rate it {}.",
                "It is {}.",
                "The level is {}.",
                "Its severity is {}.",
                "Please treat it as {}.",
                "We call it {}.",
            ),
            choices=words.PRIORITIES,
        ),
        "fixed": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "fixed",
            ("is fixed", "resolved", "closed"),
            (
                "The bug {}.",
                "It {}.",
                "By now it {}.",
                "This bug {}.",
                "As far as we know it {}.",
                "At the moment it {}.",
                "As of today it {}.",
                "We know that it {}.",
            ),
            phrases("is fixed", "is not fixed"),
        ),
        "assignee": Field(
            "string",
            Writer.person,
            "assignee",
            ("assigned to", "developer", "owner"),
            (
                "It was given to {}.",
                "{} will fix it.",
                "Assigned to {}.",
                "{} has to fix it.",
                "The developer is {}.",
                "It is now with {}.",
                "{} works on it.",
                "Ask {} to fix it.",
            ),
        ),
    },
    (
        "Bug {id}: {reporter} reports that the {component} crashes in version {version}.",
        "{reporter} says that the {component} does not work; the severity is {severity}.",
        "Bug {id} in the {component} was opened by {reporter}.",
        "The {component} of version {version} is broken, see bug {id}.",
        "Bug {id} was found by {reporter} and given to {assignee}.",
        "Bug {id} with severity {severity} {fixed}.",
        "{reporter} found bug {id} in the {component}.",
        "Bug {id}, version {version}: the {component} is broken.",
        "{assignee} has to fix bug {id} in the {component}.",
        "In version {version} the {component} fails, writes {reporter}.",
        "{assignee} looks at bug {id}, which {reporter} found in the {component}.",
        "We gave bug {id} of {reporter} to {assignee}.",
    ),
)
