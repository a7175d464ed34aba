"""Plain data → schema structs; if they don't fit, every misfit with its line and its fix.

Decides: whether the data has the schema's shape. The fast path is one msgspec conversion. Only when it fails is the
data walked beside the schema, so that all misfits are found rather than the first.
Does not decide: what the schema is, or whether the values make sense together.
"""

from __future__ import annotations

import datetime
import types
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from sidecar.settings.problems import MAX_PROBLEMS, ConfigError, Path, Problem, shown, suggestion
from sidecar.settings.schema import Section
from sidecar.settings.strict import Document
from sidecar.settings.units import UnfitError

T = TypeVar("T", bound=Section)

# What to do about a key that is missing. Keys not named here get a general word.
MISSING = {
    "unlisted": "add `unlisted: reject` or `unlisted: pass` at the top of the file",
    "providers": "add `providers:` with at least one provider (dialect and base_url)",
    "provider": "add `provider:` with the name of a provider of sidecar.yaml",
    "percent": "add `percent:` with the variant's share",
    "ttl": "add `ttl:` with a duration such as 1h",
    "dialect": "add `dialect: openai`, `anthropic` or `gemini`",
    "base_url": "add `base_url:` as the provider's own SDK would take it",
}
# Keys that people expect but that stand elsewhere.
ELSEWHERE = {
    "api_key": "keys never stand in this file: name them by `api_key_env` or `api_key_file`",
    "weight": "did you mean `percent`?",
    "fallbacks": "did you mean `fallback`?",
    "temperature": "a pin only says which model; parameters stay with the app",
}


def convert(document: Document, shape: type[T]) -> T:
    """The document as a `shape`. Raises ConfigError with every misfit."""
    try:
        return msgspec.convert(document.data, shape, dec_hook=_decode)
    except msgspec.ValidationError as error:
        found = list(islice(_walk(document, document.data, shape, ()), MAX_PROBLEMS))
        raise ConfigError(
            found or [document.problem((), f"cannot be used: {error}", "compare it with the sample")]
        ) from None


def _decode(kind: type, raw: object) -> object:
    return kind.parse(raw)  # type: ignore[attr-defined]  # every custom type of units.py has it


def _walk(document: Document, value: Any, annotation: Any, path: Path) -> Iterator[Problem]:
    kind = bare(annotation)
    if isinstance(kind, type) and issubclass(kind, Section):
        yield from _section(document, value, kind, path)
    elif get_origin(kind) is dict:
        if not isinstance(value, dict):
            yield document.problem(path, f"is {shown(value)}, not a mapping", "write names with their values below it")
            return
        yield from _leaf(document, value, annotation, path, sizes_only=True)
        for key, item in value.items():
            yield from _walk(document, item, get_args(kind)[1], (*path, key))
    elif get_origin(kind) is tuple:
        if not isinstance(value, list):
            yield document.problem(path, f"is {shown(value)}, not a list", "write it as a list: [a, b]")
            return
        yield from _leaf(document, value, annotation, path, sizes_only=True)
        for index, item in enumerate(value):
            yield from _walk(document, item, get_args(kind)[0], (*path, index))
    else:
        yield from _leaf(document, value, annotation, path)


def _section(document: Document, value: Any, kind: type[Section], path: Path) -> Iterator[Problem]:
    if not isinstance(value, dict):
        yield document.problem(path, f"is {shown(value)}, not a mapping", f"write its keys below it: {_keys(kind)}")
        return
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    for key, item in value.items():
        if key in fields:
            yield from _walk(document, item, fields[key].type, (*path, key))
            continue
        absent = [name for name in fields if name not in value]
        fix = ELSEWHERE.get(key) or suggestion(key, absent or fields, f"remove it; known here: {_keys(kind)}")
        yield document.problem((*path, key), "unknown key", fix)
    for name, field in fields.items():
        if field.required and name not in value:
            yield document.problem(path, f"`{name}` is missing", MISSING.get(name, f"add `{name}:`"))


def _keys(kind: type[Section]) -> str:
    return ", ".join(field.name for field in msgspec.structs.fields(kind))


def _leaf(
    document: Document, value: Any, annotation: Any, path: Path, *, sizes_only: bool = False
) -> Iterator[Problem]:
    """One value against its type. `sizes_only`: a container whose items are walked on their own."""
    if sizes_only:
        low, high = _lengths(annotation)
        if len(value) < low:
            yield document.problem(path, "is empty", f"name at least {low}, or remove the key")
        elif high is not None and len(value) > high:
            yield document.problem(path, f"has {len(value)} entries", f"keep to {high}")
        return
    kind = bare(annotation)
    try:
        if hasattr(kind, "parse"):
            kind.parse(value)
        else:
            msgspec.convert(value, annotation)
    except UnfitError as error:
        yield document.problem(path, str(error), error.fix)
    except (msgspec.ValidationError, ValueError):
        fix = expected(annotation)
        if get_origin(kind) is Literal and isinstance(value, str):
            fix = suggestion(value, [choice for choice in get_args(kind) if isinstance(choice, str)], fix)
        yield document.problem(path, f"{shown(value)} cannot stand here", fix)


def _lengths(annotation: Any) -> tuple[int, int | None]:
    low, high = 0, None
    for meta in metas(annotation):
        low = meta.min_length or low
        high = meta.max_length or high
    return low, high


def bare(annotation: Any) -> Any:
    """The type without `Annotated` and without `| None`."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in {Union, types.UnionType}:
        return bare(next(arm for arm in get_args(annotation) if arm is not type(None)))
    return annotation


def metas(annotation: Any) -> list[msgspec.Meta]:
    """All msgspec constraints and descriptions on a type, outermost last."""
    if get_origin(annotation) is Annotated:
        inner, *extra = get_args(annotation)
        return [*metas(inner), *(meta for meta in extra if isinstance(meta, msgspec.Meta))]
    if get_origin(annotation) in {Union, types.UnionType}:
        return [meta for arm in get_args(annotation) for meta in metas(arm)]
    return []


def expected(annotation: Any) -> str:
    """What to write for a plain type: `write a whole number from 1 to 10`."""
    kind = bare(annotation)
    if get_origin(kind) is Literal:
        return "write " + " or ".join(f"`{choice}`" for choice in get_args(kind))
    names = {
        bool: "`true` or `false`, without quotes",
        int: "a whole number, without quotes",
        float: "a number, without quotes",
        str: "text (in quotes if it looks like a number or is a word such as true)",
        datetime.date: "a date that exists, as year-month-day: 2027-03-31",
    }
    text = names.get(kind, "a value of the right kind")
    bounds = {
        name: bound for meta in metas(annotation) for name in _BOUNDS if (bound := getattr(meta, name)) is not None
    }
    said = [f"{_BOUNDS[name]} {bound:g}" for name, bound in bounds.items()]
    return f"write {text}{', ' if said else ''}{' and '.join(said)}"


_BOUNDS = {
    "gt": "more than",
    "ge": "at least",
    "le": "at most",
    "min_length": "length at least",
    "max_length": "length at most",
}
