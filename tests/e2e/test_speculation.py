"""What a server says of speculation for all requests, and what a request may still say."""

import re
import urllib.request

import openai
import pytest
from command import invoke
from server import Server

MODEL = "outrider-demo"
REPEAT = "Repeat this text: the red fox saw the red fox, and the red fox saw the blue bird near the red fox."
OPTIONS = {"model": MODEL, "messages": [{"role": "user", "content": REPEAT}], "temperature": 0, "max_tokens": 40}


@pytest.fixture(scope="module")
def drafting_client():
    """Of a server where requests that say nothing are drafted for, up to three tokens a step."""
    running = Server("--threads", "1", "--speculation", "ngram,suffix", "--speculation-max-tokens", "3")
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        yield client
    status, output = running.stop()
    assert status == 0, output


def ask(client, speculation: object = None, **more) -> tuple[str, dict | None]:
    """The answer, and what `metrics` says of its speculation."""
    body = {"return_metrics": True} | ({} if speculation is None else {"speculation": speculation})
    completion = client.chat.completions.create(**OPTIONS, **more, extra_body=body)
    return completion.choices[0].message.content, completion.metrics.get("speculative_decoding")


def test_a_request_that_says_nothing_gets_the_servers_default(drafting_client) -> None:
    """`off` wins over it, other methods replace it, and no token changes."""
    plain, nothing = ask(drafting_client, "off")
    by_default, figures = ask(drafting_client)
    with_prediction, more = ask(drafting_client, prediction={"type": "content", "content": plain})
    replaced, one = ask(drafting_client, "suffix")
    by_all, _ = ask(drafting_client, "auto")

    assert nothing is None
    assert {plain} == {by_default, with_prediction, replaced, by_all}
    assert set(figures["methods"]) <= {"ngram", "suffix"}
    assert figures["max_tokens"] == figures["num_spec_tokens"] == 3
    assert "prediction" in more["methods"]
    assert set(one["methods"]) == {"suffix"}


def test_more_than_the_server_allows_is_clipped_and_told(drafting_client) -> None:
    """And nothing is told of what was not clipped."""
    for asked, used, told in ((6, 3, 6), (3, 3, None), (2, 2, None)):
        _, figures = ask(drafting_client, {"methods": ["ngram"], "max_tokens": asked})

        assert (figures["max_tokens"], figures.get("requested_max_tokens")) == (used, told)
        assert len(figures["acceptance_histogram"]) <= used + 1


def test_the_metrics_count_by_method_place_and_origin(client, server) -> None:
    """A token that was accepted is accepted at one place, and comes from one method."""

    def counts() -> dict[str, float]:
        with urllib.request.urlopen(f"{server.url}/metrics") as response:
            lines = response.read().decode().splitlines()
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line[:9] == "outrider_"}

    before = counts()
    _, figures = ask(client, "suffix")
    added = {name: count - before.get(name, 0) for name, count in counts().items()}

    mine = figures["methods"]["suffix"]
    places = [f'_per_position_total{{method="suffix",position="{place}"}}' for place in range(8)]
    by_place = [added.get(f"outrider_accepted_draft_tokens{name}", 0) for name in places]
    assert sum(by_place) == mine["num_accepted_draft_tokens"] > 0
    assert by_place == sorted(by_place, reverse=True)
    assert added['outrider_draft_steps_total{method="suffix"}'] == mine["num_spec_steps"]
    assert added['outrider_tokens_by_origin_total{origin="suffix"}'] == mine["num_accepted_draft_tokens"]
    assert added['outrider_dropped_drafts_total{method="suffix"}'] == mine["num_dropped_drafts"] == 0


def test_the_long_form_changes_no_token(client) -> None:
    """Tree or chain, whatever is worth verifying."""
    plain, _ = ask(client, "off")
    for tree in (True, False, None):
        for probability in (0, 0.1, 1.0, None):
            options = {"methods": ["suffix", "ngram"], "max_tokens": 6, "tree": tree, "min_probability": probability}
            assert ask(client, options)[0] == plain


def test_where_nobody_may_speculate_who_asks_is_refused() -> None:
    """Those who say nothing, or `off`, are answered; a default of the same server counts for nothing."""
    running = Server("--threads", "1", "--no-speculation", "--speculation", "ngram")
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="any", max_retries=0) as client:
        answers = [ask(client), ask(client, "off")]
        for asked in ("ngram", "auto", {"methods": ["suffix"]}):
            with pytest.raises(openai.BadRequestError, match="is not loaded: use one of `off`") as refused:
                ask(client, asked)
            assert refused.value.param == "speculation"
    running.stop()

    assert answers[0] == answers[1]
    assert answers[0][1] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--speculation=lookahead"], "default speculation `lookahead` is none: .* is not loaded: use one of `off`"),
        (["--speculation=off,ngram"], "`off` stands alone"),
        (["--speculation=prediction"], "must not name `prediction`"),
        (["--speculation-max-tokens=65"], "speculation_max_tokens must lie between 0 and 64"),
    ],
)
def test_a_server_refuses_a_default_that_cannot_be(arguments, message, tmp_path) -> None:
    """With one line, before it takes requests."""
    status, _, error = invoke("engine", "--listen", f"unix:{tmp_path}/engine.sock", *arguments)

    assert status == 1
    assert re.search(message, error.splitlines()[-1])
