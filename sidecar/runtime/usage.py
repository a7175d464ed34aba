"""What an answer cost, read from the copy that was held or metered; the bytes on the wire are not touched."""

from __future__ import annotations

from sidecar.dialects.base import FETCH, Dialect, Endpoint, Reading
from sidecar.runtime.answer import Answer


def read_usage(dialect: Dialect, endpoint: Endpoint, answer: Answer | None) -> None:
    """Write usage and served model on the attempt. Never raises; what can't be read stays unknown."""
    if answer is None or answer.counted or answer.response.status >= 400 or endpoint.operation == "other":
        return
    attempt = answer.attempt
    if answer.stream is not None:
        reading = Reading(answer.stream.meter.usage, answer.stream.meter.served)
    elif answer.ends is not None:
        reading = dialect.reading_ends(endpoint, answer.ends.head, answer.ends.last)
    elif answer.complete and answer.held:
        answer.counted = True
        body = answer.plain()
        reading = dialect.reading(endpoint, body) if body is not None else Reading(None, None)
    else:
        return
    attempt.served = reading.served
    if endpoint.operation != FETCH:  # a fetched response was counted when it was made, or would be at each fetch
        attempt.usage = reading.usage
