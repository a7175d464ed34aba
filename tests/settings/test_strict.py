"""One clear document or a named refusal, whatever the bytes are."""

from __future__ import annotations

import json
import time

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from sidecar.settings.positions import json_positions
from sidecar.settings.problems import MAX_PROBLEMS, ConfigError
from sidecar.settings.strict import MAX_DEPTH, parse, plain_scalar


def refused(data: bytes, file: str = "pins.yaml"):
    with pytest.raises(ConfigError) as caught:
        parse(data, file)
    return caught.value.problems


BAD_YAML = [
    ("duplicate key", b"a: 1\nb: 2\na: 3\n", 3, "a", "twice", "remove one"),
    ("duplicate key below", b"a:\n  x: 1\n  y: 2\n  x: 3\n", 4, "a.x", "twice", "remove one"),
    ("anchor", b"a: &x 1\n", 1, "a", "anchors", "write the value out"),
    ("anchor on a mapping", b"a: &x {b: 1}\n", 1, "a", "anchors", "write the value out"),
    ("alias", b"a: 1\nb: *x\n", 2, "b", "aliases", "write the value out"),
    ("merge key", b"a: {b: 1}\nc:\n  <<: *a\n", 3, "c.<<", "aliases", "write the value out"),
    ("tag", b"a: !!python/object:os.system 1\n", 1, "a", "tags", "remove the tag"),
    ("tag on a list", b"a: !x [1]\n", 1, "a", "tags", "remove the tag"),
    ("two documents", b"a: 1\n---\nb: 2\n", 2, "", "second document", "remove `---`"),
    ("number as key", b"a:\n  12: x\n", 2, "a", "key `12` is not text", "quotes"),
    ("boolean as key", b"true: x\n", 1, "", "key `true` is not text", '"true"'),
    ("mapping as key", b"{a: 1}: x\n", 1, "", "cannot be a key", "use text"),
    ("list as key", b"? [a]\n: x\n", 1, "", "cannot be a key", "use text"),
    ("nothing", b"a: 1\nb:\nc: 2\n", 2, "b", "has no value", "remove the key"),
    ("null", b"a: ~\n", 1, "a", "has no value", "remove the key"),
    ("tab", b"a:\n\tb: 1\n", 2, "a", "not YAML", "syntax"),
    ("unclosed", b"a: [1, 2\nb: 3\n", 2, "a[2]", "not YAML", "syntax"),
    ("empty", b"", 1, "", "empty", "rename it into place"),
    ("white space", b" \n\n", 1, "", "empty", "rename it into place"),
    ("comments only", b"# nothing\n", 1, "", "empty", "rename it into place"),
    ("NUL", b"a: 1\nb: \x00\n", 2, "", "U+0000", "remove it"),
    ("latin-1", b"a: 1\nb: caf\xe9\n", 2, "", "UTF-8", "save the file as UTF-8"),
    ("UTF-16", "a: 1".encode("utf-16"), 1, "", "UTF-8", "save the file as UTF-8"),
    ("gzip", b"\x1f\x8b\x08\x00abc", 1, "", "UTF-8", "save the file as UTF-8"),
]


@pytest.mark.parametrize(
    ("data", "line", "path", "message", "fix"), [row[1:] for row in BAD_YAML], ids=[r[0] for r in BAD_YAML]
)
def test_bad_yaml_is_refused_with_its_line(data, line, path, message, fix):
    problem = refused(data)[0]
    assert problem.file == "pins.yaml"
    assert (problem.line, problem.path) == (line, path)
    assert message in problem.message
    assert fix in problem.fix


BAD_JSON = [
    ("duplicate key", b'{"a": 1,\n "b": [{"x": 1,\n "x": 2}]}', 3, "b[0].x", "twice (first on line 2)", "remove one"),
    ("escaped duplicate", b'{"a": 1,\n "\\u0061": 2}', 2, "a", "twice", "remove one"),
    ("null", b'{"a": {"b":\n null}}', 1, "a.b", "has no value", "remove the key"),
    ("NaN", b'{"a": NaN}', None, "", "number", "finite"),
    ("Infinity", b'{"a": -Infinity}', None, "", "number", "finite"),
    ("5,000 digits", b'{"a": ' + b"9" * 5000 + b"}", None, "", "number", "finite"),
    ("trailing comma", b'{"a": 1,\n}', 2, "", "not JSON", "syntax"),
    ("two documents", b'{"a": 1}\n{"b": 2}', 2, "", "not JSON", "syntax"),
    ("cut off", b'{"a": 1,\n "b": {', 2, "", "not JSON", "syntax"),
    ("half a surrogate pair", b'{"a": "\\ud800"}', None, "", "surrogate", "character itself"),
    ("33 levels", b'{"a":' * 33 + b"1" + b"}" * 33, None, "", "levels", "flatten"),
    ("10^5 lists", b"[" * 100_000 + b"]" * 100_000, None, "", "levels", "flatten"),
    ("10^5 mappings", b'{"a":' * 100_000 + b"1" + b"}" * 100_000, None, "", "levels", "flatten"),
]


@pytest.mark.parametrize(
    ("data", "line", "path", "message", "fix"), [row[1:] for row in BAD_JSON], ids=[r[0] for r in BAD_JSON]
)
def test_bad_json_is_refused_with_its_line(data, line, path, message, fix):
    problem = refused(data, "pins.JSON")[0]
    assert (problem.line, problem.path) == (line, path)
    assert message in problem.message
    assert fix in problem.fix


def test_all_duplicates_are_named():
    problems = refused(b"a: 1\na: 2\nb: 1\nb: 2\n")
    assert [(p.line, p.path) for p in problems] == [(2, "a"), (4, "b")]


