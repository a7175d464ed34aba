"""The audit log: its chain goes on over restarts and rotations, and says where it was broken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.settings.chain import GENESIS, verify
from sidecar.telemetry.audit import Audit


def write(path: Path, count: int, *, max_bytes: int = 2**24, said: list[str] | None = None) -> None:
    audit = Audit(path, max_bytes=max_bytes, on_trouble=None if said is None else said.append)
    for i in range(count):
        audit.swap(result="ok", generation=i, sha256="ab", changes=[f"chat.core: {i}"], reason=None)
    audit.close(5)


def faults(*paths: Path) -> list[tuple[int, str]]:
    lines = [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]
    return [(link.line, link.fault) for link in verify(lines) if link.fault is not None]


def test_a_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    audit = Audit(path)
    audit.swap(result="rejected", generation=None, sha256=None, reason="line 3: unknown key `stabel`")
    audit.close(5)
    record = json.loads(path.read_bytes())
    assert list(record) == [
        "seq", "ts", "kind", "result", "generation", "sha256", "changes", "reason", "prev", "hash",
    ]  # fmt: skip
    assert (record["seq"], record["kind"], record["prev"]) == (1, "swap", GENESIS)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), st.sampled_from([900, 2**24]))
def test_the_chain_goes_on_over_restarts_and_rotations(tmp_path: Path, runs: list[int], max_bytes: int) -> None:
    for old in tmp_path.iterdir():
        old.unlink()
    path, rotated = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    for count in runs:
        write(path, count, max_bytes=max_bytes)
    files = [p for p in (rotated, path) if p.exists()]
    assert faults(*files) == []
    if files:
        last = json.loads(files[-1].read_bytes().splitlines()[-1])
        assert last["seq"] == sum(runs)


def test_the_chain_goes_on_after_a_rotation_right_before_the_restart(tmp_path: Path) -> None:
    path, rotated = tmp_path / "audit.jsonl", tmp_path / "audit.jsonl.1"
    write(path, 2)
    path.rename(rotated)
    write(path, 2)
    assert faults(rotated, path) == []
    assert json.loads(path.read_bytes().splitlines()[0])["seq"] == 3


def test_a_tampered_last_line_is_told_and_stays_visible(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes().replace(b"chat.core: 1", b"chat.core: 9"))
    said: list[str] = []
    write(path, 2, said=said)
    assert len(said) == 1
    assert "`hash` doesn't fit the record" in said[0]
    assert [line for line, _ in faults(path)] == [2]


@pytest.mark.parametrize("end", [b'{"seq": 3, "ts"', b"\xff\xfe", b"[]\n", b"\n"])
def test_an_unreadable_last_line_begins_a_new_segment(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "audit.jsonl"
    write(path, 2)
    path.write_bytes(path.read_bytes() + end)
    said: list[str] = []
    write(path, 2, said=said)
    assert len(said) == 1
    assert [line for line, _ in faults(path)] == [3]
    assert len(path.read_bytes().splitlines()) == 5


def test_a_last_line_too_long_to_be_a_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"x" * 2**21)
    said: list[str] = []
    write(path, 1, said=said)
    assert "too long" in said[0]
    assert json.loads(path.read_bytes().splitlines()[-1])["prev"] == GENESIS


def test_a_file_that_cannot_be_read_never_stops_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"{}\n")
    said: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        Audit(path, on_trouble=said.append)
    assert "Permission denied" in said[0]


def test_no_audit_and_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    none = Audit(None)
    none.swap(result="ok", generation=1, sha256=None)
    none.close()
    assert none.sink is None
    out = Audit("-")
    out.swap(result="ok", generation=1, sha256=None)
    out.close(5)
    assert json.loads(capfd.readouterr().out)["seq"] == 1


def test_a_record_that_was_dropped_leaves_no_gap(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    assert audit.sink is not None
    audit.swap(result="ok", generation=1, sha256=None)
    audit.swap(result="ok", generation=2, sha256=None, reason="x" * 2**24)
    audit.swap(result="ok", generation=3, sha256=None)
    audit.close(5)
    assert audit.sink.dropped == 1
    assert faults(tmp_path / "audit.jsonl") == []
