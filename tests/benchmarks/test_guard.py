"""The guard: its statistic, its limits and its counts. No timing: what it measures is given to it here."""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from cProfile import Profile
from pathlib import Path
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import guard, systems
from benchmarks.guard import (
    command,
    counted,
    counts,
    cpu,
    heap,
    instruments,
    limits,
    planted,
    statistic,
    strace,
    study,
    verdict,
)
from benchmarks.guard.drive import Connections
from benchmarks.guard.lockstep import LockStep
from benchmarks.lab import FailedError, target

POSITIVE = st.floats(1e-2, 1e4, allow_nan=False)


# --------------------------------------------------------------------------------------- the statistic


@given(st.lists(POSITIVE, min_size=statistic.BLOCK, max_size=60), st.floats(0.2, 10))
def test_whatever_both_sides_suffer_alike_leaves_the_ratio_alone(theirs: list[float], share: float) -> None:
    assert statistic.ratio([value * share for value in theirs], theirs) == pytest.approx(share)


@given(st.lists(POSITIVE, min_size=2 * statistic.BLOCK, max_size=60), st.floats(1.01, 3), st.data())
def test_to_slow_ours_by_a_share_raises_the_ratio_by_it(theirs: list[float], slower: float, data: Any) -> None:
    ours = [value * data.draw(st.floats(1.5, 2.5)) for value in theirs]
    least, most = (extreme(a / b for a, b in zip(ours, theirs, strict=True)) for extreme in (min, max))
    assert least * 0.999 <= statistic.ratio(ours, theirs) <= most * 1.001
    even = [2.0 * value for value in theirs]
    slowed = [value * slower for value in even]
    assert statistic.ratio(slowed, theirs) == pytest.approx(slower * statistic.ratio(even, theirs))


def test_disturbed_batches_do_not_count_up_to_a_half() -> None:
    theirs, ours = [100.0] * 48, [200.0] * 48
    for at in range(20):  # of both, but of ours more: its caches were larger
        theirs[at] *= 2
        ours[at] *= 3
    assert statistic.ratio(ours, theirs) == pytest.approx(2.0)


def test_a_steady_drift_cancels_within_a_block() -> None:
    """The machine slows by 1 % from batch to batch, and each second row is the other way round."""
    at, theirs, ours = 1.0, [], []
    for row in range(48):
        values = []
        for _ in range(2):
            at *= 1.01
            values.append(at)
        theirs.append(values[row % 2])
        ours.append(2.0 * values[1 - row % 2])
    assert statistic.ratio(ours, theirs) == pytest.approx(2.0, rel=1e-3)


@pytest.mark.parametrize(
    ("ratios", "enough", "bad"),
    [
        ([0.90], True, False),
        ([0.97], False, False),  # too near to tell by one round
        ([1.05], False, True),
        ([1.05, 0.9], False, False),
        ([1.05, 0.9, 0.9], True, False),
        ([0.97, 0.99], True, False),  # a third couldn't change it
        ([1.05, 1.2], True, True),
        ([0.97, 1.05, 1.1], True, True),
    ],
)
def test_one_clear_round_is_enough_else_the_median_of_three(ratios: list[float], enough: bool, bad: bool) -> None:
    assert statistic.decided(ratios, 1.0) is enough
    assert statistic.breached(ratios, 1.0) is bad


def test_with_rounds_that_spread_by_three_percent_nothing_is_missed_and_nothing_invented() -> None:
    """The limit is 9 % above the median: what such a design does to 1,000 runs of either kind."""
    chance = random.Random(7)

    def alarm(median: float) -> bool:
        ratios: list[float] = []
        while not statistic.decided(ratios, 1.09):
            ratios.append(median * chance.gauss(1, 0.03))
        return statistic.breached(ratios, 1.09)

    assert not any(alarm(1.0) for _ in range(1000))
    assert sum(alarm(1.2) for _ in range(1000)) >= 998


# ------------------------------------------------------------------------------------------ the limits


