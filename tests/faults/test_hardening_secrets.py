"""Keys and prompts: where they go, and that nothing of ours ever repeats them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sidecar.runtime.upstream import Shipment
from tests.faults import wire
from tests.faults.stage import PINS, Stage, staged
from tests.faults.upstream import HEALTHY, JSON, Script, Step
from tests.faults.wire import chunked, framed
from tests.harness import until

CANARY = "sk-canary-4f9a1c"
FILE_KEY, ENV_KEY = "sk-file-canary-77aa", "sk-env-canary-88bb"
EVENTS = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
OTHERS = PINS.replace(
    "pins:\n",
    "  gpt-5.5-2026-01-15: {provider: second}\n  gemini-3-pro-002: {provider: gemini}\npins:\n"
    "  chat.second: {stable: gpt-5.5-2026-01-15}\n  vision: {stable: gemini-3-pro-002}\n",
)  # fmt: skip

CREDENTIALS = [
    f"authorization: Bearer {CANARY}", f"Authorization: {CANARY}", f"x-api-key: {CANARY}", f"api-key: {CANARY}",
    f"x-goog-api-key: {CANARY}", f"cookie: session={CANARY}", f"Proxy-Authorization: Basic {CANARY}",
]  # fmt: skip
MALFORMED = [f"authorization: {CANARY}\x00", f"authorization {CANARY}", f"x-api-key: a\rb{CANARY}", f" {CANARY}: 1"]
QUERIES = ["", f"?key={CANARY}", f"?a=1&key={CANARY}&b=2", f"?%6bey={CANARY}"]
BODIES: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": CANARY}]}, {"user": CANARY}, {"metadata": {"user_id": CANARY}},
    {"api_key": CANARY}, {"messages": CANARY}, {"tools": [{CANARY: CANARY}]}, {"stream_options": CANARY},
]  # fmt: skip
TARGETS = [
    "/v1/chat/completions", "/v1/messages", "/v1beta/models/vision:generateContent", "/second/v1/chat/completions",
    "/v1/embeddings", "/v1/anything", "/v1/models", "/v1/models/nobody", "/sidecar/feedback", "/v1/../up", "//x",
]  # fmt: skip
MODELS = ["chat.core", "chat.hasty", "chat.tried", "chat.second", "assistant", "vision", "nobody", 7, None]
ANSWERS: list[Script] = [
    (HEALTHY,), (Step.FIN,), (Step.RST,), (b"garbage\r\n\r\n",),
    (framed(b"401 No", f'{{"error":{{"message":"bad key {CANARY}"}}}}'.encode(), b"content-type: application/json"),),
    (framed(b"500 Oops", CANARY.encode()),),
    (b"HTTP/1.1 200 OK\r\nx-bad: " + CANARY.encode() + b"\x00\r\n\r\n",),
    (EVENTS + chunked(f"data: {CANARY}\n\n".encode(), last=False), Step.FIN),
    (EVENTS + f"zz {CANARY}\r\n".encode(), Step.FIN),
]  # fmt: skip


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Any request with the canary somewhere: headers, query, body, a malformed line."""
    lines = draw(st.lists(st.sampled_from(CREDENTIALS), max_size=3))
    if draw(st.integers(0, 5)) == 0:
        lines.append(draw(st.sampled_from(MALFORMED)))
    if draw(st.booleans()):
        lines.append("anthropic-version: 2023-06-01")
    body = wire.chat(draw(st.sampled_from(MODELS)), stream=draw(st.booleans())) | draw(st.sampled_from(BODIES))
    target = draw(st.sampled_from(TARGETS)) + draw(st.sampled_from(QUERIES))
    data = wire.post(body, *(line.encode("latin-1") for line in lines), target=target.encode())
    if draw(st.integers(0, 9)) == 0:
        data = data[:-1] + b"!"  # no JSON any more, and the offset of the fault is near the canary
    return data


