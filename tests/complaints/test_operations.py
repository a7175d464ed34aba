"""Complaints of those who run it: 19, 20, 21, 22, 24, 25 of the field study (§3).

Where Kubernetes has a part (21, 25) it is this process's share: what it answers to probes and signals.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sidecar.provider import FakeProvider
from sidecar.settings.load import read_pins
from sidecar.settings.problems import ConfigError
from tests.complaints.kit import CLAUDE, GPT, LUNA, MINI, TURNS, Scene, asked, bases, faked, pins, rule, scene
from tests.harness import sidecar, until
from tests.pins.kit import Mount


async def test_19_a_swapped_file_counts_for_fallback_and_hedge_too(provider: FakeProvider, tmp_path: Path) -> None:
    """Kubernetes' way of swapping, under load: every request lives under one generation from name to fallback."""

    def file(generation: int, second: str) -> str:
        more = f"""
  chat: {{stable: {GPT}, fallback: [{second}], max_attempts: 2}}
  hedged: {{stable: {CLAUDE}, hedge: {{model: {second if second == CLAUDE else CLAUDE}, after: 5ms}}}}
"""
        return pins(more.replace(f"model: {CLAUDE}, ", ""), generation=generation)

    mount = Mount(tmp_path / "mounted")
    mount.swap(file(1, MINI))
    provider.script([rule("status=503", GPT)])
    served: list[tuple[str, str | None]] = []
    async with sidecar(tmp_path, bases(provider), mounted=mount.pins) as running, _http(running.url) as http:
        one = Scene(running, http)
        swapped = asyncio.Event()

        async def load() -> None:
            while not (swapped.is_set() and served and served[-1][0] == "2"):
                got = await one.chat("chat")
                served.append((got.headers["x-sidecar-generation"], got.model))

        loads = [asyncio.create_task(load()) for _ in range(4)]
        await until(lambda: len(served) > 20)
        mount.swap(file(2, LUNA))
        began = time.monotonic()
        swapped.set()
        await asyncio.gather(*loads)
        assert time.monotonic() - began < 10, "promised are two seconds"
        assert set(served) == {("1", MINI), ("2", LUNA)}
        provider.ledger.reset()
        for _ in range(10):
            await one.chat("chat")
        assert asked(provider) == [GPT, LUNA] * 10


def _http(url: str) -> Any:
    import aiohttp

    return aiohttp.ClientSession(url)


async def test_20_a_backend_that_answers_nothing_costs_nothing(provider: FakeProvider, tmp_path: Path) -> None:
    """A Redis that takes connections and is silent. Promised is a p99 of 5 ms more; ten times as much is allowed."""
    hole = socket.socket()
    hole.bind(("127.0.0.1", 0))
    hole.listen(1)
    fleet = {"url": f"redis://127.0.0.1:{hole.getsockname()[1]}/0", "deadline": "5ms"}
    budget = "budget: {tokens_per_minute: 1000000, scope: fleet}"
    text = pins(f"  chat: {{stable: {GPT}, cache: {{ttl: 60s, always: true}}}}", models={GPT: budget})
    try:
        async with faked(tmp_path, provider, text, fleet=fleet) as one:
            took = []
            for number in range(100):
                began = time.monotonic()
                got = await one.post({"model": "chat", "messages": TURNS, "user": str(number)})
                took.append(time.monotonic() - began)
                assert got.status == 200
            assert sorted(took)[98] < 0.05
    finally:
        hole.close()


