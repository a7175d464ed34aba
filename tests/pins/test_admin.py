"""The admin port and the probe port (DESIGN 3.6), and feedback on the proxy port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sidecar.provider import FakeProvider
from tests.harness import Running, sidecar, until
from tests.pins.kit import admin, bases, chat, model_of, pins, value

MORE = """\
  auto: {policy: {min_context: 100000, prefer: latency}}
  never: {policy: {min_context: 900000}}
  other: {stable: claude-c-20260101}
"""


def rich(generation: int) -> str:
    """The small file with policy pins and a model of another dialect."""
    text = pins(generation).replace("aliases:", MORE + "aliases:")
    return text.replace("pins:\n", "  claude-c-20260101: {provider: anthropic, context: 100000}\npins:\n", 1)


@pytest.fixture
async def both(provider: FakeProvider, tmp_path: Path) -> Any:
    """A sidecar with an admin port and a probe port."""
    async with sidecar(tmp_path, bases(provider), pins=rich(7), probe={"listen": "127.0.0.1:0"}) as running:
        yield running


async def test_resolve(both: Running, http: aiohttp.ClientSession) -> None:
    by_model = await admin(http, both, "/resolve", body={"model": "chat.core"})
    assert by_model == (
        200,
        {
            "model": model_of(7),
            "variant": "stable",
            "generation": 7,
            "why": f"pin chat.core; unassignable: no unit, stable serves; to {model_of(7)} at openai",
        },
    )
    assert await admin(http, both, "/resolve", body={"capability": "chat.core"}) == by_model
    assert await admin(http, both, "/resolve", body={"capability": "chat.core", "model": "nobody"}) == by_model
    assert await admin(http, both, "/resolve", body={"model": "chat.core", "unit": ""}) == by_model  # as a live request
    for unit in ("u1", "u2", "u3", "u4", "u5"):
        resolved = (await admin(http, both, "/resolve", body={"model": "chat.core", "unit": unit}))[1]
        live = await chat(http, both, headers={"x-sidecar-unit": unit, "x-sidecar-explain": "1"})
        assert resolved["model"] == live.headers["x-sidecar-model"]
        assert resolved["variant"] == live.headers["x-sidecar-variant"]
        assert resolved["why"] == live.headers["x-sidecar-why"]
    assert (await admin(http, both, "/resolve", body={"model": "auto"}))[1]["model"] == model_of(7)
    claude = await admin(http, both, "/resolve", body={"model": "other", "dialect": "anthropic"})
    assert claude[1]["model"] == "claude-c-20260101"
    assert not provider_saw(both)


def provider_saw(at: Running) -> bool:
    """A resolution sends nothing, and is no request: only the live ones above have events."""
    return any(e["request_id"] == "resolve" for e in at.events())


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"model": "nobody"}, 404, "sidecar_unknown_model", "nobody"),
        ({"model": "chat.cor"}, 404, "sidecar_unknown_model", "Did you mean `chat.core`"),
        ({"model": "other"}, 400, "sidecar_bad_request", "anthropic dialect"),
        ({"model": "never"}, 503, "sidecar_no_target", "fits the policy"),
        ({"model": "chat.core", "dialect": "klingon"}, 400, "sidecar_bad_request", "`dialect`"),
        ({"model": "chat.core", "dialect": []}, 400, "sidecar_bad_request", "`dialect`"),
        ({"model": "chat.core", "unit": 7}, 400, "sidecar_bad_request", "`unit`"),
        ({"model": ""}, 400, "sidecar_bad_request", "Name a `capability`"),
        ({"capability": None, "model": 5}, 400, "sidecar_bad_request", "Name a `capability`"),
        ({}, 400, "sidecar_bad_request", "Name a `capability`"),
        ([], 400, "sidecar_bad_request", "object"),
    ],
)
async def test_what_does_not_resolve(
    both: Running, http: aiohttp.ClientSession, body: Any, status: int, code: str, says: str
) -> None:
    async with http.post(f"{both.admin}/resolve", json=body) as answer:
        error = (await answer.json())["error"]
        assert (answer.status, answer.headers["x-sidecar-error"], error["code"]) == (status, code, code)
        assert says in error["message"]


async def test_pins_shows_every_name_and_what_it_means(both: Running, http: aiohttp.ClientSession) -> None:
    status, shown = await admin(http, both, "/pins")
    assert status == 200
    assert shown["generation"] == 7
    assert len(shown["sha256"]) == 64
    assert shown["loaded_at"].startswith("20")
    assert (shown["last_error"], shown["degraded"], shown["unlisted"]) == (None, False, "reject")
    core = shown["names"]["chat.core"]
    assert (core["kind"], core["model"]) == ("pin", model_of(7))
    canary = {"variant": "canary", "model": f"canary-{model_of(7)}", "percent": 50.0, "start": 0.0}
    assert core["variants"] == [canary]
    assert shown["names"]["model://core/chat@1.0.0"] == {"kind": "alias", "model": model_of(7)}
    assert shown["names"][model_of(7)] == {"kind": "catalogued", "model": model_of(7)}
    assert shown["names"]["auto"] == {
        "kind": "policy",
        "policy": {"min_context": 100000, "prefer": "latency"},
        "models": {"openai": model_of(7), "anthropic": "claude-c-20260101"},
    }
    assert shown["names"]["never"]["models"] == {}
    assert shown["models"]["claude-c-20260101"]["dialect"] == "anthropic"


PROTECTED = f"""\
generation: 7
unlisted: reject
models:
  {model_of(7)}: {{provider: openai, budget: {{tokens_per_day: 100000}}, breaker: {{failures: 1, cooldown: 60s}},
    price: {{input: 1, output: 1}}}}
  spare-2026-01-01: {{provider: openai, price: {{input: 1, output: 1}}}}
