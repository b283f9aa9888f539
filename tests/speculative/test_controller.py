"""What `auto` decides: who is asked, which nodes are verified; from history alone."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outrider.speculative.controller import FIRST_PAUSE, LONGEST_PAUSE, Batch, Candidate, Controller
from outrider.speculative.costs import Costs
from outrider.speculative.proposer import Draft
from outrider.speculative.tree import ROOT, TokenTree, merge

ONE, TWO = Batch(1, 1), Batch(2, 2)
CHEAP = {1: 1.0, 8: 1.05, 64: 1.4}  # verifying costs next to nothing
DEAR = {size: float(size) for size in (1, 2, 3, 4, 6, 8, 16, 64)}


def make(costs: dict[int, float], *names: str) -> Controller:
    controller = Controller(Costs(costs))
    for name in names:
        controller.add(name)
    return controller


def offered(*token_ids: int, name: str = "ngram", score: float = 0.8) -> TokenTree:
    return merge({name: Draft(tuple(token_ids), None, (score,) * len(token_ids))}, 64)


def live(controller: Controller, tree: TokenTree, emitted: list[int], steps: int, name: str = "ngram") -> int:
    """Lets a request have the same fate for some steps; how often the proposer was asked."""
    asked = 0
    for _ in range(steps):
        controller.begin_step()
        if not controller.rests("a") and controller.ask(name, ["a"], ONE, {}):
            controller.learn_cost(name, ["a"], 0.01)
            controller.learn("a", tree, [name], emitted)
            asked += 1
        controller.learn_step(1, 1.0)
    return asked


def test_a_proposer_that_is_right_is_asked_in_every_step() -> None:
    """As long as verification is cheap."""
    controller = make(CHEAP, "ngram")

    assert live(controller, offered(1, 2, 3), [1, 2, 3, 4], 200) == 200


def test_a_proposer_that_is_wrong_is_asked_ever_more_seldom() -> None:
    """It costs next to nothing then, and a change is still found out."""
    controller = make(CHEAP, "ngram")
    wrong = live(controller, offered(1, 2, 3), [9], 1000)
    live(controller, offered(1, 2, 3), [1, 2, 3, 4], 2 * LONGEST_PAUSE)

    assert wrong < 50
    assert live(controller, offered(1, 2, 3), [1, 2, 3, 4], 100) == 100


def test_a_proposer_that_others_are_ahead_of_is_asked_again_in_the_next_step() -> None:
    """Only one that would not pay by itself is left alone for longer."""
    controller = make(CHEAP, "draft")
    live(controller, offered(1, 2, 3, name="draft"), [1, 2, 3, 4], 50, "draft")

    controller.begin_step()
    assert controller.ask("draft", ["a"], ONE, {"a": 8.0}) == []
    controller.begin_step()
    assert controller.ask("draft", ["a"], ONE, {}) == ["a"]


def test_a_batch_is_judged_together_even_where_none_is_worth_it_alone() -> None:
    """What a draft model takes for one request it takes for four."""
    controller = make(CHEAP, "draft")
    names = [f"r{index}" for index in range(4)]
    for request_id in names:  # known to give three tokens a step, for one or for four in 1.9 steps' time
        for _ in range(30):
            controller.learn(request_id, offered(1, 2, 3, name="draft"), ["draft"], [1, 2, 3, 4])
            controller.learn_cost("draft", [request_id], 1.9)
            controller.learn_cost("draft", names, 1.9)
    batch = Batch(4, 4)
    controller.begin_step()
    assert [controller.ask("draft", [request_id], batch, {}) for request_id in names] == [[], [], [], []]
    asked: list[str] = []
    for _ in range(FIRST_PAUSE):
        controller.begin_step()
        asked += controller.ask("draft", [name for name in names if not controller.rests(name)], batch, {})
        if asked:
            break

    assert asked == names


@pytest.mark.parametrize(("seconds", "expected"), [(0.1, ["new"]), (40.0, [])])
def test_a_text_is_not_read_where_that_takes_more_than_it_gives(seconds: float, expected: list[str]) -> None:
    """To read a new request's text is a price of its own, beside what each step costs."""
    controller = make(CHEAP, "suffix")
    for index in range(50):
        controller.learn(f"r{index}", offered(1, name="suffix"), ["suffix"], [1, 2])
        controller.learn_cost("suffix", [f"r{index}"], seconds)
        controller.learn_cost("suffix", [f"r{index}"], 0.01)
    controller.begin_step()

    assert controller.ask("suffix", ["new"], ONE, {}) == expected


