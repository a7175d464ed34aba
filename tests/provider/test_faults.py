"""The fault grammar and the script, as pure functions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.provider import faults, script
from sidecar.provider.faults import BEFORE_HEADERS, NO_FAULT, Fault, FaultError
from sidecar.provider.script import ScriptError


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", NO_FAULT),
        (" ; ", NO_FAULT),
        ("status=429; retry-after=2", Fault(status=429, retry_after="2")),
        ("STATUS=500;code=boom", Fault(status=500, code="boom")),
        ("delay=1.5s; first=200ms; gap=0", Fault(delay_ms=1500, first_ms=200, gap_ms=0)),
        ("ping", Fault(ping=True)),
        ("cut=headers", Fault(break_kind="cut", break_after=BEFORE_HEADERS)),
        ("cut=body", Fault(break_kind="cut", break_after=1)),
        ("eof=0", Fault(break_kind="eof", break_after=0)),
        ("stall=3", Fault(break_kind="stall", break_after=3)),
        ("model=a/b:c; nousage", Fault(model="a/b:c", usage="none")),
        ("usage=twice; large=9; encoding=gzip", Fault(usage="twice", large_bytes=9, gzip=True)),
        ("retired; reject-stream-options", Fault(retired=True, reject_stream_options=True)),
        ("slow-body=10ms; retry-after-ms=5", Fault(slow_body_ms=10, retry_after_ms="5")),
    ],
)
def test_grammar(text, fault):
    assert faults.parse(text) == fault


@pytest.mark.parametrize(
    "text",
    [
        "boom",
        "status",
        "status=200",
        "status=abc",
        "ping=1",
        "cut=x",
        "cut=-1",
        "cut=1; eof=1",
        "delay=fast",
        "usage=odd",
        "encoding=br",
        "eof=²",
    ],
)
def test_what_the_grammar_refuses(text):
    with pytest.raises(FaultError):
        faults.parse(text)


@given(st.text(max_size=30))
def test_any_text_is_a_fault_or_refused(text):
    try:
        assert isinstance(faults.parse(text), Fault)
    except FaultError as error:
        assert str(error)


def test_first_rule_that_matches_wins_and_is_used_up():
    rules = script.parse(
        [
            {"match": {"path": "/v1/chat/*", "model": "gpt-*"}, "fault": "status=500", "times": 2},
            {"match": {"model": "gpt-5"}, "fault": "retired"},
            {"fault": "ping", "times": 1},
        ]
    )
    statuses = [rules.take("/v1/chat/completions", "gpt-5") for _ in range(3)]
    assert statuses == [Fault(status=500), Fault(status=500), Fault(retired=True)]
    assert rules.take("/v1/embeddings", "other") == Fault(ping=True)
    assert rules.take("/v1/embeddings", "other") is None


@pytest.mark.parametrize(
    "document",
    [
        {},
        ["status=500"],
        [{}],
        [{"fault": "boom"}],
        [{"fault": "ping", "times": -1}],
        [{"fault": "ping", "when": 1}],
        [{"fault": "ping", "match": {"host": "x"}}],
    ],
)
def test_what_a_script_refuses(document):
    with pytest.raises(ScriptError):
        script.parse(document)


def test_script_file(tmp_path):
    path = tmp_path / "script.yaml"
    path.write_text("- match: {model: 'gpt-*'}\n  fault: status=503; retry-after=1\n", encoding="utf-8")
    assert script.load(path).take("/", "gpt-1") == Fault(status=503, retry_after="1")
    path.write_text("- [", encoding="utf-8")
    with pytest.raises(ScriptError):
        script.load(path)
