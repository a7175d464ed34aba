"""Several sidecar processes and a real server: shared budgets while pods come and go, and the server's own troubles."""

from __future__ import annotations

import contextlib
import http.client
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fleet.kit import Server, free_port
from tests.harness import lines
from tests.process.kit import Answer, Process, call, chat, ready, serve, wait

LIMIT = 24_000
PINS = f"""\
generation: 7
unlisted: reject
models:
  gpt-a-2026-01-01: {{provider: openai, budget: {{scope: fleet, tokens_per_day: {LIMIT}}}}}
pins: {{chat.core: {{stable: gpt-a-2026-01-01}}}}
"""
PROMISE_S = 0.005
"""What an outage may add to a request. Asserted is ten times that, over what a request takes without one."""


@contextlib.contextmanager
def pod(folder: Path, base_url: str, url: str, pins: str = PINS, deadline: str = "5ms") -> Iterator[Process]:
    folder.mkdir(exist_ok=True)
    with serve(folder, base_url, pins=pins, settings={"fleet": {"url": url, "deadline": deadline}}) as process:
        yield process


@contextlib.contextmanager
def pods(folder: Path, base_url: str, url: str, count: int, *more: str) -> Iterator[list[Process]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(pod(folder / f"pod{n}", base_url, url, *more)) for n in range(count)]


def gauge(process: Process, name: str = "sidecar_fleet_up") -> float:
    text = call(f"{process.admin}/metrics").body.decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def ask(process: Process) -> Answer:
    return chat(process, max_tokens=60)


def used(answer: Answer) -> int:
    return int(answer.json()["usage"]["total_tokens"])


def slowest_s(process: Process, times: int = 40) -> float:
    """The time of the second slowest request; all must be answered. One more is allowed to be unlucky."""
    took = []
    for _ in range(times):
        began = time.monotonic()
        assert ask(process).status == 200
        took.append(time.monotonic() - began)
    return sorted(took)[-2]


class Load:
    """Threads that ask one pod after the other, until each refused often enough in a row."""

    def __init__(self, targets: list[Process]) -> None:
        self.targets = targets
        self.tokens = self.answered = self.refused = self.broken = 0
        self._lock = threading.Lock()
        self._row = 0
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(4)]

    def _run(self, n: int) -> None:
        turn = n
        while self._row < 60:
            turn += 1
            target = self.targets[turn % len(self.targets)]
            answer: Answer | None
            try:
                answer = ask(target)
            except (OSError, http.client.HTTPException):
                answer = None  # it was killed, or is gone
            if answer is None or answer.status == 503:
                with self._lock:
                    self.broken += 1
                continue
            with self._lock:
                if answer.status == 200:
                    self.tokens += used(answer)
                    self.answered += 1
                    self._row = 0
                else:
                    assert answer.status == 429
                    self.refused += 1
                    self._row += 1
            if answer.status == 429:
                time.sleep(0.02)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        for thread in self._threads:
            thread.join(40)
        assert not any(thread.is_alive() for thread in self._threads)