def test_the_cheap_are_asked_first_and_then_the_best() -> None:
    """What costs nothing tells what the others could add; of those the best must not come too late."""
    controller = make(CHEAP, "medusa", "draft", "ngram")
    for name, emitted, seconds in (("medusa", [1, 9], 0.3), ("draft", [1, 2, 3, 4], 0.3), ("ngram", [9], 0.001)):
        for _ in range(20):
            controller.learn_cost(name, ["a"], seconds)
            controller.learn("a", offered(1, 2, 3, name=name), [name], emitted)

    assert controller.order(1, ONE) == ["ngram", "draft", "medusa"]


def test_nothing_is_verified_where_each_node_costs_a_whole_step() -> None:
    """An empty tree is a valid answer."""
    controller = make(DEAR, "ngram")

    assert controller.cut([Candidate("a", offered(1, 2, 3), 8)], ONE) == [[]]


def test_all_is_verified_where_it_costs_nothing() -> None:
    """Up to the request's own bound."""
    controller = make({1: 1.0, 64: 1.0}, "ngram")

    assert controller.cut([Candidate("a", offered(1, 2, 3, 4), 3)], ONE) == [[0, 1, 2]]


def test_what_was_asked_for_by_name_is_verified_at_any_cost() -> None:
    """Only `auto` leaves the choice to the controller."""
    controller = make(DEAR, "ngram")

    assert controller.cut([Candidate("a", offered(1, 2, 3), 8, is_auto=False)], ONE) == [[0, 1, 2]]


def test_unlikely_nodes_are_left_out_where_a_request_says_so() -> None:
    """A node's chance is that of its whole path."""
    controller = make(CHEAP, "ngram")

    assert controller.cut([Candidate("a", offered(1, 2, 3, score=0.5), 8, 0.2, is_auto=False)], ONE) == [[0, 1]]


def test_the_likelier_request_gets_the_nodes() -> None:
    """The choice is made over the whole batch."""
    controller = make({1: 1.0, 2: 1.2, 3: 1.6, 4: 2.4, 6: 6.0, 8: 9.0}, "ngram")
    sure, unsure = offered(1, 2, score=0.95), offered(1, 2, score=0.1)

    kept = controller.cut([Candidate("a", unsure, 8), Candidate("b", sure, 8)], TWO)

    assert kept[0] == []
    assert len(kept[1]) >= 1


def test_calibration_finds_out_what_a_score_is_worth() -> None:
    """A proposer that boasts is not believed for long."""
    controller = make(CHEAP, "boaster", "modest")
    for step in range(200):
        controller.begin_step()
        controller.learn("a", offered(1, name="boaster", score=0.9), ["boaster"], [9])
        controller.learn("a", offered(2, name="modest", score=0.1), ["modest"], [2])
        assert step >= 0

    assert controller.hope("b", offered(1, name="boaster", score=0.9)) < 0.1
    assert controller.hope("b", offered(2, name="modest", score=0.1)) > 0.9


def test_siblings_share_one_chance() -> None:
    """At most one of them is drawn."""
    controller = make(CHEAP, "ngram")
    tree = merge({"ngram": Draft((1, 2, 3), (ROOT, ROOT, ROOT), (0.9, 0.9, 0.9))}, 64)

    assert controller.hope("a", tree) <= 1.0


