"""Speculators that a server is started with: requests may name them, and no token changes."""

from collections.abc import Iterator

import openai
import pytest
from command import invoke
from random_speculators import write_speculators
from server import Server

from outrider.demo import target_path

OPTIONS = {
    "model": "outrider-demo",
    "messages": [{"role": "user", "content": "Repeat this text: the red fox saw the red fox."}],
    "temperature": 0.8,
    "seed": 5,
    "max_tokens": 24,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, str]:
    """Of a draft model, an EAGLE-3 head and Medusa heads, by method."""
    return write_speculators(target_path(), tmp_path_factory.mktemp("speculators"))


@pytest.fixture
def server(folders) -> Iterator[Server]:
    """With all of them; it ends whatever becomes of the test."""
    server = Server("--threads", "1", *(f"--{method}={folder}" for method, folder in folders.items()))
    yield server
    if server.process.poll() is None:
        server.stop()


def test_requests_may_name_what_is_loaded(server, folders) -> None:
    """Alone, in company and by `auto`; the log names them, and so does a refusal."""
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0) as client:

        def ask(speculation: object) -> tuple[str, dict]:
            body = {"speculation": speculation, "return_metrics": True, "ignore_eos": True}
            completion = client.chat.completions.create(**OPTIONS, extra_body=body)
            figures = completion.metrics.get("speculative_decoding") or {"methods": {}}
            return completion.choices[0].message.content, figures["methods"]

        plain, _ = ask("off")
        for method in folders:
            content, figures = ask(method)

            assert plain == content
            assert figures[method]["num_draft_tokens"] > 0
        content, figures = ask({"methods": list(folders)})
        assert plain == content
        assert figures
        assert plain == ask("auto")[0]  # which of them are worth asking is for it to find out
        with pytest.raises(openai.BadRequestError, match="`suffix`, `medusa`, `draft`, `eagle`"):
            ask("lookahead")
    status, output = server.stop()

    assert 0 == status
    assert "speculators: " + ", ".join(f"{method} from {folder}" for method, folder in folders.items()) in output


@pytest.mark.parametrize("method", ["draft", "eagle", "medusa"])
def test_a_speculator_that_is_none_is_one_line(method, tmp_path) -> None:
    """It names the folder."""
    where = f"unix:{tmp_path}/engine.sock"
    status, _, error = invoke("engine", "--listen", where, f"--{method}={tmp_path / 'nowhere'}")

    assert (1, 1) == (status, len(error.splitlines())), error
    assert "nowhere" in error


def test_a_speculator_of_another_kind_is_one_line(folders, tmp_path) -> None:
    """Medusa heads are no EAGLE head, for an engine alone as well."""
    status, _, error = invoke("engine", "--listen", f"unix:{tmp_path}/engine.sock", f"--eagle={folders['medusa']}")

    assert (1, 1) == (status, len(error.splitlines())), error
    assert "is not an EAGLE head" in error