async def test_21_a_shutdown_lets_streams_end(provider: FakeProvider, tmp_path: Path) -> None:
    """Unready at once; fifty open streams end within the grace; the one that doesn't gets an error event."""
    text = pins(f"  chat: {{stable: {GPT}}}")
    async with faked(tmp_path, provider, text, drain={"idle": "50ms", "grace": "1500ms"}) as one:
        streams = [asyncio.create_task(one.chat("chat", "gap=60ms", stream=True)) for _ in range(50)]
        endless = asyncio.create_task(one.chat("chat", "gap=1s", stream=True, x_fake_tokens="99"))
        await until(lambda: sum(r.completion_tokens > 0 for r in provider.ledger.requests) == 51)
        one.running.lifecycle.stop()
        draining = asyncio.create_task(one.running.lifecycle.drain())
        async with one.http.get(f"{one.running.admin}/readyz") as ready:
            assert ready.status == 503
        assert (await one.chat("chat")).status == 200, "the app's last calls still work"
        got = await asyncio.gather(*streams)
        assert all(g.text.rstrip().endswith("[DONE]") and not g.broken for g in got)
        await draining
        last = await endless
        assert "sidecar_stream_interrupted" in last.text or last.broken
        assert "[DONE]" not in last.text


async def test_22_invented_names_leave_the_metrics_as_they_are(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  chat: {{stable: {GPT}}}")
    async with faked(tmp_path, provider, text) as one:

        async def series() -> set[str]:
            await one.idle()
            async with one.http.get(f"{one.running.admin}/metrics") as answer:
                lines = (await answer.text()).splitlines()
            return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}

        async def ask(name: str) -> None:
            await one.post({"model": name, "messages": TURNS, "user": name}, x_user_id=name, x_sidecar_task=name)

        await ask("invented-0")
        await ask("invented-0")
        before = await series()
        for start in range(0, 500, 50):
            await asyncio.gather(*(ask(f"invented-{number}") for number in range(start, start + 50)))
        after = await series()
        assert after == before
        assert not any("invented" in line for line in after)


CANARY = "canary-7f3a9b"


async def test_24_secrets_and_prompts_are_written_nowhere(provider: FakeProvider, tmp_path: Path) -> None:
    """In headers, query and body, on good and bad paths: not in the log, events, audit, metrics, errors of ours."""
    text = pins(f"  chat: {{stable: {GPT}, fallback: [{MINI}], cache: {{ttl: 9s, always: true}}}}")
    async with faked(tmp_path, provider, text) as one:
        body = {"model": "chat", "messages": [{"role": "user", "content": CANARY}], "user": CANARY}
        said = ""
        for fault in ("", "", "status=503", "cut=headers", "first=2ms;cut=1", "status=401"):
            for stream in (False, True):
                path = f"/v1/chat/completions?key={CANARY}"
                got = await one.post(body | {"stream": stream}, path, fault, authorization=f"Bearer {CANARY}",
                                     x_api_key=CANARY, cookie=f"a={CANARY}", x_sidecar_explain="1")  # fmt: skip
                said += str([(k, v) for k, v in got.headers.items() if k.startswith("x-sidecar")])
                said += got.text if "x-sidecar-error" in got.headers else ""
        one.running.pins.write_text(f"{CANARY}: [")
        one.running.lifecycle.reloader.reload_now()
        await one.idle()
        await one.running.event(count=12)
        for path in ("/metrics", "/healthz", "/readyz"):
            async with one.http.get(one.running.admin + path) as answer:
                said += await answer.text()
        said += "".join(file.read_text() for file in one.running.folder.glob("*.jsonl"))
        assert said.count("req_") >= 12
        assert CANARY not in said


