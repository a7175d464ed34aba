"""How long a start takes until the port listens, and what of it is our import.

Every start of this run counts for `startup`; ours and the yardstick are started some more times. `import_time` is told
three ways: the interpreter's own account (`-X importtime`, which slows it), and the whole of `python -c` with the
import and without. Trap: all of it is from a warm file cache and with compiled bytecode; a new pod has neither.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator

from benchmarks.figures import YARDSTICK, Figure
from benchmarks.lab import FailedError
from benchmarks.measures.bench import OURS, Bench, stop
from benchmarks.systems import ROOT, Running

MODULE = "sidecar.runtime.serve"


def startup(bench: Bench) -> Iterator[Figure]:
    started: list[Running] = []
    try:
        names = bench.names(OURS, YARDSTICK)
        bench.rounds("start", names, bench.pace.times(5), lambda name: started.append(bench.start(name)))
    finally:
        stop(started)
    for name, seconds in bench.starts_s.items():
        yield Figure("startup", name, "", "s", list(seconds))


def import_time(bench: Bench) -> Iterator[Figure]:
    ways: dict[str, Callable[[], float]] = {
        "": _accounted_ms,
        "python -c": lambda: _whole_ms(f"import {MODULE}"),
        "python -c pass": lambda: _whole_ms("pass"),
    }
    found = bench.rounds("import", ways, bench.pace.times(5), lambda way: ways[way]())
    for way, values in found.values.items():
        yield Figure("import_time", OURS, way, "ms", values, found.failures.get(way, ""))


def _python(*arguments: str) -> str:
    """What it writes to standard error. Raises FailedError."""
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if ended.returncode:
        raise FailedError(ended.stderr[-500:])
    return ended.stderr


def _whole_ms(statement: str) -> float:
    begun = time.perf_counter()
    _python("-c", statement)
    return (time.perf_counter() - begun) * 1000


def _accounted_ms(module: str = MODULE) -> float:
    """`import time: self [us] | cumulative | name`, nested by two spaces: the outermost of our modules together."""
    top = module.split(".", maxsplit=1)[0]
    lines = _python("-X", "importtime", "-c", f"import {module}").splitlines()
    return accounted_us(lines, top) / 1000


def accounted_us(lines: list[str], top: str) -> int:
    """What the imports of package `top` took that are within no other import; lines as `-X importtime` writes them."""
    us = 0
    for line in lines:
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[1].strip().isdigit():
            name = parts[2][1:]
            if name.split(".")[0] == top:  # an inner one is indented, so it begins with a space
                us += int(parts[1])
    return us
