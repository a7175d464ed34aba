"""The offline commands as a shell sees them: what they print, where, and their exit codes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from sidecar.offline import audit, check, diff, explain, schema
from sidecar.settings.chain import GENESIS, line_hash, seal, to_line

CONFIG = Path(__file__).parents[2] / "config"
GOOD = "generation: 1\nunlisted: reject\nmodels:\n  a-002: {provider: openai}\npins:\n  x: {stable: a-002}\n"


@pytest.fixture
def sh(capsys):
    """Runs a command; returns (exit code, stdout, stderr)."""

    def run(command, *words):
        parser = argparse.ArgumentParser()
        command.configure(parser)
        code = command.run(parser.parse_args([str(word) for word in words]))
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


@pytest.fixture
def file(tmp_path):
    """Writes a file and returns its path."""

    def write(name, text):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


# --- check -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pins", "settings"), [("pins.yaml", "sidecar.yaml"), ("pins-full.yaml", "sidecar-full.yaml")])
def test_the_samples_pass(sh, pins, settings):
    code, out, err = sh(check, CONFIG / pins, "--config", CONFIG / settings)
    assert code == 0
    assert "good, generation" in out
    assert "error:" not in err


def test_a_good_file(sh, file):
    code, out, err = sh(check, file("p.yaml", GOOD))
    assert (code, err) == (0, "")
    assert "good, generation 1, 1 pins, 0 aliases, 1 models" in out
    assert "--config" in out


def test_a_bad_file_names_file_line_and_fix(sh, file):
    path = file("p.yaml", GOOD.replace("stable: a-002", "stable: a-003"))
    code, out, err = sh(check, path)
    assert code == 1
    assert f"error: {path}:6: pins.x.stable: there is no model 'a-003'" in err
    assert "did you mean `a-002`?" in err
    assert "1 problem" in out


def test_warnings_are_not_counted_as_problems(sh, file):
    bad = GOOD.replace("stable: a-002", "stable: a-003").replace("generation: 1\n", "")
    code, out, err = sh(check, file("p.yaml", bad))
    assert (code, "warning: " in err) == (1, True)
    assert out.endswith("cannot be used, 1 problem\n")


def test_warnings_pass_unless_strict(sh, file):
    path = file("p.yaml", GOOD.replace("generation: 1\n", ""))
    assert sh(check, path)[0] == 0
    code, out, err = sh(check, path, "--strict")
    assert code == 1
    assert "has warnings" in out
    assert "warning: " in err


def test_providers_are_checked_with_config(sh, file):
    path = file("p.yaml", GOOD.replace("provider: openai", "provider: nobody"))
    assert sh(check, path)[0] == 0
    code, _, err = sh(check, path, "--config", CONFIG / "sidecar.yaml")
    assert code == 1
    assert "provider 'nobody' is not configured" in err


def test_settings_without_a_pin_file_do_for_a_check(sh, file):
    settings = file("s.yaml", "providers:\n  openai: {dialect: openai, base_url: 'https://h/v1'}\n")
    assert sh(check, file("p.yaml", GOOD), "--config", settings)[0] == 0


def test_what_cannot_be_read_is_2(sh, file, tmp_path):
    assert sh(check, tmp_path / "nowhere.yaml")[0] == 2
    assert sh(check, tmp_path)[0] == 2
    assert sh(check, file("p.yaml", GOOD), "--config", tmp_path / "nowhere.yaml")[0] == 2


def test_check_in_json(sh, file):
    code, out, err = sh(check, file("p.yaml", GOOD), "--format", "json")
    answer = json.loads(out)
    assert (code, err, answer["ok"], answer["generation"], answer["problems"]) == (0, "", True, 1, [])
    assert len(answer["sha256"]) == 64
    code, out, _ = sh(check, file("q.yaml", "unlisted: x\nbogus: 1\n"), "--format", "json")
    answer = json.loads(out)
    assert (code, answer["ok"]) == (1, False)
    assert [(p["line"], p["path"], p["severity"]) for p in answer["problems"]] == [
        (1, "unlisted", "error"),
        (2, "bogus", "error"),
    ]


# --- diff ------------------------------------------------------------------------------------------------------------


def test_nothing_changes(sh, file):
    assert sh(diff, file("a.yaml", GOOD), file("b.yaml", f"# a remark\n{GOOD}")) == (0, "nothing changes\n", "")


def test_changes_in_words(sh, file):
    new = GOOD.replace("x: {stable: a-002}", "x: {stable: a-002, task: t}").replace("generation: 1", "generation: 2")
    code, out, _ = sh(diff, file("a.yaml", GOOD), file("b.yaml", new))
    assert (code, out) == (1, "generation 1 → 2\nx: task set to t\n")


def test_diff_in_json(sh, file):
    new = GOOD.replace("generation: 1", "generation: 2")
    code, out, _ = sh(diff, file("a.yaml", GOOD), file("b.yaml", new), "--format", "json")
    answer = json.loads(out)
    assert (code, answer["changes"]) == (1, ["generation 1 → 2"])
    assert (answer["old"]["generation"], answer["new"]["generation"]) == (1, 2)


def test_diff_of_an_unusable_file_is_2(sh, file, tmp_path):
    good = file("a.yaml", GOOD)
    bad = file("b.yaml", "unlisted: x\n")
    code, out, err = sh(diff, good, bad)
    assert (code, out) == (2, "")
    assert "b.yaml:1: unlisted" in err
    assert sh(diff, tmp_path / "nowhere", good)[0] == 2
    assert json.loads(sh(diff, good, bad, "--format", "json")[1])["ok"] is False


# --- schema ----------------------------------------------------------------------------------------------------------


def test_schemas(sh):
    code, out, _ = sh(schema)
    assert code == 0
    assert json.loads(out)["$ref"] == "#/$defs/PinFile"
    assert json.loads(sh(schema, "--settings")[1])["$ref"] == "#/$defs/SidecarFile"


# --- audit -----------------------------------------------------------------------------------------------------------


def log(count):
    lines, prev = [], GENESIS
    for seq in range(1, count + 1):
        lines.append(to_line(seal({"seq": seq, "kind": "swap", "generation": seq}, prev)))
        prev = line_hash(lines[-1])
    return lines


def test_an_intact_log(sh, file):
    lines = log(3)
    code, out, _ = sh(audit, file("audit.jsonl", b"\n".join(lines) + b"\n"))
    assert code == 0
    assert "intact, 3 records" in out
    assert line_hash(lines[-1]) in out


def test_an_empty_log_is_intact(sh, file):
    assert sh(audit, file("audit.jsonl", b""))[0] == 0


def test_a_broken_log_names_record_and_line(sh, file):
    lines = log(4)
    lines[2] = lines[2].replace(b'"generation":3', b'"generation":9')
    path = file("audit.jsonl", b"\n".join(lines) + b"\n")
    code, out, _ = sh(audit, path)
    assert code == 1
    assert f"{path}:3: broken at record 3" in out
    code, out, _ = sh(audit, path, "--format", "json")
    answer = json.loads(out)
    assert (code, answer["intact"], answer["records"], answer["broken"]["line"]) == (1, False, 2, 3)


def test_an_unreadable_log(sh, tmp_path):
    code, _, err = sh(audit, tmp_path / "nowhere")
    assert code == 2
    assert "cannot be read" in err
    assert sh(audit, tmp_path)[0] == 2
    assert json.loads(sh(audit, tmp_path / "nowhere", "--format", "json")[1])["intact"] is None


# --- explain ---------------------------------------------------------------------------------------------------------

PROTECTED = """\
generation: 1
unlisted: reject
defaults: {max_attempts: 4, retry: {base: 50ms}}
models:
  a-002: {provider: openai, budget: {tokens_per_day: 500000}, breaker: {failures: 3}}
  b-002: {provider: openai-eu}
