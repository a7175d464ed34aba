"""`make demo ARGS=--once`, without make: the tour goes as told, and Ctrl-C ends it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TOUR = [sys.executable, "-m", "demo.tour", "--any-ports"]
LIMIT_S = 100


def test_the_tour_ends_well() -> None:
    done = subprocess.run([*TOUR, "--once"], cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "asked for chat.core   -> gpt-5.5-2026-01-15  (canary)" in done.stdout
    assert "generation 8" in done.stdout
    assert "Errors seen by users: 0. Users moved from canary back to stable: 0." in done.stdout
    assert "there is no model 'gpt-5.44-2025-11-02'" in done.stdout


def test_it_stays_up_until_ctrl_c() -> None:
    tour = subprocess.Popen(TOUR, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert tour.stdout is not None
        for line in tour.stdout:
            if "Running until Ctrl-C" in line:
                break
        tour.send_signal(signal.SIGINT)
        assert "Stopping." in tour.communicate(timeout=LIMIT_S)[0]
        assert tour.returncode == 0
    finally:
        if tour.poll() is None:
            tour.kill()
            tour.wait()
