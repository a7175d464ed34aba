from __future__ import annotations

import time

import pytest

from sidecar.errors import Code
from sidecar.policies.name import nearest

from .conftest import Make, asked


def test_a_pin_beats_a_catalogued_id_of_the_same_name(make: Make) -> None:
    x, refusal = asked(make()[0], "gpt-5.5-mini-2026-01-10")
    assert refusal is None
    assert (x.kind, x.chosen) == ("pin", "gpt-5.4-2025-11-02")


def test_an_alias_means_its_model(make: Make) -> None:
    x, _ = asked(make()[0], "model://core/chat@1.2.3")
    assert (x.kind, x.chosen, x.pin, x.variant) == ("alias", "gpt-5.5-2026-01-15", "model://core/chat@1.2.3", "stable")


def test_a_catalogued_id_means_itself(make: Make) -> None:
    x, _ = asked(make()[0], "gpt-5.4-2025-11-02")
    assert (x.kind, x.chosen, x.variant) == ("catalogued", "gpt-5.4-2025-11-02", "stable")


def test_an_unlisted_name_is_rejected_with_its_nearest(make: Make) -> None:
    x, refusal = asked(make()[0], "chat.cor")
    assert refusal is not None
    assert (refusal.code, refusal.status) == (Code.UNKNOWN_MODEL, 404)
    assert "`chat.core`" in refusal.message
    assert x.pin is None
    assert x.targets == ()


def test_an_unlisted_name_passes_unpinned_where_the_file_says_so(make: Make) -> None:
    x, refusal = asked(make(unlisted="pass")[0], "gpt-9")
    assert refusal is None
    assert (x.kind, x.pin, x.targets[0].model, x.targets[0].provider) == ("unlisted", None, "gpt-9", "openai")


@pytest.mark.parametrize(("required", "code"), [(True, Code.BAD_REQUEST), (False, None)])
def test_no_name(make: Make, required: bool, code: Code | None) -> None:
    x, refusal = asked(make()[0], None, required=required)
    assert (refusal.code if refusal else None) == code
    assert x.kind == "none"


def test_the_task_is_the_requests_or_the_pins(make: Make) -> None:
    snapshot, _ = make()
    assert asked(snapshot, "chat.core")[0].task == "answer_question"
    assert asked(snapshot, "chat.core", task="other")[0].task == "other"


def test_nearest_over_thousands_of_names_is_quick() -> None:
    known = [f"team-{n}.service-{n % 7}.chat" for n in range(5000)]
    began = time.perf_counter()
    found = nearest("team-412.service-6.chta" * 40, known)
    assert time.perf_counter() - began < 0.5
    assert nearest("team-412.service-6.cha", known)[0] == "team-412.service-6.chat"
    assert len(found) <= 3


def test_the_why_never_holds_what_the_client_wrote(make: Make) -> None:
    x, _ = asked(make(unlisted="pass")[0], "sk-secret-of-a-client")
    assert "sk-secret" not in "; ".join(x.why)
