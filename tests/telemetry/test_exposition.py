"""The text of a scrape: what the library would write of the same registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import exposition as text
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from sidecar.core.record import Record
from sidecar.telemetry.metrics import Metrics
from sidecar.telemetry.table import TABLE

Make = Callable[..., Record]
ODD = 'a "name" \\ with\nall of it, é'


@pytest.fixture
def metrics(make: Make) -> Metrics:
    made = Metrics(ODD)
    made.use(["m-001"], ["chat.core"], {"m-001": 1.8e9}, ["canary"])
    made.pins("7+stop", "aa", at=1.7e9 + 0.125)
    for _ in range(3):
        made.observe(make())
    made.observe(make(model="m-001"))
    return made


def samples(parse: Callable[[str], Any], body: bytes) -> dict[tuple[str, str, str], list[Any]]:
    """By family, in no particular order of labels."""
    return {
        (family.name, family.type, family.documentation): sorted(
            (sample.name, sorted(sample.labels.items()), sample.value) for sample in family.samples
        )
        for family in parse(body.decode())
    }


@pytest.mark.parametrize(
    ("accept", "theirs", "parse"),
    [
        ("text/plain", text.generate_latest, parse_text),
        ("application/openmetrics-text", openmetrics.generate_latest, parse_openmetrics),
    ],
)
def test_it_says_what_the_library_says(metrics: Metrics, accept: str, theirs: Any, parse: Any) -> None:
    ours, wanted = samples(parse, metrics.render(accept)[0]), samples(parse, theirs(metrics.registry))
    assert ours == wanted
    assert ODD in str(dict(ours[("sidecar_build_info", "gauge", "The sidecar's version.")][0][1])["version"])


def test_help_needs_no_escapes() -> None:
    assert not [row.name for row in TABLE if set('\\\n"') & set(row.help)]


def test_a_scrape_comes_in_pieces_of_a_child_each(metrics: Metrics) -> None:
    pieces, _ = metrics.scrape()
    assert max(piece.count("\n") for piece in pieces) < 25
