"""`pins check --live` against the bundled fake provider, and servers that answer wrongly, slowly or not at all."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from sidecar.offline import check
from sidecar.offline.live import look, used
from sidecar.provider import FakeProvider
from sidecar.runtime import offered
from sidecar.runtime.offered import Limits
from sidecar.settings.load import load_settings, read_pins

CONFIG = Path(__file__).parents[2] / "config"
SECRET = "sk-never-to-be-seen"
NOBODY = "http://127.0.0.1:9"
ONE = "generation: 1\nunlisted: reject\nmodels:\n  {model}: {{provider: {provider}}}\npins:\n  x: {{stable: {model}}}\n"
GPT = "gpt-5.4-2025-11-02"
SHORT = Limits(connect_s=1, request_s=0.5, total_s=3, pages=4)

Handler = Callable[[web.BaseRequest], Coroutine[Any, Any, web.StreamResponse]]


@contextmanager
def loop_in_thread():
    """Runs coroutines beside the test, which itself calls a command that has a loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda job: asyncio.run_coroutine_threadsafe(job, loop).result(10)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture
def fake():
    """The bundled fake provider."""
    with loop_in_thread() as run:
        provider = FakeProvider()
        run(provider.start())
        yield provider
        run(provider.stop())


@pytest.fixture
def server():
    """Starts a server with that handler; returns its URL."""
    stops = []
    with loop_in_thread() as run:

        async def start(handler: Handler) -> str:
            runner = web.ServerRunner(web.Server(handler, handler_cancellation=True), shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            stops.append(runner)
            return f"http://127.0.0.1:{runner.addresses[0][1]}"

        yield lambda handler: run(start(handler))
        for runner in stops:
            run(runner.cleanup())


@pytest.fixture(autouse=True)
def no_keys(monkeypatch):
    for names in offered.USUAL_KEYS.values():
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.fixture
def sh(capsys, tmp_path):
    """Runs `check --live` with these files; returns (exit code, stdout, stderr)."""

    def run(pins: str, settings: str, *words: str):
        (tmp_path / "pins.yaml").write_text(pins)
        (tmp_path / "sidecar.yaml").write_text(settings)
        parser = argparse.ArgumentParser()
        check.configure(parser)
        line = [str(tmp_path / "pins.yaml"), "--config", str(tmp_path / "sidecar.yaml"), "--live", *words]
        code = check.run(parser.parse_args(line))
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def quick(monkeypatch):
    """Bounds short enough for a test."""
    monkeypatch.setattr(offered, "Limits", lambda: SHORT)


def one(provider: str = "openai", model: str = GPT, **facts: object) -> str:
    text = ONE.format(model=model, provider=provider)
    return text.replace("}\npins", "".join(f", {key}: {value}" for key, value in facts.items()) + "}\npins")


def at(url: str, *, extra: str = "") -> str:
    """Settings with one provider of each dialect."""
    bases = {"openai": f"{url}/v1", "anthropic": url, "gemini": url}
    lines = [f"  {name}: {{dialect: {name}, base_url: '{base}'{extra}}}" for name, base in bases.items()]
    return "providers:\n" + "\n".join(lines) + "\n"


def answering(*answers: tuple[int, object]) -> Handler:
    """Gives the answers in turn, the last one for ever. An answer of bytes is sent as it is."""
    left = list(answers)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        status, body = left.pop(0) if len(left) > 1 else left[0]
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, content_type="application/json")

    return handle


def listing(*models: object) -> dict[str, object]:
    return {"object": "list", "data": [m if isinstance(m, dict) else {"id": m, "object": "model"} for m in models]}


# --- the bundled fake provider ---------------------------------------------------------------------------------------


def test_the_sample_pins_are_there_in_all_three_dialects(sh, fake):
    settings = (CONFIG / "sidecar.yaml").read_text().replace("http://127.0.0.1:4020", fake.url)
    code, out, err = sh((CONFIG / "pins.yaml").read_text(), settings, "--strict")
    assert (code, err) == (0, "")
    assert "openai lists 6 models (without a key)" in out
    for model in (GPT, "claude-haiku-5-20260112", "gemini-3-pro-002"):
        assert f"  {model}: there\n" in out
    assert "good, generation 7" in out


