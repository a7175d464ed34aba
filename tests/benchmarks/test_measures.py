"""The measures and their runner: who is asked in which order, what becomes of failures, how time is shared."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from benchmarks import __main__ as command
from benchmarks import machine, measures, run, subjects
from benchmarks.caller import Tally
from benchmarks.figures import Report
from benchmarks.lab import FailedError, Lab
from benchmarks.measures import ORDER, delay, latency, pins, startup, strong, swap
from benchmarks.measures.bench import OURS, Bench, Busy, Pace, Rounds, worst
from benchmarks.peers import Peer, SkippedError
from benchmarks.processes import Process, StartError
from benchmarks.provider import Script
from benchmarks.systems import ROOT, Running, passthrough

HELPERS = {"bench", "strong"}


class QuietLab:
    """Remembers what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, what: str) -> None:
        self.said.append(what)


def quiet() -> tuple[Bench, QuietLab]:
    lab = QuietLab()
    return Bench(cast("Lab", lab), {}), lab


def test_every_file_is_a_measure_that_tells_its_method_and_traps() -> None:
    files = {m.name for m in pkgutil.iter_modules(measures.__path__)} - HELPERS
    used = {measure.make.__module__.rpartition(".")[2] for measure in ORDER}
    assert files <= used
    for name in files:
        told = importlib.import_module(f"benchmarks.measures.{name}").__doc__
        assert "Trap" in told, name


def test_names_are_unique_and_known() -> None:
    names = [measure.name for measure in ORDER]
    assert len(set(names)) == len(names)
    for measure in ORDER:
        assert set(measure.of) <= set(subjects.names())
        assert measure.gives


def test_everything_fits_into_the_promised_time() -> None:
    scaled_s, fixed_s = run.planned(ORDER, subjects.names())
    assert run.pace(run.MINUTES * 60 - fixed_s, (scaled_s, fixed_s), 1.0).scale > 0.6


def test_measures_are_chosen_by_name_or_by_figure() -> None:
    assert [m.name for m in run.measures(["swap", "cpu"])] == ["cpu", "swap"]
    assert {m.name for m in run.measures(["cpu_per_request"])} >= {"cpu", "policies", "pins", "bodies", "cache"}
    with pytest.raises(KeyError):
        run.measures(["cpu", "speed"])


def test_a_quick_run_is_without_the_longest() -> None:
    assert {m.name for m in ORDER} - {m.name for m in run.usual(quick=True)} == {"stalls"}
    assert run.usual(quick=False) == ORDER


@pytest.mark.parametrize(
    ("left", "plan", "most", "scale"),
    [
        (900, (800, 50), 1.0, 1.0), (450, (800, 50), 1.0, 0.5), (950, (300, 50), 4.0, 3.0), (-5, (800, 0), 1.0, 0.05),
        (900, (800, 0), 0.1, 0.1), (900, (0, 40), 1.0, 1.0),
    ],
)  # fmt: skip
def test_the_pace_fits_what_is_left(left: float, plan: tuple[float, float], most: float, scale: float) -> None:
    assert run.pace(left, plan, most).scale == pytest.approx(scale)


def test_a_pace_saves_in_repetitions_and_in_length() -> None:
    slow = Pace(0.25)
    assert slow.plan(6, 2.0) == (3, 1.0)
    assert slow.plan(3, 2.0) == (2, 0.75)  # of 6 in all 1.5 are left
    assert (slow.times(2), slow.times(1), slow.times(2, least=1)) == (2, 1, 1)
    assert Pace(1.0).plan(5, 0.7) == (5, pytest.approx(0.7))
    assert Pace(4.0).times(5) == 10


def test_rounds_take_turns() -> None:
    bench, lab = quiet()
    asked: list[str] = []

    def one(name: str) -> float:
        asked.append(name)
        return len(asked)

    found = bench.rounds("x", ["a", "b", "c"], 2, one)
    assert asked == ["a", "b", "c"] * 2
    assert found.values == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    assert lab.said == ["x: round 1 of 2", "x: round 2 of 2"]


@pytest.mark.parametrize(
    "error", [FailedError("no\nanswer"), StartError("no answer"), TimeoutError("no answer"), OSError("no answer")]
)
def test_who_fails_is_left_out_from_then_on(error: Exception) -> None:
    bench, _ = quiet()
    asked: list[str] = []

    def one(name: str) -> float:
        asked.append(name)
        if name == "b" and asked.count("b") == 2:
            raise error
        return 1.0

    found = bench.rounds("x", ["a", "b"], 4, one)
    assert asked.count("b") == 2
    assert found.values == {"a": [1.0] * 4, "b": [1.0]}
    figures = {f.system: f for f in found.figures("m", "µs", lambda value: value, case="c", note=lambda _: "said")}
    assert (figures["a"].note, figures["b"].note) == ("said", "said; failed: no answer")
    assert bench.failures == ["b, x: no answer"]