@pytest.fixture
def keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """The Anthropic provider's key is in a file, the second and Gemini's in the environment; OpenAI has none."""
    (tmp_path / "key").write_text(FILE_KEY + "\n")
    monkeypatch.setenv("CANARY_KEY", ENV_KEY)
    return {
        "anthropic": {"api_key_file": "key"},
        "second": {"api_key_env": "CANARY_KEY"},
        "gemini": {"api_key_env": "CANARY_KEY"},
    }


def secrets_in(text: str) -> list[str]:
    return [secret for secret in (CANARY, FILE_KEY, ENV_KEY) if secret in text]


def test_no_secret_is_ever_repeated(tmp_path: Path, keys: dict[str, dict[str, Any]]) -> None:
    """Not in our errors, our headers, logs, events, metrics, /pins or reprs; whatever the request and its answer."""
    seen = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        context = staged(tmp_path, keys, OTHERS)
        stage = runner.run(context.__aenter__())

        @settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
        @given(requests(), st.sampled_from(ANSWERS))
        @example(wire.post(wire.chat("nobody")), ANSWERS[0])  # so that each status below is among them
        def repeats_nothing(data: bytes, script: Script) -> None:
            stage.upstream.answers.clear()
            stage.upstream.says(*script)
            answer = runner.run(stage.ask(data))
            own = [f"{name}: {value}" for name, value in answer.headers if name.startswith("x-sidecar")]
            said = answer.body.decode("latin-1") if answer.code else ""
            assert secrets_in(said + str(own)) == []
            seen.append((answer.status, answer.code))

        repeats_nothing()
        shown = runner.run(_shown(stage))
        runner.run(context.__aexit__(None, None, None))
        reprs = "".join(_reprs(stage))
    assert {200, 400, 401, 404, 500, 502} <= {status for status, _ in seen}, "the property was hardly tried"
    assert secrets_in(shown) == []
    assert secrets_in(stage.logged()) == []
    assert secrets_in(reprs) == []
    assert stage.logged().count('"kind":"request"') > 50


async def _shown(stage: Stage) -> str:
    port = int(stage.running.admin.rpartition(":")[2])
    answers = [await wire.ask(port, wire.request(b"GET", path)) for path in (b"/metrics", b"/pins", b"/readyz")]
    assert [answer.status for answer in answers] == [200, 200, 200]
    return "".join(answer.body.decode() for answer in answers)


def _reprs(stage: Stage) -> Iterator[str]:
    """Of all that the sidecar keeps, and of all its own objects that are still alive."""
    shared = stage.running.lifecycle.shared
    yield from map(repr, [shared.settings, *vars(shared).values()])
    for thing in gc.get_objects():
        if str(type(thing).__module__).startswith("sidecar."):
            yield repr(thing)


