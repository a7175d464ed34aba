"""Loopback in NO_PROXY, as programs that disagree on its spelling see it."""

from __future__ import annotations

from typing import Any

import pytest

from sidecar.kube.injection.decide import decide
from sidecar.kube.injection.environment import merged
from tests.kube.webhook_kit import LOOPBACK, NATIVE, Json, applied

ALL = ",".join(LOOPBACK)
PROXY = {"name": "HTTPS_PROXY", "value": "http://proxy:3128"}


SHARED = [{"configMapRef": {"name": "shared"}}]


def env_after(*env: Json, sources: list[Json] | None = None) -> list[Json]:
    """A container's `env` after the injection."""
    container = {"name": "app", "image": "app:1", "env": list(env), "envFrom": sources}
    raw = {"metadata": {}, "spec": {"containers": [container]}}
    found: list[Json] = applied(raw, decide(raw, NATIVE, "pod").ops)["spec"]["containers"][0]["env"]
    return found


def named(name: str, value: str | None = None, **more: Any) -> Json:
    return {"name": name, **({} if value is None else {"value": value}), **more}


def test_without_a_proxy_nothing_is_set() -> None:
    assert env_after(named("A", "1")) == [named("A", "1")]


@pytest.mark.parametrize("name", ["HTTP_PROXY", "https_proxy", "All_Proxy"])
def test_with_a_proxy_both_spellings_are_set_behind_all_else(name: str) -> None:
    proxy = named(name, "http://p:1")
    assert env_after(proxy, named("Z", "1")) == [proxy, named("Z", "1"), named("NO_PROXY", ALL), named("no_proxy", ALL)]


def test_a_proxy_from_a_secret_counts() -> None:
    proxy = named("HTTPS_PROXY", valueFrom={"secretKeyRef": {"name": "proxy", "key": "url"}})
    assert env_after(proxy)[1:] == [named("NO_PROXY", ALL), named("no_proxy", ALL)]


def test_the_apps_own_list_is_kept_in_its_place_and_told_to_both() -> None:
    after = env_after(named("CIDR", "10.0.0.0/8"), named("NO_PROXY", ".svc,$(CIDR)"), PROXY)
    wanted = f".svc,$(CIDR),{ALL}"
    assert after == [named("CIDR", "10.0.0.0/8"), named("NO_PROXY", wanted), named("no_proxy", wanted), PROXY]


def test_two_lists_of_the_apps_own_stay_two() -> None:
    after = env_after(named("no_proxy", ".a"), PROXY, named("NO_PROXY", ".b"))
    assert after == [named("no_proxy", f".a,{ALL}"), PROXY, named("NO_PROXY", f".b,{ALL}")]


def test_a_list_that_has_it_all_is_left_as_it_is() -> None:
    own = "LOCALHOST, 127.0.0.1 ::1,.svc"
    assert env_after(PROXY, named("NO_PROXY", own), named("no_proxy", own))[1:] == [
        named("NO_PROXY", own),
        named("no_proxy", own),
    ]


def test_a_list_from_elsewhere_is_left_alone_and_the_other_spelling_refers_to_it() -> None:
    own = named("NO_PROXY", valueFrom={"configMapKeyRef": {"name": "net", "key": "no-proxy"}})
    assert env_after(own, PROXY) == [own, named("no_proxy", f"$(NO_PROXY),{ALL}"), PROXY]


def test_a_list_without_a_proxy_beside_it_is_told_to_both_since_the_proxy_may_come_by_env_from() -> None:
    assert env_after(named("NO_PROXY", ".svc")) == [named("NO_PROXY", f".svc,{ALL}"), named("no_proxy", f".svc,{ALL}")]


def test_of_two_entries_the_last_counts_as_for_the_kubelet() -> None:
    after = env_after(PROXY, named("no_proxy", ".old"), named("no_proxy", ".new"))
    assert after[1:] == [named("no_proxy", ".old"), named("no_proxy", f".new,{ALL}"), named("NO_PROXY", f".new,{ALL}")]


def test_what_the_apps_own_sources_say_is_referred_to_since_it_cannot_be_seen() -> None:
    after = env_after(PROXY, sources=SHARED)[1:]
    assert after == [named("NO_PROXY", f"$(NO_PROXY),$(no_proxy),{ALL}"), named("no_proxy", f"$(NO_PROXY),{ALL}")]


def test_sources_of_the_apps_own_may_hold_a_proxy_and_a_list_without_loopback() -> None:
    after = env_after(named("A", "1"), sources=SHARED)[1:]
    assert after == [named("NO_PROXY", f"$(NO_PROXY),$(no_proxy),{ALL}"), named("no_proxy", f"$(NO_PROXY),{ALL}")]


def test_the_other_spelling_may_come_from_the_apps_own_sources_too() -> None:
    after = env_after(PROXY, named("NO_PROXY", ".svc"), sources=SHARED)[1:]
    assert after == [named("NO_PROXY", f".svc,{ALL}"), named("no_proxy", f"$(no_proxy),.svc,{ALL}")]


@pytest.mark.parametrize("empty", [named("NO_PROXY"), named("NO_PROXY", ""), named("NO_PROXY", " ")])
def test_an_empty_list_becomes_loopback(empty: Json) -> None:
    assert env_after(PROXY, empty)[1]["value"] == ALL


@pytest.mark.parametrize(
    ("own", "after"),
    [
        ("*", "*"),
        (" * ", " * "),
        ("*.corp", f"*.corp,{ALL}"),
        (".svc,", f".svc,{ALL}"),
        ("localhost", "localhost,127.0.0.1,::1"),
        ("notlocalhost", f"notlocalhost,{ALL}"),
    ],
)
def test_what_is_missing_is_added(own: str, after: str) -> None:
    assert merged(own, LOOPBACK) == after
    assert merged(after, LOOPBACK) == after
