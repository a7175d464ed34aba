"""What the fleet serves by → rows for a table, and one line that sums them up. No I/O.

Decides: which names a pod's row block shows, what is noted, and how ratios are counted. Does not decide: where the
figures come from (`fleet.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sidecar.kube.configmaps import Kept, identity
from sidecar.kube.fleet import Standing
from sidecar.kube.scrape import Arm, Scraped, Tally
from sidecar.settings.pins import BUCKETS, STABLE, Pin, Pins

NONE = "-"
MOST_NAMED = 20
"""Pods that one line names; all are in the table."""
HEAD = ("POD", "GENERATION", "NAME", "VARIANT", "MODEL", "SHARE", "REQUESTS", "ERRORS", "FAILED ATTEMPTS", "NOTE")


@dataclass(frozen=True, slots=True)
class Row:
    """A name's arm in one pod. `percent` is None where the generation in use plans no such calls.

    `error_ratio` is of requests that this model ended; `failed_ratio` of attempts at this model for them.
    """

    name: str
    variant: str
    model: str
    percent: float | None
    requests: int
    errors: int
    error_ratio: float | None
    attempts: int
    failed_ratio: float | None
    note: str


def rows_of(
    now: Scraped,
    before: Scraped | None,
    pins: Pins | None,
    *,
    stopped: Collection[tuple[str, str]] = (),
    only: Sequence[str] = (),
) -> list[Row]:
    """Planned arms first, then what else was served; since `before`, else since the sidecar's start.

    `stopped` are the (name, variant) pairs that were stopped by hand; a sidecar that has stopped any shows it.
    """
    was = before or Scraped()
    seen = {arm: _since(tally, was.requests.get(arm)) for arm, tally in now.requests.items()}
    tries = {arm: _since(tally, was.attempts.get(arm)) for arm, tally in now.attempts.items()}
    planned = dict(_planned(pins, stopped if _has_stopped(now) else ())) if pins is not None else {}
    arms: dict[Arm, float | None] = {**planned}
    arms |= {arm: None for arm, tally in sorted(seen.items()) if arm not in planned and tally.total}
    order = {name: at for at, name in enumerate(dict.fromkeys(name for name, _, _ in arms))}
    rows = []
    for arm in sorted(arms, key=lambda one: order[one[0]]):
        name, variant, model = arm
        if only and name not in only:
            continue
        tally, attempts = seen.get(arm, Tally()), tries.get(arm, Tally())
        note = "" if arms[arm] is not None or pins is None else _aside(pins.pin(name), model)
        if _has_stopped(now) and (name, variant) in stopped:
            note = "stopped"
        row = Row(
            name, variant, model, arms[arm], int(tally.total), int(tally.bad), tally.ratio,
            int(attempts.total), attempts.ratio, note,
        )  # fmt: skip
        rows.append(row)
    return rows


def _since(now: Tally, before: Tally | None) -> Tally:
    return now if before is None else now.since(before)


def _has_stopped(now: Scraped) -> bool:
    return now.generation is not None and now.generation.endswith("+stop")


def _planned(pins: Pins, stopped: Collection[tuple[str, str]]) -> Iterator[tuple[Arm, float]]:
    """Each pinned name's arms and their shares in percent. A name by policy has its model when it is asked."""
    for pin in pins.pins.values():
        if pin.stable is None:
            yield (pin.name, "", "by policy"), 100.0
            continue
        shares = {arm: 0 if (pin.name, arm.name) in stopped else arm.end - arm.start for arm in pin.arms}
        yield (pin.name, STABLE, pin.stable.id), (BUCKETS - sum(shares.values())) / 100
        for arm, share in shares.items():
            yield (pin.name, arm.name, arm.model.id), share / 100


def _aside(pin: Pin | None, model: str) -> str:
    """Why a model that the plan doesn't name has served."""
    if pin is None:
        return ""
    if model in {one.id for one in pin.fallback}:
        return "fallback"
    if pin.hedge_model is not None and pin.hedge_model.id == model:
        return "hedge"
    if pin.over_budget is not None and pin.over_budget.id == model:
        return "over budget"
    return "" if pin.rule is not None else "earlier generation"


