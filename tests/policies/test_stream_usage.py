from __future__ import annotations

import pytest

from sidecar.core.facts import Ask, Attempt, Cause, Exchange, Fault, Target
from sidecar.policies.stream_usage import StreamUsage
from sidecar.settings.static import Provider
from sidecar.state.quirks import Quirks


def provider(stream_usage: str) -> Provider:
    from sidecar.settings.options import TlsSpec
    from sidecar.settings.units import Proxy

    return Provider(
        name="openai", dialect="openai", base_url="http://127.0.0.1:1/v1", default=True, api_key_env=None,
        api_key_file=None, stream_usage=stream_usage, proxy=Proxy("env"), tls=TlsSpec(),
    )  # fmt: skip


def first(policy: StreamUsage, x: Exchange) -> Attempt:
    attempt = Attempt(1, x.targets[0], Cause.FIRST, 0.0)
    assert policy.enter(x, attempt, 0.0), "it never refuses an attempt"
    return attempt


def exchange(*, may_add: bool = True) -> Exchange:
    return Exchange("r", Ask("openai", may_add_usage=may_add), 0.0, targets=(Target("openai", "m"),))


@pytest.mark.parametrize(
    ("may_add", "setting", "added"), [(True, "add", True), (True, "keep", False), (False, "add", False)]
)
def test_enter(may_add: bool, setting: str, added: bool) -> None:
    policy = StreamUsage({"openai": provider(setting)}, Quirks())
    assert first(policy, exchange(may_add=may_add)).add_usage is added


def test_a_provider_that_refuses_it_is_asked_once_more_and_remembered() -> None:
    quirks = Quirks()
    policy = StreamUsage({"openai": provider("add")}, quirks)
    x = exchange()
    attempt = first(policy, x)
    attempt.fault = Fault.STREAM_OPTIONS
    proposal = policy.react(x, attempt, 1.0)
    assert proposal is not None
    assert proposal.cause is Cause.WITHOUT_USAGE
    again = first(policy, x)
    assert again.add_usage is False
    again.fault = Fault.STREAM_OPTIONS
    assert policy.react(x, again, 1.0) is None, "only once: what we didn't add can't be what it refuses"
    assert first(policy, exchange()).add_usage is False


def test_the_callers_own_stream_options_are_never_taken_back() -> None:
    policy = StreamUsage({"openai": provider("add")}, Quirks())
    x = exchange(may_add=False)
    attempt = first(policy, x)
    attempt.fault = Fault.STREAM_OPTIONS
    assert policy.react(x, attempt, 1.0) is None
