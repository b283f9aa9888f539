"""When requests are due. Pure: knows nothing of clocks, sockets or what is sent."""

import math
import random
from itertools import accumulate


def arrival_offsets(num_requests: int, request_rate: float, burstiness: float, seed: int) -> list[float]:
    """Seconds from the start at which each request is due, in order.

    Gaps are drawn from a gamma distribution with shape `burstiness` and mean `1 / request_rate`: a Poisson process
    at 1, burstier below, smoother above. Unlike vLLM's, the schedule is not stretched to end at exactly
    `num_requests / request_rate`, which would make it no Poisson process. At an infinite rate all are due at once.
    """
    if math.isinf(request_rate):
        return [0.0] * num_requests
    # A stream of its own: changing the dataset does not change the arrivals.
    generator = random.Random(f"arrivals {seed}")  # noqa: S311 (reproducible, not secret)
    mean_gap = 1 / request_rate
    return list(accumulate(generator.gammavariate(burstiness, mean_gap / burstiness) for _ in range(num_requests)))
