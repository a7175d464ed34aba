"""The load rules of one pin: arms, targets, hedge, limits, policy. Each function adds to a report and goes on.

Decides: whether one pin makes sense by itself. Does not decide: what exists in the catalogue (`compile.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from sidecar.settings.pins import BUCKETS, STABLE, Arm, Model, Rule
from sidecar.settings.problems import MAX_PROBLEMS, Path
from sidecar.settings.report import Report
from sidecar.settings.schema import BudgetSpec, DefaultsSpec, HedgeSpec, ModelSpec, PinSpec, VariantSpec
from sidecar.settings.static import Settings

Target = tuple[Path, Model]
"""A model that a name may lead to, and where the file says so."""


class Find(Protocol):
    """Looks a model up, reporting it if there is none."""

    def __call__(self, model: str, *at: str | int) -> Model | None: ...


def compile_arms(report: Report, path: Path, variants: Mapping[str, VariantSpec], find: Find) -> tuple[Arm, ...]:
    """The arms in file order. Reports shares that don't fit and starts that are missing."""
    at: Path = (*path, "variants")
    arms: list[Arm] = []
    for name, variant in variants.items():
        _variant_name(report, (*at, name), name)
        if variant.start is None and len(variants) > 1:
            fix = "add `start:` (percent) to each, so that raising a share never moves a unit between arms"
            report.error((*at, name), "two or more variants need `start:`", fix)
        start = variant.start.points if variant.start is not None else 0
        end = start + variant.percent.points
        if end > BUCKETS:
            said = f"the share ends at {end / 100:g} %, beyond 100"
            report.error((*at, name), said, f"lower `percent` to at most {(BUCKETS - start) / 100:g}, or `start`")
        model = find(variant.model, "variants", name, "model")
        if model is not None:
            arms.append(Arm(name, model, start, end))
    if len(variants) < 2:
        return tuple(arms)
    total = sum(variant.percent.points for variant in variants.values())
    if total > BUCKETS:
        report.error(at, f"the shares add up to {total / 100:g} %", "lower them to 100 in all; the rest is stable")
    elif all(variant.start is not None for variant in variants.values()):
        _overlaps(report, at, arms)
    return tuple(arms)


def _variant_name(report: Report, path: Path, name: str) -> None:
    if name == STABLE:
        report.error(path, "`stable` is the name of what no variant takes", "choose another name")
    elif not (name.isascii() and name.isprintable() and " " not in name and 0 < len(name) <= 256):
        report.error(path, "this name cannot be used", "use letters, digits and signs without spaces, at most 256")


def _overlaps(report: Report, path: Path, arms: list[Arm]) -> None:
    before: Arm | None = None
    for arm in sorted((arm for arm in arms if arm.end > arm.start), key=lambda arm: (arm.start, arm.end)):
        if before is not None and arm.start < before.end:
            fix = f"start it at {before.end / 100:g} or later"
            report.error((*path, arm.name), f"overlaps `{before.name}` ({_span(before)})", fix)
        if before is None or arm.end > before.end:
            before = arm


def _span(arm: Arm) -> str:
    return f"{arm.start / 100:g} to {arm.end / 100:g} %"


def check_targets(
    report: Report, targets: Sequence[Target], residency: frozenset[str] | None, settings: Settings | None
) -> None:
    """One dialect, the allowed providers, and a credential wherever the caller's own doesn't go."""
    dialect = targets[0][1].dialect if targets else ""
    for at, model in targets:
        if model.dialect != dialect and model.dialect and dialect:
            first = targets[0][1].id
            said = f"`{model.id}` speaks {model.dialect}, but `{first}` speaks {dialect}"
            report.error(at, said, "all models of one name must speak one dialect: nothing is translated")
        if residency is not None and model.provider not in residency:
            said = f"`{model.id}` lives at `{model.provider}`, which `providers` does not allow"
            fix = f"name a model of {' or '.join(sorted(residency))}, or add `{model.provider}` to `providers`"
            report.error(at, said, fix)
        if settings is not None and model.provider in settings.keyless:
            default = settings.default_provider[settings.providers[model.provider].dialect]
            said = f"`{model.id}` lives at `{model.provider}`, which has no key; the app's own goes only to `{default}`"
            fix = f"add `api_key_env` or `api_key_file` to `{model.provider}` in {settings.path.name}"
            report.error(at, said, fix)


