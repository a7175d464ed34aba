"""What a run of the guard found, in words: short when all is well, and else which limit, by how much, what to do."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.guard.counts import NAMES, Counted
from benchmarks.guard.cpu import CASES, Measured
from benchmarks.guard.limits import Difference, Limits, compare, number, written_elsewhere
from benchmarks.guard.statistic import breached

OF_CASE = {
    "request": "per plain request",
    "every_policy": "per request, every policy on",
    "chunk": "per relayed chunk",
}
SLOWER = """\
CPU: find what costs it with a profile of ours before and after the change (docs/performance.md). If it is worth it,
  raise the ratio in benchmarks/guard/limits.toml, and say why in the commit."""
ROSE = """\
Counts: `python -m benchmarks guard --only counts --functions` tells how often each function of ours is called; compare
  with the commit before. If it is meant, `python -m benchmarks guard --update`, and say why in the commit."""
FELL = "`python -m benchmarks guard --update` keeps what was won."


@dataclass(slots=True)
class Verdict:
    """`lines` are to be printed. It is green if there are no breaches."""

    lines: list[str] = field(default_factory=list)
    breaches: list[str] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def green(self) -> bool:
        return not self.breaches

    def text(self) -> str:
        if self.green:
            return "\n".join(self.lines)
        return "\n".join([*self.lines, "", *self.breaches, "", *self.advice])


def judge(limits: Limits, cpu: Measured | None, counted: Counted | None, found: Mapping[str, str]) -> Verdict:
    """`found`: the versions of here (`limits.here`)."""
    verdict = Verdict()
    if cpu is not None:
        _judge_cpu(verdict, limits, cpu)
    if counted is not None:
        _judge_counts(verdict, limits, counted, found)
    return verdict


def _judge_cpu(verdict: Verdict, limits: Limits, cpu: Measured) -> None:
    bad = False
    for case, words in CASES.items():
        limit, ratios = limits.ratios[case], cpu.ratios(case)
        ratio, (ours, theirs) = statistics.median(ratios), cpu.us(case)
        bad_one = breached(ratios, limit)
        rounds = f"  rounds: {', '.join(f'{r:.2f}' for r in ratios)}" if len(ratios) > 1 else ""
        verdict.lines.append(
            f"{words:34} {ratio:5.2f} × the bare pass-through, limit {limit:5.2f}"
            f"  ({ours:.1f} µs, {theirs:.1f} µs)  {'TOO MUCH' if bad_one else 'ok'}{rounds}"
        )
        if bad_one:
            verdict.breaches.append(
                f"{words} is {ratio:.2f} × the bare pass-through's: over its limit of {limit:.2f} by"
                f" {ratio / limit - 1:.1%}, in the median of {len(ratios)} rounds."
            )
        bad |= bad_one
    if bad:
        verdict.advice.append(SLOWER)


def _judge_counts(verdict: Verdict, limits: Limits, counted: Counted, found: Mapping[str, str]) -> None:
    verdict.lines += [f"not counted: {words}" for words in counted.skipped]
    elsewhere = written_elsewhere(limits, found)
    total = sum(len(names) for names in counted.counts.values())
    if found.get("python") != limits.written["python"]:
        verdict.lines.append(f"exact counts: not compared, for this is {elsewhere[0]}")
        return
    differences = compare(counted.counts, limits)
    rose = [one for one in differences if one.rose]
    fell = [one for one in differences if not one.rose]
    verdict.lines.append(f"exact counts: {total - len(rose)} of {total} within their limits")
    verdict.lines += [f"  fell: {_told(one)}" for one in fell]
    if fell and not rose:
        verdict.lines.append(f"  {FELL}")
    verdict.breaches += [f"rose: {_told(one)}" for one in rose]
    if rose:
        if elsewhere:
            verdict.advice.append(f"Counted with {' and '.join(elsewhere)}: that may be all of it.")
        verdict.advice.append(ROSE)


def _told(one: Difference) -> str:
    words = f"{NAMES.get(one.name, one.name)}, {OF_CASE.get(one.case, one.case)}"
    by = f"{one.measured / one.limit - 1:+.1%}" if one.limit else "new"
    return f"{words}: {number(one.measured)} instead of {number(one.limit)} ({by})  [counts.{one.case}] {one.name}"