pins:
  chat.core:
    stable: {model_of(7)}
    fallback: [spare-2026-01-01]
    over_budget: spare-2026-01-01
    hedge: {{after: p95, max: 2s}}
    cache: {{ttl: 1h}}
    drill: {{every: 6h}}
    budget: {{requests_per_minute: 1000, usd_per_day: 5.5}}
"""


async def test_pins_shows_how_calls_are_protected_and_how_that_stands(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with sidecar(tmp_path, bases(provider), pins=PROTECTED) as at:
        _, shown = await admin(http, at, "/pins")
        assert "inactive" not in shown
        core, model = shown["names"]["chat.core"], shown["models"][model_of(7)]
        assert model["breaker"] == {"state": "closed"}
        assert (core["fallback"], core["over_budget"]) == (["spare-2026-01-01"], "spare-2026-01-01")
        assert core["hedge"] == {"after": "p95", "max": "2s"}
        assert core["cache"] == {"ttl": "1h", "always": False}
        assert core["drill"] == {"every": "6h"}
        assert "drilled" in core
        assert set(shown["models"]["spare-2026-01-01"]).isdisjoint({"budget", "breaker"})

        answer = await chat(http, at, headers={"x-fake-fault": "status=400"})  # counts as a request, and costs nothing
        assert answer.status == 400
        provider.script([{"match": {"model": model_of(7)}, "fault": "status=500"}])
        assert (await chat(http, at)).status == 200  # by the fallback
        _, shown = await admin(http, at, "/pins")
        core, model = shown["names"]["chat.core"], shown["models"][model_of(7)]
        levels = {level["limit"]: level for level in core["budget"]}
        assert set(levels) == {"requests_per_minute", "usd_per_day"}
        requests = levels["requests_per_minute"]
        assert (requests["scope"], requests["whole"], requests["used"]) == ("pod", 1000, 2)
        (tokens,) = model["budget"]
        assert (tokens["limit"], tokens["whole"], tokens["used"], tokens["refused"]) == ("tokens_per_day", 100000, 0, 0)
        now = datetime.now(UTC)
        assert now < datetime.fromisoformat(tokens["ends_at"]) < now + timedelta(days=1, minutes=1)
        assert model["breaker"]["state"] == "open"
        assert now < datetime.fromisoformat(model["breaker"]["probe_at"]) < now + timedelta(seconds=61)

        async with http.get(f"{at.admin}/metrics") as scraped:
            text = await scraped.text()
        assert f'sidecar_circuit_state{{model="{model_of(7)}"}} 2.0' in text
        labels = {"kind": "pin", "name": "chat.core", "limit": "requests_per_minute", "scope": "pod"}
        assert value(at, "sidecar_budget_requests_used", labels) == 2


async def test_a_policy_pin_is_listed_with_the_model_that_it_means(both: Running, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{both.url}/v1/models") as answer:
        listed = {entry["id"]: entry["resolves_to"] for entry in (await answer.json())["data"]}
    assert listed["auto"] == model_of(7)
    assert "never" not in listed  # nothing fits it: no app may use it


async def test_a_scrape_shows_what_was_answered_just_before(both: Running, http: aiohttp.ClientSession) -> None:
    for count in (1, 2, 3):
        await chat(http, both)
        async with http.get(f"{both.admin}/metrics") as answer:
            found = [line for line in (await answer.text()).splitlines() if line.startswith("sidecar_attempts_total{")]
        assert [line.rpartition(" ")[2] for line in found] == [f"{count}.0"]


async def test_health_metrics_and_head(both: Running, http: aiohttp.ClientSession) -> None:
    assert await admin(http, both, "/healthz") == (200, {"status": "ok"})
    assert await admin(http, both, "/readyz") == (200, {"status": "ready", "degraded": False})
    async with http.get(f"{both.admin}/metrics") as answer:
        text = await answer.text()
        assert answer.headers["content-type"].startswith("text/plain")
    assert 'sidecar_pins_info{generation="7"' in text
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    async with http.get(f"{both.admin}/metrics?x=1", headers=accept) as answer:
        assert (await answer.text()).endswith("# EOF\n")
    for path in ("/healthz", "/readyz", "/metrics", "/pins"):
        async with http.head(both.admin + path) as answer:
            assert (answer.status, await answer.read()) == (200, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/", 404, None),
        ("GET", "/pins/", 404, None),
        ("GET", "/metrics/../pins", 404, None),
        ("POST", "/readyz", 405, "GET"),
        ("DELETE", "/pins", 405, "GET"),
        ("GET", "/resolve", 405, "POST"),
        ("GET", "/pins/stop", 405, "POST"),
        ("HEAD", "/pins/stop", 405, "POST"),
    ],
)
async def test_unknown_paths_and_wrong_methods(
    both: Running, http: aiohttp.ClientSession, method: str, path: str, status: int, allow: str | None
) -> None:
    from yarl import URL

    async with http.request(method, URL(both.admin + path, encoded=True)) as answer:
        assert (answer.status, answer.headers.get("allow")) == (status, allow)


async def test_only_the_probe_port_answers_to_any_host(both: Running, http: aiohttp.ClientSession) -> None:
    foreign = {"host": "evil.example"}
    probe = f"http://{both.lifecycle.addresses['probe'][0]}"
    for path in ("/healthz", "/readyz", "/metrics", "/pins"):
        async with http.get(both.admin + path, headers=foreign) as answer:
            assert (answer.status, answer.headers["x-sidecar-error"]) == (403, "sidecar_forbidden")
    for path in ("/healthz", "/readyz", "/metrics"):
        async with http.get(probe + path, headers=foreign) as answer:
            assert answer.status == 200
    for path, body in (("/pins", None), ("/resolve", {"model": "chat.core"}), ("/pins/stop", {}), ("/v1/models", None)):
        async with http.request("GET" if body is None else "POST", probe + path, json=body) as answer:
            assert answer.status == 404
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        async with http.post(f"{both.admin}/pins/stop", json={}, headers=headers) as answer:
            assert answer.status == 403


async def test_draining_shows_at_once_and_refuses_in_the_end(both: Running, http: aiohttp.ClientSession) -> None:
    both.lifecycle.stop()
    assert await admin(http, both, "/readyz") == (503, {"status": "not ready", "reason": "draining"})
    assert (await chat(http, both)).status == 200  # not over yet
    both.lifecycle.shared.stop()
    answer = await chat(http, both)
    assert (answer.status, answer.headers["x-sidecar-error"]) == (503, "sidecar_draining")
    assert answer.headers["retry-after"] == "1"


# --- feedback --------------------------------------------------------------------------------------------------------


async def tell(http: aiohttp.ClientSession, at: Running, body: Any) -> tuple[int, Any]:
    async with http.post(f"{at.url}/sidecar/feedback", json=body) as answer:
        assert answer.headers["x-sidecar-generation"] == "7"
        return answer.status, await answer.json()


async def test_feedback_joins_an_outcome_to_its_call(both: Running, http: aiohttp.ClientSession) -> None:
    request_id = (await chat(http, both)).headers["x-sidecar-request-id"]
    body = {"request_id": request_id, "success": True, "quality_score": 0.5, "task": "summarise"}
    await until(both.events)
    assert await tell(http, both, body) == (202, {"request_id": request_id, "known": True})
    event = await both.event(kind="feedback")
    assert {k: v for k, v in event.items() if k != "ts"} == {"kind": "feedback"} | body
    assert value(both, "sidecar_feedback_total", {"success": "true"}) == 1
    assert await tell(http, both, {"request_id": request_id, "quality_score": 1}) == (
        202,
        {"request_id": request_id, "known": True},
    )
    assert value(both, "sidecar_feedback_total", {"success": "none"}) == 1


async def test_feedback_for_a_call_that_nobody_knows(both: Running, http: aiohttp.ClientSession) -> None:
    assert await tell(http, both, {"request_id": "req_of-old", "success": False}) == (
        202,
        {"request_id": "req_of-old", "known": False},
    )
    assert (await both.event(kind="feedback"))["success"] is False


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({}, "`request_id`"),
        ([], "object"),
        ({"request_id": ""}, "`request_id`"),
        ({"request_id": 'x" evil\n'}, "`request_id`"),
        ({"request_id": "x" * 200, "success": True}, "`request_id`"),
        ({"request_id": "r"}, "needs `success` or `quality_score`"),
        ({"request_id": "r", "success": "yes"}, "`success`"),
        ({"request_id": "r", "success": 1}, "`success`"),
        ({"request_id": "r", "quality_score": True}, "`quality_score`"),
        ({"request_id": "r", "quality_score": "good"}, "`quality_score`"),
        ({"request_id": "r", "success": True, "task": "t" * 200}, "`task`"),
        ({"request_id": "r", "success": True, "prompt": "secret"}, "object with"),
    ],
)
async def test_feedback_that_is_wrong(both: Running, http: aiohttp.ClientSession, body: Any, says: str) -> None:
    status, said = await tell(http, both, body)
    assert (status, said["error"]["code"]) == (400, "sidecar_bad_request")
    assert says in said["error"]["message"]
    assert both.events("feedback") == []


async def test_feedback_that_is_no_json(both: Running, http: aiohttp.ClientSession) -> None:
    url = f"{both.url}/sidecar/feedback"
    bodies = [
        (b"{", "application/json", 400),
        (b"{}", "text/plain", 400),
        (b" " * 20_000, "application/json", 413),
    ]
    for data, kind, status in bodies:
        async with http.post(url, data=data, headers={"content-type": kind}) as answer:
            assert answer.status == status
    async with http.get(url) as answer:
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