def test_the_limits_are_complete() -> None:
    written = limits.read()
    assert set(written.ratios) == set(cpu.CASES)
    assert set(written.counts) == set(verdict.OF_CASE)
    for names in written.counts.values():
        assert set(names) <= set(counts.NAMES)
        assert all(value >= 0 for value in names.values())
    assert set(written.tolerance) <= set(counts.NAMES)
    assert all(0 < share <= 0.02 for share in written.tolerance.values())


def test_every_limit_says_what_it_is() -> None:
    text = limits.FILE.read_text()
    for name in set(counts.NAMES) | set(cpu.CASES):
        assert any(line.startswith(name) and "#" in line for line in text.splitlines()), name


COUNTS = st.dictionaries(
    st.sampled_from(list(verdict.OF_CASE)),
    st.dictionaries(
        st.sampled_from(list(counts.NAMES)), st.floats(0, 1e7).map(lambda value: round(value, 1)), min_size=1
    ),
    min_size=1,
)


@given(COUNTS)
def test_what_is_updated_reads_back_and_is_within_its_limits(told: dict[str, dict[str, float]]) -> None:
    text = limits.FILE.read_text()
    after = limits.updated(text, told, limits.here())
    read = tomllib.loads(after)
    before = tomllib.loads(text)
    for case, names in told.items():
        for name, value in names.items():
            assert read["counts"][case][name] == pytest.approx(value, rel=1e-4, abs=0.01)
    assert read["ratios"] == before["ratios"]
    assert read["tolerance"] == before["tolerance"]
    assert comments(after) == comments(text)
    assert limits.updated(after, told, limits.here()) == after


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


def test_an_update_keeps_what_was_not_counted(tmp_path: Path) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(SMALL)
    path.write_text(limits.updated(SMALL, {"request": {"tasks": 2, "timers": 1}}, {"python": "3.13"}))
    read = limits.read(path)
    assert read.counts == {"request": {"tasks": 2, "syscalls": 10, "timers": 1}, "chunk": {"tasks": 0}}
    assert read.written == {"python": "3.13", "aiohttp": "3"}
    assert "tasks = 2       # created" in path.read_text()


SMALL = """\
[ratios]
cpu_per_chunk = 1.2
[tolerance]
allocations = 0.02
[written]
python = "3.11"
aiohttp = "3"

[counts.request]
tasks = 1       # created
syscalls = 10

[counts.chunk]
tasks = 0
"""


def small(**changed: Any) -> limits.Limits:
    return limits.Limits(
        ratios=dict.fromkeys(cpu.CASES, 2.0),
        counts={"request": {"tasks": 1, "allocations": 100.0}},
        tolerance={"allocations": 0.02},
        written={"python": "3.11", "aiohttp": "3"} | changed,
    )


@pytest.mark.parametrize(
    ("name", "measured", "found"),
    [
        ("tasks", 1, None),
        ("tasks", 2, True),
        ("tasks", 0, False),
        ("allocations", 101.9, None),
        ("allocations", 102.1, True),
        ("allocations", 97.9, False),
        ("timers", 1, True),  # has no limit yet
    ],
)
def test_exact_is_exact_but_for_a_written_tolerance(name: str, measured: float, found: bool | None) -> None:
    differences = limits.compare({"request": {name: measured}}, small())
    assert [one.rose for one in differences] == ([] if found is None else [found])


# ---------------------------------------------------------------------------------- counts, in process


async def leaf() -> None:
    await asyncio.sleep(0)  # suspends once


async def branch() -> None:
    await leaf()
    await leaf()


def profiled(run: Callable[[], Any]) -> dict[str, Any]:
    profile = Profile()
    profile.enable()
    try:
        run()
    finally:
        profile.disable()
    return counted.called(profile)


def drive(times: int) -> None:
    for _ in range(times):
        coroutine = branch()
        while True:
            try:
                coroutine.send(None)
            except StopIteration:
                break


