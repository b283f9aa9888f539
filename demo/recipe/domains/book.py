"""Books.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field
from outrider.demo.recipe.words import Writer

BOOK: Final = Domain(
    "book",
    {
        "title": Field(
            "string",
            Writer.title,
            "title",
            ("name", "book"),
            (
                "The book is {}.",
                "It is called {}.",
                "The title is {}.",
                "The name is {}.",
                "We read {}.",
                "You should read {}.",
                "On the cover it says {}.",
                "In the shop it is called {}.",
            ),
        ),
        "author": Field(
            "string",
            Writer.person,
            "author",
            ("writer", "written by"),
            (
                "The author is {}.",
                "It was written by {}.",
                "{} wrote it.",
                "The writer is {}.",
                "It is by {}.",
                "{} is the author.",
                "It is a work of {}.",
                "You owe it to {}.",
            ),
        ),
        "year": Field(
            "integer",
            lambda writer: writer.integer(1700, 2029),
            "year",
            ("published", "publication year"),
            (
                "It came out in {}.",
                "The year was {}.",
                "Published in {}.",
                "It was published in {}.",
                "The book is from {}.",
                "It is from the year {}.",
                "It appeared in {}.",
                "You could buy it from {} on.",
            ),
        ),
        "pages": Field(
            "integer",
            lambda writer: writer.integer(40, 999),
            "pages",
            ("length", "number of pages"),
            (
                "It has {} pages.",
                "There are {} pages.",
                "{} pages long.",
                "The length is {} pages.",
                "It comes with {} pages.",
                "{} pages in all.",
                "You read {} pages.",
                "It takes {} pages.",
            ),
        ),
        "genre": Field(
            "enum",
            lambda writer: writer.known(words.GENRES),
            "genre",
            ("category", "kind"),
            (
                "The genre is {}.",
                "It is a {} book.",
                "Shelf: {}.",
                "The kind is {}.",
                "It belongs to {}.",
                "You would call it {}.",
                "You find it under {}.",
                "People like it as {}.",
            ),
            choices=words.GENRES,
        ),
    },
    (
        "{author} wrote {title} in {year}.",
        "{title} by {author} was published in {year} and has {pages} pages.",
        "The book {title} was written by {author} in {year}.",
        "I am reading {title} by {author}; it has {pages} pages.",
        "{title} ({year}) is a {genre} book by {author}.",
        "In {year}, {author} published {title}.",
        "{author} is the author of {title}.",
        "{title} came out in {year} and has {pages} pages.",
        "Read {title}, a {genre} book by {author}.",
        "{pages} pages long, {title} made {author} famous.",
        "My {genre} book of the year is {title} by {author}.",
        "There is {title} by {author} from {year}.",
    ),
)