@pytest.mark.parametrize(
    ("provider", "model", "near"),
    [
        ("openai", "gpt-5.4-2025-11-20", GPT),
        ("anthropic", "claude-sonnet-5-20260113", "claude-sonnet-5-20260112"),
        ("gemini", "gemini-3-pro-003", "gemini-3-pro-002"),
    ],
)
def test_a_missing_model_is_named_with_its_user_and_the_nearest(sh, fake, provider, model, near):
    fake.script([{"match": {"path": f"*/models/{model}"}, "fault": "status=404"}])
    code, out, err = sh(one(provider, model), at(fake.url))
    assert code == 1
    assert f"models.{model}: {provider} has no such model (used by x stable) — fix: did you mean `{near}`" in err
    assert "names models that are not there" in out


def test_what_is_not_listed_is_looked_up_singly(sh, fake):
    code, out, err = sh(one(model="ft:gpt-5.4-2025-11-02:acme::a1"), at(fake.url))
    assert (code, err) == (0, "")
    assert "ft:gpt-5.4-2025-11-02:acme::a1: there" in out
    assert fake.ledger.as_json()["requests"][-1]["path"] == "/v1/models/ft:gpt-5.4-2025-11-02:acme::a1"


def test_each_dialect_sends_its_own_key_and_version(sh, fake, monkeypatch):
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY"):
        monkeypatch.setenv(name, SECRET)
    code, out, _ = sh((CONFIG / "pins.yaml").read_text(), at(fake.url))
    assert code == 0
    assert "anthropic lists 2 models (key of ANTHROPIC_API_KEY)" in out
    assert "gemini lists 1 model (key of GEMINI_API_KEY)" in out


def test_json_has_a_row_per_model(sh, fake):
    fake.script([{"match": {"path": "*/models/gpt-5.4-2025-11-20"}, "fault": "status=404"}])
    code, out, err = sh(one(model="gpt-5.4-2025-11-20"), at(fake.url), "--format", "json")
    answer = json.loads(out)
    assert (code, err, answer["ok"]) == (1, "", False)
    (row,) = answer["live"]
    assert (row["provider"], row["state"], row["used_by"]) == ("openai", "missing", ["x stable"])
    assert row["near"][0] == GPT
    assert answer["problems"][0]["severity"] == "error"