def note_of(one: Standing, live: Kept | None) -> str:
    """What is amiss with a pod, in a word or two; empty if nothing is."""
    if one.trouble is not None:
        return one.trouble
    metrics = one.metrics
    if metrics.sha256 is None:
        return "rejected: it has no pin file to serve by" if metrics.rejected else "no pin file yet"
    if metrics.degraded:
        return "degraded: the last good copy stands in"
    if live is not None and metrics.sha256 != live.sha256:
        return "has rejected a file, is not on the live one" if metrics.rejected else "not the live file"
    return "" if one.pod.ready else "not ready"


def staying(standings: Iterable[Standing]) -> list[Standing]:
    """Those that count: a pod that ends takes no other file, and soon no request."""
    return [one for one in standings if one.pod.state != "ending"]


def summary(standings: Sequence[Standing], live: Kept | None) -> str:
    """`12 of 12 pods on generation 8 (3f2a1b2c)`, or which differ."""
    standings = staying(standings)
    of = len(standings)
    if live is None:
        found = Counter(_shown(one) for one in standings)
        return "; ".join(f"{count} of {of} pods on {what}" for what, count in found.most_common())
    behind = [one for one in standings if not one.has(live.sha256)]
    line = f"{of - len(behind)} of {of} pods on generation {live.identity}"
    if not behind:
        return line
    told = [f"{one.pod.name} ({_shown(one)})" for one in behind[:MOST_NAMED]]
    more = [f"{len(behind) - MOST_NAMED} more"] if behind[MOST_NAMED:] else []
    return f"{line}; not: {', '.join(told + more)}"


def _shown(one: Standing) -> str:
    if one.trouble is not None:
        return one.trouble.partition(":")[0]
    metrics = one.metrics
    where = "no generation" if metrics.sha256 is None else f"generation {identity(metrics.generation, metrics.sha256)}"
    return f"{where}, degraded" if metrics.degraded else where


def table(blocks: Iterable[tuple[Standing, str, Sequence[Row]]]) -> list[str]:
    """Lines of a table: a pod's name, generation and note stand on the first line of its block."""
    cells: list[tuple[str, ...]] = [HEAD]
    for one, note, rows in blocks:
        metrics = one.metrics
        where = identity(metrics.generation, metrics.sha256) if metrics.sha256 else NONE
        for at, row in enumerate(rows):
            head = (one.pod.name, where, note) if at == 0 else ("", "", "")
            cells.append((*head[:2], *_cells(row), "; ".join(filter(None, (head[2], row.note)))))
        if not rows:
            cells.append((one.pod.name, where, *[NONE] * 7, note))
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def _cells(row: Row) -> tuple[str, ...]:
    share = NONE if row.percent is None else f"{row.percent:g} %"
    failed = NONE if row.failed_ratio is None else f"{_percent(row.failed_ratio)} of {row.attempts}"
    return row.name, row.variant or NONE, row.model, share, str(row.requests), _percent(row.error_ratio), failed


def _percent(ratio: float | None) -> str:
    return NONE if ratio is None else f"{ratio * 100:.1f} %"


def as_data(one: Standing, note: str, rows: Sequence[Row]) -> dict[str, Any]:
    """A pod under `--format json`."""
    metrics = one.metrics
    return {
        "pod": one.pod.name,
        "ready": one.pod.ready,
        "generation": metrics.generation,
        "sha256": metrics.sha256,
        "degraded": metrics.degraded,
        "rejected": int(metrics.rejected),
        "note": note,
        "names": [asdict(row) for row in rows],
    }


def by_sha256(files: Iterable[Kept]) -> Mapping[str, Pins]:
    """What each known file means."""
    return {one.sha256: one.pins for one in files if one.pins is not None}