def history(controller: Controller, seed: int) -> list[object]:
    """What a controller decides in a random life."""
    generator = random.Random(seed)
    decisions: list[object] = []
    for _ in range(60):
        controller.begin_step()
        names = [name for name in ("ngram", "draft") if controller.ask(name, ["a", "b"], TWO, {})]
        trees = {}
        for request_id in ("a", "b"):
            offers = {
                name: Draft(tuple(generator.randrange(3) for _ in range(4)), None, (generator.random(),) * 4)
                for name in names
            }
            trees[request_id] = merge(offers, 64) if offers else TokenTree()
        kept = controller.cut([Candidate(key, tree, 6) for key, tree in trees.items()], TWO)
        decisions.append((names, kept))
        for key, tree in trees.items():
            controller.learn(key, tree, names, [generator.randrange(3) for _ in range(3)])
        controller.learn_step(2 + sum(map(len, kept)), generator.random())
        for name in names:
            controller.learn_cost(name, ["a", "b"], generator.random() / 10)
    return decisions


@pytest.mark.parametrize("seed", range(3))
def test_the_same_history_gives_the_same_decisions(seed: int) -> None:
    """No clock, no chance: a trace can be replayed."""
    assert history(make(CHEAP, "ngram", "draft"), seed) == history(make(CHEAP, "ngram", "draft"), seed)


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.lists(st.floats(0.1, 5.0), min_size=4, max_size=4), st.booleans())
def test_what_is_kept_is_a_tree(seed: int, costs: list[float], is_auto: bool) -> None:
    """Every kept node's parent is kept, before it, and bounds hold."""
    generator = random.Random(seed)
    controller = make(dict(zip((1, 4, 8, 16), costs, strict=True)), "ngram", "draft")
    offers = {}
    for name in ("ngram", "draft"):
        count = generator.randrange(1, 9)
        parents = tuple(generator.randrange(-1, node) for node in range(count))
        token_ids = tuple(generator.randrange(4) for _ in range(count))
        offers[name] = Draft(token_ids, parents, tuple(generator.choice((0.0, 0.5, 1.0)) for _ in range(count)))
    tree = merge(offers, 64)

    (kept,) = controller.cut([Candidate("a", tree, 5, generator.choice((0.0, 0.3)), is_auto)], ONE)

    assert len(kept) <= 5
    for place, node in enumerate(kept):
        assert tree.parents[node] == ROOT or tree.parents[node] in kept[:place]


def test_a_proposer_is_asked_for_about_as_much_as_is_verified() -> None:
    """Less where most of it was cut away, more where all of it was kept."""
    dear = make({1: 1.0, 2: 1.1, 3: 1.2, 4: 9.0, 8: 20.0}, "draft")
    tree = offered(1, 2, 3, 4, 5, 6, 7, 8, name="draft", score=0.9)
    dear.cut([Candidate("a", tree, 8)], ONE)
    cheap = make({1: 1.0, 64: 1.0}, "draft")
    cheap.cut([Candidate("a", tree, 8)], ONE)

    assert dear.wanted("a", "draft") == 4
    assert cheap.wanted("a", "draft") == 16
    assert dear.wanted("b", "draft") == 4  # a new request begins where the last one was


def test_trying_again_takes_a_small_share_of_the_time() -> None:
    """However many requests there are, and however long one try takes."""
    controller = make(DEAR, "draft")
    seconds = 0.0
    for step in range(4000):
        controller.begin_step()
        request_id = f"r{step // 40}"
        if controller.ask("draft", [request_id], ONE, {}):
            controller.learn_cost("draft", [request_id], 5.0)
            controller.learn(request_id, offered(1, 2, name="draft"), ["draft"], [9])
            seconds += 5.0
        controller.learn_step(1, 1.0)

    assert 0.0 < seconds < 0.05 * 4000
