"""schemathesis against /openapi.json: whatever is sent, the answer is a documented one, and never a 5xx.

`make fuzz` sends more of it.
"""

import math
import os
import warnings

import pytest
from api_server import MODEL, threaded_api_server
from hypothesis import HealthCheck, Phase, given, settings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import schemathesis
    from schemathesis.specs.openapi.checks import (
        content_type_conformance,
        response_schema_conformance,
        status_code_conformance,
    )

from outrider.gateway.openapi import document
from outrider.gateway.operations import OPERATIONS

CASES = int(os.environ.get("OUTRIDER_FUZZ_CASES", "150"))
WEIGHTS = {"POST": 6, "GET": 1}  # those that take bodies get most of the cases


def no_server_error(context, response, case) -> None:
    """A deadline of nothing is missed, as the document says."""
    assert response.status_code < 500 or "deadline_exceeded" == response.json()["error"]["code"]


CHECKS = [no_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

API = schemathesis.openapi.from_dict(document(OPERATIONS))
OPERATIONS_BY_LABEL = {
    one.ok().label: one.ok() for one in API.get_all_operations() if "playground" not in one.ok().path
}
TOTAL_WEIGHT = sum(WEIGHTS[label.split()[0]] for label in OPERATIONS_BY_LABEL)


@pytest.fixture(scope="module")
def server():
    with threaded_api_server(max_body_bytes=2**16) as running:
        yield running


@pytest.mark.parametrize("mode", [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE])
@pytest.mark.parametrize("label", OPERATIONS_BY_LABEL)
def test_every_answer_is_documented(server, label, mode) -> None:
    """To requests that keep to the document, and to those that do not."""
    operation = OPERATIONS_BY_LABEL[label]
    num_cases = math.ceil(CASES * WEIGHTS[label.split()[0]] / (2 * TOTAL_WEIGHT))

    @settings(
        max_examples=num_cases,
        deadline=None,
        derandomize="OUTRIDER_FUZZ_CASES" not in os.environ,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def send(case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("model"), str):
            case.body["model"] = MODEL  # else all ends there
        case.call_and_validate(base_url=server.url, checks=CHECKS, timeout=30)

    send()
