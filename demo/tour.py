"""`make demo`: who asked for what, what served and why, what a swap changes. Stays up until Ctrl-C.

`--once` ends by itself, with exit code 0 if everything went as told.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from anthropic import AsyncAnthropic
from openai import AsyncOpenAI, NotFoundError

from demo.processes import Stage
from demo.trouble import trouble

LOAD_WORKERS = 8
PROMPT = "Say hello to the tour."


@dataclass(frozen=True, slots=True)
class Served:
    """One answer's account of itself."""

    asked: str
    who: str
    model: str
    variant: str
    generation: str
    why: str


def say(text: str = "") -> None:
    print(text, flush=True)


def heading(number: int, text: str) -> None:
    say(f"\n{number}. {text}\n")


async def ask(client: AsyncOpenAI, name: str, user: str) -> Served:
    """One chat completion by the OpenAI SDK, with the sidecar's account of it."""
    raw = await client.chat.completions.with_raw_response.create(
        model=name,
        messages=[{"role": "user", "content": PROMPT}],
        extra_headers={"x-sidecar-unit": user, "x-sidecar-explain": "1"},
    )
    h = raw.headers
    return Served(
        name, user, h["x-sidecar-model"], h["x-sidecar-variant"], h["x-sidecar-generation"], h["x-sidecar-why"]
    )


async def who_gets_what(openai: AsyncOpenAI, anthropic: AsyncAnthropic) -> None:
    """A few calls by both SDKs, each with its explanation."""
    users = ["ada", "grace", "linus", "margaret"]
    # One user of the canary, so that the newcomer sees an arm: buckets are fixed, so this finds the same one each time.
    canary = await canary_user(openai)
    for user in [*users[:2], canary]:
        served = await ask(openai, "chat.core", user)
        say(f"   openai SDK     {user:<10} asked for chat.core   -> {served.model}  ({served.variant})")
        say(f"                  why: {served.why}")
    message = await anthropic.messages.with_raw_response.create(
        model="assistant",
        max_tokens=64,
        messages=[{"role": "user", "content": PROMPT}],
        extra_headers={"x-sidecar-explain": "1"},
    )
    say(f"   anthropic SDK  {'ada':<10} asked for assistant   -> {message.headers['x-sidecar-model']}")
    say(f"                  why: {message.headers['x-sidecar-why']}")
    stream = await openai.chat.completions.create(
        model="chat.auto", messages=[{"role": "user", "content": PROMPT}], stream=True
    )
    text = "".join([c.choices[0].delta.content or "" async for c in stream if c.choices])
    say(f"   openai SDK     {'linus':<10} streamed chat.auto    -> “{text.strip()}”")
    try:
        await openai.chat.completions.create(model="chat.cor", messages=[{"role": "user", "content": PROMPT}])
    except NotFoundError as error:
        refused = f"{type(error).__name__}: {error.body['message']}"  # type: ignore[index]
        say(f"   openai SDK     {'margaret':<10} asked for chat.cor    -> {refused}")


async def canary_user(openai: AsyncOpenAI) -> str:
    """A user whom the 10 % canary takes in."""
    for n in range(200):
        served = await ask(openai, "chat.core", f"user-{n}")
        if served.variant == "canary":
            return f"user-{n}"
    return "user-0"


class Load:
    """Users who keep asking for chat.core while the file is swapped."""

    def __init__(self, client: AsyncOpenAI) -> None:
        self._client = client
        self._stop = asyncio.Event()
        self.seen: list[Served] = []
        self.errors: list[str] = []

    async def worker(self, number: int) -> None:
        turn = 0
        while not self._stop.is_set():
            turn += 1
            try:
                self.seen.append(await ask(self._client, "chat.core", f"user-{number}-{turn % 25}"))
            except Exception as error:  # noqa: BLE001 - the tour counts whatever a user would see
                self.errors.append(repr(error))

    async def around(self, stage: Stage, text: str, generation: str) -> float:
        """Run load, swap, run on. Returns the milliseconds from the swap to the first answer of the new file."""
        workers = [asyncio.create_task(self.worker(n)) for n in range(LOAD_WORKERS)]
        await asyncio.sleep(0.7)
        swapped = time.monotonic()
        stage.swap(text)
        while not any(s.generation == generation for s in self.seen) and time.monotonic() - swapped < 10:
            await asyncio.sleep(0.001)
        took = time.monotonic() - swapped
        await asyncio.sleep(0.7)
        self._stop.set()
        await asyncio.gather(*workers)
        return took * 1000


def table(seen: list[Served]) -> None:
    counts = Counter((s.generation, s.variant, s.model) for s in seen)
    for (generation, variant, model), count in sorted(counts.items()):
        say(f"   generation {generation}   {variant:<7} {model:<22} {count:>5} answers")


