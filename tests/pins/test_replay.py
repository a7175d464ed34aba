"""`sidecar replay`: every decision of a mixed day, made again offline from its event and its pin file."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sidecar.cli import main
from sidecar.provider import FakeProvider
from tests.harness import Running, lines, sidecar, until
from tests.pins.kit import admin, looks, rename

MESSAGES = [{"role": "user", "content": "hi"}]
CLAUDE = {"anthropic-version": "2023-06-01"}


def day(generation: int, *, unlisted: str = "reject", percent: int = 30) -> str:
    """A pin file with one of each kind of name."""
    return f"""\
generation: {generation}
unlisted: {unlisted}
models:
  gpt-a-2026-01-01: {{provider: openai, context: 128000, latency_ms: 900, price: {{input: 1, output: 4}}}}
  gpt-b-2026-01-01: {{provider: openai, context: 200000, latency_ms: 700, price: {{input: 2, output: 8}}}}
  gpt-eu-2026-01-01: {{provider: openai-eu, context: 64000, latency_ms: 100, price: {{input: 1, output: 1}}}}
  gpt-us-2026-01-01: {{provider: openai-us, context: 64000, latency_ms: 100, price: {{input: 1, output: 1}}}}
  claude-c-20260101: {{provider: anthropic, context: 200000}}
pins:
  arms:
    stable: gpt-a-2026-01-01
    salt: s{generation % 2}
    variants:
      one: {{model: gpt-b-2026-01-01, percent: {percent}, start: 0}}
      two: {{model: gpt-a-2026-01-01, percent: 20, start: 60}}
  plain: {{stable: gpt-b-2026-01-01, task: summarise}}
  eu: {{stable: gpt-eu-2026-01-01}}
  us: {{stable: gpt-us-2026-01-01}}
  far: {{stable: claude-c-20260101}}
  auto: {{policy: {{max_latency_ms: 1000, min_context: 1000, prefer: latency}}}}
  cheap: {{policy: {{max_price: {{output: 5}}, prefer: price}}}}
  never: {{policy: {{min_context: 900000}}}}
aliases:
  "model://a@1": gpt-a-2026-01-01
"""


@asynccontextmanager
async def site(
    provider: FakeProvider, folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, us_key: str = ""
) -> AsyncIterator[Running]:
    """Three OpenAI providers: the default, one with a key of its own, one whose key is missing. And no Gemini."""
    monkeypatch.setenv("EU_KEY", "sk-eu")
    monkeypatch.setenv("US_KEY", us_key)
    keyed = {"dialect": "openai", "base_url": f"{provider.url}/v1"}
    providers: dict[str, Any] = {
        "openai": f"{provider.url}/v1",
        "openai-eu": keyed | {"api_key_env": "EU_KEY"},
        "openai-us": keyed | {"api_key_env": "US_KEY"},
        "anthropic": provider.url,
    }
    async with sidecar(folder, providers, pins=text) as running:
        yield running


async def ask(
    http: aiohttp.ClientSession, at: Running, name: str | None, path: str = "/v1/chat/completions", **more: Any
) -> int:
    headers = more.pop("headers", {})
    body = ({"messages": MESSAGES} if name is None else {"model": name, "messages": MESSAGES}) | more
    async with http.post(at.url + path, json=body, headers=headers) as answer:
        await answer.read()
        return answer.status


async def traffic(http: aiohttp.ClientSession, at: Running) -> None:
    """Of everything something, with what each must answer where that doesn't depend on `unlisted`."""
    for number in range(12):
        assert await ask(http, at, "arms", headers={"x-user-id": f"u{number}"}) == 200
    for name in ("arms", "plain", "model://a@1", "gpt-a-2026-01-01", "auto", "cheap"):
        assert await ask(http, at, name) == 200
    assert await ask(http, at, "arms", stream=True, user="streamer") == 200
    assert await ask(http, at, "arms", user="x" * 2000) == 200  # nobody's id
    assert await ask(http, at, "plain", capability="arms", user="u1") == 200
    assert await ask(http, at, "eu") == 200
    assert await ask(http, at, "eu", "/openai-eu/v1/chat/completions") == 200
    assert await ask(http, at, "us") == 503  # no credential
    assert await ask(http, at, "plain", "/openai-eu/v1/chat/completions") == 400  # lives elsewhere
    assert await ask(http, at, "auto", "/openai-eu/v1/chat/completions") == 200
    assert await ask(http, at, "far") == 400  # another dialect
    assert await ask(http, at, "far", "/v1/messages", max_tokens=5, headers=CLAUDE) == 200
    assert await ask(http, at, "auto", "/v1/messages", max_tokens=5, headers=CLAUDE) == 503
    assert await ask(http, at, "never") == 503
    assert await ask(http, at, None) == 400
    assert await ask(http, at, None, "/v1/moderations", input="x") == 200
    assert await ask(http, at, None, "/v1/some/new/path") in (200, 404)
    for name in ("nobody", "x" * 5000, "n\u00f6body \u202e\x07", "gpt-a"):
        await ask(http, at, name)
    for path in ("/v1beta/models/plain:generateContent", "/v1beta/models/nobody:generateContent"):
        await ask(http, at, None, path)  # Gemini: nobody speaks it here
    assert await ask(http, at, "plain", headers={"x-fake-fault": "status=500"}) == 500


