"""Bytes of a YAML or JSON file → plain data, refusing all that could mean two things.

Decides: which texts are one unambiguous document. Refused are duplicate keys, anchors and aliases (YAML bombs),
tags, several documents, keys that are not text, values that are nothing, NaN and infinity, more than 32 levels, files
that are too large, empty, or not UTF-8 text.
Does not decide: which keys mean something (`schema.py`, `validate.py`) and whether they make sense (`compile.py`).

YAML is read from PyYAML's event stream, which is iterative: depth costs no stack. Plain scalars follow a narrow
YAML 1.2 core rule: `true false null ~`, decimal integers and floats are values; everything else (`no`, `12:30`,
`2027-03-31`, `0x10`) is text. JSON is recognized by the file name's ending `.json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

import yaml

from sidecar.settings.positions import json_positions
from sidecar.settings.problems import MAX_PROBLEMS, ConfigError, Path, Problem, Severity, dotted

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None, "~": None, "": None}
# 18 digits always fit in 64 bits; anything longer stays text and is then refused by the schema.
_INT = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,32}|[0-9]{1,32}(?:\.[0-9]{0,32})?)(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_SURROGATE = re.compile(r"\\[uU][0-9a-fA-F]*[dD][89a-fA-F]")
_CONTROL_BYTES = bytes({*range(0x20), 0x7F} - {0x09, 0x0A, 0x0D})
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class Document:
    """A parsed file: its plain data, and the line of any path in it (found only when an error asks for one)."""

    __slots__ = ("_lines", "_text", "data", "file", "json")

    def __init__(self, file: str, text: str, data: Any, *, is_json: bool) -> None:
        self.file = file
        self.data = data
        self.json = is_json
        self._text = text
        self._lines: dict[Path, int] | None = None

    def line(self, path: Path) -> int | None:
        """The line, from 1, of the value at `path`, or of the nearest thing around it that is in the file."""
        if self._lines is None:
            self._lines = {}
            if self.json:
                self._lines.update(json_positions(self._text).lines)
            else:
                _Builder(self.file, self._lines).run(self._text)
        for length in range(len(path), -1, -1):
            if (line := self._lines.get(path[:length])) is not None:
                return line
        return None

    def problem(self, path: Path, message: str, fix: str, severity: Severity = "error") -> Problem:
        """A problem pinned to `path`, with file and line filled in."""
        return Problem(self.file, self.line(path), dotted(path), message, fix, severity)


def parse(data: bytes, file: str, *, limit: int = MAX_BYTES) -> Document:
    """The document in `data`. `file` is the name for messages and tells JSON (`.json`) from YAML.

    Raises ConfigError, with every fault found, and nothing else, whatever the bytes are.
    """
    text = _text(data, file, limit)
    if file.lower().endswith(".json"):
        return Document(file, text, _json(text, file), is_json=True)
    builder = _Builder(file, None)
    builder.run(text)
    if builder.problems:
        raise ConfigError(builder.problems)
    if "\\" in text and _SURROGATE.search(text):
        _refuse_surrogates(builder.data, file)
    return Document(file, text, builder.data, is_json=False)


def _refuse(file: str, line: int | None, message: str, fix: str, path: str = "") -> NoReturn:
    raise ConfigError([Problem(file, line, path, message, fix)])


def _text(data: bytes, file: str, limit: int) -> str:
    if len(data) > limit:
        size = f"more than {limit // 1024} KiB"
        _refuse(file, None, f"the file is too large: {size}", f"keep it under {limit // 1024} KiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        _refuse(file, line, "this is not UTF-8 text", "save the file as UTF-8")
    if len(data.translate(None, _CONTROL_BYTES)) != len(data) and (control := _CONTROL.search(text)):
        line = text.count("\n", 0, control.start()) + 1
        _refuse(file, line, f"control character U+{ord(control[0]):04X}: is this a binary file?", "remove it")
    if not text.strip():
        _refuse(file, 1, "the file is empty", "write the file whole, then rename it into place")
    return text


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json(text: str, file: str) -> Any:
    suspicious = False

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal suspicious
        mapping = dict(items)
        if len(mapping) != len(items) or None in mapping.values():
            suspicious = True
        return mapping

    try:
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=_constant)
    except json.JSONDecodeError as error:
        _refuse(
            file, error.lineno, f"not JSON: {error.msg}", "correct the syntax; a comma or a quote is the usual cause"
        )
    except RecursionError:
        _refuse(file, None, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
    except ValueError as error:
        _refuse(file, None, f"not a number that can be used: {str(error)[:60]}", "write an ordinary finite number")
    if type(data) in _CONTAINERS and _too_deep(data):
        _refuse(file, None, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
    if suspicious:
        _refuse_suspicious(text, data, file)
    if "\\" in text and _SURROGATE.search(text):
        _refuse_surrogates(data, file)
    return data


def _constant(name: str) -> NoReturn:
    raise ValueError(name)


def _refuse_suspicious(text: str, data: Any, file: str) -> None:
    found = json_positions(text)
    problems = [_duplicate(file, line, path, found.lines[path]) for path, line in found.duplicates]
    problems += [_nothing(file, found.lines.get(path), path) for path in _nothings(data)]
    if problems:
        raise ConfigError(problems[:MAX_PROBLEMS])


_CONTAINERS = frozenset({dict, list})


def _too_deep(data: Any) -> bool:
    level: list[Any] = [data]
    for _ in range(MAX_DEPTH):
        below = [node.values() if type(node) is dict else node for node in level]
        level = [node for nodes in below for node in nodes if type(node) in _CONTAINERS]
        if not level:
            return False
    return True


def _nothings(data: Any) -> Iterator[Path]:
    stack: list[tuple[Path, Any]] = [((), data)]
    while stack:
        path, node = stack.pop()
        if isinstance(node, dict):
            for key, value in node.items():
                if value is None:
                    yield (*path, key)
                stack.append(((*path, key), value))
        elif isinstance(node, list):
            stack.extend(((*path, index), item) for index, item in enumerate(node))


def _refuse_surrogates(data: Any, file: str) -> None:
    """Half a surrogate pair is no character: it can't be encoded into a header, a log line or an event."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        _refuse(
            file, None, "an escape names half a surrogate pair, which is no character", "write the character itself"
        )


