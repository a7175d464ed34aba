"""How problems read."""

from sidecar.settings.problems import ConfigError, Problem, dotted, nearest, shown


def test_a_problem_reads_as_file_line_path_message_fix():
    problem = Problem("pins.yaml", 12, "pins.chat.core.stable", "no such model", "add it")
    assert str(problem) == "pins.yaml:12: pins.chat.core.stable: no such model — fix: add it"
    assert str(Problem("pins.yaml", None, "", "is empty", "")) == "pins.yaml: is empty"
    assert problem.as_dict()["severity"] == "error"
    assert str(ConfigError([problem, problem])).count("\n") == 1


def test_paths_are_ascii_and_one_line():
    assert dotted(("pins", "chat.core", "fallback", 0)) == "pins.chat.core.fallback[0]"
    assert dotted(("a b", "é\n")) == '"a b"."\\u00e9\\n"'
    assert len(dotted(("x" * 10_000,))) < 100


def test_values_are_shown_short_and_plain():
    assert [shown(v) for v in ({}, [], None, True, "x", 7)] == ["a mapping", "a list", "nothing", "true", '"x"', "7"]
    assert len(shown("x" * 1000)) == 59
    assert shown("\ud800\n") == '"\\ud800\\n"'


def test_near_names():
    assert nearest("chat.cor", ["chat.core", "vision"]) == ["chat.core"]
    assert nearest("x" * 300, ["x" * 300]) == []
    assert nearest("chat.42x", [f"chat.{n}" for n in range(10_000)])
