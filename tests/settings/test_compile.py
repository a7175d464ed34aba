"""The load rules of a pin file, each with the line it names and the fix it proposes."""
# ruff: noqa: E501 - a row of a table is read as one line

from __future__ import annotations

import datetime
import time

import pytest

from sidecar.settings.load import read_pins
from sidecar.settings.pins import BUILT_IN_TIMEOUTS, UnknownVariant
from sidecar.settings.problems import ConfigError

HEAD = """\
version: 1
generation: 3
unlisted: reject
models:
  a-2026-01-01: {provider: openai, context: 1000, latency_ms: 100, price: {input: 1, output: 2}}
  b-2026-01-01: {provider: openai}
  c-2026-01-01: {provider: openai}
  eu-2026-01-01: {provider: eu}
  bare-2026-01-01: {provider: bare}
  claude-20260101: {provider: anthropic}
"""
# HEAD has 10 lines, so what a case adds begins on line 11.

RULES = [
    # name, text after HEAD, line, path, message, fix
    ("dangling stable", "pins:\n  x: {stable: a-2026-01-02}", 12, "pins.x.stable", "no model", "did you mean `a-2026-01-01`"),
    ("dangling, nothing near", "pins:\n  x: {stable: zzz}", 12, "pins.x.stable", "no model", "under `models:`"),
    ("dangling variant", "pins:\n  x:\n    stable: a-2026-01-01\n    variants:\n      v: {model: q, percent: 1}", 15, "pins.x.variants.v.model", "no model", "models"),
    ("dangling fallback", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback:\n    - b-2026-01-01\n    - q", 16, "pins.x.fallback[1]", "no model", "models"),
    ("dangling hedge", "pins:\n  x:\n    stable: a-2026-01-01\n    hedge: {model: q}", 14, "pins.x.hedge.model", "no model", "models"),
    ("dangling over_budget", "pins:\n  x:\n    stable: a-2026-01-01\n    over_budget: q", 14, "pins.x.over_budget", "no model", "models"),
    ("neither", "pins:\n  x: {task: t}", 12, "pins.x", "neither `stable` nor `policy`", "add `stable:`"),
    ("both", "pins:\n  x:\n    stable: a-2026-01-01\n    policy: {}", 14, "pins.x.policy", "both", "keep one"),
    ("policy with variants", "pins:\n  x:\n    policy: {}\n    variants: {v: {model: a-2026-01-01, percent: 1}}", 14, "pins.x.variants", "no variants", "use `stable`"),
    ("variant named stable", "pins:\n  x:\n    stable: a-2026-01-01\n    variants: {stable: {model: b-2026-01-01, percent: 1}}", 14, "pins.x.variants.stable", "`stable` is the name", "another name"),
    ("variant with a space", "pins:\n  x:\n    stable: a-2026-01-01\n    variants: {'a b': {model: b-2026-01-01, percent: 1}}", 14, 'pins.x.variants."a b"', "cannot be used", "without spaces"),
    ("over 100 in one", "pins:\n  x:\n    stable: a-2026-01-01\n    variants: {v: {model: b-2026-01-01, percent: 60, start: 50}}", 14, "pins.x.variants.v", "beyond 100", "at most 50"),
    ("over 100 together", "pins:\n  x:\n    stable: a-2026-01-01\n    variants:\n      v: {model: b-2026-01-01, percent: 60, start: 0}\n      w: {model: c-2026-01-01, percent: 60, start: 40}", 14, "pins.x.variants", "add up to 120", "100 in all"),
    ("overlap", "pins:\n  x:\n    stable: a-2026-01-01\n    variants:\n      v: {model: b-2026-01-01, percent: 10, start: 0}\n      w: {model: c-2026-01-01, percent: 10, start: 9.99}", 16, "pins.x.variants.w", "overlaps `v` (0 to 10 %)", "start it at 10"),
    ("overlap inside", "pins:\n  x:\n    stable: a-2026-01-01\n    variants:\n      v: {model: b-2026-01-01, percent: 50, start: 0}\n      w: {model: c-2026-01-01, percent: 1, start: 20}", 16, "pins.x.variants.w", "overlaps `v`", "start it at 50"),
    ("two without start", "pins:\n  x:\n    stable: a-2026-01-01\n    variants:\n      v: {model: b-2026-01-01, percent: 10}\n      w: {model: c-2026-01-01, percent: 10, start: 50}", 15, "pins.x.variants.v", "need `start:`", "add `start:`"),
    ("fallback repeats stable", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [b-2026-01-01, a-2026-01-01]", 14, "pins.x.fallback[1]", "repeats the stable", "another model"),
    ("fallback twice", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [b-2026-01-01, b-2026-01-01]", 14, "pins.x.fallback[1]", "stands twice", "remove one"),
    ("fallback to itself", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [a-2026-01-01]", 14, "pins.x.fallback[0]", "repeats the stable", "another model"),
    ("fallback to a pin", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [y]\n  y:\n    stable: b-2026-01-01\n    fallback: [x]", 14, "pins.x.fallback[0]", "no model", "models"),
    ("another dialect", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [claude-20260101]", 14, "pins.x.fallback[0]", "speaks anthropic, but `a-2026-01-01` speaks openai", "nothing is translated"),
    ("residency", "pins:\n  x:\n    stable: eu-2026-01-01\n    fallback: [a-2026-01-01]\n    providers: [eu]", 14, "pins.x.fallback[0]", "lives at `openai`", "add `openai` to `providers`"),
    ("residency unknown", "pins:\n  x:\n    stable: eu-2026-01-01\n    providers: [eu, us]", 14, "pins.x.providers[1]", "not configured", "openai, eu, bare, anthropic, gemini"),
    ("no credential", "pins:\n  x: {stable: bare-2026-01-01}", 12, "pins.x.stable", "has no key; the app's own goes only to `openai`", "api_key_env"),
    ("alias without credential", "aliases:\n  x: bare-2026-01-01", 12, "aliases.x", "has no key", "api_key_file"),
    ("alias to nothing", "aliases:\n  x: a-2026-01-02", 12, "aliases.x", "no model", "did you mean `a-2026-01-01`"),
    ("alias to a pin", "pins: {p: {stable: a-2026-01-01}}\naliases:\n  x: p", 13, "aliases.x", "`p` is a pin", "names a catalogued model"),
    ("alias to itself", "aliases:\n  x: x", 12, "aliases.x", "x → x", "let one of them name"),
    ("alias loop", "aliases:\n  x: y\n  y: z\n  z: x", 12, "aliases.x", "x → y → z → x", "let one of them name"),
    ("alias chain", "aliases:\n" + "".join(f"  x{n}: x{n + 1}\n" for n in range(40)) + "  x40: a-2026-01-01", 12, "aliases.x0", "more than 16", "outright"),
    ("clash", "pins: {x: {stable: a-2026-01-01}}\naliases:\n  x: a-2026-01-01", 13, "aliases.x", "a pin has the same name", "rename"),
    ("pin name with a space", "pins:\n  'a b': {stable: a-2026-01-01}", 12, 'pins."a b"', "cannot be used", "headers"),
    ("pin name with a line break", 'pins:\n  "a\\nb": {stable: a-2026-01-01}', 12, 'pins."a\\nb"', "cannot be used", "headers"),
    ("alias name not ASCII", "aliases:\n  é: a-2026-01-01", 12, 'aliases."\\u00e9"', "cannot be used", "headers"),
    ("long name", f"aliases:\n  {'x' * 257}: a-2026-01-01", 12, f'aliases."{"x" * 80}"', "cannot be used", "256"),
    ("hedge to itself", "pins:\n  x:\n    stable: a-2026-01-01\n    hedge: {model: a-2026-01-01}", 14, "pins.x.hedge", "needs a delay", "after: p95"),
    ("hedge to nobody", "pins:\n  x:\n    stable: a-2026-01-01\n    hedge: {}", 14, "pins.x.hedge", "needs a delay", "after: p95"),
    ("hedge of a policy to nobody", "pins:\n  x:\n    policy: {}\n    hedge: {}", 14, "pins.x.hedge", "needs a delay", "after: p95"),
    ("hedge elsewhere", "pins:\n  x:\n    stable: eu-2026-01-01\n    hedge: {model: a-2026-01-01}\n    providers: [eu]", 14, "pins.x.hedge.model", "lives at `openai`", "add `openai` to `providers`"),
    ("hedge of another dialect", "pins:\n  x:\n    stable: a-2026-01-01\n    hedge: {model: claude-20260101}", 14, "pins.x.hedge.model", "speaks anthropic", "nothing is translated"),
    ("hedge bounds", "pins:\n  x:\n    stable: a-2026-01-01\n    hedge: {after: p95, min: 2s, max: 50ms}", 14, "pins.x.hedge.min", "`min` (2s) is more than `max` (50ms)", "swap"),
    ("empty budget", "pins:\n  x:\n    stable: a-2026-01-01\n    budget: {scope: pod}", 14, "pins.x.budget", "no limit", "tokens_per_minute"),
    ("fleet without fleet", "pins:\n  x:\n    stable: a-2026-01-01\n    budget: {scope: fleet, tokens_per_day: 1}", 14, "pins.x.budget.scope", "server", "add `fleet:"),
    ("USD of a model without price", "pins:\n  x:\n    stable: a-2026-01-01\n    fallback: [b-2026-01-01]\n    budget: {usd_per_day: 1}", 15, "pins.x.budget.usd_per_day", "`b-2026-01-01` has no price", "add `price:"),
    ("USD of a policy", "pins:\n  x:\n    policy: {prefer: price}\n    budget: {usd_per_day: 1}", 14, "pins.x.budget.usd_per_day", "has no price", "add `price:"),
    ("retry bounds", "defaults:\n  retry: {base: 9s, max: 8s}", 12, "defaults.retry.base", "more than `max`", "swap"),
]  # fmt: skip

MODELS = [
    ("undated", "{provider: openai}", "gpt-5", "", "no date or numbered revision", "immutable: true"),
    ("latest", "{provider: openai}", "gpt-latest", "", "moves", "floating: true"),
    ("latest immutable", "{provider: openai, immutable: true}", "gpt-latest", "", "moves", "floating: true"),
    ("both", "{provider: openai, immutable: true, floating: true}", "gpt-5", "", "both", "keep the one"),
    ("unknown provider", "{provider: opnai}", "a-002", ".provider", "'opnai' is not configured", "openai, eu, bare, anthropic, gemini"),
    ("bad name", "{provider: openai}", "'a 002'", "", "cannot be used", "headers"),
    ("breaker bounds", "{provider: openai, breaker: {cooldown: 2m}}", "a-002", ".breaker.cooldown", "more than `max_cooldown` (1m)", "raise"),
    ("USD without price", "{provider: openai, budget: {usd_per_day: 1}}", "a-002", ".budget.usd_per_day", "has no price", "add `price:"),
    ("fleet without fleet", "{provider: openai, budget: {scope: fleet, tokens_per_day: 1}}", "a-002", ".budget.scope", "server", "add `fleet:"),
    ("empty budget", "{provider: openai, budget: {}}", "a-002", ".budget", "no limit", "requests_per_minute"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "path", "message", "fix"), [row[1:] for row in RULES], ids=[r[0] for r in RULES]
)
def test_rules_of_pins_and_aliases(pins_of, text, line, path, message, fix):
    with pytest.raises(ConfigError) as caught:
        pins_of(HEAD + text + "\n")
    problem = next(p for p in caught.value.problems if p.severity == "error")
    assert (problem.file, problem.line, problem.path) == ("pins.yaml", line, path)
    assert message in problem.message
    assert fix in problem.fix


@pytest.mark.parametrize(
    ("spec", "name", "below", "message", "fix"), [row[1:] for row in MODELS], ids=[r[0] for r in MODELS]
)
def test_rules_of_models(pins_of, spec, name, below, message, fix):
    with pytest.raises(ConfigError) as caught:
        pins_of(f"generation: 1\nunlisted: reject\nmodels:\n  {name}: {spec}\n")
    problem = caught.value.problems[0]
    shown = name if " " not in name else '"a 002"'
    assert (problem.line, problem.path) == (4, f"models.{shown}{below}")
    assert message in problem.message
    assert fix in problem.fix


def test_all_problems_are_listed_in_one_go(pins_of):
    with pytest.raises(ConfigError) as caught:
        pins_of(
            HEAD
            + "pins:\n  x: {stable: q}\n  y: {task: t}\n  z: {stable: bare-2026-01-01, fallback: [zz]}\naliases:\n  x: w\n"
        )
    assert {p.path for p in caught.value.problems if p.severity == "error"} == {
        "pins.x.stable", "pins.y", "pins.z.stable", "pins.z.fallback[0]", "aliases.x",
    }  # fmt: skip
    assert len(str(caught.value).splitlines()) == len(caught.value.problems)


WARNINGS = [
    ("pin over model", "pins:\n  b-2026-01-01: {stable: a-2026-01-01}", 12, "pins.b-2026-01-01", "bears the name of a catalogued model"),
    ("alias over model", "aliases:\n  b-2026-01-01: a-2026-01-01", 12, "aliases.b-2026-01-01", "bears the name of a catalogued model"),
    ("policy without a fit", "pins:\n  x: {policy: {min_context: 1001}}", 12, "pins.x.policy", "no catalogued model fits"),
    ("policy, wrong place", "pins:\n  x: {policy: {min_context: 1000}, providers: [eu]}", 12, "pins.x.policy", "no catalogued model fits"),
    ("a drill of nothing", "pins:\n  x: {stable: a-2026-01-01, drill: {every: 6h}}", 12, "pins.x.drill", "no `fallback` to drill"),
    ("over budget at itself", "pins:\n  x: {stable: a-2026-01-01, over_budget: a-2026-01-01}", 12, "pins.x.over_budget", "is the model whose budget"),
    ("policy, price unknown", "pins:\n  x: {policy: {max_price: {input: 0.5}}}", 12, "pins.x.policy", "no catalogued model fits"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "path", "message"), [row[1:] for row in WARNINGS], ids=[r[0] for r in WARNINGS]
)
def test_warnings(pins_of, text, line, path, message):
    (warning,) = pins_of(HEAD + text + "\n").warnings
    assert (warning.severity, warning.line, warning.path) == ("warning", line, path)
    assert message in warning.message


def test_a_policy_that_fits_is_not_warned_of(pins_of):
    text = "pins:\n  x: {policy: {min_context: 1000, max_latency_ms: 100, max_price: {input: 1, output: 2}, prefer: price}}\n"
    pins = pins_of(HEAD + text)
    assert pins.warnings == ()
    rule = pins.pins["x"].rule
    assert (rule.max_latency_ms, rule.max_input_price, rule.max_output_price, rule.min_context, rule.prefer) == (
        100,
        1,
        2,
        1000,
        "price",
    )
    assert pins.pins["x"].stable is None


def test_retirement(pins_of):
    text = "generation: 1\nunlisted: pass\nmodels:\n  a-002: {{provider: openai, retires: {}}}\n"
    (warning,) = pins_of(text.format("2026-11-23")).warnings
    assert warning.path == "models.a-002.retires"
    assert pins_of(text.format("2026-11-24")).warnings == ()
    assert pins_of(text.format("2026-11-24")).models["a-002"].retires == datetime.date(2026, 11, 24)


def test_a_missing_generation_is_warned_of(pins_of):
    pins = pins_of("unlisted: pass\n")
    assert pins.generation == 0
    assert "generation" in pins.warnings[0].message


def test_nothing_of_the_full_sample_is_warned_of_as_unbuilt(config):
    pins = read_pins((config / "pins-full.yaml").read_bytes(), "pins-full.yaml", None)
    assert not [warning for warning in pins.warnings if "does nothing" in warning.message]


def test_arms_are_in_ten_thousandths(pins_of):
    variants = (
        "{v: {model: b-2026-01-01, percent: 0.29, start: 12.5}, w: {model: c-2026-01-01, percent: 0, start: 99.99}}"
    )
    arms = pins_of(f"{HEAD}pins:\n  x: {{stable: a-2026-01-01, variants: {variants}}}\n").pins["x"].arms
    assert [(arm.name, arm.start, arm.end) for arm in arms] == [("v", 1250, 1279), ("w", 9999, 9999)]


def test_one_variant_starts_at_0_and_may_take_all(pins_of):
    (arm,) = (
        pins_of(HEAD + "pins:\n  x: {stable: a-2026-01-01, variants: {v: {model: b-2026-01-01, percent: 100}}}\n")
        .pins["x"]
        .arms
    )
    assert (arm.start, arm.end) == (0, 10_000)


def test_neighbours_do_not_overlap(pins_of):
    text = "{w: {model: c-2026-01-01, percent: 50, start: 50}, v: {model: b-2026-01-01, percent: 50, start: 0}}"
    assert len(pins_of(f"{HEAD}pins:\n  x: {{stable: a-2026-01-01, variants: {text}}}\n").pins["x"].arms) == 2


def test_aliases_are_followed(pins_of):
    pins = pins_of(HEAD + "aliases:\n  x: y\n  y: a-2026-01-01\n")
    assert pins.aliases["x"] is pins.models["a-2026-01-01"]


def test_timeouts_are_laid_over_each_other(pins_of):
    pins = pins_of(
        HEAD
        + "defaults:\n  timeouts: {connect: 1s}\npins:\n  x: {stable: a-2026-01-01, timeouts: {first_event: 30s}}\n"
        "  y: {stable: a-2026-01-01}\n"
    )
    x, y = pins.pins["x"].timeouts, pins.pins["y"].timeouts
    assert (x.connect_s, x.first_event_s, x.first_event_set) == (1, 30, True)
    assert (y.connect_s, y.first_event_s, y.first_event_set) == (1, 120, False)
    assert y is pins.defaults_timeouts
    assert (y.idle_s, y.content_idle_s, y.total_s, y.write_stall_s) == (60, 300, 900, 30)
    assert pins_of("unlisted: pass\n").defaults_timeouts is BUILT_IN_TIMEOUTS


def test_a_default_written_in_the_file_counts_as_set(pins_of):
    pins = pins_of(HEAD + "defaults: {timeouts: {first_event: 120s}}\npins: {x: {stable: a-2026-01-01}}\n")
    assert pins.pins["x"].timeouts.first_event_set


def test_a_hedge_that_names_no_model_means_the_same_one(pins_of):
    pin = pins_of(HEAD + "pins:\n  x: {stable: a-2026-01-01, hedge: {after: 200ms}}\n").pins["x"]
    assert pin.hedge_model is None
    assert pin.source.hedge.after.delay_s == 0.2


def test_without_settings_the_dialect_is_guessed(pins_of):
    text = "unlisted: pass\nmodels:\n  a-002: {provider: gemini}\n  b-002: {provider: house}\n  c-002: {provider: anthropic}\n"
    dialects = [model.dialect for model in pins_of(text, under=None).models.values()]
    assert dialects == ["gemini", "openai", "anthropic"]


def test_stopping_a_variant(pins_of):
    pins = pins_of(HEAD + "pins:\n  x: {stable: a-2026-01-01, variants: {v: {model: b-2026-01-01, percent: 10}}}\n")
    stopped = pins.stop("x", "v")
    assert (pins.label, stopped.label) == ("3", "3+stop")
    assert stopped.pins["x"].arms == ()
    assert stopped.stopped == {("x", "v")}
    assert len(pins.pins["x"].arms) == 1
    assert stopped.stop("x", "v") is stopped
    for pair in (("x", "w"), ("x", "stable"), ("y", "v")):
        with pytest.raises(UnknownVariant):
            pins.stop(*pair)


def test_a_file_of_dangling_names_is_refused_quickly(pins_of):
    """Looking for near names must not take a second each."""
    models = "".join(f"  model-{n}-2026-01-01: {{provider: openai}}\n" for n in range(6000))
    pins = "".join(f"  p{n}: {{stable: model-{n}-2026-01-02}}\n" for n in range(6000))
    with pytest.raises(ConfigError) as caught:
        pins_of(f"unlisted: pass\nmodels:\n{models}pins:\n{pins}")
    assert len(caught.value.problems) == 100


def test_many_policies_over_many_models_are_checked_quickly(pins_of):
    """Not policies times models: this took half a minute once."""
    models = "".join(f"  m{n}-002: {{provider: openai}}\n" for n in range(3000))
    pins = "".join(f"  p{n}: {{policy: {{min_context: 5}}}}\n" for n in range(3000))
    begin = time.perf_counter()
    loaded = pins_of(f"generation: 1\nunlisted: pass\nmodels:\n{models}pins:\n{pins}")
    assert time.perf_counter() - begin < 5
    assert len(loaded.warnings) == 100


def test_a_limit_in_usd_counts_what_has_a_price(pins_of):
    """Not so the model that serves over budget: it is charged to its own account only."""
    text = "pins:\n  x: {stable: a-2026-01-01, over_budget: b-2026-01-01, budget: {usd_per_day: 1}}\n"
    assert pins_of(HEAD + text).pins["x"].over_budget is not None
    text = "pins:\n  x: {policy: {max_price: {input: 9}}, budget: {usd_per_day: 1}}\n"
    assert pins_of(HEAD + text).pins["x"].rule is not None