def test_many_problems_are_cut():
    assert len(refused(b"a: 1\n" * 5000)) == MAX_PROBLEMS


def test_too_large_is_refused_before_it_is_read():
    problem = refused(b"a: 1\n" * 300_000)[0]
    assert "too large" in problem.message
    assert "1024 KiB" in problem.fix


@pytest.mark.parametrize("depth", [100, 1000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ("{a: ", "}"), ("- ", ""), ("? ", "")])
def test_depth_costs_neither_stack_nor_time(depth, opening, closing):
    begin = time.perf_counter()
    problem = refused((opening * depth + "1" + closing * depth).encode())[0]
    assert "levels" in problem.message or "cannot be a key" in problem.message
    assert time.perf_counter() - begin < 5


def test_thirty_two_levels_are_fine():
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    for file in ("a.yaml", "a.json"):
        assert parse(deep.encode(), file).data
        with pytest.raises(ConfigError):
            parse(f"[{deep}]".encode(), file)


def test_billion_laughs_is_refused_at_its_first_anchor():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    problem = refused("\n".join(lines).encode())[0]
    assert (problem.line, problem.path) == (1, "a0")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("~", None),
        ("null", None),
        ("7", 7),
        ("-3", -3),
        ("+3", 3),
        ("007", 7),
        ("1.25", 1.25),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("no", "no"),
        ("No", "No"),
        ("True", "True"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("12:30:45", "12:30:45"),
        ("2027-03-31", "2027-03-31"),
        ("0x10", "0x10"),
        ("0o7", "0o7"),
        ("1_000", "1_000"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("1e999", "1e999"),
        ("9" * 5000, "9" * 5000),
        ("gpt-4", "gpt-4"),
    ],
)
def test_plain_scalars(text, value):
    read = plain_scalar(text)
    assert read == value
    assert type(read) is type(value)


def test_quoted_scalars_are_text():
    assert parse(b'a: "12"\nb: \'true\'\nc: "null"\nd: |\n  7\n', "x.yaml").data == {
        "a": "12",
        "b": "true",
        "c": "null",
        "d": "7\n",
    }


def test_a_byte_order_mark_and_windows_lines_are_fine():
    assert parse("\ufeffa: 1\r\nb: 2\r\n".encode(), "x.yaml").data == {"a": 1, "b": 2}
    assert parse('\ufeff{"a": 1}\r\n'.encode(), "x.json").data == {"a": 1}


def test_lines_of_paths():
    text = b"a: 1\nb:\n  c: {d: [1,\n    2]}\n  e: [\n    {f: 1}, {f: 2}]\n"
    document = parse(text, "x.yaml")
    paths = {
        ("a",): 1,
        ("b",): 2,
        ("b", "c"): 3,
        ("b", "c", "d", 1): 4,
        ("b", "e"): 5,
        ("b", "e", 1, "f"): 6,
        ("b", "unknown"): 2,
        ("unknown",): 1,
    }
    assert {path: document.line(path) for path in paths} == paths


def test_lines_are_the_same_in_json():
    text = b'{"a": 1,\n"b": {\n  "c": {"d": [1,\n    2]},\n  "e": [\n    {"f": "}]"}, {"f": [[], {}, 3]}]}}\n'
    document = parse(text, "x.json")
    assert document.line(("a",)) == 1
    assert document.line(("b", "c", "d", 1)) == 4
    assert document.line(("b", "e", 1, "f", 2)) == 6


def test_the_pure_python_parser_reads_alike(monkeypatch):
    """Where PyYAML was built without libyaml."""
    text = b"a: {b: [1, x, 'y', 2.5, true]}\nc:\n  - d: 1\n"
    fast = parse(text, "x.yaml").data
    monkeypatch.setattr("sidecar.settings.strict._LOADER", yaml.SafeLoader)
    assert parse(text, "x.yaml").data == fast
    assert "anchors" in refused(b"a: &x 1\n")[0].message
    assert "surrogate" in refused(b'a: "\\ud800"\n')[0].message


json_values = st.recursive(
    st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=6), children, max_size=4),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 1]))
def test_json_is_read_as_the_json_module_reads_it(value, indent):
    text = json.dumps(value, indent=indent)
    if not any(ord(c) < 32 and c != "\n" for c in text) and "\x7f" not in text:
        try:
            document = parse(text.encode(), "x.json")
        except ConfigError as error:
            assert "surrogate" in str(error)
            return
        assert document.data == value
        assert document.line(()) == 1


@given(json_values)
def test_positions_know_every_key(value):
    text = json.dumps(value, indent=1)
    lines = json_positions(text).lines
    stack = [((), value)]
    while stack:
        path, node = stack.pop()
        assert path in lines
        if isinstance(node, dict):
            stack += [((*path, key), item) for key, item in node.items()]
            for key in node:
                assert json.dumps(key) in text.split("\n")[lines[(*path, key)] - 1]
        elif isinstance(node, list):
            stack += [((*path, index), item) for index, item in enumerate(node)]


@given(st.binary(max_size=200), st.sampled_from(["x.yaml", "x.json"]))
@example(b"\xff\xfe", "x.yaml")
@example(b"%YAML 9.9\n---\na", "x.yaml")
@example(b"%TAG ! tag:x,2000:\n--- !a b", "x.yaml")
@example(b'"\\ud800"', "x.yaml")
@example(b"\xc2\x85", "x.yaml")
@example(b"\xef\xbb\xbf", "x.json")
def test_any_bytes_are_read_or_refused(data, file):
    try:
        parse(data, file)
    except ConfigError as error:
        assert error.problems
        assert str(error).encode()
