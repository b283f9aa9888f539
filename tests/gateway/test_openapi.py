"""GET /openapi.json: complete, by the types that requests are parsed with."""

import json

import aiohttp
import jsonschema
import pytest
from api_server import api_server

from outrider.gateway.app import ROUTES
from outrider.gateway.openapi import document
from outrider.gateway.operations import OPERATIONS
from outrider.gateway.playground import FILE_PATHS
from outrider.gateway.requests import ChatRequest, CompletionRequest

DOCUMENT = document(OPERATIONS)
SCHEMAS = DOCUMENT["components"]["schemas"]


def test_every_route_is_told_but_the_playgrounds_files() -> None:
    """With its method."""
    routes = {path.replace(":.+", ""): method for path, (method, _) in ROUTES.items() if path not in FILE_PATHS}

    assert routes == {path: next(iter(methods)).upper() for path, methods in DOCUMENT["paths"].items()}


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_every_field_says_what_it_is_for(name) -> None:
    """A new field needs a line in `gateway/field_texts.py`."""
    fields = SCHEMAS[name].get("properties", {})

    assert [] == [field for field, told in fields.items() if not told.get("description")]


@pytest.mark.parametrize("request_type", [ChatRequest, CompletionRequest])
def test_the_bounds_are_those_that_requests_are_parsed_with(request_type) -> None:
    """Numbers have them, and nothing else is allowed in."""
    schema = SCHEMAS[request_type.__name__]

    assert set(request_type.__struct_fields__) == schema["properties"].keys()
    assert schema["additionalProperties"] is False
    temperature = schema["properties"]["temperature"]["anyOf"][0]
    assert (0, 2) == (temperature["minimum"], temperature["maximum"])


def test_every_schema_is_one() -> None:
    """And every reference leads somewhere."""
    for schema in SCHEMAS.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = {part.split('"')[0] for part in json.dumps(DOCUMENT).split('"$ref": "#/')[1:]}
    for reference in references:
        found = DOCUMENT
        for step in reference.split("/"):
            found = found[step]


async def test_it_is_served_to_everybody_and_tells_nothing_of_the_server() -> None:
    """No key, no address, no path."""
    async with api_server(api_key="sk-secret-secret") as server, aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/openapi.json") as response:
            body = await response.text()
        async with session.get(f"{server.url}/version") as response:
            version = await response.json()

        assert DOCUMENT == json.loads(body)
        assert {"version": DOCUMENT["info"]["version"]} == version
        assert not any(secret in body for secret in ("sk-secret", str(server.port), "/home", "/tmp"))
