"""What changed, as a person would say it."""
# ruff: noqa: E501 - a row of a table is read as one line

from __future__ import annotations

from datetime import date

import pytest

from sidecar.settings.load import read_pins
from sidecar.settings.words import changes

DAY = date(2026, 11, 23)
MODELS = """\
models:
  a-2026-01-01: {provider: openai, context: 1000, max_output: 100, latency_ms: 100, price: {input: 1, output: 2}}
  b-2026-01-01: {provider: openai, context: 500, max_output: 50, latency_ms: 150, price: {input: 1.5, output: 2}}
  c-latest: {provider: openai, floating: true}
"""
BEFORE = (
    "generation: 1\nunlisted: pass\n"
    + MODELS
    + "pins:\n  x: {stable: a-2026-01-01, fallback: [b-2026-01-01, c-latest], "
    "variants: {canary: {model: b-2026-01-01, percent: 10}}}\n  y: {stable: a-2026-01-01}\naliases:\n  z: a-2026-01-01\n"
)

CASES = [
    ("nothing", ("", ""), []),
    ("generation", ("generation: 1", "generation: 2"), ["generation 1 → 2"]),
    ("back", ("generation: 1", "generation: 0"), ["generation 1 → 0 (back to an older one)"]),
    ("unlisted", ("unlisted: pass", "unlisted: reject"), ["unlisted: pass → reject", "risk: names that are not in the file get 404 from now on"]),
    ("percent", ("percent: 10", "percent: 25"), ["x: canary 10% → 25%"]),
    ("start", ("percent: 10", "percent: 10, start: 5"), ["x: canary starts at 0% → 5%", "risk: x: canary starts elsewhere, so units move between arms"]),
    ("variant gone", (", variants: {canary: {model: b-2026-01-01, percent: 10}}", ""), ["x: canary removed, was b-2026-01-01 10%"]),
    ("order", ("[b-2026-01-01, c-latest]", "[c-latest, b-2026-01-01]"), ["x: fallback order b-2026-01-01, c-latest → c-latest, b-2026-01-01"]),
    ("fallback", ("[b-2026-01-01, c-latest]", "[b-2026-01-01]"), ["x: fallback b-2026-01-01, c-latest → b-2026-01-01"]),
    ("pin gone", ("  y: {stable: a-2026-01-01}\n", ""), ["y: removed, was stable a-2026-01-01", "risk: y: apps that ask for it are passed on unpinned"]),
    ("pin new", ("  y: {stable: a-2026-01-01}\n", "  y: {stable: a-2026-01-01}\n  w: {stable: b-2026-01-01}\n"), ["w: new, stable b-2026-01-01"]),
    ("stable", ("y: {stable: a-", "y: {stable: b-"), [
        "y: stable a-2026-01-01 → b-2026-01-01",
        "risk: y: stable: context window smaller, 1000 → 500 tokens",
        "risk: y: stable: answers may be shorter, 100 → 50 tokens",
        "risk: y: stable: input price higher by 50 %, 1 → 1.5 USD per million tokens",
        "risk: y: stable: latency higher by 50 %, 100 → 150 ms",
    ]),
    ("policy", ("y: {stable: a-2026-01-01}", "y: {policy: {prefer: price}}"), ["y: stable a-2026-01-01 → by policy", "y: policy set to {prefer: price}"]),
    ("alias", ("z: a-", "z: b-"), ["alias z: a-2026-01-01 → b-2026-01-01", "risk: alias z: a published name changes its meaning"]),
    ("alias gone", ("aliases:\n  z: a-2026-01-01\n", ""), ["alias z: removed", "risk: alias z: apps that ask for it are passed on unpinned"]),
    ("price", ("input: 1.5", "input: 2"), ["model b-2026-01-01: price.input 1.5 → 2", "risk: model b-2026-01-01: input price higher by 33 %, 1.5 → 2 USD per million tokens"]),
    ("retires soon", ("latency_ms: 150", "latency_ms: 150, retires: 2026-12-01"), ["model b-2026-01-01: retires set to 2026-12-01", "risk: model b-2026-01-01: retires on 2026-12-01"]),
    ("retires late", ("latency_ms: 150", "latency_ms: 150, retires: 2027-12-01"), ["model b-2026-01-01: retires set to 2027-12-01"]),
    ("model new", ("  c-latest:", "  d-002: {provider: gemini}\n  c-latest:"), ["model d-002: added, at gemini"]),
    ("floating new", ("  c-latest:", "  d-latest: {provider: openai, floating: true}\n  c-latest:"), ["model d-latest: added, at openai", "risk: model d-latest: floating, the provider may change it at any time"]),
    ("salt", ("x: {", "x: {salt: s3cret, "), ["x: salt changed", "risk: x: a new salt deals all units anew"]),
    ("cache", ("  y: {", "  y: {cache: {ttl: 1h}, "), ["y: cache set to {ttl: 1h, always: false}"]),
    ("always", ("  y: {", "  y: {cache: {ttl: 1h, always: true}, "), ["y: cache set to {ttl: 1h, always: true}", "risk: y: answers that were made by chance are given again"]),
    ("no fallback", (", fallback: [b-2026-01-01, c-latest]", ""), ["x: fallback b-2026-01-01, c-latest → none", "risk: x: nothing stands in for its model any more"]),
    ("a budget", ("  y: {", "  y: {budget: {usd_per_day: 2.5}, "), ["y: budget set to {scope: pod, usd_per_day: 2.5}", "risk: y: calls over 2.5 usd_per_day are refused from now on"]),
    ("defaults", ("models:", "defaults: {timeouts: {total: 60s}}\nmodels:"), ["defaults: timeouts set to {total: 1m}"]),
    ("providers", ("  y: {", "  y: {providers: [openai], "), ["y: providers set to [openai]"]),
]  # fmt: skip


