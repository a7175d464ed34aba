"""Reports as a run would make them: of everything, and with holes of every kind."""

import math
import random

from benchmarks.figures import Figure, Report, System

# name: requests/s, CPU µs/request, CPU µs/chunk, p50 ms at 100/s, MiB at rest
SYSTEMS = {
    "direct": (0.0, 0.0, 0.0, 0.0, 0.0),
    "passthrough": (2_600.0, 398.0, 71.0, 0.44, 38.0),
    "model-sidecar": (2_100.0, 512.0, 79.0, 0.61, 57.0),
    "litellm": (41.0, 21_900.0, 1_240.0, 23.0, 371.0),
    "nginx": (28_100.0, 43.0, 30.0, 0.07, 9.2),
    "haproxy": (22_300.0, 40.0, 26.0, 0.06, 14.0),
    "tensorzero": (2_400.0, 360.0, 92.0, 0.52, 88.0),
    "portkey": (450.0, 2_300.0, 310.0, 2.9, 96.0),
}
RATES = (50, 100, 200, 400, 800)
SHARES = (0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9999)
POLICIES = {
    "breaker": 1.5,
    "budget": 9.0,
    "retry": -0.8,
    "fallback": 2.2,
    "variants": 6.0,
    "hedge": 14.0,
    "cache": 38.0,
}
STALLS = {
    "at rest": 0.4, "under load": 1.6, "scrape, 10000 series": 7.1, "1 MB body, tools": 11.6,
    "1 MB body, one message": 5.2, "swap, 2000 pins json": 8.8, "swap, 2000 pins yaml": 44.0,
}  # fmt: skip


class Maker:
    """Adds figures whose values scatter by some percent, the same in each run of the tests."""

    def __init__(self, report: Report, repetitions: int) -> None:
        self.report = report
        self.repetitions = repetitions
        self.chance = random.Random(7)

    def add(self, measure: str, system: str, case: str, unit: str, about: float, note: str = "") -> None:
        values = [round(about * self.chance.uniform(0.95, 1.07), 4) for _ in range(self.repetitions)]
        self.report.figures.append(Figure(measure, system, case, unit, values, note))


def empty() -> Report:
    return Report(
        commit="1a2b3c4",
        date="2026-11-23T09:30:00Z",
        machine={"cpu": "Intel Xeon, 2 cores", "kernel": "6.8", "memory": "8 GiB"},
        versions={"python": "3.11.7", "aiohttp": "3.14.4", "uvloop": "0.23"},
        seconds=780.0,
    )


def whole(repetitions: int = 5) -> Report:
    """All measures, most systems; one is skipped, one note stands at a figure."""
    report = empty()
    versions = {"nginx": "1.22.1", "haproxy": "2.6.12", "litellm": "1.80.0"}
    report.systems = [
        System(name, versions.get(name, ""), f"{name} as its docs recommend for performance") for name in SYSTEMS
    ]
    report.systems.append(System("bifrost", skipped="no Go toolchain is at hand (looked for go1.24 or later)"))
    maker = Maker(report, repetitions)
    for name, (rps, cpu, chunk, p50, rest) in SYSTEMS.items():
        if name == "direct":
            maker.add("rps_saturated", name, "1 kB", "1/s", 31_000)
            continue
        _of_system(maker, name, rps, cpu, chunk, p50, rest)
    _of_ours(maker)
    return report


def _of_system(m: Maker, name: str, rps: float, cpu: float, chunk: float, p50: float, rest: float) -> None:
    m.add("rps_saturated", name, "1 kB", "1/s", rps, "one worker of four answered" if name == "litellm" else "")
    m.add("rps_saturated", name, "by CPU", "1/s", 1e6 / cpu)
    m.add("cpu_per_request", name, "1 kB", "µs", cpu)
    m.add("cpu_per_chunk", name, "", "µs", chunk)
    m.add("memory_at_rest", name, "", "MiB", rest)
    for rate in RATES:
        if rate < rps * 0.8:
            busy = 1 / (1 - rate / rps)
            for measure, times in (("p50", 1.0), ("p99", 3.2), ("p999", 9.0)):
                m.add(f"added_latency_{measure}", name, f"{rate}/s", "ms", p50 * times * busy)
    for rate in (100, 400):
        if rate < rps * 0.8:
            curve = [(share, round(p50 * (1 - share) ** -0.35 * rate**0.1, 4)) for share in SHARES]
            m.report.figures.append(Figure("latency_curve", name, f"{rate}/s", "ms", [], curve=curve))
    if rps < 1000:
        note = f"1000/s is more than 70 % of what it can do ({rps:.0f}/s)"
        m.report.figures.append(Figure("added_latency_p50", name, "1000/s", "ms", [], note))
    for streams, times in ((1, 0.2), (100, 1.0), (1000, 14.0)):
        if streams < 1000 or name != "litellm":
            case = f"{streams} stream{'s' * (streams > 1)}"
            m.add("ttft_added_p50", name, case, "ms", p50 * times * 1.3)
            m.add("ttft_added_p99", name, case, "ms", p50 * times * 4)
            m.add("chunk_delay_added_p50", name, case, "ms", p50 * times * 0.4)
            m.add("chunk_delay_added_p99", name, case, "ms", p50 * times * 2.2)