def check_hedge(report: Report, path: Path, spec: PinSpec, hedge: HedgeSpec) -> None:
    """A hedge needs another model or a delay, and bounds in order."""
    at: Path = (*path, "hedge")
    if hedge.after is None and hedge.model in {None, spec.stable}:
        report.error(
            at, "a hedge to the same model needs a delay", "add `after: p95` or `after: 200ms`, or another `model`"
        )
    if hedge.min is not None and hedge.max is not None and hedge.min > hedge.max:
        report.error((*at, "min"), f"`min` ({hedge.min!r}) is more than `max` ({hedge.max!r})", "swap the two")


def check_limits(report: Report, path: Path, spec: DefaultsSpec | PinSpec | ModelSpec) -> None:
    """Sections that do nothing, and pairs of bounds in the wrong order."""
    budget = None if isinstance(spec, DefaultsSpec) else spec.budget
    if budget is not None and all(getattr(budget, name) is None for name in BUDGET_LIMITS):
        report.error((*path, "budget"), "sets no limit", f"add one of {', '.join(BUDGET_LIMITS)}")
    if isinstance(spec, ModelSpec):
        if budget is not None and budget.usd_per_day is not None and spec.price is None:
            fix = "add `price: {input: …, output: …}` to the model, or remove the limit"
            report.error((*path, "budget", "usd_per_day"), "the model has no price, so it could never count", fix)
        breaker = spec.breaker
        if breaker is not None and breaker.cooldown > breaker.max_cooldown:
            said = f"`cooldown` ({breaker.cooldown!r}) is more than `max_cooldown` ({breaker.max_cooldown!r})"
            report.error((*path, "breaker", "cooldown"), said, "raise `max_cooldown` or lower `cooldown`")
        return
    retry = spec.retry
    if retry is not None and retry.base is not None and retry.max is not None and retry.base > retry.max:
        said = f"`base` ({retry.base!r}) is more than `max` ({retry.max!r})"
        report.error((*path, "retry", "base"), said, "swap the two")
    if isinstance(spec, PinSpec) and spec.drill is not None and not spec.fallback:
        report.warn((*path, "drill"), "there is no `fallback` to drill", "add `fallback: […]`, or remove the drill")
    if isinstance(spec, PinSpec) and spec.over_budget is not None and {spec.over_budget} == _models_of(spec):
        said = f"`{spec.over_budget}` is the model whose budget it would stand in for"
        report.warn((*path, "over_budget"), said, "name a cheaper model, or remove it")


def _models_of(spec: PinSpec) -> set[str | None]:
    """What the pin means, whoever asks; None where a policy chooses."""
    return {spec.stable, *(variant.model for variant in (spec.variants or {}).values())}


def check_usd(report: Report, path: Path, spec: PinSpec, models: Iterable[Model]) -> None:
    """A limit in USD over models of which one has no price. `models`: those whose attempts the pin is charged for."""
    if spec.budget is None or spec.budget.usd_per_day is None:
        return
    model = next((model for model in models if model.price is None), None)
    if model is not None:
        said = f"`{model.id}` has no price, so its cost could never count"
        fix = f"add `price: {{input: …, output: …}}` to `{model.id}`, or remove the limit"
        report.error((*path, "budget", "usd_per_day"), said, fix)


BUDGET_LIMITS = tuple(name for name in BudgetSpec.__struct_fields__ if name != "scope")


def check_rule(
    report: Report, path: Path, rule: Rule, models: Iterable[Model], residency: frozenset[str] | None
) -> None:
    """Warns of a rule that no catalogued model fits by its catalogued facts."""
    if len(report.warnings) >= MAX_PROBLEMS:
        return
    if next(fitting(rule, models, residency), None) is None:
        fix = "loosen the rule, or catalogue a model with context, price and latency_ms that fit"
        report.warn(path, "no catalogued model fits this policy: every call would be refused", fix)


def fitting(rule: Rule, models: Iterable[Model], residency: frozenset[str] | None) -> Iterator[Model]:
    """The models that a rule may choose, by their catalogued facts."""
    return (m for m in models if _fits(rule, m) and (residency is None or m.provider in residency))


def _fits(rule: Rule, model: Model) -> bool:
    price = model.price
    return (
        _within(model.latency_ms, rule.max_latency_ms)
        and _within(price.input if price is not None else None, rule.max_input_price)
        and _within(price.output if price is not None else None, rule.max_output_price)
        and (rule.min_context is None or (model.context is not None and model.context >= rule.min_context))
    )


def _within(fact: float | None, bound: float | None) -> bool:
    return bound is None or (fact is not None and fact <= bound)