async def test_24_importing_it_opens_no_socket_and_reads_no_credentials() -> None:
    """All of the sidecar's modules, in a process that ends at the first connection or look into a home's secrets."""
    program = """
import sys
def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.system"):
        raise SystemExit(f"{event} {args}")
    if event == "open" and any(s in str(args[0]) for s in (".aws", ".ssh", ".netrc", ".kube", ".env", "secrets/")):
        raise SystemExit(f"opened {args[0]}")
sys.addaudithook(watch)
import pkgutil, importlib, sidecar
for module in pkgutil.walk_packages(sidecar.__path__, "sidecar."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
print("imported")
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == "imported", done.stderr


async def test_25_only_the_model_changes_on_the_way_up(provider: FakeProvider, tmp_path: Path) -> None:
    """Unknown members, odd numbers, escapes, order and white space arrive; so do vendors' headers; ours don't."""
    text = pins(f"  chat: {{stable: {GPT}}}")
    raw = b"""{ "a_param_of_2027":{"x":[1e400,-0.0,123456789012345678901234567890]},
  "model" : "chat","messages":[{"role":"user","content":"\\u00fc\\ud83d\\ude00"}],"temperature":1.0 , "x":null}"""
    sent = {
        "anthropic-beta": "a,b",
        "openai-beta": "c",
        "openai-project": "p",
        "x-vendor-thing": "1",
        "x-no-cache": "1",
        "x-sidecar-unit": "u",
        "x-sidecar-hedge": "off",
        "x-model-capability": "chat",
    }
    async with faked(tmp_path, provider, text) as one:
        headers = sent | {"content-type": "application/json"}
        async with one.http.post("/v1/chat/completions", data=raw, headers=headers) as answer:
            assert answer.headers["x-sidecar-attempts"] == "1"  # the fake provider itself can't read 1e400
        record = provider.ledger.requests[0]
        expected = raw.replace(b'"model" : "chat"', b'"model" : "%s"' % GPT.encode())
        assert record.body_sha256 == hashlib.sha256(expected).hexdigest()
        arrived = {name.lower(): value for name, value in record.headers}
        ours = {name for name in sent if name.startswith(("x-sidecar", "x-model"))}
        assert {name: arrived.get(name) for name in sent} == {n: None if n in ours else v for n, v in sent.items()}


@pytest.mark.parametrize(
    "wrong",
    [
        f"  chat: {{stable: {GPT}, over_budget: no-such-model}}",
        f"  chat: {{stable: {GPT}, fallback: [no-such-model]}}",
        f"  chat: {{stable: {GPT}, hedge: {{model: no-such-model, after: 1s}}}}",
        f"  chat: {{stable: {GPT}, budget: {{tokens_per_minute: 0}}}}",
        f"  chat: {{stable: {GPT}, budget: {{tokens_per_minute: -5}}}}",
    ],
)
async def test_25_a_limit_for_something_unknown_is_a_load_error(wrong: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_pins(pins(wrong).encode(), "pins.yaml", None)
    assert any(problem.line is not None for problem in caught.value.problems)


@pytest.mark.parametrize(("allowed", "status"), [(99, 429), (100, 200), (101, 200)])
async def test_25_a_budget_ends_exactly_at_its_limit(
    provider: FakeProvider, tmp_path: Path, allowed: int, status: int
) -> None:
    """Two answers of 50 tokens against 99, 100 and 101: the second fits, or doesn't, to the token."""
    text = pins(f"  chat: {{stable: {GPT}}}", models={GPT: f"budget: {{output_tokens_per_minute: {allowed}}}"})
    async with faked(tmp_path, provider, text) as one:
        body = {"model": "chat", "messages": TURNS, "max_tokens": 50}
        statuses = [(await one.post(body, x_fake_tokens="50")).status for _ in range(2)]
        assert statuses == [200, status]


async def test_25_a_pod_without_usable_pins_is_not_ready(provider: FakeProvider, tmp_path: Path) -> None:
    async with scene(tmp_path, bases(provider), "nonsense: [") as one:
        async with one.http.get(f"{one.running.admin}/readyz") as ready:
            assert ready.status == 503
        got = await one.chat("chat")
        assert (got.status, json.loads(got.body)["error"]["code"]) == (503, "sidecar_no_target")


async def test_25_what_a_cancelled_call_used_is_not_thrown_away(provider: FakeProvider, tmp_path: Path) -> None:
    text = pins(f"  chat: {{stable: {GPT}}}", models={GPT: "budget: {output_tokens_per_minute: 100000}"})
    async with faked(tmp_path, provider, text) as one:
        asking = asyncio.create_task(one.chat("chat", "gap=20ms", stream=True, x_fake_tokens="50"))
        await until(lambda: provider.ledger.requests and provider.ledger.requests[0].completion_tokens >= 10)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await one.idle()
        (level,) = one.shared.state.ledger.levels(one.shared.now())
        assert level.reserved == 0
        assert 9 <= level.used < 1000
