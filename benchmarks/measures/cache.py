"""CPU of a cache hit and of a miss, side by side in the same process, with a cache that is always on.

A hit: the same prompt each time. A miss: a number of its own in each prompt, so it is also looked up and kept. Trap: a
hit that isn't one would pass for a cheap proxy; the answer's x-sidecar-cache is looked at before and after each round.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.lab import FailedError
from benchmarks.measures.bench import OURS, Bench, Cost, costs_by_case, cpu_per_request
from benchmarks.measures.swap import answer_headers
from benchmarks.provider import Script
from benchmarks.systems import Running, pin_file

MARK = "x-sidecar-cache"


def measure(bench: Bench) -> Iterator[Figure]:
    bench.lab.script(Script())
    with bench.variants({OURS: {"pins": pin_file(frozenset({"cache"}))}}) as fresh:
        to = fresh[OURS]
        times, length_s = bench.pace.plan(5, 0.8)
        requests = bench.requests(OURS, length_s, to)
        answer_headers(to, unique=False)  # from now on it is known

        def one(case: str) -> Cost:
            is_hit = case == "cache hit"
            _check(to, is_hit)
            cost = cpu_per_request(bench, to, requests, unique=not is_hit)
            _check(to, is_hit)
            return cost

        found = bench.rounds("cache", ["cache hit", "cache miss"], times, one)
    yield from costs_by_case(found)


def _check(to: Running, is_hit: bool) -> None:
    """Raises FailedError."""
    wanted, said = "hit" if is_hit else "miss", answer_headers(to, unique=not is_hit).get(MARK, "")
    if said != wanted:
        raise FailedError(f"{MARK}: {said}, where it had to be {wanted}")