def test_without_live_nobody_is_asked(fake, tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(one())
    (tmp_path / "s.yaml").write_text(at(fake.url))
    parser = argparse.ArgumentParser()
    check.configure(parser)
    assert check.run(parser.parse_args([str(tmp_path / "p.yaml"), "--config", str(tmp_path / "s.yaml")])) == 0
    assert fake.ledger.as_json()["requests"] == []


def test_live_without_settings_says_what_it_needs(tmp_path, capsys):
    (tmp_path / "p.yaml").write_text(one())
    parser = argparse.ArgumentParser()
    check.configure(parser)
    assert check.run(parser.parse_args([str(tmp_path / "p.yaml"), "--live"])) == 2
    assert "--live needs --config" in capsys.readouterr().err
    assert check.run(parser.parse_args([str(tmp_path / "p.yaml"), "--live", "--format", "json"])) == 2
    assert json.loads(capsys.readouterr().out)["ok"] is False


def test_a_file_with_errors_asks_nobody(sh, fake):
    code, _, err = sh(one().replace("stable: gpt", "stable: gtp"), at(fake.url))
    assert code == 1
    assert "did you mean" in err
    assert fake.ledger.as_json()["requests"] == []


# --- which models are asked for --------------------------------------------------------------------------------------


def test_every_use_of_a_model_counts_and_idle_ones_do_not():
    text = """
generation: 1
unlisted: reject
models:
  a-001: {provider: p, context: 10}
  a-002: {provider: p, context: 1000, latency_ms: 9000}
  a-003: {provider: p}
  a-004: {provider: p}
  a-005: {provider: p}
  a-006: {provider: p}
  a-007: {provider: p}
  idle-001: {provider: p}
pins:
  chat:
    stable: a-001
    variants: {canary: {model: a-003, percent: 1}}
    fallback: [a-004]
    hedge: {model: a-005, after: 1s}
    over_budget: a-006
    budget: {requests_per_minute: 1}
  auto: {policy: {min_context: 100, max_latency_ms: 100}}
aliases: {"v1": a-007}
"""
    users = used(read_pins(text.encode(), "p.yaml", None))
    assert users == {
        "a-001": ["chat stable"],
        "a-002": ["auto policy"],
        "a-003": ["chat variant canary"],
        "a-004": ["chat fallback"],
        "a-005": ["chat hedge"],
        "a-006": ["chat over_budget"],
        "a-007": ["alias v1"],
    }


# --- keys ------------------------------------------------------------------------------------------------------------


def key_seen(seen: list[str | None]) -> Handler:
    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization"))
        return web.json_response(listing(GPT))

    return handle


def test_a_providers_own_key_comes_before_the_sdks(sh, server, monkeypatch, tmp_path):
    seen: list[str | None] = []
    monkeypatch.setenv("OPENAI_API_KEY", "another")
    (tmp_path / "key").write_text(f"{SECRET}\n")
    code, out, _ = sh(one(), at(server(key_seen(seen)), extra=", api_key_file: key"))
    assert (code, seen) == (0, [f"Bearer {SECRET}"])
    assert f"(key of {tmp_path / 'key'})" in out


def test_the_sdks_key_serves_where_the_own_one_is_only_in_the_cluster(sh, server, monkeypatch):
    seen: list[str | None] = []
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    code, out, _ = sh(one(), at(server(key_seen(seen)), extra=", api_key_file: /nowhere/key"))
    assert (code, seen) == (0, [f"Bearer {SECRET}"])
    assert "(key of OPENAI_API_KEY)" in out


def test_the_sdks_key_never_goes_to_a_second_provider(sh, server, monkeypatch):
    seen: list[str | None] = []
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    other = f"{{dialect: openai, base_url: '{server(key_seen(seen))}/v1', api_key_env: NOT_SET_ANYWHERE}}"
    code, _, err = sh(one("other"), at(NOBODY).replace("openai: {", "openai: {default: true, ") + f"  other: {other}\n")
    assert (code, seen) == (0, [])
    assert "other has it: no key: NOT_SET_ANYWHERE holds none" in err


def test_it_goes_by_the_proxy_of_the_settings(sh, server):
    hosts = []

    async def proxy(request: web.BaseRequest) -> web.StreamResponse:
        hosts.append(request.host)
        return web.json_response(listing(GPT))

    settings = at("http://provider.invalid", extra=f", proxy: '{server(proxy)}'")
    assert sh(one(), settings, "--strict")[0] == 0
    assert hosts == ["provider.invalid"]


def test_no_key_at_all_is_named_with_the_variable(sh, server):
    code, _, err = sh(one(), at(server(answering((401, {"error": {"message": SECRET}})))))
    assert code == 0
    assert "can't tell whether openai has it: it answered 401, and there is no key: set OPENAI_API_KEY" in err


def test_a_wrong_key_is_named_by_its_source(sh, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    code, _, err = sh(one(), at(server(answering((401, {"error": {"message": SECRET}})))))
    assert code == 0
    assert "it answered 401 to the key of OPENAI_API_KEY" in err


def test_an_empty_key_variable_is_not_asked_with(sh, server):
    code, _, err = sh(one(), at(server(answering((200, listing(GPT)))), extra=", api_key_env: NOT_SET_ANYWHERE"))
    assert code == 0
    assert "no key: NOT_SET_ANYWHERE holds none" in err
    assert err.count("\n") == 1


# --- servers that misbehave ------------------------------------------------------------------------------------------


async def hang(request: web.BaseRequest) -> web.StreamResponse:
    await asyncio.sleep(60)
    raise AssertionError


async def drip(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    while True:
        await response.write(b" ")
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("handler", "why"),
    [
        (answering((500, {"error": "boom"})), "it answered 500"),
        (answering((429, {})), "it answered 429"),
        (answering((403, {})), "it answered 403, and there is no key"),
        (answering((302, b"")), "it answered 302"),
        (answering((404, {})), "the provider does not list its models: it answered 404"),
        (answering((200, b"<html>log in</html>")), "it sent something that is no list of models"),
        (answering((200, [1, 2])), "it sent something that is no list of models"),
        (answering((200, {"data": "x"})), "it sent something that is no list of models"),
        (answering((200, b"[" * 100_000)), "it sent something that is no list of models"),
        (answering((200, b" " * 9_000_000)), "its answer is larger than 8 MiB"),
        (hang, "it did not answer within 0.5 s"),
        (drip, "it did not answer within 0.5 s"),
    ],
    ids=["500", "429", "403", "redirect", "404", "html", "array", "data", "deep", "huge", "hang", "drip"],
)
def test_what_proves_nothing_is_a_warning_and_strict_a_failure(sh, server, quick, handler, why):
    begun = time.monotonic()
    url = server(handler)
    code, _, err = sh(one(), at(url))
    assert (code, err.count("warning: ")) == (0, 1)
    assert why in err
    assert "can't tell whether openai has it" in err
    assert sh(one(), at(url), "--strict")[0] == 1
    assert time.monotonic() - begun < 30


def test_nobody_there(sh):
    with socket.socket() as bound:  # bound and not listening: a connection is refused
        bound.bind(("127.0.0.1", 0))
        code, out, err = sh(one(), at(f"http://127.0.0.1:{bound.getsockname()[1]}"))
    assert code == 0
    assert "provider openai could not be reached" in err
    assert "openai gave no list of models (without a key)" in out
    assert "1 models; not known whether they are there: 1 of 1" in out


def test_a_connection_that_is_cut(sh, server, quick):
    async def cut(request: web.BaseRequest) -> web.StreamResponse:
        request.transport.abort()
        return web.Response()

    code, _, err = sh(one(), at(server(cut)))
    assert code == 0
    assert "closed the connection before it answered" in err


def test_tls_files_that_are_wrong_concern_one_provider(sh, fake, tmp_path, monkeypatch):
    monkeypatch.setenv("HOUSE_KEY", SECRET)
    (tmp_path / "ca.pem").write_text("no certificate")
    house = "{dialect: openai, base_url: 'https://h/v1', api_key_env: HOUSE_KEY, tls: {ca_file: ca.pem}}"
    settings = at(fake.url).replace("openai: {", "openai: {default: true, ") + f"  house: {house}\n"
    pins = one().replace("pins:", "  h-001: {provider: house}\npins:\n  y: {stable: h-001}")
    code, out, err = sh(pins, settings)
    assert code == 0
    assert f"{GPT}: there" in out
    assert "house has it: its TLS files cannot be used" in err


def test_one_provider_that_is_down_does_not_hide_another_ones_answer(sh, fake, quick):
    settings = at(fake.url).replace(f"base_url: '{fake.url}/v1'", f"base_url: '{NOBODY}/v1'")
    code, out, err = sh((CONFIG / "pins.yaml").read_text(), settings)
    assert code == 0
    assert "claude-sonnet-5-20260112: there" in out
    assert "openai has it" in err


@pytest.mark.parametrize(("repeats", "most"), [(True, 2), (False, SHORT.pages)])
def test_paging_that_never_ends_is_given_up_and_single_lookups_decide(sh, server, quick, repeats, most):
    pages = []
    unknown = 404

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        if request.path.endswith("/models"):
            pages.append(request.query.get("after_id"))
            last = "same" if repeats else f"m-{len(pages):03}"
            return web.json_response({"data": [{"id": f"m-{len(pages):03}"}], "has_more": True, "last_id": last})
        known = request.path.endswith("claude-sonnet-5-20260112")
        return web.json_response({"id": "claude-sonnet-5-20260112"} if known else {}, status=200 if known else unknown)

    settings = at(server(endless))
    assert sh(one("anthropic", "claude-sonnet-5-20260112"), settings)[0] == 0
    assert len(pages) == most
    assert sh(one("anthropic", "claude-gone-20260112"), settings)[0] == 1
    unknown = 405  # nor are there lookups: then nothing is proven
    code, _, err = sh(one("anthropic", "claude-gone-20260112"), settings)
    assert (code, "its list of models does not end" in err) == (0, True)


def test_pages_are_read_to_the_end(sh, server):
    asked = []

    async def paged(request: web.BaseRequest) -> web.StreamResponse:
        assert request.path == "/v1beta/models"
        asked.append(dict(request.query))
        if "pageToken" in request.query:
            return web.json_response({"models": [{"name": "models/gemini-3-pro-002"}]})
        return web.json_response({"models": [{"name": "models/other-001"}], "nextPageToken": "a&b="})

    code, out, _ = sh(one("gemini", "gemini-3-pro-002"), at(server(paged)))
    assert code == 0
    assert "gemini lists 2 models" in out
    assert asked == [{"pageSize": "1000"}, {"pageSize": "1000", "pageToken": "a&b="}]


def test_a_slow_lookup_of_many_ends_in_time(server, quick, tmp_path):
    async def slow(request: web.BaseRequest) -> web.StreamResponse:
        if not request.path.endswith("/models"):
            await asyncio.sleep(0.3)
        return web.json_response(listing("m-000"), status=200 if request.path.endswith("/models") else 404)

    names = [f"m-{number:03}" for number in range(40)]
    text = "unlisted: reject\ngeneration: 1\nmodels:\n" + "".join(f"  {n}: {{provider: openai}}\n" for n in names)
    text += "pins:\n" + "".join(f"  p{n}: {{stable: {n}}}\n" for n in names)
    (tmp_path / "s.yaml").write_text(at(server(slow)))
    settings = load_settings(tmp_path / "s.yaml", pins="-")
    begun = time.monotonic()
    live = look(read_pins(text.encode(), "p.yaml", settings), settings)
    assert time.monotonic() - begun < 10
    states = {row["model"]: row["state"] for row in live.models}
    assert (states["m-000"], states["m-001"], states["m-039"]) == ("there", "missing", "unknown")
    assert any("took more than 3 s in all" in problem.message for problem in live.problems)


def test_a_list_without_single_lookups_is_proof_enough(sh, server):
    code, _, err = sh(one(), at(server(answering((200, listing("m-001")), (405, {})))))
    assert code == 1
    assert "openai has no such model" in err


def test_a_base_url_without_its_version_is_asked_with_it(sh, server):
    async def versioned(request: web.BaseRequest) -> web.StreamResponse:
        return web.json_response(listing(GPT)) if request.path == "/v1/models" else web.json_response({}, status=404)

    code, out, _ = sh(one(), at(server(versioned)).replace("/v1'", "'"))
    assert code == 0
    assert f"{GPT}: there" in out


def test_ids_that_could_play_with_a_terminal_are_not_taken(sh, server):
    code, out, err = sh(one(), at(server(answering((200, listing("\x1b[2J" + GPT)), (200, {"id": "\x1b[2J"})))))
    assert code == 0
    assert "\x1b" not in out + err


# --- what else an answer tells ---------------------------------------------------------------------------------------


def test_an_alias_is_told_with_what_it_means_now(sh, server):
    handler = answering((200, {"data": [], "has_more": False}), (200, {"id": "claude-sonnet-5-20260112"}))
    pins = one("anthropic", "claude-sonnet-5", immutable="true")
    code, out, err = sh(pins, at(server(handler)))
    assert code == 0
    assert "claude-sonnet-5: there, as an alias of claude-sonnet-5-20260112" in out
    assert "fix: pin `claude-sonnet-5-20260112`, or say `floating: true`" in err


def test_an_alias_that_says_it_floats_is_no_warning(sh, server):
    handler = answering((200, {"data": [], "has_more": False}), (200, {"id": "claude-sonnet-5-20260112"}))
    code, _, err = sh(one("anthropic", "claude-sonnet-5", floating="true"), at(server(handler)), "--strict")
    assert (code, "alias" in err) == (0, False)


@pytest.mark.parametrize(
    "fields",
    [
        {"shutdown_date": "2099-10-23"},
        {"deprecation": "2099-10-23T12:00:00Z"},
        {"deprecation": {"fine_tune": 1, "inference": 4_096_465_200}},
        {"expiration_date": "2099-10-23"},
    ],
    ids=["openai", "mistral", "azure", "openrouter"],
)
def test_a_retirement_that_the_file_does_not_know(sh, server, fields):
    code, out, err = sh(one(), at(server(answering((200, listing({"id": GPT, **fields}))))))
    assert code == 0
    assert f"{GPT}: there, until 2099-10-23" in out
    assert "fix: set `retires: 2099-10-23`" in err
    assert "the file does not say so" in err


def test_a_retirement_that_the_file_knows_is_no_warning(sh, server):
    handler = answering((200, listing({"id": GPT, "shutdown_date": "2099-10-23"})))
    assert sh(one(retires="2099-10-23"), at(server(handler)), "--strict")[0] == 0


@pytest.mark.parametrize("value", [None, "", "soon", -1, 10**30, True, [], {"inference": "x"}, {}])
def test_a_date_that_is_none_is_nothing(sh, server, value):
    handler = answering((200, listing({"id": GPT, "shutdown_date": value, "deprecation": value})))
    assert sh(one(), at(server(handler)), "--strict")[::2] == (0, "")


def test_deployments_are_named_freely_so_a_list_of_models_proves_nothing(sh, server, monkeypatch):
    monkeypatch.setattr(offered, "_DEPLOYMENTS", ("127.0.0.1",))
    code, _, err = sh(one(), at(server(answering((200, listing("m-001")), (404, {})))))
    assert code == 0
    assert "names there are deployments" in err
