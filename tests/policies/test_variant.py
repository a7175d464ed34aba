from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policies.variant import BUCKETS, MAX_UNIT_CHARS, bucket, fnv1a32

from .conftest import Make, asked

# GrowthBook's published vectors of hash version 2: seed, value, result.
PUBLISHED = [
    ("seed", "a", 0.0505),
    ("seed", "b", 0.2696),
    ("foo", "ab", 0.2575),
    ("foo", "def", 0.2019),
    ("89123klj", "8952klfjas09ujkasdf", 0.124),
    ("90850943850283058242805", "123", 0.7516),
    ("()**(%$##$%#$#", '___)((*":&', 0.0128),
]


@pytest.mark.parametrize(("seed", "unit", "result"), PUBLISHED)
def test_growthbooks_published_vectors(seed: str, unit: str, result: float) -> None:
    assert bucket(seed, unit) / BUCKETS == result


def test_code_units_beyond_the_basic_plane_are_surrogates_as_in_javascript() -> None:
    # FNV-1a over the code units 0xD83D 0xDE00 of U+1F600, as JavaScript's charCodeAt gives them.
    by_hand = 0x811C9DC5
    for unit in (0xD83D, 0xDE00):
        by_hand = ((by_hand ^ unit) * 0x01000193) & 0xFFFFFFFF
    assert fnv1a32("\U0001f600") == by_hand
    assert fnv1a32("\ud83d") != fnv1a32("\ud83e"), "a lone surrogate is hashed, not refused"


@given(st.text(max_size=40), st.floats(0, 100), st.floats(0, 100))
def test_raising_a_percentage_never_moves_a_unit_back(unit: str, one: float, other: float) -> None:
    low, high = sorted((round(one * 100), round(other * 100)))
    number = bucket("salt", unit)
    assert not (number < low and number >= high)
    assert 0 <= number < BUCKETS


def test_arms(make: Make) -> None:
    snapshot, _ = make(percent=10)
    seen = {f"u{n}": asked(snapshot, "chat.core", unit=f"u{n}")[0] for n in range(3000)}
    canary = {u for u, x in seen.items() if x.variant == "canary"}
    assert 200 < len(canary) < 400
    assert all(seen[u].chosen == "gpt-5.5-2026-01-15" for u in canary)
    wider, _ = make(percent=30)
    assert canary <= {u for u in seen if asked(wider, "chat.core", unit=u)[0].variant == "canary"}


def test_no_unit_is_stable_and_unassignable_even_at_100_percent(make: Make) -> None:
    x, _ = asked(make(percent=100)[0], "chat.core")
    assert (x.variant, x.assignable, x.bucket, x.chosen) == ("stable", False, None, "gpt-5.4-2025-11-02")
    assert "unassignable" in "; ".join(x.why)


def test_a_unit_of_unreasonable_length_is_none(make: Make) -> None:
    x, _ = asked(make(percent=100)[0], "chat.core", unit="u" * (MAX_UNIT_CHARS + 1))
    assert (x.variant, x.assignable) == ("stable", False)


def test_a_pin_without_variants_assigns_nobody(make: Make) -> None:
    x, _ = asked(make()[0], "plain", unit="ada")
    assert (x.variant, x.assignable, x.bucket) == ("stable", True, None)