def test_busy_tells_who_was_the_limit() -> None:
    assert Busy(0.98, 0.99).words == ""
    assert Busy(0.61, 0.65).words == "at 61 % of its core"
    assert Busy(0.24, 1.0).words == "others used 76 % of its core"
    assert worst([Busy(0.2, 0.2), Busy(0.95, 0.95), Busy(0.96, 1.0)]) == ""


def seconds(*ms: float) -> list[float]:
    return [value / 1000 for value in ms]


def test_added_latency_is_a_difference_in_the_same_round() -> None:
    found = Rounds({"direct": [seconds(*range(1, 101)), seconds(*range(101, 201))]})
    found.values["a"] = [seconds(*range(3, 103)), seconds(*range(104, 204))]
    figures = {f.measure: f for f in latency._added(found, "a", "100/s")}
    assert figures["added_latency_p50"].values == pytest.approx([2.0, 3.0])
    assert figures["added_latency_p99"].values == pytest.approx([2.0, 3.0])
    assert "added_latency_p999" not in figures  # of 200 requests
    shares = [share for share, _ in figures["latency_curve"].curve]
    assert max(shares) == 0.995


def test_p999_comes_from_all_rounds_where_one_is_too_short() -> None:
    found = Rounds({name: [seconds(*range(at, at + 600)) for _ in range(2)] for name, at in (("direct", 0), ("a", 5))})
    figures = {f.measure: f for f in latency._added(found, "a", "100/s")}
    assert figures["added_latency_p999"].values == pytest.approx([5.0])
    assert "1200 requests" in figures["added_latency_p999"].note


def test_added_latency_of_one_that_failed_in_the_second_round() -> None:
    found = Rounds({"direct": [seconds(*range(100))] * 2, "a": [seconds(*range(100))]}, {"a": "it fell"})
    figures = list(latency._added(found, "a", "100/s"))
    assert figures[0].values == [0.0]
    assert figures[0].note == "failed: it fell"


def test_rates_that_a_system_cannot_do_are_not_asked_of_it() -> None:
    bench, _ = quiet()
    bench.known = {"fast": 20_000.0, "middling": 450.0, "slow": 40.0, "slower": 20.0}
    fits = {name: [rate for rate in (20, 100, 300, 1000) if latency._fits(bench, name, rate)] for name in bench.known}
    assert fits == {"fast": [100, 300, 1000], "middling": [100, 300], "slow": [20], "slower": []}


def test_added_delay_is_a_difference_in_the_same_round() -> None:
    def found(first: float, later: float) -> delay.Found:
        return delay.Found(seconds(*[first] * 10), seconds(*[later] * 50), Busy(0.3, 0.3))

    rounds = Rounds({"direct": [found(2, 1), found(3, 2)], "a": [found(5, 2), found(7, 2.5)]})
    figures = {f.measure: f for f in delay._added(rounds, "a", "1 stream")}
    assert figures["ttft_added_p50"].values == pytest.approx([3.0, 4.0])
    assert figures["chunk_delay_added_p99"].values == pytest.approx([1.0, 0.5])
    assert figures["ttft_added_p99"].note == "at 30 % of its core"


def test_a_swap_is_seen_by_what_was_due_after_it() -> None:
    tally = Tally(latency_s=seconds(1, 2, 90, 3), due_s=[9.5, 8.0, 10.1, 11.5])
    found = swap._around(tally, 10.0)
    assert (found.before, found.after) == ([1.0], [90.0])
    assert found.around == [(-0.5, 1.0), (pytest.approx(0.1), 90.0)]


def test_pin_files_say_the_same_in_both_forms(tmp_path: Path) -> None:
    from sidecar.settings.load import read_pins

    names = {}
    for kind in pins.KINDS:
        text = pins.text(10, kind, generation=7)
        assert (kind == "json") == text.startswith("{")
        found = read_pins(text.encode(), f"pins.{kind}", None)
        names[kind] = (found.shown, set(found.pins))
    assert names["yaml"] == names["json"]
    assert len(names["yaml"][1]) == 10


def test_import_time_counts_what_is_in_no_other_import() -> None:
    lines = """\
import time: self [us] | cumulative | imported package
import time:       100 |        100 |   zlib
import time:        10 |         20 | encodings
import time:       300 |       9000 |   sidecar.core
import time:         5 |         50 | sidecar
import time:         7 |      12000 | sidecar.runtime.serve
import time:         9 |         10 | sidecarish""".splitlines()
    assert startup.accounted_us(lines, "sidecar") == 12_050


