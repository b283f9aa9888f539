"""A sample of the official JSON Schema test suite, through the whole path; `make schema-suite` runs all of it."""

from typing import Any

import pytest
from schema_suite import ABSENT, SUITE, WholePath, groups, run

from outrider.structured.audit import audit
from outrider.structured.errors import SchemaError

pytestmark = pytest.mark.skipif(not SUITE.is_dir(), reason=ABSENT)

EVERY = 16  # one of so many schemas


async def test_no_invalid_instance_comes_through(vocabulary: Any) -> None:
    """On the routes exact and validated the grammar or the validator stops each."""
    path = WholePath(vocabulary.path, vocabulary.size, vocabulary.stop_token_ids)
    await path.compiler.start()
    try:
        score = await run(path, list(groups())[::EVERY])
    finally:
        await path.close()

    assert [] == score.accepted_invalid
    assert score.num_accepted_valid > 50
    assert score.rejected_valid.get("other", []) == []


def test_most_schemas_are_served() -> None:
    """At least half of all schemas exactly, and nine of ten at all."""
    routes = []
    for group in groups():
        try:
            routes.append(audit(group.schema).route)
        except SchemaError:
            routes.append("refused")

    assert routes.count("exact") >= 0.5 * len(routes)
    assert routes.count("refused") <= 0.1 * len(routes)
