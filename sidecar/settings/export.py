"""What the schema says, for editors (JSON Schema) and for people (docs/configuration.md).

Decides: how the schema is shown. Does not decide: the schema.
Run `python -m sidecar.settings.export > docs/configuration.md` after changing `schema.py` or `options.py`.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import msgspec

from sidecar.settings.options import SidecarFile
from sidecar.settings.problems import shown
from sidecar.settings.schema import PinFile, Section
from sidecar.settings.units import Duration, Size
from sidecar.settings.validate import bare, metas

_DEFAULT = re.compile(r" Default: (?P<text>[^.]*(?:\.[^. ][^.]*)*)\.$")


def pins_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the pin file."""
    return _schema(PinFile, "Model Sidecar pin file")


def settings_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of sidecar.yaml."""
    return _schema(SidecarFile, "Model Sidecar settings")


def _schema(shape: type[Section], title: str) -> dict[str, Any]:
    """Written by hand rather than by `msgspec.json.schema`: that one offers `null`, which the loader refuses, and
    cannot write down the defaults of custom types."""
    definitions = {section.__name__: _object(section) for _, section in _sections(shape, "", {})}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "$ref": f"#/$defs/{shape.__name__}",
        "$defs": definitions,
    }


def _object(section: type[Section]) -> dict[str, Any]:
    fields = msgspec.structs.fields(section)
    schema: dict[str, Any] = {
        "type": "object",
        "description": _about(section),
        "properties": {field.name: _property(field) for field in fields},
        "additionalProperties": False,
    }
    if required := [field.name for field in fields if field.required]:
        schema["required"] = required
    return schema


def _property(field: msgspec.structs.FieldInfo) -> dict[str, Any]:
    schema = {"description": _meaning(field.type), **_node(field.type)}
    value = field.default
    if isinstance(value, Duration | Size):
        schema["default"] = repr(value)
    elif isinstance(value, str | int | float):  # not None, and not a section's own defaults
        schema["default"] = value
    return schema


def _node(annotation: Any) -> dict[str, Any]:
    kind = bare(annotation)
    origin = get_origin(kind)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if isinstance(kind, type) and issubclass(kind, Section):
        return {"$ref": f"#/$defs/{kind.__name__}"}
    if hasattr(kind, "SCHEMA"):
        return dict(kind.SCHEMA)
    node: dict[str, Any]
    if origin is dict:
        node, length = {"type": "object", "additionalProperties": _node(get_args(kind)[1])}, "Properties"
    elif origin is tuple:
        node, length = {"type": "array", "items": _node(get_args(kind)[0])}, "Items"
    else:
        node, length = dict(_JSON_TYPES[kind]), "Length"
    names = {**_JSON_BOUNDS, "min_length": f"min{length}", "max_length": f"max{length}"}
    for meta in metas(annotation):
        node.update({names[name]: bound for name in names if (bound := getattr(meta, name)) is not None})
    return node


_JSON_TYPES = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    datetime.date: {"type": "string", "format": "date"},
}
_JSON_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "le": "maximum"}


def _meaning(annotation: Any) -> str:
    return next((meta.description for meta in reversed(metas(annotation)) if meta.description), "")


def _about(section: type[Section]) -> str:
    return (section.__doc__ or "").strip().splitlines()[0]


# --- docs/configuration.md -------------------------------------------------------------------------------------------

_INTRO = """# Configuration

Generated from the schema by `python -m sidecar.settings.export > docs/configuration.md`; don't edit it by hand.

There are two files. `sidecar.yaml` holds the settings of one sidecar and is read once, at start. The pin file says
what each name means and is swapped while the sidecar runs; [pins.md](pins.md) explains it.

Both are strict: an unknown key, a key that stands twice, or a key without a value is an error that names file, line
and fix. Durations need a unit: `200ms`, `3s`, `10m`, `6h`, `2d`. Sizes are `8KiB`, `32MiB`, `1GiB` or a plain number
of bytes. A `*` in a section's name stands for a name of your own. Paths are relative to the file that they stand in.
"""

_FLAGS = """
Three settings can be given at start instead, and then beat the file: `--listen` or `SIDECAR_LISTEN`,
`--admin-listen` or `SIDECAR_ADMIN_LISTEN`, `--pins` or `SIDECAR_PINS`. `--exact-tokens` or
`SIDECAR_EXACT_TOKENS=1` counts the tokens of OpenAI models' requests instead of estimating them (extra `tokens`).
"""


def configuration_markdown() -> str:
    """The whole text of docs/configuration.md."""
    lines = [_INTRO, "## sidecar.yaml", _FLAGS]
    for heading, shape in (("", SidecarFile), ("## The pin file", PinFile)):
        if heading:
            lines += [heading, ""]
        for path, section in _sections(shape, "", {}):
            lines += _table(path, section)
    return "\n".join(lines).rstrip("\n") + "\n"


def _sections(shape: type[Section], path: str, seen: dict[type, str]) -> Iterator[tuple[str, type[Section]]]:
    """Each section once, under the first path that leads to it, outer ones first."""
    if shape in seen:
        return
    seen[shape] = path
    yield path, shape
    for field in msgspec.structs.fields(shape):
        kind, star = _inner(field.type)
        if kind is not None:
            yield from _sections(kind, f"{path}.{field.name}{star}".lstrip("."), seen)


def _inner(annotation: Any) -> tuple[type[Section] | None, str]:
    kind = bare(annotation)
    star = ""
    if get_origin(kind) is dict:
        kind, star = bare(get_args(kind)[1]), ".*"
    return (kind, star) if isinstance(kind, type) and issubclass(kind, Section) else (None, "")


def _table(path: str, section: type[Section]) -> list[str]:
    title = f"### `{path}`" if path else "### Top level"
    lines = [title, "", _about(section), "", "| key | type | default | meaning |", "|---|---|---|---|"]
    own = section.__annotations__  # before what it inherits
    for field in sorted(msgspec.structs.fields(section), key=lambda field: field.name not in own):
        text = _meaning(field.type)
        default = _default(field)
        if found := _DEFAULT.search(text):
            default, text = found["text"], text[: found.start()]
        cells = (f"`{field.name}`", _type(field.type), default, text)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]


def _default(field: msgspec.structs.FieldInfo) -> str:
    if field.required:
        return "**needed**"
    if field.default_factory is not msgspec.NODEFAULT:
        return "empty"
    value = field.default
    if value is None or value == ():
        return "none"
    if isinstance(value, Section):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, str):
        return f"`{value}`" if value else "empty"
    if isinstance(value, tuple):
        return f"`[{', '.join(shown(str(item)) for item in value)}]`"
    return f"`{value!r}`"


FAR = 10**6  # bounds beyond this only guard against nonsense; tables leave them out

_TYPE_NAMES = {str: "text", bool: "true or false", int: "whole number", float: "number", datetime.date: "date"}


def _type(annotation: Any) -> str:
    kind = bare(annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"names, each with {_type(get_args(kind)[1])}"
    if isinstance(kind, type) and issubclass(kind, Section):
        return "section"
    text: str = _TYPE_NAMES.get(kind) or kind.KIND
    bounds = [(sign, getattr(meta, name)) for meta in metas(annotation) for name, sign in _SIGNS.items()]
    said = ", ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None and bound < FAR)
    return f"{text}, {said}" if said else text


_SIGNS = {"gt": ">", "ge": "≥", "le": "≤"}


if __name__ == "__main__":
    sys.stdout.write(configuration_markdown())
