"""Recipes.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe import words
from outrider.demo.recipe.domain import Domain, Field, counted, phrases
from outrider.demo.recipe.words import Writer


def _ingredients(writer: Writer) -> list[dict[str, object]]:
    names = writer.several((*words.FRUITS, *words.FOODS), 3)
    return [{"name": name, "quantity": writer.integer(1, 20)} for name in names]


RECIPE: Final = Domain(
    "recipe",
    {
        "dish": Field(
            "string",
            Writer.dish,
            "dish",
            ("name", "title", "recipe"),
            (
                "The dish is {}.",
                "We cook {}.",
                "It is called {}.",
                "The name is {}.",
                "It makes {}.",
                "Today there is {}.",
                "On the table: {}.",
                "You will eat {}.",
            ),
        ),
        "ingredients": Field(
            "objects",
            _ingredients,
            "ingredients",
            ("items", "parts", "what is needed"),
            (
                "You need {}.",
                "Take {}.",
                "Buy {}.",
                "The ingredients are {}.",
                "Use {}.",
                "It needs {}.",
                "It is made from {}.",
                "Mix {}.",
            ),
            counted,
        ),
        "minutes": Field(
            "integer",
            lambda writer: writer.integer(5, 180),
            "minutes",
            ("time", "duration", "cooking time"),
            (
                "It takes {} minutes.",
                "Cook it for {} minutes.",
                "Ready in {} minutes.",
                "The time is {} minutes.",
                "After {} minutes it is done.",
                "You need {} minutes.",
                "Leave it for {} minutes.",
                "Wait {} minutes.",
            ),
        ),
        "servings": Field(
            "integer",
            lambda writer: writer.integer(1, 12),
            "servings",
            ("serves", "people", "portions"),
            (
                "It serves {}.",
                "Enough for {} people.",
                "For {} people.",
                "It is for {} people.",
                "{} people can eat.",
                "You get {} portions.",
                "It feeds {} people.",
                "{} people get enough.",
            ),
        ),
        "cook": Field(
            "string",
            Writer.person,
            "cook",
            ("chef", "author", "recipe by"),
            (
                "The cook is {}.",
                "{} wrote it down.",
                "The recipe is from {}.",
                "{} cooked it.",
                "The recipe is by {}.",
                "The chef is {}.",
                "{} taught us how.",
                "We know it from {}.",
            ),
        ),
        "vegetarian": Field(
            "boolean",
            lambda writer: writer.chance(0.5),
            "vegetarian",
            ("is vegetarian", "meat free"),
            (
                "The dish {}.",
                "It {}.",
                "Note that it {}.",
                "This dish {}.",
                "By the way, it {}.",
                "As far as we know it {}.",
                "And it {}.",
                "We know that it {}.",
            ),
            phrases("is vegetarian", "is not vegetarian"),
        ),
        "level": Field(
            "enum",
            lambda writer: writer.known(words.LEVELS),
            "level",
            ("difficulty", "skill level"),
            (
                "The level is {}.",
                "It is {} to make.",
                "We rate it {}.",
                "The difficulty is {}.",
                "It is {}.",
                "To cook it is {}.",
                "Most people find it {}.",
                "We call it {}.",
            ),
            choices=words.LEVELS,
        ),
    },
    (
        "{dish} by {cook} takes {minutes} minutes and serves {servings}.",
        "For {dish} you need {ingredients}.",
        "{dish}: {ingredients}, ready in {minutes} minutes.",
        "{cook} makes {dish} from {ingredients}.",
        "To cook {dish} for {servings} people, take {ingredients}.",
        "{dish} {vegetarian} and takes {minutes} minutes.",
        "{cook} cooks {dish} in {minutes} minutes.",
        "Take {ingredients} and make {dish}.",
        "{dish} is {level} to cook and needs {minutes} minutes.",
        "In {minutes} minutes {cook} turns {ingredients} into {dish}.",
        "Here is how {cook} prepares {dish} for {servings} people.",
        "You can make {dish} from {ingredients} for {servings} people.",
    ),
)