def _of_ours(m: Maker) -> None:
    ours, cpu = "model-sidecar", "cpu_per_request"
    for body, times in (("16 kB", 1.1), ("128 kB", 1.9), ("1 MB", 8.7)):
        m.add(cpu, ours, body, "µs", 512 * times)
        m.add(cpu, "passthrough", body, "µs", 398 * times)
    for names in (10, 100, 2000):
        for kind in ("yaml", "json"):
            m.add(cpu, ours, f"{names} pins {kind}", "µs", 512)
            slower = names / (60 if kind == "yaml" else 300)
            m.add("swap_p99", ours, f"{names} pins {kind}", "ms", 3 + slower)
            seconds = [n / 50 for n in range(-50, 50)]
            m.report.figures[-1].curve = [(at, 2.5 + slower * (0 <= at < 0.1)) for at in seconds]
            m.add("swap_p99", ours, f"{names} pins {kind}, before", "ms", 3)
    m.add(cpu, ours, "cache hit", "µs", 232)
    m.add(cpu, ours, "cache miss", "µs", 560)
    m.add(cpu, ours, "policy: none", "µs", 510)
    m.add(cpu, ours, "policy: events off", "µs", 480)
    m.add(cpu, "passthrough", "policy: all", "µs", 400)
    for policy, more in POLICIES.items():
        m.add(cpu, ours, f"policy: {policy}", "µs", 512 + more)
    m.add(cpu, ours, "policy: all", "µs", 612)
    for case, held in STALLS.items():
        m.add("loop_stall", ours, case, "ms", held)
    m.add("memory_idle_stream", ours, "5000 streams", "KiB", 21.5)
    m.add("memory_after", ours, "", "MiB", 63)
    for name, times in ((ours, 1.0), ("passthrough", 0.5), ("litellm", 14.0)):
        m.add("startup", name, "", "s", 0.48 * times)
    for way, times in (("", 1.0), ("python -c", 1.4), ("python -c pass", 0.1)):
        m.add("import_time", ours, way, "ms", 270 * times)


NASTY = "<script>alert(\"1\")</script> & 'x' | `y`"


def holes() -> Report:
    """One repetition, figures that are no numbers, measures and cases nobody knows, names and words full of marks."""
    report = whole(repetitions=1)
    report.machine["cpu"] = NASTY
    report.versions[NASTY] = NASTY
    report.systems.append(System(NASTY, NASTY, NASTY))
    report.systems.append(System("quiet", skipped=NASTY))
    dropped = {"ttft_added_p50", "ttft_added_p99", "cpu_per_chunk", "startup"}
    report.figures = [f for f in report.figures if f.measure not in dropped]
    for figure in report.figures:
        if figure.system == "portkey":
            figure.values = [math.nan for _ in figure.values]
    report.figures += [
        Figure("cpu_per_request", NASTY, "1 kB", "µs", [math.nan, 12.5, math.inf], NASTY),
        Figure(NASTY, NASTY, NASTY, NASTY, [1.25], NASTY),
        Figure("added_latency_p50", NASTY, "100/s", "ms", [-0.02, -0.01]),
        Figure(
            "latency_curve", NASTY, "100/s", "ms", [], curve=[(0.5, -0.1), (0.9, math.nan), (0.99, 0.3), (1.0, 4.0)]
        ),
        Figure("memory_at_rest", "quiet", "", "MiB", []),
        Figure("memory_after", "model-sidecar", "", "MiB", [0.0]),
    ]
    return report
