"""Structured logs: one JSON line a message, and the rule for what other people's code may say in them.

Our own loggers (`sidecar` and below) are written in full. Every other logger is foreign: libraries put raw header
lines and exception texts, and so keys, into their messages (aiohttp logs a malformed `Authorization` line). Of a
foreign message stand here its logger, level, template if it is a literal of the code that logged it, the exception's
type and the file and line where it was raised; never arguments, never an exception's text. Exceptions logged by our
own code are shown as type and places too.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from sidecar.telemetry.lines import encode, rfc3339
from sidecar.telemetry.sinks import LineSink

OURS = "sidecar"
UNSHOWN = "(text made at run time, not shown)"
_FRAMES = 40  # looked at for the one that logged
_STACK = 12  # places of a traceback that are shown

# What asyncio and aiohttp say to a loop's exception handler. They append reprs, which may hold bytes of a request.
_LOOP_SAYS = (
    "Task exception was never retrieved",
    "Future exception was never retrieved",
    "Task was destroyed but it is pending",
    "Exception in callback",
    "Unclosed client session",
    "Unclosed connection",
    "Unclosed connector",
    "Unclosed response",
    "Unhandled exception in client_connected_cb",
    "Fatal read error",
    "Fatal write error",
    "Fatal error",
    "SSL handshake failed",
    "SSL error",
    "an error occurred during closing of asynchronous generator",
    "socket.accept() out of system resource",
)

LoopHandler = Callable[[Any, dict[str, Any]], object]


class Loop(Protocol):
    """The part of an event loop that is needed here."""

    def set_exception_handler(self, handler: LoopHandler | None, /) -> None: ...


class JsonHandler(logging.Handler):
    """Writes each message as a line to a sink; never blocks and never raises."""

    def __init__(self, sink: LineSink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = _own_line(record) if is_ours(record.name) else _foreign_line(record)
        except Exception:  # noqa: BLE001  # logging must not fail the code that logs, nor print its arguments
            line = {"ts": rfc3339(record.created), "level": record.levelname.lower(), "logger": record.name}
            line["message"] = UNSHOWN
        self._sink.put(encode(line))


def configure(level: str, sink: LineSink) -> None:
    """Send all logging, warnings and errors of threads and destructors to `sink`; safe to call again.

    `level` (debug, info, warning, error) is for our own loggers; foreign ones are heard from warning on.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, JsonHandler) or type(h) is logging.StreamHandler]:
        root.removeHandler(handler)
    root.addHandler(JsonHandler(sink))
    root.setLevel(max(number, logging.WARNING))
    logging.getLogger(OURS).setLevel(number)
    warnings.showwarning = _show_warning(sink)
    threading.excepthook = lambda args: _uncaught(sink, "uncaught in a thread", args.exc_value)
    sys.unraisablehook = lambda args: _uncaught(sink, "uncaught where nothing can catch", args.exc_value)


def uncaught(loop: Loop) -> LoopHandler:
    """Make what nobody caught in `loop` a log line under the rule for foreign text; the handler is installed."""

    def handler(_loop: Any, context: dict[str, Any]) -> None:
        said = context.get("message")
        message = next((known for known in _LOOP_SAYS if isinstance(said, str) and said.startswith(known)), None)
        fields = error_fields(context.get("exception"))
        logging.getLogger(f"{OURS}.loop").error(message or "uncaught in the event loop", extra={"fields": fields})

    loop.set_exception_handler(handler)
    return handler


def is_ours(logger: str) -> bool:
    return logger == OURS or logger.startswith(OURS + ".")


def error_fields(exc: object) -> dict[str, Any]:
    """An exception as log fields: its type and the places it came through, innermost last, but never its text."""
    if not isinstance(exc, BaseException):
        return {}
    fields: dict[str, Any] = {"error": _type_name(type(exc))}
    if exc.__traceback__ is not None:
        places = [_place(f.filename, f.lineno) for f in _frames(exc.__traceback__)]
        fields["at"] = places[-1]
        fields["stack"] = places[-_STACK:]
    return fields


def _own_line(record: logging.LogRecord) -> dict[str, Any]:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001  # whatever an argument's __str__ raises
        message = f"{record.msg} (its arguments don't fit)"
    extra = getattr(record, "fields", None)
    fields = error_fields(record.exc_info[1]) if record.exc_info else {}
    if isinstance(extra, dict):
        fields.update(extra)
    return {**fields, **_head(record.created, record.levelname, record.name, message)}


def _foreign_line(record: logging.LogRecord) -> dict[str, Any]:
    message = record.msg if _is_literal(record) else UNSHOWN
    line = _head(record.created, record.levelname, record.name, message)
    exc = record.exc_info[1] if record.exc_info else None
    if exc is None:
        line["at"] = _place(record.pathname, record.lineno)
        return line
    line["error"] = _type_name(type(exc))
    if exc.__traceback__ is not None:
        innermost = _frames(exc.__traceback__)[-1]
        line["at"] = _place(innermost.filename, innermost.lineno)
    return line


def _head(created: float, level: str, logger: str, message: str) -> dict[str, Any]:
    return {"ts": rfc3339(created), "level": level.lower(), "logger": logger, "message": message}


def _is_literal(record: logging.LogRecord) -> bool:
    """True if the message is a string constant of the function that logged it.

    A library may also format the text itself and log the result: such a text has no arguments to leave out, so it is
    told from a template by looking at the caller's constants.
    """
    if type(record.msg) is not str:
        return False
    frame = sys._getframe(1)  # noqa: SLF001  # the only way to the caller's code
    for _ in range(_FRAMES):
        code = frame.f_code
        if code.co_filename == record.pathname and code.co_name == record.funcName:
            return any(constant is record.msg or constant == record.msg for constant in code.co_consts)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return False


def _frames(tb: TracebackType) -> list[traceback.FrameSummary]:
    return list(traceback.StackSummary.extract(traceback.walk_tb(tb), lookup_lines=False))


def _place(filename: str, lineno: int | None) -> str:
    return f"{'/'.join(filename.split('/')[-3:])}:{lineno}"


def _type_name(kind: type[BaseException]) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _show_warning(sink: LineSink) -> Callable[..., None]:
    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: object) -> None:  # noqa: ARG001
        line = _head(time.time(), "warning", "py.warnings", _type_name(category))
        line["at"] = _place(filename, lineno)
        sink.put(encode(line))

    return show


def _uncaught(sink: LineSink, message: str, exc: BaseException | None) -> None:
    sink.put(encode({**error_fields(exc), **_head(time.time(), "error", OURS, message)}))
