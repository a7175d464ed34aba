"""Kept answers: in time, bounded in bytes, the least recently used go first."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sidecar.core.answers import Stored, entry_key
from sidecar.core.facts import Target
from sidecar.state.answers import MAX_BYTES, MAX_ENTRY_BYTES, Answers, entry_bytes


def stored(size: int = 10, at: float = 0.0, headers: int = 0) -> Stored:
    return Stored(200, "OK", (("x-name", "v" * 10),) * headers, b"x" * size, "openai", "m", None, at)


def test_what_was_put_is_found_until_its_time_is_up() -> None:
    answers = Answers()
    one = stored()
    assert answers.get(b"k", 10, 0.0) is None
    assert answers.put(b"k", one, 10, 0.0)
    assert answers.get(b"k", 10, 9.9) is one
    assert answers.get(b"other", 10, 9.9) is None
    assert answers.get(b"k", 10, 10.0) is None


def test_a_reader_s_shorter_ttl_holds_at_once_and_a_longer_one_does_not_raise_the_dead() -> None:
    answers = Answers()
    answers.put(b"k", stored(at=0.0), 60, 0.0)
    assert answers.get(b"k", 5, 5.0) is None
    assert answers.get(b"k", 60, 5.0) is not None, "a miss for one reader takes nothing from another"
    assert answers.get(b"k", 3600, 61.0) is None


def test_a_newer_answer_takes_the_place_and_the_time_of_the_older() -> None:
    answers = Answers()
    answers.put(b"k", stored(at=0.0), 10, 0.0)
    newer = stored(20, at=8.0)
    answers.put(b"k", newer, 10, 8.0)
    assert answers.get(b"k", 10, 15.0) is newer
    assert answers.bytes_used == entry_bytes(newer)


def test_the_bounds() -> None:
    assert (MAX_BYTES, MAX_ENTRY_BYTES) == (16 * 1024 * 1024, 1024 * 1024)
    answers = Answers()
    assert not answers.put(b"k", stored(MAX_ENTRY_BYTES), 10, 0.0), "headers and overhead count too"
    assert answers.put(b"k", stored(MAX_ENTRY_BYTES - 2000), 10, 0.0)
    for n in range(40):
        answers.put(b"%d" % n, stored(MAX_ENTRY_BYTES - 2000), 10, 0.0)
    assert answers.bytes_used <= MAX_BYTES
    assert (len(answers), answers.evicted) == (16, 25)


def test_many_small_ones_are_bounded_too() -> None:
    answers = Answers()
    for n in range(30_000):
        answers.put(b"%d" % n, stored(1), 10, 0.0)
    assert len(answers) < MAX_BYTES / 1024


def test_the_least_recently_used_goes_first() -> None:
    answers = Answers(max_bytes=3 * entry_bytes(stored()))
    for key in (b"a", b"b", b"c"):
        answers.put(key, stored(), 10, 0.0)
    answers.get(b"a", 10, 1.0)
    answers.put(b"d", stored(), 10, 1.0)
    assert [answers.get(key, 10, 1.0) is not None for key in (b"a", b"b", b"c", b"d")] == [True, False, True, True]


def test_what_is_over_makes_room_first() -> None:
    answers = Answers(max_bytes=2 * entry_bytes(stored()))
    answers.put(b"long", stored(), 100, 0.0)
    answers.put(b"short", stored(), 1, 0.0)
    answers.put(b"new", stored(), 100, 2.0)
    assert answers.get(b"long", 100, 2.0) is not None
    assert answers.evicted == 0
    assert answers.bytes_used == 2 * entry_bytes(stored())


def test_what_is_over_is_forgotten_when_it_is_asked_for_or_counted() -> None:
    answers = Answers()
    for key, ttl_s in ((b"long", 100), (b"short", 1), (b"brief", 1)):
        answers.put(key, stored(), ttl_s, 0.0)
    assert answers.get(b"short", 100, 2.0) is None
    assert len(answers) == 2, "what nobody asks for waits until it is the least recently used"
    assert answers.get(b"long", 100, 2.0) is not None
    assert (len(answers), answers.evicted) == (1, 0)
    assert answers.bytes_used == entry_bytes(stored())


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdef"), st.integers(0, 4000), st.integers(1, 5), st.integers(0, 3)), max_size=40
    )
)
def test_never_more_than_allowed_and_never_too_old(puts: list[tuple[str, int, int, int]]) -> None:
    answers, now = Answers(max_bytes=12_000, max_entry_bytes=4500), 0.0
    for name, size, ttl_s, later_s in puts:
        now += later_s
        fits = answers.put(name.encode(), stored(size, at=now), ttl_s, now)
        assert fits is (entry_bytes(stored(size)) <= 4500)
        assert answers.bytes_used <= 12_000
        for key in "abcdef":
            found = answers.get(key.encode(), 4, now)
            assert found is None or now - found.stored_at < 4


def test_a_key_is_of_the_request_the_model_and_the_provider() -> None:
    targets = [Target("openai", "m"), Target("openai", "m2"), Target("openaim", ""), Target("azure", "m")]
    keys = {entry_key(identity, target) for identity in (b"a" * 32, b"b" * 32) for target in targets}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {32}