def test_steps_of_coroutines_are_counted_at_each_level() -> None:
    """`branch` is begun once and resumed twice; each `leaf`, its `sleep` and what that awaits: begun, resumed once."""
    one, three = (profiled(lambda n=n: drive(n)) for n in (1, 3))  # type: ignore[misc]
    assert one["coroutine_steps"] == 3 + 2 * (2 + 2 + 2)
    assert three["coroutine_steps"] == 3 * one["coroutine_steps"]


def test_calls_of_ours_are_told_by_function() -> None:
    from sidecar.dialects.sse import Splitter

    before = profiled(lambda: [Splitter() for _ in range(5)])
    assert before["our_calls"] == 5
    assert [name for name in before["functions"] if name.startswith("sidecar/dialects/sse.py ")]
    assert before["c_calls"] >= 1  # `disable` itself


def test_a_loop_counts_what_is_put_into_it() -> None:
    counted.CountedLoop.scheduled.update(dict.fromkeys(counted.CountedLoop.scheduled, 0))
    counted.CountedLoop.scheduled.subtract(dict(counted.CountedLoop.scheduled))
    with closing(counted.CountedLoop()) as loop:

        async def main() -> None:
            before = Counter(counted.CountedLoop.scheduled)
            await asyncio.gather(loop.create_task(leaf()), loop.create_task(leaf()))
            loop.call_later(60, print).cancel()
            loop.call_at(loop.time() + 60, print).cancel()
            loop.call_soon(lambda: None)
            made.update(counted.CountedLoop.scheduled)
            made.subtract(before)

        made: Counter[str] = Counter()
        loop.run_until_complete(main())
    assert made["tasks"] == 2
    assert made["timers"] == 2
    assert made["callbacks"] >= 1 + 2 * 2


class Toy(instruments.Instrument):
    """Counts what is asked, and more: a mark costs 3, and every third batch a timer goes off."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.intervals: list[dict[str, float]] = []
        self.now = 0.0
        self.asked = 0

    @property
    def python(self) -> tuple[str, ...]:
        return ()

    def signal(self) -> None:
        self.intervals.append({"calls": self.now + 3})
        self.now = 0.0

    def marks(self) -> int:
        return len(self.intervals)

    def read(self) -> list[instruments.Counts]:
        return list(self.intervals[1:])

    async def ask(self) -> None:
        self.asked += 1
        self.now += 70 + (11 if self.asked % 3 == 0 else 0)


async def test_what_disturbs_some_batches_and_what_marks_cost_is_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruments, "PAUSE_S", 0)
    toy = Toy(tmp_path)
    await instruments.marked(toy, toy.ask, 9)
    assert instruments.per_unit(toy.read(), 10) == {"calls": 7.0}


# ------------------------------------------------------------------------- what other tools wrote down


def test_a_trace_of_the_heap_as_counts() -> None:
    lines = """\
