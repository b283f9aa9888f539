"""Matches of two teams.

Data only; the meaning of each part is in `domain.py`.
"""

from typing import Final

from outrider.demo.recipe.domain import Domain, Field
from outrider.demo.recipe.words import Writer

MATCH: Final = Domain(
    "match",
    {
        "home": Field(
            "string",
            Writer.team,
            "home team",
            ("home", "first team", "hosts"),
            (
                "The home team was {}.",
                "The hosts were {}.",
                "{} played at home.",
                "At home: {}.",
                "The first team was {}.",
                "{} was the home team.",
                "The hosting team was {}.",
                "It was the field of {}.",
            ),
        ),
        "away": Field(
            "string",
            Writer.team,
            "away team",
            ("away", "second team", "visitors"),
            (
                "The visitors were {}.",
                "The away team was {}.",
                "{} came as guests.",
                "The guests were {}.",
                "The second team was {}.",
                "{} came to visit.",
                "The visiting team was {}.",
                "The visitors came from {}.",
            ),
        ),
        "home_goals": Field(
            "integer",
            lambda writer: writer.integer(0, 9),
            "home goals",
            ("goals of the home team", "home score"),
            (
                "The hosts scored {}.",
                "The home team scored {}.",
                "Home goals: {}.",
                "The home score was {}.",
                "{} goals for the home team.",
                "At home they made {} goals.",
                "The hosts made {} goals.",
                "The home team ended with {}.",
            ),
        ),
        "away_goals": Field(
            "integer",
            lambda writer: writer.integer(0, 9),
            "away goals",
            ("goals of the away team", "away score"),
            (
                "The visitors scored {}.",
                "The guests scored {}.",
                "Away goals: {}.",
                "The away score was {}.",
                "{} goals for the visitors.",
                "The guests got {}.",
                "The guests made {} goals.",
                "The visitors ended with {}.",
            ),
        ),
        "date": Field(
            "string",
            Writer.date,
            "date",
            ("day", "played on"),
            (
                "It was played on {}.",
                "The match was on {}.",
                "The day was {}.",
                "The date was {}.",
                "They played on {}.",
                "It happened on {}.",
                "It took place on {}.",
                "They met on {}.",
            ),
        ),
        "scorer": Field(
            "string",
            Writer.person,
            "best player",
            ("scorer", "top scorer", "player"),
            (
                "The best player was {}.",
                "{} scored most.",
                "{} was the star.",
                "The top scorer was {}.",
                "The player of the day was {}.",
                "Nobody played better than {}.",
                "The fans loved {}.",
                "Most goals came from {}.",
            ),
        ),
        "spectators": Field(
            "integer",
            lambda writer: writer.integer(100, 90000),
            "spectators",
            ("attendance", "crowd"),
            (
                "{} people watched.",
                "The crowd was {}.",
                "There were {} spectators.",
                "The attendance was {}.",
                "{} people came.",
                "We counted {} people.",
                "{} fans came.",
                "{} people saw it.",
            ),
        ),
    },
    (
        "{home} played {away} and it ended {home_goals}:{away_goals}.",
        "{home} against {away} ended {home_goals}:{away_goals} on {date}.",
        "On {date}, {home} met {away} in front of {spectators} people.",
        "Match report: {home} {home_goals}, {away} {away_goals}.",
        "{spectators} people saw {home} play {away}.",
        "{home} hosted {away}; the best player was {scorer}.",
        "{home} and {away} met on {date}.",
        "{home} made {home_goals} goals, {away} made {away_goals}.",
        "{scorer} was the best when {home} played {away}.",
        "It ended {home_goals}:{away_goals} between {home} and {away}.",
        "The match of {home} and {away} on {date} was decided by {scorer}.",
        "{home} was visited by {away} on {date}.",
    ),
)