class Fake(Peer):
    """A peer that is the pass-through by another name."""

    name = "fake"
    setup = "as it comes"
    warm_up = 10

    def install(self) -> None:
        pass

    def version(self) -> str:
        return "1.2"

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        running = passthrough(folder, upstream, cores=cores)
        running.name = self.name
        return running


class Missing(Fake):
    name = "missing"

    def install(self) -> None:
        raise SkippedError("no toolchain")


class Broken(Fake):
    name = "broken"

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        folder.mkdir(exist_ok=True)
        Process([sys.executable, "-c", "raise SystemExit('bad luck')"], log=folder / "out.log").wait_for_port(1)
        raise AssertionError


class Refusing(Fake):
    """It starts, but doesn't know the path that it is asked for."""

    name = "refusing"

    def start(self, folder: Path, upstream: int, *, cores: frozenset[int] | None = None) -> Running:
        from benchmarks.systems import sidecar

        running = sidecar(folder, upstream, cores=cores)
        running.name, running.model = self.name, "chat.nobody"
        return running


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(subjects, "PEERS", (Fake(), Missing(), Broken(), Refusing()))
    return None


@pytest.mark.usefixtures("fakes")
def test_a_run_with_peers_of_every_kind(tmp_path: Path) -> None:
    """One that works, one that isn't there, one that doesn't start, one that refuses; and everything is stopped."""
    chosen = run.measures(["rest", "cpu", "chunks", "after"])
    options = run.Options(tuple(subjects.names()), chosen, quick=True, report=tmp_path)
    one = run.Run(options)
    report = one.run()
    skipped = {system.name: system.skipped for system in report.systems}
    assert skipped[OURS] == skipped["passthrough"] == skipped["fake"] == ""
    assert skipped["missing"] == "no toolchain"
    assert "bad luck" in skipped["broken"]
    assert "404" in skipped["refusing"]
    for measure in ("memory_at_rest", "cpu_per_request", "cpu_per_chunk", "memory_after"):
        of = {figure.system: figure for figure in report.figures if figure.measure == measure}
        assert set(of) >= {OURS, "passthrough", "fake"}
        assert all(of[name].median > 0 for name in (OURS, "passthrough", "fake"))
    assert [figure.values for figure in report.figures if figure.system == "broken"] == []
    assert Report.read(tmp_path / "report.json").figures == report.figures
    assert {words.split(",")[0] for words in one.failures} == {"broken", "refusing"}


def test_a_run_by_the_command(tmp_path: Path) -> None:
    """As `make bench` calls it, with what ours alone is measured by."""
    ended = subprocess.run(
        [sys.executable, "-m", "benchmarks", "run", "--quick", "--systems", "model-sidecar,passthrough",
         "--measures", "cache,import", "--report", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    report = Report.read(tmp_path / "report.json")
    cases = {figure.case: figure for figure in report.figures if figure.measure == "cpu_per_request"}
    assert set(cases) == {"cache hit", "cache miss"}
    assert {len(figure.values) for figure in cases.values()} == {2}
    assert report.find("import_time", OURS) is not None
    assert "model-sidecar" in ended.stdout
    assert "to go" in ended.stderr
    assert json.loads((tmp_path / "report.json").read_text())["commit"]


@pytest.mark.parametrize("arguments", [["run", "--systems", "ours"], ["run", "--measures", "speed"], ["walk"], []])
def test_unknown_words_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(arguments)
    assert ended.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_list_names_everything(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subjects, "at_hand", lambda one: subjects.System(one.name, skipped="not now"))
    assert command.main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(measure.name in told for measure in ORDER)
    assert all(name in told for name in subjects.names())


@pytest.mark.skipif(strong.wrk() is None, reason="no wrk")
def test_wrk_counts_what_is_answered() -> None:
    with Lab() as lab:
        lab.script(Script())
        reached = strong.saturate(lab, lab.provider, 1.0, 100)
        assert reached.rps > 0
        assert reached.busy.own > 0
        nobody = Running("nobody", lab.provider.process, 9)
        with pytest.raises(FailedError):
            strong.saturate(lab, nobody, 1.0, 100)


@pytest.mark.skipif(strong.nginx() is None, reason="no nginx")
def test_nginx_answers_as_the_provider_does() -> None:
    with Lab() as lab, strong.upstream(lab) as port:
        static = Running("static", lab.provider.process, port)
        headers = swap.answer_headers(static)
        assert headers["content-type"] == "application/json"
        own = swap.answer_headers(lab.provider)
        assert headers["content-length"] == own["content-length"]


def test_facts_of_the_machine() -> None:
    assert machine.machine()["cores"].isdigit()
    assert machine.versions()["aiohttp"][0].isdigit()
    assert machine.commit() != ""
    assert isinstance(machine.warnings(0.01), list)
