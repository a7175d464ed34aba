"""Logs: ours in full, everybody else's without a word that a client could have put there."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.telemetry.logs import UNSHOWN, JsonHandler, configure, error_fields, is_ours, uncaught
from sidecar.telemetry.sinks import LineSink

CANARY = "sk-canary-5ecret"


class Kept:
    """A sink that keeps its lines."""

    def __init__(self) -> None:
        self.raw: list[bytes] = []

    def put(self, line: bytes) -> bool:
        self.raw.append(line)
        return True

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.raw]

    @property
    def text(self) -> str:
        return b"\n".join(self.raw).decode()


@pytest.fixture
def kept() -> Iterator[Kept]:
    root = logging.getLogger()
    ours = logging.getLogger("sidecar")
    before = (root.handlers[:], root.level, ours.level)
    hooks = (warnings.showwarning, threading.excepthook, sys.unraisablehook)
    sink = Kept()
    configure("info", cast("LineSink", sink))
    yield sink
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    warnings.showwarning, threading.excepthook, sys.unraisablehook = hooks


@pytest.fixture
def alone(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Takes pytest's own handlers away, which raise on what can't be formatted; call it in the test."""

    def remove() -> None:
        root = logging.getLogger()
        monkeypatch.setattr(root, "handlers", [h for h in root.handlers if isinstance(h, JsonHandler)])

    return remove


def fail(text: str) -> None:
    raise ValueError(f"bad header line: Authorization: Bearer {text}")


def test_our_own_messages_in_full(kept: Kept) -> None:
    log = logging.getLogger("sidecar.pins")
    log.info("generation %d is in use", 7, extra={"fields": {"generation": "7", "message": "can't be overwritten"}})
    log.debug("not at this level")
    (line,) = kept.lines
    assert line.pop("ts").endswith("Z")
    assert line == {"level": "info", "logger": "sidecar.pins", "message": "generation 7 is in use", "generation": "7"}


def test_exceptions_that_we_log_show_places_not_texts(kept: Kept) -> None:
    try:
        fail(CANARY)
    except ValueError:
        logging.getLogger("sidecar").exception("it went wrong")
    (line,) = kept.lines
    assert line["error"] == "ValueError"
    assert line["at"].startswith("tests/telemetry/test_logs.py:")
    assert line["stack"][-1] == line["at"]
    assert len(line["stack"]) == 2
    assert CANARY not in kept.text


def test_foreign_messages_are_templates(kept: Kept) -> None:
    try:
        fail(CANARY)
    except ValueError as exc:
        logging.getLogger("aiohttp.server").exception("Error handling request from %s", CANARY, exc_info=exc)
    logging.getLogger("aiohttp.server").info("below warning: %s", CANARY)
    (line,) = kept.lines
    assert line["message"] == "Error handling request from %s"
    assert (line["logger"], line["level"], line["error"]) == ("aiohttp.server", "error", "ValueError")
    assert line["at"].startswith("tests/telemetry/test_logs.py:")
    assert CANARY not in kept.text


@pytest.mark.parametrize(
    "say",
    [
        lambda log: log.warning(f"Bad line {CANARY}"),  # noqa: G004
        lambda log: log.warning("Bad line " + CANARY),  # noqa: G003
        lambda log: log.warning("%s", CANARY),
        lambda log: log.warning("no argument fits", CANARY),  # noqa: PLE1205
        lambda log: log.warning(ValueError(CANARY)),
        lambda log: log.warning("text", extra={"fields": {"key": CANARY}, "authorization": CANARY}),
        lambda log: log.warning("text", stack_info=True),
        lambda log: log.log(logging.WARNING, "%(key)s", {"key": CANARY}),
    ],
)
def test_no_foreign_text_made_at_run_time_is_shown(
    kept: Kept, alone: Callable[[], None], say: Callable[[logging.Logger], None]
) -> None:
    alone()
    say(logging.getLogger("somebody.else"))
    assert len(kept.lines) == 1
    assert CANARY not in kept.text


def test_a_record_made_elsewhere_is_not_shown(kept: Kept) -> None:
    record = logging.LogRecord("asyncio", logging.ERROR, "/nowhere.py", 1, CANARY, None, None, "f")
    logging.getLogger("asyncio").handle(record)
    assert kept.lines[0]["message"] == UNSHOWN


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(secret=st.text(st.characters(), min_size=6), end=st.sampled_from(["\n", "\r\n", "\x00", "\u2028"]))
def test_a_message_is_always_one_line(kept: Kept, alone: Callable[[], None], secret: str, end: str) -> None:
    alone()  # pytest can't report a lone surrogate that its handler kept
    kept.raw.clear()
    logging.getLogger("sidecar").warning("said: %s", secret + end)
    (line,) = kept.raw
    assert b"\n" not in line
    assert b"\r" not in line
    json.loads(line)


def test_what_cannot_be_formatted_never_raises(kept: Kept, alone: Callable[[], None]) -> None:
    alone()

    class Bad:
        def __str__(self) -> str:
            raise RuntimeError(CANARY)

    logging.getLogger("sidecar").warning("%s", Bad())
    logging.getLogger("sidecar").warning("%d", "text")
    logging.getLogger("sidecar").warning("text", extra={"fields": {"o": Bad(), 1: 2}})
    assert len(kept.lines) == 3
    assert CANARY not in kept.text


def test_warnings_are_lines_without_their_text(kept: Kept) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        configure("info", cast("LineSink", kept))
        warnings.warn(f"unclosed transport {CANARY}", ResourceWarning, stacklevel=1)
    (line,) = kept.lines
    assert (line["logger"], line["message"]) == ("py.warnings", "ResourceWarning")
    assert CANARY not in kept.text


def test_threads_and_destructors(kept: Kept) -> None:
    thread = threading.Thread(target=fail, args=(CANARY,))
    thread.start()
    thread.join()

    class Bad:
        def __del__(self) -> None:
            fail(CANARY)

    Bad()
    assert [line["error"] for line in kept.lines] == ["ValueError", "ValueError"]
    assert CANARY not in kept.text


def test_configuring_again_replaces(kept: Kept) -> None:
    again = Kept()
    configure("debug", cast("LineSink", again))
    logging.getLogger("sidecar").debug("once")
    assert len(again.lines) == 1
    assert kept.raw == []


async def test_what_nobody_caught_in_the_loop(kept: Kept) -> None:
    loop = asyncio.get_running_loop()
    old = loop.get_exception_handler()
    assert uncaught(loop) is loop.get_exception_handler()
    try:
        loop.call_soon(fail, CANARY)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        loop.call_exception_handler({"message": CANARY})
        loop.call_exception_handler({"message": f"Unclosed connection {CANARY}", "client": CANARY})
    finally:
        loop.set_exception_handler(old)
    assert [line["message"] for line in kept.lines] == [
        "Exception in callback",
        "uncaught in the event loop",
        "Unclosed connection",
    ]
    assert kept.lines[0]["error"] == "ValueError"
    assert CANARY not in kept.text


def test_which_loggers_are_ours() -> None:
    assert is_ours("sidecar")
    assert is_ours("sidecar.runtime.x")
    assert not is_ours("sidecarx")
    assert not is_ours("root")


def test_no_exception_no_fields() -> None:
    assert error_fields(None) == {}
    assert error_fields(KeyError(CANARY)) == {"error": "KeyError"}
