"""Shape: every misfit of the schema with its line and its fix."""
# ruff: noqa: E501 - a row of a table is read as one line

from __future__ import annotations

import json

import pytest

from sidecar.settings.load import read_pins
from sidecar.settings.problems import ConfigError

TOP = "version: 1\ngeneration: 1\nunlisted: reject\nmodels:\n  a-002: {provider: openai}\npins:\n  x:\n    stable: a-002\n"

MISFITS = [
    ("no unlisted", "version: 1\ngeneration: 1\n", 1, "", "`unlisted` is missing", "add `unlisted: reject` or `unlisted: pass`"),
    ("unlisted", "unlisted: rejekt\n", 1, "unlisted", '"rejekt" cannot stand here', "did you mean `reject`?"),
    ("version", "unlisted: pass\nversion: 2\n", 2, "version", "2 cannot stand here", "write `1`"),
    ("version as text", "unlisted: pass\nversion: '1'\n", 2, "version", '"1" cannot stand here', "write `1`"),
    ("generation", "unlisted: pass\ngeneration: -1\n", 2, "generation", "-1", "at least 0"),
    ("generation true", "unlisted: pass\ngeneration: true\n", 2, "generation", "true", "whole number"),
    ("generation 1.5", "unlisted: pass\ngeneration: 1.5\n", 2, "generation", "1.5", "whole number"),
    ("huge generation", f"unlisted: pass\ngeneration: {'9' * 400}\n", 2, "generation", "999", "whole number"),
    ("a list", "- a\n", 1, "", "is a list, not a mapping", "unlisted"),
    ("text", "hello\n", 1, "", 'is "hello", not a mapping', "unlisted"),
    ("unknown at top", TOP + "alias: {}\n", 9, "alias", "unknown key", "did you mean `aliases`?"),
    ("unknown in a pin", TOP + "    variant: {}\n", 9, "pins.x.variant", "unknown key", "`variants`"),
    ("unknown, nothing near", TOP + "    qqq: 1\n", 9, "pins.x.qqq", "unknown key", "known here: "),
    ("weight", TOP + "    variants: {v: {model: a-002, percent: 1, weight: 1}}\n", 9, "pins.x.variants.v.weight", "unknown key", "`percent`"),
    ("percent missing", TOP + "    variants: {v: {model: a-002}}\n", 9, "pins.x.variants.v", "`percent` is missing", "share"),
    ("percent", TOP + "    variants: {v: {model: a-002, percent: 120}}\n", 9, "pins.x.variants.v.percent", "between 0 and 100", "0 to 100"),
    ("percent sign", TOP + "    variants: {v: {model: a-002, percent: 10%}}\n", 9, "pins.x.variants.v.percent", "not a number", "without a sign"),
    ("stable a number", TOP.replace("stable: a-002", "stable: 4"), 8, "pins.x.stable", "4 cannot stand here", "text (in quotes"),
    ("fallback no list", TOP + "    fallback: a-002\n", 9, "pins.x.fallback", "not a list", "[a, b]"),
    ("fallback of numbers", TOP + "    fallback: [a-002, 7]\n", 9, "pins.x.fallback[1]", "7 cannot stand here", "text"),
    ("null in a list", TOP + "    fallback: [~]\n", 9, "pins.x.fallback[0]", "has no value", "remove"),
    ("providers empty", TOP + "    providers: []\n", 9, "pins.x.providers", "is empty", "at least 1"),
    ("salt empty", TOP + "    salt: ''\n", 9, "pins.x.salt", '"" cannot stand here', "length at least 1"),
    ("no unit", TOP + "    cache: {ttl: 60}\n", 9, "pins.x.cache.ttl", "the duration 60 needs a unit", "60s"),
    ("always: yes", TOP + "    cache: {ttl: 1h, always: yes}\n", 9, "pins.x.cache.always", '"yes" cannot stand here', "`true` or `false`"),
    ("quantile", TOP + "    hedge: {after: p50}\n", 9, "pins.x.hedge.after", "p50", "p95"),
    ("quantile 100", TOP + "    hedge: {after: p100}\n", 9, "pins.x.hedge.after", "p100", "p95"),
    ("quantile below", TOP + "    hedge: {after: p49.9}\n", 9, "pins.x.hedge.after", "not between p50 and p100", "p95"),
    ("quantile bare", TOP + "    hedge: {after: 95}\n", 9, "pins.x.hedge.after", "the duration 95 needs a unit", "200ms"),
    ("hedge after nothing", TOP + "    hedge: {after: 0ms}\n", 9, "pins.x.hedge.after", "a duration of 0", "more than 0"),
    ("hedge min without unit", TOP + "    hedge: {after: p95, min: 50}\n", 9, "pins.x.hedge.min", "the duration 50 needs a unit", "50s"),
    ("hedge max without unit", TOP + "    hedge:\n      after: p95\n      max: '2'\n", 11, "pins.x.hedge.max", "needs a unit", "200ms"),
    ("retry without unit", TOP + "    retry: {base: 200}\n", 9, "pins.x.retry.base", "the duration 200 needs a unit", "200s"),
    ("extra load", TOP + "    extra_load: {ratio: 1.5}\n", 9, "pins.x.extra_load.ratio", "1.5 cannot stand here", "at most 1"),
    ("extra load below", TOP + "    extra_load: {burst: -1}\n", 9, "pins.x.extra_load.burst", "-1 cannot stand here", "at least 0"),
    ("attempts", TOP + "    max_attempts: 0\n", 9, "pins.x.max_attempts", "0 cannot stand here", "at least 1 and at most 10"),
    ("prefer", TOP + "    policy: {prefer: cost}\n", 9, "pins.x.policy.prefer", '"cost" cannot', "`context` or `price` or `latency`"),
    ("negative budget", TOP + "    budget: {tokens_per_minute: -5}\n", 9, "pins.x.budget.tokens_per_minute", "-5", "at least 1"),
    ("zero requests", TOP + "    budget: {requests_per_minute: 0}\n", 9, "pins.x.budget.requests_per_minute", "0 cannot", "at least 1"),
    ("no such limit", TOP + "    budget: {token_per_minute: 5}\n", 9, "pins.x.budget.token_per_minute", "unknown key", "`tokens_per_minute`"),
    ("zero dollars", TOP + "    budget: {usd_per_day: 0}\n", 9, "pins.x.budget.usd_per_day", "0 cannot", "more than 0"),
    ("pins a list", "unlisted: pass\npins: [x]\n", 2, "pins", "is a list, not a mapping", "names with their values"),
    ("pin a text", "unlisted: pass\npins:\n  x: a-002\n", 3, "pins.x", "not a mapping", "stable"),
    ("no provider", "unlisted: pass\nmodels:\n  a-002: {context: 5}\n", 3, "models.a-002", "`provider` is missing", "provider of sidecar.yaml"),
    ("no output price", "unlisted: pass\nmodels:\n  a-002: {provider: p, price: {input: 1}}\n", 3, "models.a-002.price", "`output` is missing", "add `output:`"),
    ("bad date", "unlisted: pass\nmodels:\n  a-002: {provider: p, retires: 2027-02-30}\n", 3, "models.a-002.retires", '"2027-02-30"', "a date that exists"),
    ("a time", "unlisted: pass\nmodels:\n  a-002: {provider: p, context: 12:30}\n", 3, "models.a-002.context", '"12:30"', "whole number"),
    ("alias a mapping", "unlisted: pass\naliases:\n  x: {model: a-002}\n", 3, "aliases.x", "a mapping cannot stand here", "text"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "path", "message", "fix"), [row[1:] for row in MISFITS], ids=[r[0] for r in MISFITS]
)
def test_misfits(text, line, path, message, fix):
    with pytest.raises(ConfigError) as caught:
        read_pins(text.encode(), "pins.yaml", None)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line, problem.path) == ("pins.yaml", line, path)
    assert message in problem.message
    assert fix in problem.fix
    assert str(problem).startswith(f"pins.yaml:{line}: ")


def test_several_misfits_are_all_told():
    text = "unlisted: x\nbogus: 1\nmodels:\n  a-002: {context: big, price: {input: -1}}\npins:\n  p: {stable: 3, hold: 5}\n"
    with pytest.raises(ConfigError) as caught:
        read_pins(text.encode(), "pins.yaml", None)
    assert [problem.path for problem in caught.value.problems] == [
        "unlisted", "bogus", "models.a-002.context", "models.a-002.price.input", "models.a-002.price", "models.a-002",
        "pins.p.stable", "pins.p.hold",
    ]  # fmt: skip


def test_json_gets_the_same_lines():
    text = json.dumps({"unlisted": "pass", "pins": {"x": {"stabel": "a"}}}, indent=1)
    with pytest.raises(ConfigError) as caught:
        read_pins(text.encode(), "pins.json", None)
    (problem,) = caught.value.problems
    assert (problem.line, problem.path) == (5, "pins.x.stabel")
    assert problem.fix.startswith("did you mean `stable`")
