"""What a request may ask of speculation, and what an engine makes of it."""

import msgspec
import pytest
from inline_engine import SAMPLED, run, run_deltas, submit

from outrider.engine.config import DEFAULT_SPECULATION, EngineConfig
from outrider.engine.core import EngineCore
from outrider.engine.errors import LoadError, RequestError
from outrider.engine.protocol import Hello, SpeculationParams, Submit, decode_command, encode
from outrider.speculative.limits import MAX_NODES

LOADED = ("grammar", "prediction", "ngram", "suffix")


def hello(*default: str, loaded: tuple[str, ...] = LOADED, bound: int = 8) -> Hello:
    return Hello("folder", 100, 50, (1,), {}, loaded, bound, default or ("off",))


@pytest.mark.parametrize(
    ("default", "asked", "prediction", "expected"),
    [
        (("off",), (), (), ()),
        (("off",), ("suffix", "ngram", "suffix"), (), ("suffix", "ngram")),
        (("off",), (), (7,), ("prediction",)),
        (("off",), ("auto",), (), ("grammar", "ngram", "suffix")),
        (("off",), ("auto",), (7,), ("prediction", "grammar", "ngram", "suffix")),
        (("ngram", "suffix"), (), (), ("ngram", "suffix")),
        (("ngram", "suffix"), (), (7,), ("prediction", "ngram", "suffix")),
        (("ngram", "suffix"), ("grammar",), (), ("grammar",)),
        (("ngram", "suffix"), ("off",), (7,), ()),
        (("auto",), (), (), ("grammar", "ngram", "suffix")),
        (("auto",), ("ngram",), (), ("ngram",)),
        (("auto",), ("off",), (), ()),
    ],
)
def test_the_default_is_for_requests_that_say_nothing(default, asked, prediction, expected) -> None:
    """`off` wins over it, methods replace it, and a prediction comes first."""
    params = hello(*default).speculation(asked, None, prediction)

    assert params.methods == expected
    assert params.auto == ((asked or default) == ("auto",))
    assert params.max_tokens == (8 if expected else 0)
    assert params.prediction_ids == (prediction if expected else ())


def test_the_bound_clips_what_is_asked_for() -> None:
    """And stands for what is not said."""
    used = [hello(bound=5).speculation(("ngram",), asked, ()).max_tokens for asked in (None, 1, 5, 6, 10**9)]

    assert used == [5, 1, 5, 5, 5]


def test_the_long_form_reaches_the_engine() -> None:
    """Over the wire, too."""
    params = hello().speculation(("ngram",), 3, (), tree=False, min_probability=0.25)
    sent = Submit("r", [1], submit("r", [1]).params, params, token_origins=True)

    assert params == SpeculationParams(("ngram",), 3, tree=False, min_probability=0.25)
    assert decode_command(encode(sent)) == sent


@pytest.mark.parametrize(
    ("asked", "loaded", "message"),
    [
        (("off", "ngram"), LOADED, "`off` stands alone"),
        (("ngram", "auto"), LOADED, "`auto` stands alone"),
        (("eagle",), LOADED, "`eagle` is not loaded: use one of `off`, `auto`, `grammar`, `prediction`, `ngram`"),
        (("",), LOADED, "`` is not loaded"),
        (("prediction",), LOADED, "needs the field `prediction`"),
        (("ngram",), (), "`ngram` is not loaded: use one of `off`$"),
        (("auto",), (), "`auto` is not loaded: use one of `off`$"),
    ],
)
def test_what_cannot_be_is_refused(asked, loaded, message) -> None:
    """With what may be used instead."""
    with pytest.raises(RequestError, match=message):
        hello(loaded=loaded).speculation(asked, None, ())


@pytest.mark.parametrize(
    ("field", "value"),
    [("min_probability", -0.1), ("min_probability", 1.5), ("min_probability", float("nan")), ("max_tokens", -1)],
)
def test_a_value_out_of_range_is_refused_by_name(make_core, field, value) -> None:
    """By the engine itself, whoever asks."""
    request = submit("a", [5, 6], methods=("ngram",))
    wrong = msgspec.structs.replace(request.speculation, **{field: value})

    with pytest.raises(RequestError, match=f"speculation.{field} must be between"):
        make_core().add(msgspec.structs.replace(request, speculation=wrong))


def test_an_engine_tells_its_default() -> None:
    """Unless nobody may speculate: then it is `off`, whatever was said."""
    assert EngineConfig(model="m", speculation="ngram, suffix").default_speculation == ("ngram", "suffix")
    assert EngineConfig(model="m", speculation="auto", speculation_allowed=False).default_speculation == ("off",)
    assert EngineConfig(model="m").default_speculation == (DEFAULT_SPECULATION,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speculation_max_tokens": -1}, "speculation_max_tokens must lie between 0"),
        ({"speculation_max_tokens": MAX_NODES + 1}, "speculation_max_tokens must lie between 0"),
        ({"speculation": "ngram,prediction"}, "must not name `prediction`"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(options, message) -> None:
    """Before anything is loaded."""
    with pytest.raises(ValueError, match=message):
        EngineConfig(model="m", **options)


@pytest.mark.parametrize("default", ["eagle", "off,ngram", "auto,ngram", "ngram,,suffix", ""])
def test_a_default_that_no_request_could_ask_for_is_refused_at_the_start(make_core, default) -> None:
    """Not with each request."""
    with pytest.raises(LoadError, match=f"the default speculation `{default}` is none"):
        make_core(speculation=default)


def test_what_a_tenants_answers_said_drafts_for_its_next_request_alone(make_core) -> None:
    """The same prompt again takes fewer steps where answers are shared, with the same salt; the tokens are the same."""

    def num_steps(core: EngineCore, salt: str, name: str) -> int:
        item = submit(name, [5, 6, 7], methods=("suffix",), max_tokens=40, ignore_eos=True, **SAMPLED)
        (deltas,) = run_deltas(core, [msgspec.structs.replace(item, cache_salt=salt)]).values()
        assert [token for delta in deltas for token in delta.token_ids] == expected
        return sum(delta.token_ids != [] for delta in deltas)

    expected = run(make_core(), [submit("r", [5, 6, 7], max_tokens=40, ignore_eos=True, **SAMPLED)])["r"]
    core, apart = make_core(suffix_sharing=True), make_core()
    alone = num_steps(core, "x", "a")

    assert num_steps(core, "x", "b") < alone / 2
    assert num_steps(core, "y", "c") == alone
    assert [num_steps(apart, "x", name) for name in "ab"] == [alone] * 2
