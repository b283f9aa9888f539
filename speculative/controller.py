"""Decides what `auto` means, step by step: which proposers are asked for which request, and which nodes are verified.

The aim is the most tokens per second of the whole batch: (expected tokens) / (expected time), as in SmartSpec (Liu et
al., 2024), here over merged trees of several proposers. What it decides changes no token, only how fast they come. It
uses no clock and no chance: the same history gives the same decisions.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from outrider.speculative.calibration import Calibration
from outrider.speculative.costs import Costs
from outrider.speculative.limits import MAX_NODES
from outrider.speculative.tree import ROOT, TokenTree

FIRST_HOPE: Final = 2.0  # tokens that a proposer is expected to give before it has been tried
MEMORY: Final = 0.2  # weight of the newest step in what a proposer gave one request
SHARED_MEMORY: Final = 0.02  # the same over all requests, from which a new request starts
MARGIN: Final = 1.1  # by this much a proposer must make the batch faster, for estimates flatter
PROBING: Final = 0.005  # of the time, for each proposer, may go into trying again what did not pay
FIRST_PAUSE: Final = 16  # steps until a proposer that did not pay is tried again; twice as many each time
LONGEST_PAUSE: Final = 256
FADE: Final = 0.999  # keeps a node behind its parent where both are certain
TRUST: Final = 4.0  # tokens, for which the other requests' experience counts in one request
FIRST_WANTED: Final = 8  # nodes that a proposer is asked for at first
SPARE: Final = 2  # nodes more than were verified the last time that it is asked for
CHEAP: Final = 0.05  # of a step's time: a proposer that takes less is asked before the others
ENTRY_STEPS: Final = 16  # over which it must pay that a proposer reads a request's text
ENTRY_MEMORY: Final = 0.1  # weight of the newest in how long that takes
BOUNDS: Final = (0.1, 2.0)  # of how much better or worse than others one request's tokens are judged


@dataclass(slots=True)
class _Arm:
    """What is known of one proposer for one request."""

    expected: float  # tokens a step
    wanted: int  # nodes that it is asked for
    num_drawn: float = 0.0  # of its tokens whose parents were drawn
    num_predicted: float = 0.0  # how many of those should have been, by its calibration
    is_known: bool = False  # whether it was asked for this request before
    is_paused: bool = False
    pause: int = FIRST_PAUSE
    next_try: int = 0  # step

    @property
    def correction(self) -> float:
        """How much likelier than elsewhere its tokens are drawn here."""
        ratio = (self.num_drawn + TRUST) / (self.num_predicted + TRUST)
        return min(max(ratio, BOUNDS[0]), BOUNDS[1])


@dataclass(slots=True)
class _Experience:
    """What is known of one proposer."""

    calibration: Calibration = field(default_factory=Calibration)
    # Of asking it, by the number of requests. Most of the time goes into what they share: taken for in proportion, a
    # batch would look too dear ever to be tried.
    costs: Costs = field(default_factory=lambda: Costs(growth=0.5))
    entry: float = 0.0  # seconds more when it is asked for a request for the first time
    expected: float = FIRST_HOPE
    wanted: int = FIRST_WANTED  # what it was asked for last
    num_steps: int = 1
    probing: float = 0.0  # seconds that are left for probes; below 0 after one that took long
    is_probe: bool = False  # whether it was asked last for probes alone


@dataclass(frozen=True, slots=True)
class Candidate:
    """A request whose tree is to be cut: at most `max_nodes` of it, each likelier than `min_probability`.

    Of one that is not `auto` all are kept, up to these bounds.
    """

    request_id: str
    tree: TokenTree
    max_nodes: int
    min_probability: float = 0.0
    is_auto: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """A step without any drafts."""

    num_rows: int  # that it computes, of prompts too
    num_requests: int  # that get a token


class Controller:
    """Learns from every step what each proposer is worth, for each request."""

    def __init__(self, step_costs: Costs) -> None:
        """`step_costs`: of a step, by the rows that it computes, as measured beforehand."""
        self._experiences: dict[str, _Experience] = {}
        self._step_costs = step_costs
        self._arms: dict[str, dict[str, _Arm]] = {}
        self._rests: dict[str, int] = {}  # by request, the step that ends the first pause of its proposers
        self._step = 0
        self._next_meeting = FIRST_PAUSE  # the step in which dear proposers are judged for all requests together

    def add(self, name: str) -> None:
        """Makes a proposer known."""
        self._experiences[name] = _Experience()

    def begin_step(self) -> None:
        """Counts a step: pauses are measured in them."""
        if self._step >= self._next_meeting:
            self._next_meeting = self._step + FIRST_PAUSE
        self._step += 1

    def rests(self, request_id: str) -> bool:
        """Whether every proposer of a request is paused in this step, so that nobody need be asked."""
        return self._step < min(self._rests.get(request_id, 0), self._next_meeting)

    def order(self, num_requests: int, batch: Batch) -> list[str]:
        """The proposers in the order in which so many requests of a step should ask them.

        First those whose answer costs next to nothing: what they offer tells what the others could add. Then those that
        make a step fastest by themselves.
        """
        found: list[tuple[float, str]] = []
        for name, experience in self._experiences.items():
            seconds = experience.costs.seconds(num_requests)
            tokens = num_requests * experience.expected
            if seconds < self._cheap(batch):
                rank = -math.inf
            else:
                rows = round(batch.num_rows + tokens + num_requests)
                rank = -(batch.num_requests + tokens) / (self._seconds(rows) + seconds)
            found.append((rank, name))
        found.sort(key=lambda pair: pair[0])  # stable: equal ones as they were made known
        return [name for _, name in found]

    def ask(self, name: str, request_ids: Sequence[str], batch: Batch, hoped: Mapping[str, float]) -> list[str]:
        """For which requests a proposer is worth its time in this step.

        Args:
            name: of the proposer
            request_ids: those that allow it
            batch: of the step
            hoped: tokens that each request's drafts so far are expected to give; 0 where left out
        """
        experience = self._experiences[name]
        # One request alone may not be worth what all share: from time to time all are judged together, paused or not.
        together = self._step >= self._next_meeting and experience.costs.seconds(1) >= self._cheap(batch)
        # In the time that it takes to read a text, spread over some steps, the batch would have got so many tokens.
        entry_tokens = experience.entry / ENTRY_STEPS * batch.num_requests / self._seconds(batch.num_rows)
        more: list[tuple[float, str]] = []
        probed: list[str] = []
        for request_id in request_ids:
            arm = self._arm(request_id, name)
            is_due = arm.is_paused and self._step >= arm.next_try
            if is_due and experience.probing >= 0.0 and not probed:
                arm.is_paused = False
                probed.append(request_id)
                continue
            if is_due:
                arm.next_try = self._step + FIRST_PAUSE
            if together or not arm.is_paused:
                entry = 0.0 if arm.is_known else entry_tokens
                more.append((arm.expected - hoped.get(request_id, 0.0) - entry, request_id))
        more.sort(key=lambda pair: -pair[0])  # stable: equal ones in the order of the requests
        count = self._count_worth([one for one, _ in more], experience.costs, batch, sum(hoped.values()))
        experience.is_probe = count == 0
        # One that others are ahead of in this step alone is asked again in the next; one that would not pay even
        # where nobody else offers anything is left alone for longer.
        alone = sorted((self._arm(request_id, name).expected for _, request_id in more), reverse=True)
        worth = self._count_worth(alone, experience.costs, batch, 0.0) if count < len(more) else len(more)
        least = alone[worth - 1] if worth else math.inf
        for index, (_, request_id) in enumerate(more):
            arm = self._arm(request_id, name)
            if index < count:
                arm.is_paused, arm.pause = False, FIRST_PAUSE
            elif arm.expected < least and not arm.is_paused:
                self._pause(arm)
        for request_id in request_ids:
            arms = self._arms[request_id].values()
            self._rests[request_id] = min(arm.next_try if arm.is_paused else 0 for arm in arms)
        chosen = {*probed, *(request_id for _, request_id in more[:count])}
        return [request_id for request_id in request_ids if request_id in chosen]

    def _count_worth(self, more: Sequence[float], costs: Costs, batch: Batch, hoped: float) -> int:
        """How many of the requests, which a proposer gives so many tokens more, make the batch's tokens fastest."""
        tokens, rows = batch.num_requests + hoped, batch.num_rows + hoped
        best, count = MARGIN * tokens / self._seconds(round(rows)), 0
        for index, one in enumerate(more, 1):
            tokens += one
            rows += max(0.0, one) + 1.0  # a draft ends with a token that is not accepted
            rate = tokens / (self._seconds(round(rows)) + costs.seconds(index))
            if rate > best:
                best, count = rate, index
        return count

    def is_paused(self, request_id: str, name: str) -> bool:
        """Whether a proposer is left alone, so that it need not follow the request."""
        arm = self._arms.get(request_id, {}).get(name)
        return arm is not None and arm.is_paused

    def wanted(self, request_id: str, name: str) -> int:
        """How many nodes a proposer should offer: about as many as were worth verifying, for each may cost it time."""
        return self._arm(request_id, name).wanted

    def hope(self, request_id: str, tree: TokenTree) -> float:
        """How many of a tree's tokens are expected to be drawn."""
        return sum(self._survivals(request_id, tree))

    def cut(self, candidates: Sequence[Candidate], batch: Batch) -> list[list[int]]:
        """The nodes of each tree that are worth verifying, each behind its parent.

        Args:
            candidates: of this step
            batch: of the step
        """
        num_rows = batch.num_rows
        kept: list[list[int]] = [[] for _ in candidates]
        ranked: list[tuple[float, int, int]] = []  # survival, candidate, node
        for index, candidate in enumerate(candidates):
            if (
                not candidate.is_auto
                and candidate.min_probability == 0.0
                and len(candidate.tree) <= candidate.max_nodes
            ):
                kept[index] = list(range(len(candidate.tree)))
                num_rows += len(candidate.tree)
                continue
            survivals = self._survivals(candidate.request_id, candidate.tree)
            likely = sorted((-one, node) for node, one in enumerate(survivals) if one >= candidate.min_probability)
            del likely[candidate.max_nodes :]
            if candidate.is_auto:
                ranked += [(-negative, index, node) for negative, node in likely]
            else:
                kept[index] = [node for _, node in likely]
                num_rows += len(likely)
        ranked.sort(key=lambda one: (-one[0], one[1], one[2]))
        tokens = float(batch.num_requests)
        best, count = tokens / self._seconds(num_rows), 0
        for place, (survival, _, _) in enumerate(ranked, 1):
            tokens += survival
            rate = tokens / self._seconds(num_rows + place)
            if rate > best:
                best, count = rate, place
        for _, index, node in ranked[:count]:
            kept[index].append(node)
        for candidate, nodes in zip(candidates, kept, strict=True):
            if candidate.is_auto:
                self._adapt(candidate, nodes)
        return [sorted(nodes) for nodes in kept]

    def _adapt(self, candidate: Candidate, kept: Sequence[int]) -> None:
        """Asks each proposer for more nodes where all of its were kept, else for few more than were."""
        offered = Counter(name for origins in candidate.tree.origins for name in origins)
        verified = Counter(name for node in kept for name in candidate.tree.origins[node])
        for name, count in offered.items():
            arm = self._arm(candidate.request_id, name)
            if verified[name] >= arm.wanted:
                arm.wanted = min(2 * arm.wanted, MAX_NODES)
            elif verified[name] < count:
                arm.wanted = verified[name] + SPARE
            self._experiences[name].wanted = arm.wanted

    def learn(self, request_id: str, tree: TokenTree, asked: Sequence[str], emitted: Sequence[int]) -> None:
        """Takes in which tokens came, for all proposers that offered a token or could have.

        Args:
            request_id: whose
            tree: all that was offered, cut away or not
            asked: the proposers that were asked
            emitted: the tokens of this step
        """
        given = dict.fromkeys(asked, 0)
        node = ROOT
        for depth, token_id in enumerate(emitted):
            children = tree.children[node]
            for other_id, child in children.items():
                for name, score in zip(tree.origins[child], tree.scores[child], strict=True):
                    experience, arm = self._experiences[name], self._arm(request_id, name)
                    arm.num_predicted += experience.calibration.estimate(score, depth)
                    arm.num_drawn += other_id == token_id
                    experience.calibration.learn(score, depth, is_hit=other_id == token_id)
            if token_id not in children:
                break
            node = children[token_id]
            for name in tree.origins[node]:
                given[name] = given.get(name, 0) + 1
        for name, count in given.items():
            experience, arm = self._experiences[name], self._arm(request_id, name)
            arm.expected += MEMORY * (count - arm.expected)
            experience.num_steps += 1
            experience.expected += max(SHARED_MEMORY, 1 / experience.num_steps) * (count - experience.expected)
            if arm.num_predicted > 32.0:
                arm.num_predicted /= 2
                arm.num_drawn /= 2

    def learn_cost(self, name: str, request_ids: Sequence[str], seconds: float) -> None:
        """Takes in how long a proposer took.

        The first time that it is asked for a request it reads the text: that is a price of its own.
        """
        experience = self._experiences[name]
        arms = [self._arm(request_id, name) for request_id in request_ids]
        num_new = sum(not arm.is_known for arm in arms)
        if num_new:
            entry = max(0.0, seconds - experience.costs.seconds(len(arms))) / num_new
            experience.entry += ENTRY_MEMORY * (entry - experience.entry)
        else:
            experience.costs.learn(len(arms), seconds)
        for arm in arms:
            arm.is_known = True
        if experience.is_probe:
            experience.probing -= seconds

    def learn_step(self, num_rows: int, seconds: float) -> None:
        """Takes in how long a step took, without what its proposers did."""
        self._step_costs.learn(num_rows, seconds)
        for experience in self._experiences.values():
            experience.probing = min(experience.probing + PROBING * seconds, 0.0)

    def forget(self, request_id: str) -> None:
        """Drops what is known of a request that ended."""
        self._arms.pop(request_id, None)
        self._rests.pop(request_id, None)

    def _arm(self, request_id: str, name: str) -> _Arm:
        arms = self._arms.setdefault(request_id, {})
        if name not in arms:
            arms[name] = _Arm(self._experiences[name].expected, self._experiences[name].wanted)
        return arms[name]

    def _pause(self, arm: _Arm) -> None:
        arm.is_paused = True
        arm.next_try = self._step + arm.pause
        arm.pause = min(2 * arm.pause, LONGEST_PAUSE)

    def _survivals(self, request_id: str, tree: TokenTree) -> list[float]:
        """How likely each node is reached, by the best that any of its proposers says of it."""
        own: list[float] = []
        for path, origins, scores in zip(tree.paths, tree.origins, tree.scores, strict=True):
            own.append(
                max(
                    min(
                        1.0,
                        self._experiences[name].calibration.estimate(score, len(path) - 1)
                        * self._arm(request_id, name).correction,
                    )
                    for name, score in zip(origins, scores, strict=True)
                )
            )
        survivals: list[float] = []
        totals: dict[int, float] = {}
        for parent, one in zip(tree.parents, own, strict=True):
            totals[parent] = totals.get(parent, 0.0) + one
        for parent, one in zip(tree.parents, own, strict=True):
            above = 1.0 if parent == ROOT else survivals[parent]
            survivals.append(above * FADE * one / max(1.0, totals[parent]))
        return survivals

    def _cheap(self, batch: Batch) -> float:
        """Seconds that are next to nothing beside a step."""
        return CHEAP * self._seconds(batch.num_rows)

    def _seconds(self, num_rows: int) -> float:
        return max(self._step_costs.seconds(num_rows), 1e-6)
