"""A pin file of the right shape → `Pins`, if it makes sense as a whole.

Decides: the load rules across keys (DESIGN §3.3): names that exist, shares that fit, ids that are immutable or say
they float, credentials and residency of every target, one dialect per name. All faults are collected, none is thrown
before the whole file was looked at.
Does not decide: shape (`schema.py`), and what a request does with the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from itertools import chain

from sidecar.settings.immutable import has_revision, is_latest
from sidecar.settings.pincheck import (
    Target,
    check_hedge,
    check_limits,
    check_rule,
    check_targets,
    check_usd,
    compile_arms,
    fitting,
)
from sidecar.settings.pins import BUILT_IN_TIMEOUTS, BUILT_IN_TRIES, Model, Pin, Pins, Price, Rule, Timeouts, Tries
from sidecar.settings.problems import MAX_PROBLEMS, ConfigError, Path, suggestion
from sidecar.settings.report import Report
from sidecar.settings.schema import (
    DefaultsSpec,
    ExtraLoadSpec,
    ModelSpec,
    PinFile,
    PinSpec,
    PolicySpec,
    RetrySpec,
    Shared,
    TimeoutsSpec,
)
from sidecar.settings.static import Settings
from sidecar.settings.strict import Document

DIALECTS = ("openai", "anthropic", "gemini")
MAX_ALIAS_STEPS = 16
_NAME = re.compile(r"[!-~]{1,256}", re.ASCII)
_NAME_FIX = "use letters, digits and signs without spaces, at most 256: names travel in headers"


def compile_pins(spec: PinFile, document: Document, sha256: str, settings: Settings | None, today: date) -> Pins:
    """The compiled file. Raises ConfigError with every fault. Without settings, what depends on them isn't checked."""
    report = Report(document)
    models = {name: _model(report, name, model, settings, today) for name, model in spec.models.items()}
    aliases = _aliases(report, spec, models)
    _names(report, spec)
    defaults = spec.defaults or DefaultsSpec()
    timeouts = merge_timeouts(BUILT_IN_TIMEOUTS, defaults.timeouts)
    check_limits(report, ("defaults",), defaults)
    tries = merge_tries(BUILT_IN_TRIES, defaults)
    compiler = _PinCompiler(report, models, timeouts, tries, settings)
    pins = {name: compiler.compile(name, pin) for name, pin in spec.pins.items()}
    _credentials_of_aliases(report, aliases, settings)
    if settings is not None and settings.fleet is None:
        _fleet_scopes(report, spec)
    if spec.generation is None:
        report.warn((), "no `generation`: it is shown as 0", "add `generation: 1` and raise it with each change")
    if report.errors:
        raise ConfigError([*report.errors, *report.warnings][:MAX_PROBLEMS])
    return Pins(
        generation=spec.generation or 0,
        sha256=sha256,
        unlisted=spec.unlisted,
        models=models,
        pins=pins,
        aliases=aliases,
        defaults_timeouts=timeouts,
        defaults_tries=tries,
        warnings=tuple(report.warnings),
        stopped=frozenset(),
        path=document.file,
        defaults=defaults,
    )


# --- models and names ------------------------------------------------------------------------------------------------


def _model(report: Report, name: str, spec: ModelSpec, settings: Settings | None, today: date) -> Model:
    path: Path = ("models", name)
    _immutability(report, name, spec, path)
    if settings is None:
        dialect = next((d for d in DIALECTS if spec.provider == d or spec.provider.startswith(f"{d}-")), "openai")
    elif (provider := settings.providers.get(spec.provider)) is not None:
        dialect = provider.dialect
    else:
        dialect = ""
        unknown_provider(report, (*path, "provider"), spec.provider, settings)
    check_limits(report, path, spec)
    if spec.retires is not None and spec.retires <= today:
        report.warn((*path, "retires"), f"this model was retired on {spec.retires}", "point its names at another model")
    price = spec.price
    return Model(
        id=name,
        provider=spec.provider,
        dialect=dialect,
        context=spec.context,
        max_output=spec.max_output,
        latency_ms=spec.latency_ms,
        price=None if price is None else Price(price.input, price.output, price.cached_input, price.cache_write),
        retires=spec.retires,
        floating=spec.floating,
        source=spec,
    )


def _immutability(report: Report, name: str, spec: ModelSpec, path: Path) -> None:
    if not _NAME.fullmatch(name):
        report.error(path, "this name cannot be used", _NAME_FIX)
    elif spec.immutable and spec.floating:
        report.error(path, "both `immutable` and `floating` are set", "keep the one that is true")
    elif is_latest(name) and not spec.floating:
        report.error(path, "an id that ends in `latest` moves", "add `floating: true`, or name a dated id")
    elif not (spec.immutable or spec.floating or has_revision(name)):
        report.error(
            path,
            "this id bears no date or numbered revision, so it may move",
            "name a dated id, or add `immutable: true` if it never moves, or `floating: true` if it may",
        )


