"""Signals to a real process: what SIGTERM, a second one, Ctrl-C and SIGHUP do (DESIGN 3.6)."""

from __future__ import annotations

import contextlib
import http.client
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.kit import CHAT, PINS, Answer, Process, call, chat, opened, ready, serve, wait

SLOW = {"x-fake-fault": "gap=40ms"}
ENDLESS = {"x-fake-fault": "gap=2s"}


class Streaming(threading.Thread):
    """A stream that is read in a thread of its own; `text` grows, `error` is how it broke, if it did."""

    def __init__(self, process: Process, headers: dict[str, str]) -> None:
        super().__init__(daemon=True)
        self.url, self.headers = f"{process.url}/v1/chat/completions", headers
        self.text = b""
        self.error: Exception | None = None
        self.start()
        wait(lambda: self.text)

    def run(self) -> None:
        try:
            with opened(self.url, CHAT | {"stream": True}, self.headers) as answer:
                while piece := answer.read1():
                    self.text += piece
        except (OSError, http.client.HTTPException) as error:
            self.error = error


def drain(grace: str, idle: str = "100ms") -> dict[str, object]:
    return {"drain": {"idle": idle, "grace": grace}}


@contextlib.contextmanager
def draining(folder: Path, base_url: str, headers: dict[str, str], grace: str) -> Iterator[tuple[Process, Streaming]]:
    """A process that was told to stop while a stream is open."""
    with serve(folder, base_url, settings=drain(grace)) as process:
        stream = Streaming(process, headers)
        process.send(signal.SIGTERM)
        wait(lambda: ready(process) == 503)
        yield process, stream


def test_a_stream_in_flight_completes_within_the_grace(base_url: str, tmp_path: Path) -> None:
    with draining(tmp_path, base_url, SLOW, "20s") as (process, stream):
        assert chat(process).status == 200  # still accepting, as long as it isn't idle
        assert process.ended() == 0
        stream.join(5)
        assert stream.error is None
        assert stream.text.endswith(b"data: [DONE]\n\n")


def test_at_the_end_of_the_grace_the_stream_is_told(base_url: str, tmp_path: Path) -> None:
    with draining(tmp_path, base_url, ENDLESS, "500ms") as (process, stream):
        refused = []
        while process.popen.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if (answer := chat(process)).status != 200:
                    refused.append(answer)
        assert process.ended() == 0
        stream.join(5)
        assert b'"code":"sidecar_stream_interrupted"' in stream.text.replace(b'": "', b'":"')
        assert b"[DONE]" not in stream.text
        assert {a.headers["x-sidecar-error"] for a in refused} <= {"sidecar_draining"}
    event = next(line for line in (tmp_path / "events.jsonl").read_text().splitlines() if '"stream":true' in line)
    assert '"error":"sidecar_stream_interrupted"' in event  # the account is written before the end


def test_after_the_grace_new_requests_are_refused(base_url: str, tmp_path: Path) -> None:
    """A request that waits for its provider is refused with `sidecar_draining`, and so is one that comes now."""
    with serve(tmp_path, base_url, settings=drain("300ms")) as process:
        answers: list[Answer] = []
        thread = threading.Thread(target=lambda: answers.append(chat(process, {"x-fake-fault": "delay=30s"})))
        thread.start()
        wait(lambda: b"sidecar_in_flight 1.0" in call(f"{process.admin}/metrics").body)
        process.send(signal.SIGTERM)
        thread.join(10)
        assert process.ended() == 0
    assert (answers[0].status, answers[0].headers["x-sidecar-error"]) == (503, "sidecar_draining")
    assert answers[0].json()["error"]["code"] == "sidecar_draining"
    assert answers[0].headers["retry-after"] == "1"


def test_a_second_signal_ends_at_once(base_url: str, tmp_path: Path) -> None:
    with draining(tmp_path, base_url, ENDLESS, "60s") as (process, stream):
        began = time.monotonic()
        process.send(signal.SIGTERM)
        assert process.ended() == 0
        assert time.monotonic() - began < 10
        stream.join(5)
        assert b"[DONE]" not in stream.text


def test_it_waits_until_it_is_idle(base_url: str, tmp_path: Path) -> None:
    with serve(tmp_path, base_url, settings=drain("30s", idle="600ms")) as process:
        process.send(signal.SIGTERM)
        wait(lambda: ready(process) == 503)
        ends = time.monotonic() + 1.5
        while time.monotonic() < ends:  # each request starts the wait anew
            assert chat(process).status == 200
            time.sleep(0.05)
        assert call(f"{process.admin}/readyz").json()["reason"] == "draining"
        assert call(f"{process.admin}/healthz").status == 200
        assert process.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_nothing_to_drain(running: Process, number: signal.Signals) -> None:
    running.send(number)
    assert running.ended() == 0
    assert running.log()[-1]["message"] == "stopped"
    assert "Traceback" not in running.said()


def test_sighup_reloads_and_goes_on(running: Process) -> None:
    (running.folder / "pins.yaml").write_text(PINS.replace("stable: gpt-a", "stable: gpt-b").replace("7", "8"))
    running.send(signal.SIGHUP)
    wait(lambda: chat(running).headers["x-sidecar-generation"] == "8")
    assert chat(running).headers["x-sidecar-model"] == "gpt-b-2026-01-01"
    for _ in range(3):
        running.send(signal.SIGHUP)
    assert chat(running).status == 200