def _duplicate(file: str, line: int, path: Path, first: int | None) -> Problem:
    said = "this key stands twice" if first is None else f"this key stands twice (first on line {first})"
    return Problem(file, line, dotted(path), said, "remove one of the two")


def _nothing(file: str, line: int | None, path: Path) -> Problem:
    return Problem(file, line, dotted(path), "has no value", "write a value, or remove the key")


# --- YAML ------------------------------------------------------------------------------------------------------------


class _StopError(Exception):
    """Nothing after this point can be understood; the problems so far are all there is to say."""


class _Frame:
    """A mapping or list under construction. `at` is the key that waits for its value (None: a key comes next), or the
    index of the item that comes next."""

    __slots__ = ("at", "container", "mapping")

    def __init__(self, container: Any, *, mapping: bool) -> None:
        self.container = container
        self.mapping = mapping
        self.at: str | int | None = None if mapping else 0

    def done(self) -> None:
        """The value at `at` is complete."""
        self.at = len(self.container) if not self.mapping else None


class _Builder:
    """Turns an event stream into data, with `lines` (path → line) filled in if it is a dict."""

    def __init__(self, file: str, lines: dict[Path, int] | None) -> None:
        self.file = file
        self.lines = lines
        self.data: Any = None
        self.problems: list[Problem] = []
        self.documents = 0
        self.stack: list[_Frame] = []

    def run(self, text: str) -> None:
        """Reads the whole text. Afterwards `problems` is empty, or `data` is not to be used."""
        try:
            for event in yaml.parse(text, Loader=_LOADER):
                self.take(event)
        except _StopError:
            return
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            self.say(mark.line if mark else None, f"not YAML: {error.problem or error.context}", "correct the syntax")
        except yaml.YAMLError as error:
            self.say(None, f"not YAML: {getattr(error, 'reason', 'cannot be read')}", "correct the syntax")
        if not self.documents and not self.problems:
            self.say(0, "the file is empty", "write the file whole, then rename it into place")

    def take(self, event: Any) -> None:
        kind = type(event)
        if kind is yaml.ScalarEvent:
            self.scalar(event)
        elif kind is yaml.MappingStartEvent:
            self.open(event, {}, mapping=True)
        elif kind is yaml.SequenceStartEvent:
            self.open(event, [], mapping=False)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            self.stack.pop()
            if self.stack:
                self.stack[-1].done()
        elif kind is yaml.AliasEvent:
            self.stop(event, "aliases (`*name`) are refused", "write the value out")
        elif kind is yaml.DocumentStartEvent:
            self.documents += 1
            if self.documents > 1:
                self.stop(event, "a second document starts here", "keep one document in a file: remove `---`")

    def scalar(self, event: Any) -> None:
        if event.anchor is not None or event.tag is not None:
            self.decorated(event)
        value = plain_scalar(event.value) if event.implicit[0] else event.value
        top = self.stack[-1] if self.stack else None
        if top is not None and top.at is None:
            self.key(event, value, top)
            return
        if value is None:
            self.problems.append(_nothing(self.file, event.start_mark.line + 1, self.here()))
        self.add(value, event)
        if top is not None:
            top.done()

    def key(self, event: Any, value: Any, top: _Frame) -> None:
        line = event.start_mark.line
        if not isinstance(value, str):
            self.say(line, f"the key `{event.value[:60]}` is not text", f'put it in quotes: "{event.value[:60]}"')
            value = event.value
        top.at = value
        if value in top.container:
            self.problems.append(_duplicate(self.file, line + 1, self.here(), None))
        elif self.lines is not None:
            self.lines[self.here()] = line + 1
        if len(self.problems) >= MAX_PROBLEMS:
            raise _StopError

    def open(self, event: Any, container: Any, *, mapping: bool) -> None:
        if event.anchor is not None or event.tag is not None:
            self.decorated(event)
        if self.stack and self.stack[-1].at is None:
            self.stop(event, "a mapping or list cannot be a key", "use text as the key")
        if len(self.stack) >= MAX_DEPTH:
            self.stop(event, f"nested more than {MAX_DEPTH} levels deep", "flatten it")
        self.add(container, event)
        self.stack.append(_Frame(container, mapping=mapping))

    def add(self, value: Any, event: Any) -> None:
        """Puts a value where it belongs; a container is filled afterwards."""
        if self.lines is not None:
            self.lines.setdefault(self.here(), event.start_mark.line + 1)
        if not self.stack:
            self.data = value
            return
        top = self.stack[-1]
        if top.mapping:
            top.container[top.at] = value
        else:
            top.container.append(value)

    def here(self) -> Path:
        """The path of the value that is being read, or of the mapping whose key comes next."""
        return tuple(frame.at for frame in self.stack if frame.at is not None)

    def decorated(self, event: Any) -> NoReturn:
        if event.anchor is not None:
            self.stop(event, "anchors (`&name`) are refused", "write the value out where it is used")
        self.stop(event, "tags (`!type`) are refused", "remove the tag")

    def say(self, line: int | None, message: str, fix: str) -> None:
        self.problems.append(Problem(self.file, None if line is None else line + 1, dotted(self.here()), message, fix))

    def stop(self, event: Any, message: str, fix: str) -> NoReturn:
        self.say(event.start_mark.line, message, fix)
        raise _StopError


def plain_scalar(text: str) -> Any:
    """An unquoted YAML scalar as a value: bool, None, int, float, or itself."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] in "-+.0123456789":
        if _INT.fullmatch(text):
            return int(text)
        if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
            return number
    return text
