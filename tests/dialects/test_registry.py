"""Where paths lead: dialect, endpoint, provider; which paths are refused; where it goes upstream."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.dialects import registry
from sidecar.dialects.base import Place, Route
from sidecar.errors import Code, RefusedError

PROVIDERS = {"openai": "openai", "azure": "openai", "claude": "anthropic", "google": "gemini"}


def find(method: str, path: str, query: str = "", **headers: str) -> Route:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return registry.find(method, path, query, named, PROVIDERS)


@pytest.mark.parametrize(
    ("method", "path", "dialect", "key", "place"),
    [
        ("POST", "/v1/chat/completions", "openai", "chat/completions", Place.JSON),
        ("POST", "/chat/completions", "openai", "chat/completions", Place.JSON),
        ("POST", "/v1/%63hat/completions", "openai", "chat/completions", Place.JSON),
        ("POST", "/v1/chat/completions/", "openai", "chat/completions", Place.JSON),
        ("POST", "/v1/completions", "openai", "completions", Place.JSON),
        ("POST", "/v1/responses", "openai", "responses", Place.JSON),
        ("GET", "/v1/responses", "openai", "responses/socket", Place.FRAMES),
        ("POST", "/v1/responses/input_tokens", "openai", "responses/input_tokens", Place.JSON),
        ("POST", "/v1/responses/compact", "openai", "responses/compact", Place.JSON),
        ("GET", "/v1/responses/resp_1", "openai", "responses/get", Place.NONE),
        ("DELETE", "/v1/responses/resp_1", "openai", "responses/delete", Place.NONE),
        ("POST", "/v1/responses/resp_1/cancel", "openai", "responses/cancel", Place.NONE),
        ("GET", "/v1/responses/resp_1/input_items", "openai", "responses/input_items", Place.NONE),
        ("POST", "/v1/embeddings", "openai", "embeddings", Place.JSON),
        ("POST", "/v1/moderations", "openai", "moderations", Place.JSON),
        ("POST", "/v1/images/generations", "openai", "images/generations", Place.JSON),
        ("POST", "/v1/images/edits", "openai", "images/edits", Place.FORM),
        ("POST", "/v1/images/variations", "openai", "images/variations", Place.FORM),
        ("POST", "/v1/audio/transcriptions", "openai", "audio/transcriptions", Place.FORM),
        ("POST", "/v1/audio/translations", "openai", "audio/translations", Place.FORM),
        ("POST", "/v1/audio/speech", "openai", "audio/speech", Place.JSON),
        ("GET", "/v1/models", "openai", "models", Place.LIST),
        ("HEAD", "/v1/models", "openai", "models", Place.LIST),
        ("GET", "/v1/models/x", "openai", "models/get", Place.PATH),
        ("DELETE", "/v1/models/x", "openai", "models/delete", Place.NONE),
        ("POST", "/v1/files", "openai", "files/upload", Place.UPLOAD),
        ("GET", "/v1/realtime", "openai", "realtime", Place.QUERY),
        ("POST", "/v1/realtime/sessions", "openai", "realtime/sessions", Place.JSON),
        ("POST", "/v1/realtime/client_secrets", "openai", "realtime/client_secrets", Place.NESTED),
        ("POST", "/v1/batches", "openai", "unknown", Place.NONE),
        ("GET", "/v1/chat/completions", "openai", "unknown", Place.NONE),
        ("POST", "/v1/messages", "anthropic", "messages", Place.JSON),
        ("POST", "/v1/messages/count_tokens", "anthropic", "messages/count_tokens", Place.JSON),
        ("POST", "/v1/messages/batches", "anthropic", "messages/batches", Place.NESTED),
        ("POST", "/v1/complete", "anthropic", "complete", Place.JSON),
        ("GET", "/v1/messages/batches/b", "anthropic", "messages/other", Place.NONE),
        ("GET", "/v1beta/models", "gemini", "models", Place.LIST),
        ("GET", "/v1beta/models/x", "gemini", "models/get", Place.PATH),
        ("POST", "/v1beta/models/x:generateContent", "gemini", "models:generateContent", Place.PATH),
        ("POST", "/v1/models/x:streamGenerateContent", "gemini", "models:streamGenerateContent", Place.PATH),
        ("POST", "/v1alpha/models/x:countTokens", "gemini", "models:countTokens", Place.PATH),
        ("POST", "/v1beta/models/x:predict", "gemini", "models:predict", Place.PATH),
        ("POST", "/v1beta/cachedContents", "gemini", "cachedContents", Place.JSON),
        ("GET", "/v1beta/models/x/operations/y", "gemini", "gemini/other", Place.NONE),
        ("POST", "/v1beta/tunedModels/x:generateContent", "gemini", "gemini/other", Place.NONE),
        ("POST", "/upload/v1beta/files", "gemini", "gemini/other", Place.NONE),
        ("GET", "/", "openai", "unknown", Place.NONE),
        ("POST", "/sidecars", "openai", "unknown", Place.NONE),
    ],
)
def test_paths(method: str, path: str, dialect: str, key: str, place: Place) -> None:
    route = find(method, path)
    assert (route.dialect, route.endpoint.key, route.endpoint.place) == (dialect, key, place)
    assert (route.provider, route.path) == (None, path)


@pytest.mark.parametrize(
    ("headers", "query", "dialect"),
    [
        ({}, "", "openai"),
        ({"authorization": "Bearer x"}, "", "openai"),
        ({"anthropic_version": "2026-10-21", "authorization": "Bearer x"}, "", "anthropic"),
        ({"x_api_key": "k"}, "", "anthropic"),
        ({"x_goog_api_key": "k"}, "", "gemini"),
        ({}, "key=k", "gemini"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/x", "/v1/what/ever"])
def test_headers_tell_where_a_path_fits_several(headers: dict[str, str], query: str, dialect: str, path: str) -> None:
    assert find("GET", path, query, **headers).dialect == dialect


def test_the_path_beats_headers_and_a_named_provider_beats_all() -> None:
    assert find("POST", "/v1/messages", x_goog_api_key="k").dialect == "anthropic"
    assert find("POST", "/v1/chat/completions", anthropic_version="1").dialect == "openai"
    assert find("POST", "/v1beta/models/x:generateContent", x_api_key="k").dialect == "gemini"
    assert find("GET", "/claude/v1/models", x_goog_api_key="k").dialect == "anthropic"
    assert find("POST", "/v1/files", anthropic_version="1").endpoint.place is Place.NONE


@pytest.mark.parametrize(
    ("path", "provider", "rest", "key"),
    [
        ("/azure/v1/chat/completions", "azure", "/v1/chat/completions", "chat/completions"),
        ("/azure/chat/completions", "azure", "/chat/completions", "chat/completions"),
        ("/%61zure/chat/completions", "azure", "/chat/completions", "chat/completions"),
        ("/claude/v1/messages", "claude", "/v1/messages", "messages"),
        ("/claude/messages", "claude", "/messages", "messages"),
        (
            "/google/v1beta/models/x:generateContent",
            "google",
            "/v1beta/models/x:generateContent",
            "models:generateContent",
        ),
        ("/claude/v1/chat/completions", "claude", "/v1/chat/completions", "unknown"),
        ("/azure", "azure", "/", "unknown"),
        ("/azure/", "azure", "/", "unknown"),
    ],
)
def test_a_provider_in_the_path(path: str, provider: str, rest: str, key: str) -> None:
    route = find("POST", path)
    assert (route.provider, route.path, route.endpoint.key) == (provider, rest, key)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1/models/gpt-5", "gpt-5"),
        ("/v1/models/ft:gpt-4o:org::id", "ft:gpt-4o:org::id"),
        ("/v1/models/org%2Fname", "org/name"),
        ("/v1/models/model:%2F%2Fcore%2Fchat@1.2.3", "model://core/chat@1.2.3"),
        ("/v1beta/models/chat.core", "chat.core"),
    ],
)
def test_the_model_in_the_path(path: str, model: str) -> None:
    assert find("GET", path).model == model


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/v1beta/models/a:b:generateContent", "a:b"),
        ("/v1beta/models/chat%2Ecore%3AgenerateContent", "chat.core"),
        ("/v1beta/models/x:gener%61teContent/", "x"),
    ],
)
def test_the_model_before_a_method(path: str, model: str) -> None:
    route = find("POST", path)
    assert (route.model, route.endpoint.key) == (model, "models:generateContent")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "v1/models",
        "*",
        "//evil.example/v1/models",
        "/v1//chat/completions",
        "/v1/models//",
        "http://169.254.169.254/latest",
        "/v1/../admin",
        "/v1/./models",
        "/v1/..",
        "/v1/%2e%2e/admin",
        "/v1/%2E./admin",
        "/v1/.%2e/admin",
        "/v1/..%2fadmin",
        "/v1/models/..%2F..%2Fadmin",
        "/v1/models/a%2F..%2Fb",
        "/v1/models/%2e%2e",
        "/v1/%252e%252e/admin",
        "/v1/models/a%252fb",
        "/v1/chat%2fcompletions",
        "/azure%2fv1/models",
        "/v1\\models",
        "/\\evil.example",
        "/v1/%5cadmin",
        "/v1/%00",
        "/v1/a%0d%0ax:y",
        "/v1/a\r\nx",
        "/v1/a b",
        "/v1/a\x00",
        "/v1/mödels",
        "/v1/%zz",
        "/v1/%",
        "/v1/models#x",
    ],
)
def test_unsafe_paths_are_refused(path: str) -> None:
    with pytest.raises(RefusedError) as caught:
        find("GET", path)
    assert caught.value.refusal.code is Code.BAD_REQUEST


@pytest.mark.parametrize("path", ["/.env", "/v1/a;b=c", "/v1/a...b", "/v1/~x", "/v1/%20", "/v1/a:b@c,d"])
def test_harmless_paths_pass(path: str) -> None:
    assert find("GET", path).path == path


@pytest.mark.parametrize("query", ["a\r\nb", "a=\x00", "a b", "ä", "x=%0d%0a"])
def test_unsafe_queries_are_refused(query: str) -> None:
    with pytest.raises(RefusedError):
        find("GET", "/v1/models", query)


@given(st.text(alphabet="/.%2eEfF5cC\\a:", max_size=20))
def test_what_passes_stays_where_it_is(path: str) -> None:
    try:
        route = find("GET", "/v1" + path)
    except RefusedError:
        return
    assert ".." not in route.path.lower().replace("%2e", ".").replace("%2f", "/").split("/")
    assert route.path == "/v1" + path


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://a/v1", "/v1/chat/completions?x=1", "https://a/v1/chat/completions?x=1"),
        ("https://a/v1/", "/v1/models", "https://a/v1/models"),
        ("https://a/v1", "/chat/completions", "https://a/v1/chat/completions"),
        ("https://a/openai/v1", "/v1/responses", "https://a/openai/v1/responses"),
        ("https://a", "/v1/messages", "https://a/v1/messages"),
        ("https://a/v1", "/v1beta/models", "https://a/v1/v1beta/models"),
        ("https://a/v1", "/v1", "https://a/v1"),
        ("https://a/v1", "/v1?x", "https://a/v1?x"),
        ("https://a/v1", "/%76%31/models", "https://a/v1/models"),
        ("https://a/v1", "/", "https://a/v1/"),
    ],
)
def test_upstream_url(base: str, path: str, url: str) -> None:
    assert registry.upstream_url(base, path) == url


def test_what_is_known_of_a_path_holds_for_that_path_alone() -> None:
    """A path is looked up once; method, query, headers and the settings' providers are told apart all the same."""
    for _ in range(2):
        assert find("GET", "/v1/models", x_api_key="k").dialect == "anthropic"
        assert find("GET", "/v1/models").dialect == "openai"
        assert find("GET", "/v1/models", "key=k").dialect == "gemini"
        assert find("DELETE", "/v1/models/x").endpoint.key == "models/delete"
        assert find("GET", "/v1/models/x").endpoint.key == "models/get"
        assert (find("GET", "/v1/realtime", "model=a").model, find("GET", "/v1/realtime", "model=b").model) == (
            "a",
            "b",
        )
        assert find("POST", "/azure/v1/messages").endpoint.key == "unknown"
        for providers, found in (({"azure": "anthropic"}, "messages"), ({}, "unknown")):
            assert registry.find("POST", "/azure/v1/messages", "", {}, providers).endpoint.key == found
        with pytest.raises(RefusedError):
            find("GET", "/v1/models", "a b")
        with pytest.raises(RefusedError):
            find("GET", "/v1/../models")


def test_neither_queries_nor_long_paths_are_remembered() -> None:
    registry._look.cache_clear()
    for n in range(3):
        find("GET", "/v1/models", f"key={n}")
        find("GET", f"/v1/models/{'x' * 300}{n}")
    assert registry._look.cache_info().currsize == 1


def test_dialect_by_headers() -> None:
    assert registry.dialect_by_headers({"anthropic-version": "1"}).NAME == "anthropic"
    assert registry.dialect_by_headers({"x-goog-api-key": "1"}).NAME == "gemini"
    assert registry.dialect_by_headers({}).NAME == "openai"