def test_a_shared_budget_while_pods_come_and_go(
    store: Server, base_url: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    with pods(tmp_path, base_url, store.url, 3) as running, contextlib.ExitStack() as later:
        assert all(gauge(process) == 1 for process in running)
        load = Load(list(running))
        load.start()
        wait(lambda: load.tokens > LIMIT / 4, 30)
        running[0].send(signal.SIGKILL)
        load.targets = running[1:]
        wait(lambda: load.tokens > LIMIT / 2, 30)
        running[1].send(signal.SIGTERM)
        load.targets = [running[2], later.enter_context(pod(tmp_path / "new", base_url, store.url))]
        load.finish()
    record_property("admitted", load.tokens / LIMIT)
    record_property("refused", load.refused)
    assert load.tokens <= 1.05 * LIMIT
    assert load.tokens >= 0.8 * LIMIT, "the limit can be used"


# --- the server's troubles -------------------------------------------------------------------------------------------


def harmless_while(process: Process, begin: Callable[[], object]) -> None:
    """Requests flow while the server is away, hardly slower; the gauge tells."""
    before_s = slowest_s(process)
    begin()
    assert slowest_s(process) <= before_s + 10 * PROMISE_S
    wait(lambda: gauge(process) == 0)
    assert slowest_s(process) <= before_s + 10 * PROMISE_S
    assert ready(process) == 200


def test_a_killed_server_costs_nothing_and_is_found_again(doomed: Server, base_url: str, tmp_path: Path) -> None:
    with pods(tmp_path, base_url, doomed.url, 2) as running:
        harmless_while(running[0], doomed.kill)
        doomed.start()
        wait(lambda: all(gauge(process) == 1 for process in running))
        assert all(ask(process).status == 200 for process in running)


def test_a_frozen_server_costs_nothing_and_is_found_again(doomed: Server, base_url: str, tmp_path: Path) -> None:
    with pods(tmp_path, base_url, doomed.url, 2) as running:
        with doomed.frozen():
            harmless_while(running[0], lambda: None)
        wait(lambda: all(gauge(process) == 1 for process in running))
        assert all(ask(process).status == 200 for process in running)


def test_while_the_server_is_away_pods_keep_to_their_shares(doomed: Server, base_url: str, tmp_path: Path) -> None:
    pins = PINS.replace(str(LIMIT), "6000")
    with pods(tmp_path, base_url, doomed.url, 2, pins) as running:
        time.sleep(1.2)  # both have heard of each other
        doomed.kill()
        wait(lambda: all(gauge(process) == 0 for process in running))
        load = Load(list(running))
        load.start()
        load.finish()
    assert 0.8 * 6000 <= load.tokens <= 1.05 * 6000


@contextlib.contextmanager
def black_hole(*, accepts: bool) -> Iterator[str]:
    """Accepts and never answers, or doesn't even accept: its queue is full."""
    with socket.socket() as listener, contextlib.ExitStack() as stack:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128 if accepts else 0)
        port = listener.getsockname()[1]
        for _ in range(0 if accepts else 3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                waiting.connect(("127.0.0.1", port))
        yield f"redis://127.0.0.1:{port}/0"


@pytest.mark.parametrize("accepts", [True, False], ids=["never answers", "never accepts"])
def test_a_black_hole_costs_nothing(base_url: str, tmp_path: Path, accepts: bool) -> None:
    with black_hole(accepts=accepts) as url:
        began = time.monotonic()
        with pod(tmp_path / "pod", base_url, url) as process:
            assert time.monotonic() - began < 10, "the start waits for it half a second at most"
            harmless_while(process, lambda: None)
            process.send(signal.SIGTERM)
            assert process.ended() == 0


def test_a_server_of_another_kind_is_none(base_url: str, tmp_path: Path) -> None:
    """A provider's port is no Valkey."""
    url = f"redis://{base_url.removeprefix('http://').removesuffix('/v1')}/0"
    with pod(tmp_path / "pod", base_url, url) as process:
        assert ask(process).status == 200
        assert gauge(process) == 0
        assert process.warned("fleet_away")


def test_a_server_that_comes_later(base_url: str, tmp_path: Path) -> None:
    late = Server(tmp_path, free_port())
    with pod(tmp_path / "pod", base_url, late.url) as process:
        assert gauge(process) == 0
        assert ask(process).status == 200
        try:
            late.start()
            wait(lambda: gauge(process) == 1)
        finally:
            late.kill()


def test_who_shuts_down_gives_back(store: Server, base_url: str, tmp_path: Path) -> None:
    def held() -> int:
        client = store.client()
        return sum(int(client.hget(key, "t") or 0) for key in client.keys("sidecar:1:model:*"))

    with pod(tmp_path / "pod", base_url, store.url) as process:
        spent = used(ask(process))
        assert held() > spent
        process.send(signal.SIGTERM)
        assert process.ended() == 0
    assert held() == spent


# --- the second tier -------------------------------------------------------------------------------------------------

CACHED = PINS.replace("stable: gpt-a-2026-01-01", "stable: gpt-a-2026-01-01, cache: {ttl: 10m}")


def cached(process: Process, **more: Any) -> tuple[str | None, bytes]:
    answer = chat(process, temperature=0, max_tokens=60, **more)
    assert answer.status == 200
    return answer.headers.get("x-sidecar-cache"), answer.body


def entries(store: Server) -> list[bytes]:
    return list(store.client().keys("sidecar:1:cache:*"))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_miss_in_one_pod_is_a_hit_in_the_other(store: Server, base_url: str, tmp_path: Path, stream: bool) -> None:
    more = {"stream": True} if stream else {}
    with pods(tmp_path, base_url, store.url, 2, CACHED, "1s") as (a, b):
        first, body = cached(a, **more)
        wait(lambda: entries(store))
        second, same = cached(b, **more)
        assert (first, second) == ("miss", "hit")
        assert same == body
        third, same = cached(b, **more)
        assert (third, same) == ("hit", body), "and from its own memory the next time"


def test_a_corrupt_entry_is_a_miss(store: Server, base_url: str, tmp_path: Path) -> None:
    client = store.client()
    spoil: list[Callable[[bytes], bytes]] = [
        lambda entry: entry[:-1],
        lambda entry: entry[:-1] + bytes([entry[-1] ^ 1]),
        lambda entry: entry[:40],
        lambda entry: b"x" * 2_000_000,
        lambda entry: b"\x00" * 100,
    ]
    with pods(tmp_path, base_url, store.url, 2, CACHED, "1s") as (a, b):
        for seed, spoilt in enumerate([*spoil, bytes]):
            known = set(entries(store))
            cached(a, seed=seed)
            (key,) = wait(lambda known=known: set(entries(store)) - known)
            client.set(key, spoilt(client.get(key)), ex=600)
            assert cached(b, seed=seed)[0] == ("hit" if spoilt is bytes else "miss")
        assert not any(line["level"] == "error" for line in b.log())


def test_the_second_tier_goes_away_and_comes_back(doomed: Server, base_url: str, tmp_path: Path) -> None:
    with pods(tmp_path, base_url, doomed.url, 2, CACHED) as (a, b):
        assert cached(a, seed=1)[0] == "miss"
        wait(lambda: entries(doomed))
        with doomed.frozen():
            took = []
            for seed in range(2, 42):
                began = time.monotonic()
                assert cached(b, seed=seed)[0] == "miss"
                took.append(time.monotonic() - began)
            assert sorted(took)[-2] < 0.1
            assert sorted(took)[len(took) // 2] < 0.05
        seeds = iter(range(100, 10_000))
        wait(lambda: _shared(a, b, next(seeds)))


def _shared(a: Process, b: Process, seed: int) -> bool:
    cached(a, seed=seed)
    time.sleep(0.05)
    return cached(b, seed=seed)[0] == "hit"


# --- trips -----------------------------------------------------------------------------------------------------------


def test_a_trip_is_told_to_the_other_pod(store: Server, base_url: str, tmp_path: Path) -> None:
    pins = """\
generation: 7
unlisted: reject
models: {gpt-a-2026-01-01: {provider: openai, breaker: {failures: 2, cooldown: 30s}}}
pins: {chat.core: {stable: gpt-a-2026-01-01, max_attempts: 1}}
"""
    with pods(tmp_path, "http://127.0.0.1:9", store.url, 2, pins) as (a, b):
        for _ in range(2):
            assert chat(a).status == 502
        wait(lambda: any(line["message"] == "another pod tripped" for line in b.log()))
        assert chat(b).status == 502, "tripped is no refusal: the least bad is tried"
        (event,) = wait(lambda: [e for e in lines(b.folder / "events.jsonl") if e["kind"] == "request"])
        rests_s = float(event["inputs"]["health"]["gpt-a-2026-01-01"].removeprefix("open:"))
        assert 25 < rests_s <= 30.1
        time.sleep(1.2)
        assert not any(line["message"] == "another pod tripped" for line in a.log()), "it isn't passed on"