= Start
@ /usr/bin/python3.11:[0x4f2a] + 0x55d0c8a0 0x40
@ /usr/bin/python3.11:[0x4f2a] - 0x55d0c8a0
@ [0x7f00] + 0x55d0c8a0 0x1000
@ [0x7f00] < 0x55d0c8a0
@ [0x7f00] > 0x55d0d000 0x2000
= End
"""
    assert heap.allocated(lines.splitlines()) == {"allocations": 3, "allocated_bytes": 0x40 + 0x1000 + 0x2000}


STRACE = """\
70 read(18, ""..., 256000) = 1262
70 --- SIGWINCH {si_signo=SIGWINCH, si_code=SI_USER, si_pid=1, si_uid=0} ---
70 read(18, ""..., 256000) = 1262
71 futex(0x7f3a, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>
70 write(17, ""..., 1271) = 1271
71 <... futex resumed>) = -1 ETIMEDOUT (Connection timed out)
70 --- SIGWINCH {si_signo=SIGWINCH, si_code=SI_USER, si_pid=1, si_uid=0} ---
70 read(18, ""..., 256000) = 1262
70 --- SIGWINCH {si_signo=SIGWINCH, si_code=SI_USER, si_pid=1, si_uid=0} ---
70 exit_group(0) = ?
"""


def test_system_calls_between_marks(tmp_path: Path) -> None:
    path = tmp_path / "strace"
    trace = strace.Trace(path, 70)
    for end in range(0, len(STRACE) + 1, 37):  # as it is written, whatever the cuts
        path.write_text(STRACE[:end])
        assert trace.marks() <= 3
    path.write_text(STRACE)
    assert trace.marks() == 3
    assert trace.intervals() == [Counter({"read": 1, "write": 1, "thread:futex": 1}), Counter({"read": 1})]


def test_without_strace_it_is_said_and_not_counted() -> None:
    assert "not installed" in strace.missing("no-such-strace")


# ------------------------------------------------------------------------------------------- the plant


def test_a_plant_burns_its_share_of_what_was_used() -> None:
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 1e-7
        return now

    burn = planted.Burn(0.2, clock)
    begun = now
    for _ in range(50):
        now += 1e-3  # what the system does
        burn()
    assert now - begun == pytest.approx(50 * 1.2e-3, rel=0.01)


def test_a_planted_system_still_runs(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(
        "import asyncio, uvloop\nfrom time import thread_time\n"
        "async def main():\n    await asyncio.sleep(0.05)\n    print('ran', thread_time())\n"
        "uvloop.run(main())\n"
    )
    started = systems.Process(
        [sys.executable, "-m", "benchmarks.guard.planted", "0.2", "-m", "toy"],
        log=tmp_path / "log", cwd=tmp_path, env={"PYTHONPATH": str(systems.ROOT)},
    )  # fmt: skip
    until = time.monotonic() + 30
    while started.alive and time.monotonic() < until:
        time.sleep(0.01)
    started.stop()
    assert "ran" in started.tail()


# ------------------------------------------------------------------------------------------- lock-step


async def test_streams_go_in_lock_step_and_requests_are_answered(tmp_path: Path) -> None:
    async with LockStep() as provider:
        bare = systems.passthrough(tmp_path, provider.port)
        try:
            streams = await provider.streams(bare, 3)
            await streams.advance(7)
            await streams.advance(1)
            await streams.end()
            connections = await Connections.open("bare", target(bare), 2)
            await connections.closed(5)
            provider.answer_bytes(100_000)
            await connections.paced(2, 0.0)
            connections.close()
        finally:
            await asyncio.to_thread(bare.stop)
    assert streams.missing == 0
    assert connections.missing == 0


# ------------------------------------------------------------------------------------ verdict, command


def batches(ratio: float) -> tuple[list[float], list[float]]:
    return [100.0 * ratio] * 48, [100.0] * 48


def measured(**ratios: float) -> cpu.Measured:
    """Three rounds with these ratios; 1.5 where nothing is said."""
    one = cpu.Round({case: batches(ratios.get(case, 1.5)) for case in cpu.CASES})
    return cpu.Measured([one, one, one])


def told(**names: float) -> counts.Counted:
    return counts.Counted(counts={"request": {"tasks": 1, "allocations": 100.0} | names})


class FakeLab:
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def say(self, what: str) -> None: ...


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put results in place of what would be measured."""

    def put(cpu_result: cpu.Measured, count_result: counts.Counted | Exception) -> None:
        async def run(*args: object, **kwargs: object) -> cpu.Measured:
            return cpu_result

        async def count(*args: object) -> counts.Counted:
            if isinstance(count_result, Exception):
                raise count_result
            return count_result

        monkeypatch.setattr(cpu, "run", run)
        monkeypatch.setattr(counts, "count", count)
        monkeypatch.setattr(command, "Lab", FakeLab)
        monkeypatch.setattr(study, "Lab", FakeLab)
        monkeypatch.setattr(limits, "read", lambda path=None: small())
        monkeypatch.setattr(limits, "here", lambda: {"python": "3.11", "aiohttp": "3"})
        monkeypatch.setattr(command.signal, "signal", lambda *args: None)

    return put


Fake = Callable[..., None]


