"""Sixty schemas as applications send them: arguments of tools, and what is extracted from text.

Nested objects, enumerations, arrays, optional fields, bounds, formats and patterns, in the proportions that people use.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
DATE: Schema = {"type": "string", "format": "date"}
MOMENT: Schema = {"type": "string", "format": "date-time"}
EMAIL: Schema = {"type": "string", "format": "email"}


def record(*optional: str, **properties: Schema) -> Schema:
    """A closed object that requires all its properties but the optional ones."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def either(*values: str) -> Schema:
    return {"type": "string", "enum": list(values)}


def items(of: Schema, least: int = 0, most: int | None = None) -> Schema:
    return {"type": "array", "items": of, "minItems": least} | ({} if most is None else {"maxItems": most})


def between(low: float, high: float, kind: str = "integer") -> Schema:
    return {"type": kind, "minimum": low, "maximum": high}


def matching(pattern: str) -> Schema:
    return {"type": "string", "pattern": pattern}


def maybe(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def upto(length: int, least: int = 0) -> Schema:
    return {"type": "string", "minLength": least, "maxLength": length}


ADDRESS = record("unit", street=TEXT, unit=TEXT, city=TEXT, zip=matching("^[0-9]{5}$"), country=matching("^[A-Z]{2}$"))
MONEY = record(amount={"type": "number", "minimum": 0}, currency=either("EUR", "USD", "GBP", "JPY"))
PERSON = record(name=TEXT, age=maybe(between(0, 130)), email=maybe(EMAIL))
POINT = record(latitude=between(-90, 90, "number"), longitude=between(-180, 180, "number"))

TOOLS: dict[str, Schema] = {
    "get_weather": record("unit", city=TEXT, unit=either("celsius", "fahrenheit")),
    "search_web": record("limit", "site", query=TEXT, limit=between(1, 50), site=TEXT),
    "send_email": record(
        "cc", "attachments", to=items(EMAIL, 1), cc=items(EMAIL), subject=TEXT, body=TEXT, attachments=items(TEXT)
    ),
    "create_event": record(
        "location", "attendees", title=TEXT, start=MOMENT, end=MOMENT, location=TEXT, attendees=items(EMAIL)
    ),
    "set_timer": record("label", minutes=between(1, 1440), label=TEXT),
    "convert_currency": record(
        amount={"type": "number", "exclusiveMinimum": 0}, source=matching("^[A-Z]{3}$"), target=matching("^[A-Z]{3}$")
    ),
    "query_database": record(
        "where",
        "limit",
        table=either("users", "orders", "products"),
        columns=items(TEXT, 1, 20),
        where=items(
            record(
                column=TEXT,
                operator=either("=", "!=", "<", ">", "like"),
                value={"type": ["string", "number", "boolean", "null"]},
            )
        ),
        limit=between(1, 1000),
    ),
    "run_python": record("timeout", code=TEXT, timeout=between(1, 60)),
    "read_file": record("start", "end", path=TEXT, start=WHOLE, end=WHOLE),
    "edit_file": record("create", path=TEXT, edits=items(record(old=TEXT, new=TEXT), 1), create=FLAG),
    "run_shell": record("cwd", "env", command=TEXT, cwd=TEXT, env={"type": "object", "additionalProperties": TEXT}),
    "http_request": record(
        "headers",
        "body",
        method=either("GET", "POST", "PUT", "PATCH", "DELETE"),
        url=TEXT,
        headers={"type": "object", "additionalProperties": TEXT},
        body=maybe(TEXT),
    ),
    "book_flight": record(
        "return_date",
        origin=matching("^[A-Z]{3}$"),
        destination=matching("^[A-Z]{3}$"),
        departure=DATE,
        return_date=DATE,
        passengers=between(1, 9),
        cabin=either("economy", "premium", "business", "first"),
    ),
    "book_hotel": record("rooms", city=TEXT, check_in=DATE, check_out=DATE, guests=between(1, 12), rooms=between(1, 6)),
    "find_restaurant": record(
        "cuisine",
        "price",
        near=POINT,
        radius_m=between(50, 20000),
        cuisine=either("italian", "thai", "indian", "french"),
        price=between(1, 4),
    ),
    "place_order": record(
        "note",
        customer=TEXT,
        lines=items(record(sku=matching("^[A-Z]{2}-[0-9]{4}$"), quantity=between(1, 99)), 1, 30),
        note=upto(100),
    ),
    "track_package": record(carrier=either("dhl", "ups", "fedex"), number=matching("^[A-Z0-9]{8,20}$")),
    "play_music": record("volume", kind=either("track", "album", "playlist"), name=TEXT, volume=between(0, 100)),
    "control_light": record(
        "brightness",
        "color",
        room=TEXT,
        state=either("on", "off"),
        brightness=between(0, 100),
        color=matching("^#[0-9a-f]{6}$"),
    ),
    "set_thermostat": record(celsius=between(5, 30, "number"), mode=either("heat", "cool", "auto")),
    "create_ticket": record(
        "assignee",
        "labels",
        title=upto(80, 1),
        description=TEXT,
        priority=either("low", "medium", "high", "urgent"),
        assignee=TEXT,
        labels=items(TEXT, 0, 10),
    ),
    "merge_request": record(
        "draft", source=TEXT, target=TEXT, title=TEXT, reviewers=items(matching("^@[a-z0-9-]+$")), draft=FLAG
    ),
    "schedule_job": record(
        "enabled", name=matching("^[a-z][a-z0-9_]*$"), cron=TEXT, retries=between(0, 10), enabled=FLAG
    ),
    "resize_image": record(
        "format", path=TEXT, width=between(1, 8192), height=between(1, 8192), format=either("png", "jpeg", "webp")
    ),
    "plot_chart": record(
        "legend", kind=either("line", "bar", "scatter"), x=items(NUMBER, 1), y=items(NUMBER, 1), legend=items(TEXT)
    ),
    "translate": record("formal", text=TEXT, target=matching("^[a-z]{2}(-[A-Z]{2})?$"), formal=FLAG),
    "remember": record("expires", key=TEXT, value=TEXT, expires=MOMENT),
    "transfer_money": record(
        "reference",
        source=matching("^[A-Z]{2}[0-9]{2}[A-Z0-9]{10,30}$"),
        target=matching("^[A-Z]{2}[0-9]{2}[A-Z0-9]{10,30}$"),
        sum=MONEY,
        reference=TEXT,
    ),
    "get_stock": record("interval", symbol=matching("^[A-Z]{1,5}$"), interval=either("1d", "1h", "5m")),
    "lookup_host": record(host={"type": "string", "format": "hostname"}, kind=either("A", "AAAA", "MX", "TXT")),
}

EXTRACTIONS: dict[str, Schema] = {
    "person": PERSON,
    "contact": record("phone", "address", person=PERSON, phone=matching(r"^\+[0-9]{6,14}$"), address=ADDRESS),
    "invoice": record(
        "due",
        number=TEXT,
        issued=DATE,
        due=DATE,
        seller=TEXT,
        buyer=TEXT,
        lines=items(record(text=TEXT, quantity=NUMBER, price=MONEY)),
        total=MONEY,
    ),
    "receipt": record(shop=TEXT, at=MOMENT, items=items(record(name=TEXT, price=NUMBER)), total=NUMBER),
    "resume": record(
        "summary",
        name=TEXT,
        email=EMAIL,
        summary=TEXT,
        skills=items(TEXT),
        jobs=items(record("end", company=TEXT, role=TEXT, start=DATE, end=DATE)),
        degrees=items(record(school=TEXT, year=between(1950, 2035))),
    ),
    "recipe": record(
        "minutes",
        title=TEXT,
        servings=between(1, 50),
        minutes=WHOLE,
        ingredients=items(record(name=TEXT, amount=NUMBER, unit=either("g", "ml", "piece", "tbsp", "tsp"))),
        steps=items(TEXT, 1),
    ),
    "sentiment": record(sentiment=either("positive", "neutral", "negative"), confidence=between(0, 1, "number")),
    "classification": record(
        labels=items(either("sports", "politics", "science", "culture", "economy", "weather"), 1, 3), reason=TEXT
    ),
    "entities": record(
        entities=items(record("start", text=TEXT, kind=either("person", "place", "organisation", "date"), start=WHOLE))
    ),
    "relations": record(triples=items(record(subject=TEXT, predicate=TEXT, object=TEXT))),
    "summary": record(title=upto(80), points=items(TEXT, 1, 7), language=matching("^[a-z]{2}$")),
    "meeting": record(
        topic=TEXT, date=DATE, decisions=items(TEXT), actions=items(record("due", owner=TEXT, task=TEXT, due=DATE))
    ),
    "bug_report": record(
        "trace",
        title=TEXT,
        severity=either("low", "medium", "high", "critical"),
        steps=items(TEXT),
        expected=TEXT,
        actual=TEXT,
        trace=TEXT,
    ),
    "code_review": record(
        verdict=either("approve", "comment", "reject"),
        comments=items(record("suggestion", file=TEXT, line=between(1, 100000), text=TEXT, suggestion=TEXT)),
    ),
    "product": record(
        "discount", "tags", name=TEXT, price=MONEY, discount=between(0, 100), stock=WHOLE, tags=items(TEXT)
    ),
    "catalogue": record(
        products=items(record(id={"type": "string", "format": "uuid"}, name=TEXT, price=NUMBER, in_stock=FLAG))
    ),
    "real_estate": record("garden", address=ADDRESS, rooms=between(1, 30), area=NUMBER, price=MONEY, garden=FLAG),
    "patient": record(
        "allergies",
        name=TEXT,
        born=DATE,
        symptoms=items(TEXT),
        allergies=items(TEXT),
        medication=items(record(name=TEXT, dose_mg=NUMBER, per_day=between(1, 12))),
    ),
    "lab_result": record(values=items(record("flag", name=TEXT, value=NUMBER, unit=TEXT, flag=either("low", "high")))),
    "flight": record(
        number=matching("^[A-Z]{2}[0-9]{1,4}$"),
        departs=MOMENT,
        arrives=MOMENT,
        gate=maybe(matching("^[A-Z][0-9]{1,2}$")),
    ),
    "itinerary": record(days=items(record(date=DATE, places=items(record("note", name=TEXT, at=POINT, note=TEXT))))),
    "sports_match": record(
        home=TEXT,
        away=TEXT,
        score=record(home=between(0, 99), away=between(0, 99)),
        scorers=items(record(name=TEXT, minute=between(1, 130))),
    ),
    "book": record(
        "isbn", title=TEXT, authors=items(TEXT, 1), year=between(1400, 2100), isbn=matching("^97[89][0-9]{10}$")
    ),
    "quiz": record(questions=items(record(question=TEXT, choices=items(TEXT, 4, 4), answer=between(0, 3)), 1, 10)),
    "shape": {
        "oneOf": [
            record(kind={"const": "circle"}, radius=NUMBER),
            record(kind={"const": "box"}, width=NUMBER, height=NUMBER),
            record(kind={"const": "polygon"}, points=items(record(x=NUMBER, y=NUMBER), 3)),
        ]
    },
    "outline": {
        "$defs": {"section": record(title=TEXT, children=items({"$ref": "#/$defs/section"}))},
        "$ref": "#/$defs/section",
    },
    "expression": {
        "$defs": {
            "node": {
                "anyOf": [
                    NUMBER,
                    record(
                        op=either("+", "-", "*", "/"), left={"$ref": "#/$defs/node"}, right={"$ref": "#/$defs/node"}
                    ),
                ]
            }
        },
        "type": "object",
        "properties": {"root": {"$ref": "#/$defs/node"}},
        "required": ["root"],
        "additionalProperties": False,
    },
    "configuration": record(
        "replicas",
        "env",
        name=matching("^[a-z0-9-]{1,40}$"),
        image=TEXT,
        replicas=between(0, 100),
        env={"type": "object", "additionalProperties": TEXT},
        ports=items(between(1, 65535)),
        resources=record(cpu=matching("^[0-9]+m?$"), memory=matching("^[0-9]+(Mi|Gi)$")),
    ),
    "survey": record(answers={"type": "object", "additionalProperties": between(1, 5)}, comment=maybe(TEXT)),
    "reasoning": record(steps=items(record(thought=TEXT, conclusion=TEXT), 1, 8), answer=TEXT, certain=FLAG),
}

SCHEMAS: dict[str, Schema] = {**TOOLS, **EXTRACTIONS}