async def written(at: Running) -> None:
    """Until each request that has an account has its line, too."""
    total = at.lifecycle.shared.metrics.registry.get_sample_value("sidecar_overhead_seconds_count")
    await until(lambda: len(at.events()) == total)


@pytest.fixture
async def recorded(
    provider: FakeProvider, http: aiohttp.ClientSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """(events file, folder of pin files) of a day with four files and a stop."""
    folder = tmp_path / "history"
    folder.mkdir()
    files = [day(1), day(2, unlisted="pass"), day(3, percent=60), day(2, unlisted="pass", percent=1)]
    async with site(provider, tmp_path, monkeypatch, files[0]) as running:
        for number, text in enumerate(files):
            (folder / f"{number}.yaml").write_text(text)
            rename(running.pins, text)
            await looks(running)
            await traffic(http, running)
            assert (await admin(http, running, "/pins/stop", body={"pin": "arms", "variant": "one"}))[0] == 200
            await traffic(http, running)
        await written(running)
    (folder / "notes.yaml").write_text("these: [aren't, pins]")
    return tmp_path / "events.jsonl", folder


async def test_a_mixed_day(recorded: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    events, folder = recorded
    requests = [e for e in lines(events) if e["kind"] == "request"]
    assert {e["generation"] for e in requests} == {1, "1+stop", 2, "2+stop", 3, "3+stop"}
    assert {e["inputs"]["kind"] for e in requests} == {
        "pin", "alias", "catalogued", "unlisted", "none", "undecided",
    }  # fmt: skip
    assert {e["error"] for e in requests} >= {
        None, "sidecar_unknown_model", "sidecar_bad_request", "sidecar_no_target", "overload",
    }  # fmt: skip
    for config in ([], ["--config", str(events.with_name("sidecar.yaml"))]):
        code = main(["replay", str(events), "--pins", str(folder), *config])
        said = capsys.readouterr()
        assert code == 0, said
        decided = [e for e in requests if e["inputs"]["kind"] != "undecided"]
        assert f"{len(decided)} decisions are the same, 0 differ, 0 could not be replayed" in said.out

    await asyncio.to_thread(_tampering, events, folder, capsys)


def _tampering(events: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = events.read_text().splitlines()
    at = next(n for n, line in enumerate(whole) if '"bucket":' in line and '"variant":"one"' in line)

    def tamper(change: Callable[[dict[str, Any]], object]) -> int:
        event = json.loads(whole[at])
        change(event)
        events.write_text("\n".join([*whole[:at], json.dumps(event), *whole[at + 1 :]]) + "\n")
        return main(["replay", str(events), "--pins", str(folder)])

    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda e: e.update(model_id="gpt-a-2026-01-01"),
        lambda e: e.update(provider="openai-eu"),
        lambda e: e.update(variant="stable"),
        lambda e: e.update(variant="two"),
        lambda e: e.update(generation=9),
        lambda e: e.update(why=e["why"] + " "),
        lambda e: e.update(pin="plain"),
        lambda e: e["inputs"].update(bucket=9999),
        lambda e: e["inputs"].update(stopped=[["arms", "one"]]),
        lambda e: e["inputs"].update(usable=[]),
        lambda e: e["inputs"].update(sizes={"gpt-b-2026-01-01": 10**9}),
        lambda e: e.update(status=404),
        lambda e: e.update(error="overload"),
        lambda e: e["attempts"].pop(),
        lambda e: e["attempts"].append(e["attempts"][0]),
        lambda e: e["attempts"][0].update(cause="retry"),
        lambda e: e["attempts"][0].update(outcome="failed", fault="overload"),
    ]
    for number, change in enumerate(changes):
        assert tamper(change) == 1, number
        assert f"line {at + 1} (" in capsys.readouterr().out
    assert tamper(lambda e: e.update(pins_sha256="0" * 64)) == 2
    assert f"line {at + 1}: no pin file with sha256 000" in capsys.readouterr().err
    broken: list[Callable[[dict[str, Any]], object]] = [
        lambda e: e.pop("inputs"),
        lambda e: e["inputs"].update(stopped=[["arms"]]),
        lambda e: e["inputs"].update(stopped=[["arms", "nobody"]]),
        lambda e: e["inputs"].update(eligible=7),
        lambda e: e.update(inputs=[]),
    ]
    for spoil in broken:
        assert tamper(spoil) == 2
        assert f"line {at + 1}: not a request event" in capsys.readouterr().err

    events.write_text("\n".join(whole) + "\n")
    (folder / "2.yaml").unlink()  # generation 3
    code = main(["replay", str(events), "--pins", str(folder), "--format", "json"])
    said = json.loads(capsys.readouterr().out)
    assert (code, said["differing"]) == (2, [])
    third = ('"generation":3,', '"generation":"3+stop"')
    gone = [
        line for line in whole if any(mark in line for mark in third) and '"bucket"' in line and "undecided" not in line
    ]
    assert len(said["unreplayable"]) == len(gone)
    files = [str(f) for f in sorted(folder.glob("[0-9].yaml"))]
    assert main(["replay", str(events), "--pins", *files]) == 2
    assert main(["replay", str(events.with_name("nowhere")), "--pins", str(folder)]) == 2
    assert main(["replay", str(events), "--pins", str(folder / "notes.yaml")]) == 2
    capsys.readouterr()


NAMES = st.one_of(
    st.sampled_from(["arms", "plain", "auto", "cheap", "eu", "us", "far", "never", "model://a@1", "gpt-b-2026-01-01"]),
    st.text(min_size=1, max_size=200),
)
UNITS = st.none() | st.text(max_size=40) | st.text(min_size=1, max_size=5).map(lambda t: t * 300)


@given(asked=st.lists(st.tuples(NAMES, UNITS), min_size=30, max_size=30), unlisted=st.sampled_from(["reject", "pass"]))
@settings(
    max_examples=8,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_random_names_and_units(
    asked: list[tuple[str, str | None]],
    unlisted: str,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path_factory.mktemp("random")

    async def record() -> None:
        with pytest.MonkeyPatch.context() as monkeypatch:
            async with FakeProvider() as provider, site(provider, folder, monkeypatch, day(1, unlisted=unlisted)) as at:
                async with aiohttp.ClientSession() as http:
                    for name, unit in asked:
                        await ask(http, at, name, **({} if unit is None else {"user": unit}))
                await written(at)

    asyncio.run(record())
    code = main(["replay", str(folder / "events.jsonl"), "--pins", str(folder / "pins.yaml")])
    assert code == 0, capsys.readouterr()


async def test_explain_says_what_a_live_sidecar_does(
    provider: FakeProvider,
    http: aiohttp.ClientSession,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ["arms", "plain", "auto", "cheap", "eu", "us", "far", "never", "model://a@1", "gpt-b-2026-01-01", "nobody"]
    async with site(provider, tmp_path, monkeypatch, day(1), us_key="sk-us") as at:
        for name in names:
            for unit in (None, "", "u1", "u2", "\u00fcn\u00eft\U0001f600", "x" * 2000):
                headers = {"x-sidecar-explain": "1"}
                body = {"model": name, "messages": MESSAGES} | ({} if unit is None else {"user": unit})
                async with http.post(f"{at.url}/v1/chat/completions", json=body, headers=headers) as live:
                    await live.read()
                words = ["--config", str(tmp_path / "sidecar.yaml"), "--dialect", "openai", "--format", "json"]
                words += [] if unit is None else ["--unit", unit]
                code = main(["pins", "explain", "--pins", str(at.pins), "--model", name, *words])
                said = json.loads(capsys.readouterr().out)
                assert code == (0 if live.status == 200 else 1), (name, unit, said)
                assert said["why"][:1024] == live.headers["x-sidecar-why"]
                asked = {"model": name} if unit is None else {"model": name, "unit": unit}
                status, resolved = await admin(http, at, "/resolve", body=asked)
                if live.status == 200:
                    assert (said["model"], said["variant"]) == (
                        live.headers["x-sidecar-model"],
                        live.headers["x-sidecar-variant"],
                    )
                    assert {k: said[k] for k in ("model", "variant", "generation", "why")} == resolved
                else:
                    assert (said["error"]["code"], said["error"]["status"]) == (
                        live.headers["x-sidecar-error"],
                        live.status,
                    )
                    assert status == live.status
    assert main(["pins", "explain", "--pins", str(tmp_path / "nowhere"), "--model", "arms"]) == 2
    assert main(["pins", "explain", "--pins", str(tmp_path / "pins.yaml"), "--model", "plain", "--unit", "u"]) == 0
    assert "plain -> gpt-b-2026-01-01 at openai (variant stable, generation 1)" in capsys.readouterr().out
