"""From a request to a draft: names, places, and what else is learnt; writing twice gives the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sidecar.core.facts import Ask
from sidecar.dialects import registry
from sidecar.dialects.base import Draft
from sidecar.errors import RefusedError

MODELS = {"x": "new", "y": "other", "c": "new", "h": "hh"}
JSON = "application/json"


def draft(method: str, target: str, body: bytes | None = None, content_type: str = JSON, **headers: str) -> Draft:
    path, _, query = target.partition("?")
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    route = registry.find(method, path, query, named, {"azure": "openai"})
    return registry.read(route, named, body, content_type=content_type)


def written(read: Draft) -> tuple[tuple[str, ...], str, bytes]:
    once = read.path(MODELS), read.body(MODELS)
    read.path({"x": "elsewhere"})
    read.body({"x": "elsewhere"})
    assert once == (read.path(MODELS), read.body(MODELS))
    return tuple(read.names), *once


def ask(body: Any, target: str = "/v1/chat/completions", **headers: str) -> Ask:
    return draft("POST", target, json.dumps({"model": "x"} | body).encode(), **headers).ask


@pytest.mark.parametrize(
    ("target", "body", "names", "path", "after"),
    [
        ("/v1/chat/completions", b'{"model":"x"}', ("x",), None, b'{"model":"new"}'),
        ("/v1/completions", b'{"model":"x"}', ("x",), None, b'{"model":"new"}'),
        ("/azure/embeddings", b'{"model":"x"}', ("x",), "/embeddings", b'{"model":"new"}'),
        ("/v1/responses", b'{"prompt":{}}', (), None, b'{"prompt":{}}'),
        ("/v1/responses", b'{"model":"x"}', ("x",), None, b'{"model":"new"}'),
        ("/v1/moderations", b"[]", (), None, b"[]"),
        ("/v1/images/edits", b'{"model":"x"}', ("x",), None, b'{"model":"new"}'),
        (
            "/v1/realtime/client_secrets",
            b'{"session": {"type":"realtime","model":"x"}}',
            ("x",),
            None,
            b'{"session": {"type":"realtime","model":"new"}}',
        ),
        ("/v1/realtime/client_secrets", b"{}", (), None, b"{}"),
        ("/v1/messages", b'{"model":"x"}', ("x",), None, b'{"model":"new"}'),
        (
            "/v1/messages/batches",
            b'{"requests":[{"params":{"model":"x"}},{"params" : {"a":1,"model":"y"}},{"params":{"model":"x"}}]}',
            ("x", "y"),
            None,
            (
                b'{"requests":[{"params":{"model":"new"}},{"params" : {"a":1,"model":"other"}},'
                b'{"params":{"model":"new"}}]}'
            ),
        ),
        ("/v1beta/models/x:generateContent", b'{"contents":[]}', ("x",), "/v1beta/models/new:generateContent", None),
        ("/v1beta/models/x:predict", b'{"model":"y"}', ("x",), "/v1beta/models/new:predict", None),
        (
            "/v1/models/x:streamGenerateContent?alt=sse",
            b'{"model":"models/x"}',
            ("x",),
            "/v1/models/new:streamGenerateContent?alt=sse",
            b'{"model":"models/new"}',
        ),
        (
            "/v1beta/models/x:batchEmbedContents",
            b'{"requests":[{"model":"models/x"},{"model":"x"},{"model":"models/y"}]}',
            ("x", "y"),
            "/v1beta/models/new:batchEmbedContents",
            b'{"requests":[{"model":"models/new"},{"model":"new"},{"model":"models/other"}]}',
        ),
        (
            "/v1beta/models/x:countTokens",
            b'{"generateContentRequest":{"model":"models/x"}}',
            ("x",),
            "/v1beta/models/new:countTokens",
            b'{"generateContentRequest":{"model":"models/new"}}',
        ),
        (
            "/v1beta/models/x:generateContent",
            b'{"capability":"c","model":"models/x"}',
            ("c",),
            "/v1beta/models/new:generateContent",
            b'{"model":"models/new"}',
        ),
        (
            "/v1beta/models/x:generateContent",
            b'{"capability":"c"}',
            ("c",),
            "/v1beta/models/new:generateContent",
            b"{}",
        ),
        ("/v1beta/cachedContents", b'{"model":"models/x"}', ("x",), None, b'{"model":"models/new"}'),
        ("/v1/unheard/of", b'{"model":"x"}', (), None, b'{"model":"x"}'),
    ],
)
def test_where_the_model_stands(
    target: str, body: bytes, names: tuple[str, ...], path: str | None, after: bytes | None
) -> None:
    assert written(draft("POST", target, body)) == (names, path or target, after if after is not None else body)


@pytest.mark.parametrize(
    ("target", "header", "names", "path"),
    [
        ("/v1/models/x", None, ("x",), "/v1/models/new"),
        ("/v1/models/x/", None, ("x",), "/v1/models/new/"),
        ("/v1/models/%78", None, ("x",), "/v1/models/new"),
        ("/v1/models/y", "x", ("x",), "/v1/models/new"),
        ("/v1/realtime?model=x", None, ("x",), "/v1/realtime?model=new"),
        ("/v1/realtime?a=1&model=%78&b", None, ("x",), "/v1/realtime?a=1&model=new&b"),
        ("/v1/realtime?intent=transcription", None, (), "/v1/realtime?intent=transcription"),
        ("/v1/realtime?a=1", "x", ("x",), "/v1/realtime?a=1&model=new"),
        ("/v1/realtime", "x", ("x",), "/v1/realtime?model=new"),
        ("/v1/responses", None, (), "/v1/responses"),
        ("/v1/responses/r", "x", (), "/v1/responses/r"),
    ],
)
def test_models_in_path_and_query(target: str, header: str | None, names: tuple[str, ...], path: str) -> None:
    headers = {"x_model_capability": header} if header else {}
    assert written(draft("GET", target, None, JSON, **headers)) == (names, path, b"")


def test_header_beats_capability_beats_model() -> None:
    body = b'{"capability":"c","model":"x"}'
    assert written(draft("POST", "/v1/chat/completions", body))[0] == ("c",)
    read = draft("POST", "/v1/chat/completions", body, x_model_capability="h")
    assert written(read) == (("h",), "/v1/chat/completions", b'{"model":"hh"}')
    read = draft("POST", "/v1/messages/batches", b'{"requests":[{"params":{}}]}', x_model_capability="h")
    assert written(read)[2] == b'{"requests":[{"params":{"model":"hh"}}]}'
    read = draft("POST", "/v1beta/models/x:generateContent", b"{}", x_model_capability="h")
    assert written(read)[1:] == ("/v1beta/models/hh:generateContent", b"{}")


@pytest.mark.parametrize("model", ["..", "a/../b", ".", "a\\..\\b", "a\r\nb", "", "a\x00"])
def test_an_id_that_would_leave_its_segment_is_refused(model: str) -> None:
    for target in ("/v1/models/x", "/v1/realtime?model=x"):
        with pytest.raises(RefusedError):
            draft("GET", target).path({"x": model})


def test_an_id_is_quoted_so_that_it_stays_one_segment() -> None:
    read = draft("GET", "/v1/models/x")
    assert read.path({"x": "org/na me?a#b&c=%2e"}) == "/v1/models/org%2Fna%20me%3Fa%23b%26c%3D%252e"
    assert read.path({"x": "x"}) == "/v1/models/x"
    read = draft("GET", "/v1/models/model:%2f%2fcore%2Fchat@1.2.3")
    assert read.path({}) == "/v1/models/model:%2f%2fcore%2Fchat@1.2.3"


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("/v1/chat/completions", None),
        ("/v1/chat/completions", b""),
        ("/v1/chat/completions", b"[]"),
        ("/v1/chat/completions", b'"x"'),
        ("/v1/chat/completions", b"{}"),
        ("/v1/moderations", b"nope"),
        ("/v1/moderations", b'{"model":""}'),
        ("/v1/messages/batches", b"{}"),
        ("/v1/messages/batches", b'{"requests":[]}'),
        ("/v1/messages/batches", b'{"requests":[{"params":{}}]}'),
        ("/v1/messages/batches", b'{"requests":[],"requests":[{"params":{"model":"x"}}]}'),
        ("/v1beta/models/x:generateContent", b'{"model":1}'),
        ("/v1beta/models/:generateContent", b"{}"),
        ("/v1/realtime/client_secrets", b'{"session":{"model":"x","model":"y"}}'),
    ],
)
def test_refused(target: str, body: bytes | None) -> None:
    with pytest.raises(RefusedError):
        draft("POST", target, body)


def test_an_array_is_named() -> None:
    with pytest.raises(RefusedError, match="array"):
        draft("POST", "/v1/chat/completions", b"[]")


@pytest.mark.parametrize("target", ["/v1/realtime?model=x&model=y", "/v1/realtime?model="])
def test_a_doubtful_query_is_refused(target: str) -> None:
    with pytest.raises(RefusedError):
        draft("GET", target)


@pytest.mark.parametrize(
    ("body", "headers", "unit"),
    [
        ({}, {}, None),
        ({"safety_identifier": "s"}, {}, "s"),
        ({"safety_identifier": "s", "user": "u"}, {}, "u"),
        ({"user": "u", "metadata": {"user_id": "m"}}, {}, "m"),
        ({"metadata": {"user_id": "m"}}, {"x_user_id": "h"}, "h"),
        ({}, {"x_user_id": "h", "x_sidecar_unit": "s"}, "s"),
        ({"user": 7, "safety_identifier": "s"}, {}, "s"),
        ({"user": "", "metadata": "x", "safety_identifier": "s"}, {}, "s"),
    ],
)
def test_unit(body: dict[str, Any], headers: dict[str, str], unit: str | None) -> None:
    assert ask(body, **headers).unit == unit


@pytest.mark.parametrize(
    ("value", "stream"), [(True, True), (False, False), ("true", False), (1, False), (None, False)]
)
def test_stream_only_if_exactly_true(value: Any, stream: bool) -> None:
    read = ask({"stream": value})
    assert (read.stream, read.may_add_usage) == (stream, stream)
    assert not ask({"stream": value}, "/v1/responses").may_add_usage
    assert not ask({"stream": value, "stream_options": {"include_usage": False}}).may_add_usage


def test_gemini_streams_by_its_method() -> None:
    assert draft("POST", "/v1beta/models/x:streamGenerateContent", b"{}").ask.stream
    assert not draft("POST", "/v1beta/models/x:generateContent", b'{"x":1}').ask.stream


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({}, (False, False, "use")),
        ({"x_sidecar_fallback": "off", "x_sidecar_hedge": "off", "x_sidecar_cache": "bypass"}, (True, True, "bypass")),
        (
            {"x_sidecar_fallback": " OFF ", "x_sidecar_hedge": "Off", "x_sidecar_cache": "Refresh"},
            (True, True, "refresh"),
        ),
        ({"x_sidecar_fallback": "on", "x_sidecar_hedge": "0", "x_sidecar_cache": "no"}, (False, False, "use")),
    ],
)
def test_what_our_headers_ask_for(headers: dict[str, str], said: tuple[bool, bool, str]) -> None:
    read = ask({}, **headers)
    assert (read.no_fallback, read.no_hedge, read.cache) == said


def test_the_rest_of_an_ask() -> None:
    body = b'{"model":"x"}' + b" " * 87
    read = draft("POST", "/azure/v1/chat/completions", body, x_sidecar_task="summary").ask
    assert (read.body_bytes, read.task, read.provider, read.dialect) == (100, "summary", "azure", "openai")
    assert (read.operation, read.required, read.name) == ("chat", True, "x")


def test_what_was_read_can_be_printed() -> None:
    """Into a log, a traceback, a failed assertion: neither the prompt nor a key is in it."""
    read = draft("POST", "/v1/chat/completions?key=SECRET", b'{"model":"x","input":"SECRET"}', authorization="SECRET")
    assert read.ask.identity is not None
    assert read.ask.prompt is not None
    assert "SECRET" not in repr(read) + repr(read.ask)
    assert "SECRET" not in repr(registry.find("POST", "/v1/chat/completions", "key=SECRET", {}, {}))


@pytest.mark.parametrize(
    ("method", "target", "generates"),
    [
        ("POST", "/v1/chat/completions", True),
        ("POST", "/v1/embeddings", True),
        ("POST", "/v1beta/models/x:generateContent", True),
        ("POST", "/v1beta/models/x:countTokens", False),
        ("POST", "/v1/messages/count_tokens", False),
        ("GET", "/v1/responses/r", False),
        ("GET", "/v1/models/x", False),
        ("POST", "/v1/files", False),
    ],
)
def test_what_is_a_call_of_a_model(method: str, target: str, generates: bool) -> None:
    body = b'{"model":"x"}' if method == "POST" else None
    assert draft(method, target, body).ask.generates is generates


FORM = "multipart/form-data; boundary=B"


def form(*fields: tuple[str, bytes]) -> bytes:
    parts = [b'--B\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (n.encode(), v) for n, v in fields]
    return b"".join(parts) + b"--B--\r\n"


def test_forms() -> None:
    body = form(("model", b"x"), ("stream", b"true"), ("user", b"u"))
    read = draft("POST", "/v1/audio/transcriptions", body, FORM)
    assert written(read) == (("x",), "/v1/audio/transcriptions", body.replace(b"\r\nx\r\n", b"\r\nnew\r\n"))
    assert (read.ask.stream, read.ask.unit, read.ask.media_bytes) == (True, "u", len(body))
    assert draft("POST", "/v1/images/edits", form(("n", b"4"), ("model", b"x")), FORM).ask.choices == 4
    assert read.ask.identity is None, "a form is never kept"
    assert written(draft("POST", "/v1/images/edits", form(("a", b"b")), FORM))[0] == ()
    with pytest.raises(RefusedError):
        draft("POST", "/v1/audio/transcriptions", form(("a", b"b")), FORM)


def test_uploads() -> None:
    lines = b'{"body":{"model":"x"}}\n{"body":{"model":"y"}}'
    for purpose, after in ((b"batch", b'{"body":{"model":"new"}}\n{"body":{"model":"other"}}'), (b"assistants", lines)):
        body = form(("file", lines), ("purpose", purpose))
        assert written(draft("POST", "/v1/files", body, FORM))[2] == form(("file", after), ("purpose", purpose))
    with pytest.raises(RefusedError, match="line 2"):
        draft("POST", "/v1/files", form(("purpose", b"batch"), ("file", b"{}".join([lines[:23], b"{"]))), FORM)


def test_which_bodies_must_be_read() -> None:
    def needs(method: str, path: str, content_type: str = JSON) -> bool:
        return registry.needs_body(registry.find(method, path, "", {}, {}), content_type)

    assert needs("POST", "/v1/chat/completions")
    assert needs("POST", "/v1beta/models/x:generateContent")
    assert needs("POST", "/v1/files", FORM)
    assert not needs("POST", "/v1/files", JSON)
    assert not needs("POST", "/v1/uploads/u/parts", FORM)
    assert not needs("GET", "/v1/models/x")
    assert not needs("GET", "/v1/realtime")


def test_a_head_may_tell_that_an_upload_needs_no_reading() -> None:
    route = registry.find("POST", "/v1/files", "", {}, {})
    assert registry.may_stream(route, FORM, form(("purpose", b"fine-tune"), ("file", b"x"))[:90])
    assert not registry.may_stream(route, FORM, form(("purpose", b"batch"), ("file", b"x"))[:90])
    assert not registry.may_stream(route, FORM, form(("file", b"x" * 90), ("purpose", b"fine-tune"))[:90])