@pytest.mark.parametrize(("edit", "lines"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_changes(pins_of, edit, lines):
    assert edit[0] in BEFORE
    old, new = pins_of(BEFORE), pins_of(BEFORE.replace(edit[0], edit[1], 1) if edit[0] else BEFORE)
    assert changes(old, new, today=DAY) == lines


def test_what_is_set_is_shown_when_it_goes(pins_of):
    text = BEFORE.replace("  y: {", "  y: {hedge: {after: p95, max: 2s}, ")
    assert changes(pins_of(text), pins_of(BEFORE), today=DAY) == ["y: hedge removed, was {after: p95, max: 2s}"]


def test_limits_that_change_and_protection_that_goes():
    def with_model(facts):
        text = BEFORE.replace("output: 2}}", f"output: 2}}, {facts}}}", 1)
        return read_pins(text.encode(), "pins.yaml", None)

    budget = "{scope: fleet, tokens_per_minute: 5000, tokens_per_day: 10, usd_per_day: 2}"
    old = with_model(f"breaker: {{failures: 3}}, budget: {budget}")
    new = with_model("budget: {requests_per_minute: 9, tokens_per_minute: 1000, tokens_per_day: 11}")
    lines = changes(old, new, today=DAY)
    assert "model a-2026-01-01: budget.tokens_per_minute 5000 → 1000" in lines
    assert [line for line in lines if line.startswith("risk")] == [
        "risk: model a-2026-01-01: calls over 9 requests_per_minute are refused from now on",
        "risk: model a-2026-01-01: calls over 1000 tokens_per_minute are refused from now on",
        "risk: model a-2026-01-01: nothing limits its usd_per_day any more",
        "risk: model a-2026-01-01: each pod may use the whole budget from now on",
        "risk: model a-2026-01-01: no breaker any more: it is asked however often it fails",
    ]


def test_an_inner_key_is_named_by_its_path(pins_of):
    one = pins_of(BEFORE.replace("  y: {", "  y: {timeouts: {total: 9s}, "))
    other = pins_of(BEFORE.replace("  y: {", "  y: {timeouts: {total: 8s, idle: 1s}, "))
    assert changes(one, other, today=DAY) == ["y: timeouts.idle set to 1s", "y: timeouts.total 9s → 8s"]


def test_a_new_variant_is_compared_with_stable(pins_of):
    text = BEFORE.replace(
        "y: {stable: a-2026-01-01}", "y: {stable: a-2026-01-01, variants: {v: {model: c-latest, percent: 1}}}"
    )
    assert changes(pins_of(BEFORE), pins_of(text), today=DAY) == [
        "y: v added, c-latest 1%",
        "risk: y: v: its price is not known",
        "risk: y: v: the new model is floating, the provider may change it at any time",
    ]


def test_first_load(pins_of):
    lines = changes(None, pins_of(BEFORE), today=DAY)
    assert lines[0] == "first load: generation 1, 2 pins, 1 aliases, 3 models, unlisted: pass"


def test_a_stopped_variant_that_comes_back_is_said(pins_of):
    old = pins_of(BEFORE).stop("x", "canary")
    assert "x: canary was stopped and takes units again" in changes(
        old, pins_of(BEFORE.replace("generation: 1", "generation: 2")), today=DAY
    )


def test_a_long_list_is_cut(pins_of):
    assert changes(pins_of(BEFORE), pins_of("generation: 2\nunlisted: pass\n"), today=DAY, limit=2)[2].startswith(
        "… and "
    )


def test_salts_are_never_shown(pins_of):
    one, other = (
        pins_of(BEFORE.replace("x: {", "x: {salt: s3cret-1, ")),
        pins_of(BEFORE.replace("x: {", "x: {salt: s3cret-2, ")),
    )
    assert "s3cret" not in " ".join(changes(one, other, today=DAY))