async def swap_under_load(stage: Stage, openai: AsyncOpenAI) -> bool:
    """Raise the canary from 10 to 50 % while 8 users keep asking."""
    old = stage.pins.read_text()
    new = old.replace("generation: 7", "generation: 8", 1).replace("percent: 10}", "percent: 50}", 1)
    load = Load(openai)
    took_ms = await load.around(stage, new, "8")
    table(load.seen)
    arms: dict[str, dict[str, str]] = {}
    for served in load.seen:
        arms.setdefault(served.generation, {})[served.who] = served.variant
    moved_back = [u for u, v in arms.get("7", {}).items() if v == "canary" and arms.get("8", {}).get(u) == "stable"]
    say(f"\n   The first answer of generation 8 came {took_ms:.0f} ms after the file was written.")
    say(f"   Errors seen by users: {len(load.errors)}. Users moved from canary back to stable: {len(moved_back)}.")
    for error in load.errors[:3]:
        say(f"   ! {error}")
    return not load.errors and not moved_back and "8" in arms


async def bad_file(stage: Stage, openai: AsyncOpenAI) -> bool:
    """A typo in the file: nothing changes, and everybody who looks is told."""
    good = stage.pins.read_text()
    stage.swap(good.replace("generation: 8", "generation: 9", 1).replace("stable: gpt-5.4", "stable: gpt-5.44", 1))
    for _ in range(500):
        trouble = stage.status()["last_error"]
        if trouble:
            break
        await asyncio.sleep(0.01)
    served = await ask(openai, "chat.core", "ada")
    say(f"   refused:  {trouble}")
    say(f"   and chat.core still answers, from generation {served.generation}: {served.model}")
    stage.swap(good)
    return bool(trouble) and served.generation == "8"


async def things_go_wrong(stage: Stage, openai: AsyncOpenAI) -> bool:
    """A model that fails, one that is slow, a question asked twice."""
    seen = await trouble(openai, stage.provider_port)
    for what, told, _ in seen:
        say(f"   {what:<24} -> {told.model}, {told.attempts} attempts, cache {told.cache}, {told.took_ms:.0f} ms")
        say(f"                  why: {told.why}")
    return all(good for _, _, good in seen)


def next_steps(stage: Stage) -> None:
    say("\nTry it yourself, in another terminal:\n")
    headers = "-H 'content-type: application/json' -H 'x-sidecar-explain: 1'"
    say(f"   curl -si {stage.url}/v1/chat/completions {headers} \\")
    say("""        -d '{"model": "chat.core", "messages": [{"role": "user", "content": "hi"}], "user": "ada"}'""")
    say(f"   curl -s {stage.url}/v1/models")
    say(f"   curl -s {stage.admin}/pins")
    say(f'   curl -s {stage.admin}/pins/stop -d \'{{"pin": "chat.core", "variant": "canary"}}\'')
    say(f"   $EDITOR {stage.pins}          # save it: the next request sees it")
    say(f"   tail -f {stage.folder}/events.jsonl")
    say(f"   .venv/bin/sidecar pins explain --pins {stage.pins} --model chat.core --unit ada")
    say(f"   .venv/bin/sidecar replay {stage.folder}/events.jsonl --pins config {stage.pins}")


async def tour(stage: Stage) -> bool:
    """The stops. True if everything went as told."""
    openai = AsyncOpenAI(base_url=f"{stage.url}/v1", api_key="demo-key", max_retries=0)
    anthropic = AsyncAnthropic(base_url=stage.url, api_key="demo-key", max_retries=0)
    async with openai, anthropic:
        say("Model Sidecar: apps ask for stable names, a file says which immutable model serves them now.")
        say(f"\n   sidecar        {stage.url}        the apps' base URL is all that changed")
        fake = f"http://127.0.0.1:{stage.provider_port}"
        say(f"   fake provider  {fake}        OpenAI, Anthropic and Gemini in one; no key needed")
        say(f"   pin file       {stage.pins}")
        heading(1, "Who asked for what, what served, and why")
        await who_gets_what(openai, anthropic)
        heading(2, "The canary goes from 10 % to 50 %, while 8 users keep asking")
        swapped = await swap_under_load(stage, openai)
        heading(3, "A pin file with a typo")
        kept = await bad_file(stage, openai)
        heading(4, "Models that fail or are slow, and a question asked twice")
        helped = await things_go_wrong(stage, openai)
    return swapped and kept and helped


def main() -> int:
    """Run the tour. Returns 0 if all went as told."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the tour instead of staying up")
    parser.add_argument("--any-ports", action="store_true", help="listen on free ports instead of 4010, 4011 and 4020")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with (
        tempfile.TemporaryDirectory(prefix="model-sidecar-demo-") as folder,
        Stage(Path(folder), any_ports=args.any_ports) as stage,
    ):
        try:
            good = asyncio.run(tour(stage))
            if not good:
                say("\nSomething did not go as told above.")
            if args.once:
                return 0 if good else 1
            next_steps(stage)
            say("\nRunning until Ctrl-C.")
            signal.pause()
        except KeyboardInterrupt:
            say("\nStopping.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