def _names(report: Report, spec: PinFile) -> None:
    """Names of pins and aliases: printable, no clash, no surprise."""
    for kind, names in (("pins", spec.pins), ("aliases", spec.aliases)):
        for name in names:
            if not _NAME.fullmatch(name):
                report.error((kind, name), "this name cannot be used", _NAME_FIX)
            elif name in spec.models:
                what = "pin" if kind == "pins" else "alias"
                report.warn(
                    (kind, name),
                    f"this {what} bears the name of a catalogued model: apps that ask for the model get the {what}'s",
                    "nothing, if apps with that id hard-coded are to be remapped; else rename it",
                )
    for name in spec.aliases:
        if name in spec.pins:
            report.error(("aliases", name), "a pin has the same name", "rename one of the two")


def _aliases(report: Report, spec: PinFile, models: dict[str, Model]) -> dict[str, Model]:
    """Each alias followed to its model. An alias may name another alias, never a pin."""
    resolved: dict[str, Model] = {}
    for name in spec.aliases:
        seen = [name]
        target = spec.aliases[name]
        while target not in models and target in spec.aliases and target not in seen and len(seen) <= MAX_ALIAS_STEPS:
            seen.append(target)
            target = spec.aliases[target]
        path: Path = ("aliases", name)
        if target in models:
            resolved[name] = models[target]
        elif len(seen) > MAX_ALIAS_STEPS:
            report.error(path, f"more than {MAX_ALIAS_STEPS} aliases in a row", "let it name its model outright")
        elif target in seen:
            loop = " → ".join([*seen[seen.index(target) :], target][:8])
            report.error(path, f"aliases that only name each other: {loop}", "let one of them name a catalogued model")
        elif target in spec.pins:
            report.error(path, f"`{target}` is a pin", "an alias names a catalogued model: its meaning never changes")
        else:
            unknown_model(report, path, target, [*models, *spec.aliases])
    return resolved


def unknown_model(report: Report, path: Path, name: str, known: Iterable[str]) -> None:
    """Reports a name that is in no catalogue, with the nearest ones that are."""
    if report.full:
        return  # a thousand comparisons of names would take seconds
    fix = suggestion(name, known, "add it under `models:`")
    report.error(path, f"there is no model {name[:80]!a} in the catalogue", fix)


def unknown_provider(report: Report, path: Path, name: str, settings: Settings) -> None:
    """Reports a provider that sidecar.yaml doesn't have, naming those that it has."""
    fix = f"use one of those in {settings.path.name}: {', '.join(settings.providers)}"
    report.error(path, f"provider {name[:80]!a} is not configured", fix)


def _credentials_of_aliases(report: Report, aliases: dict[str, Model], settings: Settings | None) -> None:
    for name, model in aliases.items():
        check_targets(report, [(("aliases", name), model)], None, settings)


def _fleet_scopes(report: Report, spec: PinFile) -> None:
    fix = "add `fleet: {url: …}` to sidecar.yaml, or use `scope: pod`"
    for kind, holders in (("models", spec.models), ("pins", spec.pins)):
        for name, holder in holders.items():
            if holder.budget is not None and holder.budget.scope == "fleet":
                report.error((kind, name, "budget", "scope"), "`fleet` needs a server that pods share", fix)


# --- pins ------------------------------------------------------------------------------------------------------------


