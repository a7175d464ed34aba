"""`POST /pins/stop`: a variant to 0 at once, until the next accepted file; seen in headers, audit, events and /pins."""

from __future__ import annotations

import aiohttp
import pytest

from tests.harness import Running, lines, until
from tests.pins.kit import admin, chat, generation, looks, model_of, pins, reloads, rename, took, touch

STOP = {"pin": "chat.core", "variant": "canary"}


async def unit_in_canary(http: aiohttp.ClientSession, at: Running) -> str:
    for number in range(100):
        answer = await admin(http, at, "/resolve", body={"model": "chat.core", "unit": f"u{number}"})
        if answer[1]["variant"] == "canary":
            return f"u{number}"
    raise AssertionError("no unit is in the canary")


async def test_a_stop_from_the_next_request_to_the_next_file(seven: Running, http: aiohttp.ClientSession) -> None:
    unit = await unit_in_canary(http, seven)
    headers = {"x-sidecar-unit": unit}
    before = await chat(http, seven, headers=headers)
    assert (before.headers["x-sidecar-variant"], before.headers["x-sidecar-generation"]) == ("canary", "7")

    status, said = await admin(http, seven, "/pins/stop", body=STOP)
    assert (status, said) == (200, STOP | {"percent": 0, "generation": "7+stop"})
    after = await chat(http, seven, headers=headers)
    assert after.headers["x-sidecar-variant"] == "stable"
    assert after.headers["x-sidecar-model"] == model_of(7)
    assert after.headers["x-sidecar-generation"] == "7+stop"
    assert after.headers["x-sidecar-pin"] == "chat.core"

    event = await seven.event(count=2)
    assert (event["generation"], event["variant"]) == ("7+stop", "stable")
    assert event["inputs"]["stopped"] == [["chat.core", "canary"]]
    swap = await seven.event(kind="swap", count=2)
    assert (swap["result"], swap["generation"], swap["reason"]) == ("stop", "7+stop", "POST /pins/stop")
    assert swap["changes"] == ["chat.core: variant canary stopped"]
    record = lines(seven.folder / "audit.jsonl")[-1]
    assert (record["result"], record["changes"]) == ("stop", ["chat.core: variant canary stopped"])
    shown = (await admin(http, seven, "/pins"))[1]
    assert (shown["generation"], shown["stopped"]) == ("7+stop", [STOP])
    assert shown["names"]["chat.core"]["variants"] == []
    assert sum(reloads(seven, r) for r in ("ok", "rollback", "rejected", "unchanged")) == 1  # a stop is no reload

    touch(seven.pins)  # the same file doesn't undo it
    await until(lambda: reloads(seven, "unchanged"))
    await looks(seven)
    rename(seven.pins, "version: 2")  # nor does a refused one
    await until(lambda: reloads(seven, "rejected"))
    assert generation(seven) == "7+stop"
    assert (await chat(http, seven, headers=headers)).headers["x-sidecar-variant"] == "stable"

    rename(seven.pins, pins(7) + "# the same generation, another file\n")
    await took(seven, 7)
    assert (await chat(http, seven, headers=headers)).headers["x-sidecar-variant"] == "canary"
    assert (await admin(http, seven, "/pins"))[1]["stopped"] == []


async def test_a_second_stop_changes_nothing(seven: Running, http: aiohttp.ClientSession) -> None:
    for _ in range(2):
        assert (await admin(http, seven, "/pins/stop", body=STOP))[0] == 200
    await until(lambda: len(lines(seven.folder / "audit.jsonl")) >= 2)
    assert [r["result"] for r in lines(seven.folder / "audit.jsonl")] == ["ok", "stop"]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        ({"pin": "chat.nobody", "variant": "canary"}, 404, "there is no pin 'chat.nobody'"),
        ({"pin": "chat.core", "variant": "nobody"}, 404, "pin 'chat.core' has no variant 'nobody'"),
        ({"pin": "chat.core", "variant": "stable"}, 404, "no variant 'stable'"),
        ({"pin": "chat.core"}, 400, "Name both"),
        ({"pin": 7, "variant": ["canary"]}, 400, "Name both"),
        (["chat.core", "canary"], 400, "object"),
    ],
)
async def test_what_cannot_be_stopped(
    seven: Running, http: aiohttp.ClientSession, body: object, status: int, says: str
) -> None:
    answer = await admin(http, seven, "/pins/stop", body=body)
    assert answer[0] == status
    assert says in answer[1]["error"]["message"]
    assert generation(seven) == "7"


@pytest.mark.parametrize("body", [b"", b"not json", b'{"pin": "chat.core", ', b"\xff\xfe", b"[" * 50_000])
async def test_what_is_not_json_is_400(seven: Running, http: aiohttp.ClientSession, body: bytes) -> None:
    async with http.post(f"{seven.admin}/pins/stop", data=body) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["code"] == "sidecar_bad_request"
