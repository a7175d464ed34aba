"""The audit log's chain: intact as sealed, broken by any change."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from sidecar.settings.chain import GENESIS, line_hash, seal, to_line, verify


def log(count, first=1, prev=GENESIS):
    lines = []
    for seq in range(first, first + count):
        record = {"seq": seq, "ts": "2026-11-23T00:00:00Z", "kind": "swap", "result": "ok", "generation": seq,
                  "sha256": "ab" * 32, "changes": ["chat.core: canary 10% → 25%"], "reason": None}  # fmt: skip
        line = to_line(seal(record, prev))
        prev = line_hash(line)
        lines.append(line + b"\n")
    return lines


def first_fault(lines):
    return next(((link.line, link.seq, link.fault) for link in verify(lines) if link.fault), None)


def test_an_untouched_log_is_intact():
    lines = log(5)
    assert [(link.line, link.seq, link.fault) for link in verify(lines)] == [(n, n, None) for n in range(1, 6)]
    assert json.loads(lines[0])["prev"] == GENESIS
    assert next(iter(json.loads(lines[0]))) == "seq"
    assert first_fault([]) is None


def test_a_rotated_log_goes_on_with_the_last_hash():
    old = log(3)
    new = log(2, first=4, prev=line_hash(old[-1]))
    assert first_fault(new) is None
    assert first_fault(old + new) is None


def test_tampering_is_found_where_it_happened():
    lines = log(5)
    changed = [*lines[:2], lines[2].replace(b'"generation":3', b'"generation":4'), *lines[3:]]
    assert first_fault(changed)[:2] == (3, 3)
    removed = lines[:2] + lines[3:]
    assert first_fault(removed)[:2] == (3, 4)
    swapped = [lines[0], lines[2], lines[1], *lines[3:]]
    assert first_fault(swapped)[0] == 2
    inserted = [*lines[:3], b'{"seq": 9}\n', *lines[3:]]
    assert first_fault(inserted)[0] == 4
    cut = [*lines[:4], lines[4][:-5]]
    assert "cut off" in first_fault(cut)[2]


def test_a_resealed_record_breaks_the_next_link():
    lines = log(3)
    record = json.loads(lines[1])
    record["generation"] = 99
    lines[1] = to_line(seal(record, record["prev"])) + b"\n"
    assert first_fault(lines)[:2] == (3, 3)


def test_other_white_space_breaks_the_next_link():
    lines = log(3)
    lines[1] = json.dumps(json.loads(lines[1])).encode() + b"\n"
    assert first_fault(lines)[:2] == (3, 3)


def test_a_gap_in_seq_is_found_even_with_good_hashes():
    lines = log(2)
    more = log(1, first=7, prev=line_hash(lines[-1]))
    assert "seq" in first_fault(lines + more)[2]


@given(st.binary(max_size=60).map(lambda data: data + b"\n"))
def test_any_line_is_judged(line):
    assert first_fault([line]) is not None


@given(st.integers(0, 3), st.data())
def test_any_changed_byte_is_found(index, data):
    lines = log(4)
    line = bytearray(lines[index])
    at = data.draw(st.integers(0, len(line) - 2))
    line[at] ^= data.draw(st.integers(1, 255))
    lines[index] = bytes(line)
    fault = first_fault(lines)
    # White space, an escape's case or a key's order cannot change in the last line unseen by its own hash alone.
    assert fault is not None or json.loads(lines[index]) == json.loads(log(4)[index])
