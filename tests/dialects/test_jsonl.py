"""Batch files: a model a line, all else as it came."""

from __future__ import annotations

import pytest

from sidecar.dialects import jsonl
from sidecar.dialects.drafts import splice
from sidecar.errors import RefusedError


def rewritten(body: bytes, header: str | None = None) -> bytes:
    return splice(
        body, [edit for _, edit in jsonl.line_edits(body, 0, len(body), header=header)], {"x": "new", "h": "hh"}
    )


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_blank_lines_stay(end: bytes, last: bool) -> None:
    line = b'{"custom_id": "1", "url":"/v1/x", "body": {"a":1e9, "model": "x"}}'
    body = end.join([line, b"", b"  ", line + b" "]) + end * last
    assert rewritten(body) == body.replace(b'"x"', b'"new"')


def test_names_come_in_order_and_a_header_beats_them() -> None:
    body = b'{"body":{"model":"x"}}\n{"body":{"capability":"y","model":"z"}}\n'
    assert [name for name, _ in jsonl.line_edits(body, 0, len(body), header=None)] == ["x", "y", "y"]
    assert rewritten(body, "h") == b'{"body":{"model":"hh"}}\n{"body":{"model":"hh"}}\n'


@pytest.mark.parametrize(
    "line",
    [
        b"nope",
        b"[]",
        b"{}",
        b'{"body":[]}',
        b'{"body":{}}',
        b'{"body":{"model":1}}',
        b'{"body":{"model":"x"}',
        b'{"body":{"model":"x"},"body":{"model":"y"}}',
    ],
)
def test_the_lines_number_is_named(line: bytes) -> None:
    body = b'{"body":{"model":"x"}}\r\n\r\n' + line + b"\r\n"
    with pytest.raises(RefusedError, match="line 3: "):
        rewritten(body)
