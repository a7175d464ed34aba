"""The law: a request lives under the pin file that it began with; no decision and no answer mixes two of them."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import aiohttp
import orjson

from sidecar.compose import resolve
from sidecar.core.facts import Ask, Exchange
from tests.harness import Running, until
from tests.pins.kit import chat, generation, model_of, pins, rename, took

DECISIONS = 100_000
REQUESTS = 2_000
SWAPS = 30


async def test_a_hundred_thousand_decisions_under_continuous_swaps(seven: Running, tmp_path: Path) -> None:
    """Decisions in one thread, swaps in another: so a swap may fall between any two bytecodes of a decision."""
    pinned = seven.lifecycle.shared.pinned
    files = []
    for number in range(100, 110):
        file = tmp_path / f"{number}.yaml"
        file.write_text(pins(number))
        found = pinned.look(file)
        assert found.pins is not None
        files.append(found.pins)
    over = threading.Event()
    mixed: list[object] = []
    seen: set[str] = set()

    def decide() -> None:
        for count in range(DECISIONS):
            snapshot = pinned.snapshot
            assert snapshot is not None
            unit = str(count) if count % 4 else None
            x = Exchange("law", Ask(dialect="openai", name="chat.core", unit=unit, required=True), 0.0)
            refusal = resolve(snapshot, x)
            label = snapshot.pins.label.partition("+")[0]
            wanted = model_of(int(label)) if x.variant == "stable" else f"canary-{model_of(int(label))}"
            if refusal is not None or x.targets[0].model != wanted:
                mixed.append((label, x.targets, refusal))
            seen.add(snapshot.pins.label)
        over.set()

    decider = asyncio.create_task(asyncio.to_thread(decide))
    swaps = 0
    while not over.is_set():
        pinned.offer(files[swaps % len(files)])
        if swaps % 7 == 0:
            pinned.stop("chat.core", "canary")
        swaps += 1
        await asyncio.sleep(0)
    await decider
    assert mixed == []
    assert swaps > SWAPS
    assert len(seen) > len(files)  # some were seen stopped, too


async def test_two_thousand_answers_during_thirty_swaps(seven: Running, http: aiohttp.ClientSession) -> None:
    """Each answer's generation, model and body belong to exactly one file, and nothing fails."""
    over = False

    async def swap() -> int:
        number = 7
        while not over or number < 7 + SWAPS:
            number += 1
            rename(seven.pins, pins(number))
            await took(seven, number)
        return number - 7

    async def ask(count: int) -> set[str]:
        generations = set()
        for index in range(count):
            answer = await chat(http, seven, headers={"x-sidecar-unit": f"u{index}"}, stream=index % 10 == 0)
            assert answer.status == 200
            label = answer.headers["x-sidecar-generation"]
            model = answer.headers["x-sidecar-model"]
            canary = answer.headers["x-sidecar-variant"] == "canary"
            assert model == ("canary-" if canary else "") + model_of(int(label))
            said = answer.body.partition(b"data: ")[2].partition(b"\n")[0] or answer.body
            assert orjson.loads(said)["model"] == model
            generations.add(label)
        return generations

    swapper = asyncio.create_task(swap())
    seen = await asyncio.gather(*(ask(REQUESTS // 8) for _ in range(8)))
    over = True
    assert await swapper >= SWAPS
    assert len(set().union(*seen)) > 5
    await until(lambda: len(seven.events()) == REQUESTS)
    for event in seven.events():
        canary = event["variant"] == "canary"
        assert event["model_id"] == ("canary-" if canary else "") + model_of(int(event["generation"]))
        assert event["error"] is None


async def test_a_stream_that_spans_a_swap(seven: Running, http: aiohttp.ClientSession) -> None:
    body = {"model": "chat.core", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    headers = {"x-fake-fault": "gap=40ms"}
    began = time.monotonic()
    async with http.post(f"{seven.url}/v1/chat/completions", json=body, headers=headers) as answer:
        first = await answer.content.readany()
        assert b"data:" in first
        rename(seven.pins, pins(8))
        await took(seven, 8)
        meanwhile = await chat(http, seven)
        assert meanwhile.headers["x-sidecar-model"] == model_of(8)
        rest = await answer.content.read()
    assert rest.endswith(b"data: [DONE]\n\n"), time.monotonic() - began
    assert answer.headers["x-sidecar-generation"] == "7"
    assert model_of(7).encode() in rest
    assert model_of(8).encode() not in first + rest
    await until(lambda: len(seven.events()) == 2)
    old = next(e for e in seven.events() if e["stream"])
    assert (old["generation"], old["model_id"], old["error"]) == (7, model_of(7), None)
    assert generation(seven) == "8"


async def test_a_body_that_is_slow_to_arrive_keeps_its_generation(seven: Running) -> None:
    """The snapshot is taken when the headers arrive, not when the body is complete."""
    reader, writer = await asyncio.open_connection("127.0.0.1", seven.port)
    body = b'{"model":"chat.core","messages":[{"role":"user","content":"hi"}]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Content-Type: application/json\r\n\r\n" + body[:20])
    await until(lambda: seven.lifecycle.shared.in_flight == 1)
    rename(seven.pins, pins(8))
    await took(seven, 8)
    writer.write(body[20:])
    said = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert b"x-sidecar-generation: 7\r\n" in said
    assert model_of(7).encode() in said
