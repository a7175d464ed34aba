from __future__ import annotations

from sidecar.state.recent import KEPT, TTL_S, Recent


def test_a_call_is_found_for_an_hour() -> None:
    recent = Recent()
    recent.add("r", "chat.core", "canary", now=10.0)
    assert recent.find("r", now=10.0 + TTL_S - 1) == ("chat.core", "canary")
    assert recent.find("r", now=10.0 + TTL_S + 1) is None
    assert recent.find("other", now=10.0) is None


def test_it_is_bounded_and_keeps_the_newest() -> None:
    recent = Recent()
    for n in range(KEPT + 100):
        recent.add(f"r{n}", None, "stable", now=float(n) / 1000)
    assert recent.find("r0", now=100.0) is None
    assert recent.find(f"r{KEPT + 99}", now=100.0) == (None, "stable")


def test_a_clock_that_goes_back_changes_nothing() -> None:
    recent = Recent()
    recent.add("r", None, "stable", now=100.0)
    assert recent.find("r", now=1.0) == (None, "stable")
