from __future__ import annotations

from sidecar.state.quirks import Quirks


def test_what_a_provider_refused_is_remembered_for_that_provider() -> None:
    quirks = Quirks()
    assert not quirks.no_stream_options("a")
    quirks.learn_no_stream_options("a")
    assert quirks.no_stream_options("a")
    assert not quirks.no_stream_options("b")