class _PinCompiler:
    """Compiles pins one by one against one catalogue. What a pin doesn't set costs it nothing: files hold thousands."""

    __slots__ = ("kinds", "models", "report", "settings", "timeouts", "tries")

    def __init__(
        self, report: Report, models: dict[str, Model], timeouts: Timeouts, tries: Tries, settings: Settings | None
    ) -> None:
        self.report = report
        self.models = models
        self.timeouts = timeouts
        self.tries = tries
        self.settings = settings
        # Of models that are alike to a rule one is enough: thousands of policies times thousands of models take long.
        alike = {(model.provider, model.latency_ms, model.price, model.context): model for model in models.values()}
        self.kinds = tuple(alike.values())

    def compile(self, name: str, spec: PinSpec) -> Pin:
        """The pin; faults go to the report."""
        report = self.report
        path: Path = ("pins", name)
        targets: list[Target] = []

        def find(model: str, *at: str | int) -> Model | None:
            found = self.models.get(model)
            if found is None:
                unknown_model(report, (*path, *at), model, self.models)
            else:
                targets.append(((*path, *at), found))
            return found

        self.choice(path, spec)
        stable = find(spec.stable, "stable") if spec.stable is not None else None
        arms = compile_arms(report, path, spec.variants, find) if spec.variants else ()
        fallback: tuple[Model, ...] = ()
        if spec.fallback:
            _fallbacks(report, path, spec)
            named = [find(model, "fallback", index) for index, model in enumerate(spec.fallback)]
            fallback = tuple(model for model in named if model is not None)
        hedge_model = None
        if spec.hedge is not None:
            check_hedge(report, path, spec, spec.hedge)
            hedge_model = find(spec.hedge.model, "hedge", "model") if spec.hedge.model is not None else None
        over_budget = find(spec.over_budget, "over_budget") if spec.over_budget is not None else None
        providers = self.residency(path, spec.providers) if spec.providers is not None else None
        check_targets(report, targets, providers, self.settings)
        check_limits(report, path, spec)
        charged = [model for at, model in targets if at[-1] != "over_budget"]
        rule = None
        if spec.policy is not None:
            rule = _rule(spec.policy)
            check_rule(report, (*path, "policy"), rule, self.kinds, providers)
        chosen = fitting(rule, self.kinds, providers) if rule is not None else ()
        check_usd(report, path, spec, chain(charged, chosen))
        return Pin(
            name=name,
            stable=stable,
            arms=arms,
            salt=spec.salt if spec.salt is not None else name,
            rule=rule,
            fallback=fallback,
            hedge_model=hedge_model,
            over_budget=over_budget,
            task=spec.task,
            timeouts=self.timeouts if spec.timeouts is None else merge_timeouts(self.timeouts, spec.timeouts),
            tries=merge_tries(self.tries, spec),
            providers=providers,
            source=spec,
        )

    def choice(self, path: Path, spec: PinSpec) -> None:
        """Exactly one of `stable` and `policy`; a policy has no variants."""
        if spec.policy is None:
            if spec.stable is None:
                self.report.error(path, "says neither `stable` nor `policy`", "add `stable:` with a catalogued model")
            return
        if spec.stable is not None:
            self.report.error((*path, "policy"), "both `stable` and `policy` are set", "keep one of the two")
        if spec.variants:
            fix = "remove `variants`, or use `stable`"
            self.report.error((*path, "variants"), "a policy pin has no variants", fix)

    def residency(self, path: Path, providers: tuple[str, ...]) -> frozenset[str]:
        """The allowed providers, each of which must be configured."""
        if self.settings is not None:
            for index, provider in enumerate(providers):
                if provider not in self.settings.providers:
                    unknown_provider(self.report, (*path, "providers", index), provider, self.settings)
        return frozenset(providers)


def _fallbacks(report: Report, path: Path, spec: PinSpec) -> None:
    seen: set[str] = set()
    for index, model in enumerate(spec.fallback or ()):
        at = (*path, "fallback", index)
        if model == spec.stable:
            report.error(at, "the fallback repeats the stable model", "name another model, or remove it")
        elif model in seen:
            report.error(at, f"`{model}` stands twice among the fallbacks", "remove one of the two")
        seen.add(model)


def _rule(policy: PolicySpec) -> Rule:
    price = policy.max_price
    return Rule(
        max_latency_ms=policy.max_latency_ms,
        max_input_price=price.input if price is not None else None,
        max_output_price=price.output if price is not None else None,
        min_context=policy.min_context,
        prefer=policy.prefer,
    )


def merge_tries(base: Tries, spec: Shared) -> Tries:
    """`base` with what the file sets laid over it; `base` itself if it sets nothing."""
    if all(value is None for value in (spec.max_attempts, spec.retry, spec.extra_load, spec.hold)):
        return base
    retry = spec.retry or RetrySpec()
    extra = spec.extra_load or ExtraLoadSpec()
    return Tries(
        max_attempts=base.max_attempts if spec.max_attempts is None else spec.max_attempts,
        retry_base_s=base.retry_base_s if retry.base is None else float(retry.base),
        retry_max_s=base.retry_max_s if retry.max is None else float(retry.max),
        extra_ratio=base.extra_ratio if extra.ratio is None else extra.ratio,
        extra_burst=base.extra_burst if extra.burst is None else extra.burst,
        hold_s=base.hold_s if spec.hold is None else float(spec.hold),
    )


def merge_timeouts(base: Timeouts, spec: TimeoutsSpec | None) -> Timeouts:
    """`base` with what the file sets laid over it; `base` itself if it sets nothing."""
    if spec is None:
        return base

    def pick(value: float | None, default: float) -> float:
        return default if value is None else float(value)

    return Timeouts(
        connect_s=pick(spec.connect, base.connect_s),
        first_event_s=pick(spec.first_event, base.first_event_s),
        idle_s=pick(spec.idle, base.idle_s),
        content_idle_s=pick(spec.content_idle, base.content_idle_s),
        total_s=pick(spec.total, base.total_s),
        write_stall_s=pick(spec.write_stall, base.write_stall_s),
        first_event_set=base.first_event_set or spec.first_event is not None,
    )