async def test_what_holds_a_request_shows_none_of_it(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[object] = []
    monkeypatch.setattr(Shipment, "__init__", _remembering(Shipment.__init__, held))
    await stage.chat("chat.core", f"authorization: {CANARY}".encode(), user=CANARY)
    await until(stage.running.events)
    for shipment in held:
        assert CANARY in str(shipment.headers), "nothing was tried"  # type: ignore[attr-defined]
        assert CANARY not in repr(shipment)
    assert len(held) == 1


def _remembering(init: Any, held: list[object]) -> Any:
    def remember(self: object, **kwargs: Any) -> None:
        init(self, **kwargs)
        held.append(self)

    return remember


ADDRESSED = [  # model, target: the provider that serves, the credentials it must see
    ("chat.core", "/v1/chat/completions", "openai", [CANARY]),
    ("chat.core", "/openai/v1/chat/completions", "openai", [CANARY]),
    ("chat.second", "/v1/chat/completions", "second", [ENV_KEY]),
    ("chat.second", "/second/v1/chat/completions", "second", [ENV_KEY]),
    ("assistant", "/v1/messages", "anthropic", [FILE_KEY]),
    ("assistant", "/anthropic/v1/messages", "anthropic", [FILE_KEY]),
    ("vision", "/v1beta/models/vision:generateContent", "gemini", [ENV_KEY]),
]


@pytest.mark.parametrize(("model", "target", "provider", "visible"), ADDRESSED)
async def test_a_credential_goes_to_the_addressed_provider_and_injection_replaces_all_of_them(
    tmp_path: Path, keys: dict[str, dict[str, Any]], model: str, target: str, provider: str, visible: list[str]
) -> None:
    async with staged(tmp_path, keys, OTHERS) as stage:
        lines = [line.encode() for line in CREDENTIALS]
        answer = await stage.ask(wire.post(wire.chat(model), *lines, target=f"{target}?key={CANARY}&a=1".encode()))
        assert answer.status == 200
        (seen,) = stage.upstream.seen
        assert seen.target.startswith(f"/{provider}/")
        assert secrets_in(seen.text) == visible
        assert seen.target.endswith("&a=1" if visible == [CANARY] else "?a=1")
        assert seen.values("proxy-authorization") == []
        if visible != [CANARY]:
            name = {"openai": "authorization", "second": "authorization", "anthropic": "x-api-key"}.get(
                provider, "x-goog-api-key"
            )
            assert [value.removeprefix("Bearer ") for value in seen.values(name)] == visible


async def test_a_provider_that_is_not_addressed_gets_nothing_without_a_key_of_its_own(tmp_path: Path) -> None:
    """Such a pin file is refused; the default provider's traffic must not have been sent there meanwhile."""
    async with staged(tmp_path, {"second": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1"}}) as stage:
        (tmp_path / "pins.yaml").write_text(OTHERS.replace("gemini", "openai"))
        await until(lambda: stage.running.lifecycle.shared.pinned.trouble)
        answer = await stage.chat("chat.second", f"authorization: {CANARY}".encode())
        assert (answer.status, answer.code) == (404, "sidecar_unknown_model")
        assert stage.upstream.seen == []


async def test_without_a_readable_key_nothing_is_sent(tmp_path: Path) -> None:
    async with staged(tmp_path, {"anthropic": {"api_key_file": "absent"}}) as stage:
        ask = wire.post(wire.chat("assistant"), f"x-api-key: {CANARY}".encode(), target=b"/v1/messages")
        answer = await stage.ask(ask)
        assert (answer.status, answer.code) == (503, "sidecar_no_target")
        assert stage.upstream.seen == []
        (tmp_path / "absent").write_text(FILE_KEY)
        await until(lambda: stage.running.lifecycle.shared.state.credentials.secret("anthropic"))
        assert (await stage.ask(ask)).body == JSON
        assert secrets_in(stage.upstream.seen[0].text) == [FILE_KEY]


async def test_a_key_in_a_websockets_subprotocol_is_replaced_too(
    tmp_path: Path, keys: dict[str, dict[str, Any]]
) -> None:
    lines = [b"connection: upgrade", b"upgrade: websocket", b"sec-websocket-version: 13",
             b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
             f"sec-websocket-protocol: realtime, openai-insecure-api-key.{CANARY}".encode()]  # fmt: skip
    async with staged(tmp_path, keys, OTHERS) as stage:
        for target, visible in (
            (b"/second/v1/realtime?model=chat.second", [ENV_KEY]),
            (b"/v1/realtime?model=chat.core", [CANARY]),
        ):
            stage.upstream.says(framed(b"403 No", b"{}"))
            answer = await stage.ask(wire.request(b"GET", target, *lines))
            assert answer.status == 403
            assert secrets_in(stage.upstream.seen[-1].text) == visible
            assert stage.upstream.seen[-1].values("sec-websocket-protocol")[0].startswith("realtime")


async def test_ours_never_reaches_a_provider_and_nobody_else_speaks_for_us(stage: Stage) -> None:
    stage.upstream.says(
        framed(
            b"200 OK", JSON, b"content-type: application/json", b"x-sidecar-model: forged", b"X-Sidecar-Error: forged"
        )
    )
    answer = await stage.chat(
        "chat.core", b"X-Sidecar-Unit: u", b"x-sidecar-anything: 1", b"x-model-capability: chat.core"
    )
    assert answer.values("x-sidecar-model") == ["gpt-5.4-2025-11-02"]
    assert answer.code is None
    assert [n for n, _ in stage.upstream.seen[0].headers if n.lower().startswith(("x-sidecar", "x-model"))] == []
