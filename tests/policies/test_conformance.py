"""What every policy must be, whoever writes it: checked for all of `compose.ORDER`."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import sidecar
from sidecar import compose
from sidecar.core.policy import Policy

ROOT = Path(sidecar.__file__).parent
TESTS = Path(__file__).parent


@pytest.mark.parametrize("policy", compose.ORDER, ids=lambda p: p.__name__)
def test_shape(policy: type[Policy]) -> None:
    module = inspect.getmodule(policy)
    assert module is not None
    assert module.__doc__, "a module says what it decides"
    hooks = [h for h in ("admit", "react", "enter", "leave", "settle") if getattr(policy, h) is not getattr(Policy, h)]
    assert hooks, "a policy has at least one hook"
    for hook in hooks:
        assert not inspect.iscoroutinefunction(getattr(policy, hook))
    name = Path(inspect.getfile(policy)).stem
    assert (TESTS / f"test_{name}.py").exists(), "each policy has a test file of its own"
    assert policy.__slots__ is not None


def test_each_line_of_the_order_has_its_reason() -> None:
    source = inspect.getsource(compose)
    order = source[source.index("ORDER = (") : source.index(")\n", source.index("ORDER = ("))]
    lines = [line for line in order.splitlines()[1:] if line.strip()]
    assert len(lines) == len(compose.ORDER)
    assert all("#" in line for line in lines)


def test_nothing_below_the_runtime_awaits() -> None:
    for folder in ("core", "policies", "dialects", "state", "settings", "telemetry"):
        for file in (ROOT / folder).rglob("*.py"):
            kinds = {type(node) for node in ast.walk(ast.parse(file.read_text()))}
            assert not kinds & {ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith}, file


def test_each_field_of_an_exchange_has_one_writer() -> None:
    """`x.<field> = …` stands only in the file that the field's comment names."""
    source = (ROOT / "core" / "facts.py").read_text()
    body = source[source.index("class Exchange") :]
    named = {}
    for line in body.splitlines():
        field, _, comment = line.partition("#")
        if ":" in field and comment and "/" in comment:
            folder, _, files = comment.strip().partition(":")[0].partition("/")
            named[field.split(":")[0].strip()] = {f"{folder.strip()}/{f.strip()}.py" for f in files.split(",")}
    assert len(named) > 8
    for file in (ROOT / "policies").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in [e for t in targets for e in (t.elts if isinstance(t, ast.Tuple) else [t])]:
                if isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name) and target.value.id == "x":
                    assert f"policies/{file.name}" in named[target.attr], f"{file.name} writes x.{target.attr}"