def test_green_is_short_and_zero(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(measured(), told())
    assert guard.main([]) == 0
    out = capsys.readouterr().out
    assert "2 of 2 within their limits" in out
    assert out.strip().splitlines()[-1].startswith("guard: within all limits")
    assert len(out.splitlines()) <= 6


def test_a_ratio_over_its_limit_is_one_and_a_sentence(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(measured(cpu_per_chunk=2.2), told())
    assert guard.main([]) == 1
    out = capsys.readouterr().out
    assert "CPU per relayed chunk is 2.20 × the bare pass-through's: over its limit of 2.00 by 10.0%" in out
    assert "limits.toml" in out


def test_a_count_that_rose_is_one_and_a_sentence(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(measured(), told(tasks=2))
    assert guard.main(["--only", "counts"]) == 1
    out = capsys.readouterr().out
    assert "rose: tasks created, per plain request: 2 instead of 1 (+100.0%)" in out
    assert "--update" in out


def test_a_count_that_fell_is_green_and_said(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(measured(), told(allocations=90.0))
    assert guard.main([]) == 0
    assert "fell: blocks of memory allocated, per plain request: 90 instead of 100" in capsys.readouterr().out


def test_what_cannot_be_measured_is_two(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(measured(), FailedError("a request failed"))
    assert guard.main([]) == 2
    assert "could not measure: a request failed" in capsys.readouterr().err


def test_limits_that_cannot_be_read_are_two(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limits.toml"
    path.write_text("[ratios]\n")
    assert guard.main(["--limits", str(path)]) == 2
    assert "KeyError: 'counts'" in capsys.readouterr().err


def test_counts_of_another_python_are_not_compared() -> None:
    found = verdict.judge(small(), None, told(tasks=9), {"python": "3.14", "aiohttp": "3"})
    assert found.green
    assert "not compared, for this is python 3.14 instead of 3.11" in found.text()


def test_counts_with_another_package_say_so() -> None:
    found = verdict.judge(small(), None, told(tasks=9), {"python": "3.11", "aiohttp": "4"})
    assert not found.green
    assert "Counted with aiohttp 4 instead of 3" in found.text()


def test_what_was_skipped_is_said() -> None:
    skipped = told()
    skipped.skipped.append("system calls: strace is not installed")
    assert "not counted: system calls: strace is not installed" in verdict.judge(
        small(), None, skipped, {"python": "3.11", "aiohttp": "3"}
    ).text()  # fmt: skip


def test_update_writes_counts_and_leaves_ratios(fake: Fake, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "limits.toml"
    path.write_text(SMALL)
    fake(measured(), told(tasks=4))
    assert guard.main(["--limits", str(path), "--update"]) == 0
    after = tomllib.loads(path.read_text())
    assert after["counts"]["request"] == {"tasks": 4, "syscalls": 10, "allocations": 100}
    assert after["ratios"] == {"cpu_per_chunk": 1.2}
    assert "written anew" in capsys.readouterr().out


@pytest.mark.parametrize(("ratio", "plant", "alarms"), [(1.5, "0", 0), (2.3, "0.2", 3)])
def test_a_study_counts_alarms(
    fake: Fake, capsys: pytest.CaptureFixture[str], ratio: float, plant: str, alarms: int
) -> None:
    fake(measured(**dict.fromkeys(cpu.CASES, ratio)), told())
    assert guard.main(["study", "--runs", "3", "--plant", plant]) == 0
    out = capsys.readouterr().out
    assert f"{alarms} of 3 runs with an alarm" in out
    assert f"{ratio:7.3f}" in out


async def test_rounds_go_on_until_each_case_is_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    async def measure(lab: object, cases: list[str], *, plant: float) -> cpu.Round:
        asked.append(list(cases))
        return cpu.Round({case: batches(1.99 if case == cpu.CHUNK else 1.5) for case in cases})

    monkeypatch.setattr(cpu, "measure", measure)
    run: Callable[..., Awaitable[cpu.Measured]] = cpu.run
    found = await run(None, small().ratios)
    assert asked == [list(cpu.CASES), [cpu.CHUNK]]
    assert found.breaches(small().ratios) == []
    assert statistics.median(found.ratios(cpu.CHUNK)) == pytest.approx(1.99)