pins:
  x:
    stable: a-002
    fallback: [b-002]
    hedge: {model: b-002, after: 200ms}
    cache: {ttl: 1h}
    budget: {scope: pod, tokens_per_minute: 5000}
    over_budget: b-002
"""


def test_explain_tells_the_order_of_targets_and_what_protects_a_call(sh, file):
    path = file("p.yaml", PROTECTED)
    code, out, _ = sh(explain, "--pins", path, "--model", "x")
    assert code == 0
    said = [line.strip() for line in out.splitlines()]
    assert said[0].startswith("x -> a-002 at openai")
    for line in (
        "hedge after 200 ms",
        "then b-002 at openai-eu",
        "hedge: {model: b-002, after: 200ms}",
        "cache: {ttl: 1h, always: false}",
        "budget: {scope: pod, tokens_per_minute: 5000}",
        "over_budget: b-002",
        "attempts: at most 4, retries after 50ms and more",
    ):
        assert line in said
    assert any(line.startswith("budget of a-002: {scope: pod, tokens_per_day: 500000") for line in said)
    assert any(line.startswith("breaker of a-002: {failures: 3, ") for line in said)

    code, out, _ = sh(explain, "--pins", path, "--model", "x", "--format", "json")
    told = json.loads(out)
    assert [target["model"] for target in told["targets"]] == ["a-002", "b-002"]
    assert told["protection"]["hedge"] == "{model: b-002, after: 200ms}"
