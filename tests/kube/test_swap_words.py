"""What the operators' commands make of texts: metrics, kubectl's words, pin files under another number. No cluster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.kube.arguments import Target
from sidecar.kube.configmaps import kept
from sidecar.kube.fleet import Pod, Standing, pods_of
from sidecar.kube.kubectl import Done, trouble
from sidecar.kube.renumber import renumbered
from sidecar.kube.scrape import Scraped, Tally, scraped
from sidecar.kube.standing import note_of, rows_of, summary, table
from sidecar.settings.load import read_pins
from sidecar.settings.strict import parse
from tests.kube.swap_kit import configmap, pins, sha

# --- metrics ---------------------------------------------------------------------------------------------------------

METRICS = """\
# TYPE sidecar_pins_info gauge
sidecar_pins_info{generation="7",sha256="a"} 0
sidecar_pins_info{generation="8",sha256="b"} 1
# TYPE sidecar_pins_degraded gauge
sidecar_pins_degraded 0
# TYPE sidecar_pins_reloads_total counter
sidecar_pins_reloads_total{result="ok"} 5
sidecar_pins_reloads_total{result="rejected"} 2
# TYPE sidecar_requests_total counter
sidecar_requests_total{pin="p",variant="canary",model="m",dialect="openai",code="2xx",error=""} 6
sidecar_requests_total{pin="p",variant="canary",model="m",dialect="anthropic",code="5xx",error="provider"} 2
sidecar_requests_total{pin="p",variant="canary",model="m",dialect="openai",code="none",error="client_gone"} 2
# TYPE sidecar_variant_attempts_total counter
sidecar_variant_attempts_total{pin="p",variant="canary",model="m",cause="first",outcome="ok",fault=""} 6
sidecar_variant_attempts_total{pin="p",variant="canary",model="m",cause="retry",outcome="failed",fault="overload"} 4
sidecar_variant_attempts_total{pin="p",variant="canary",model="m",cause="first",outcome="failed",fault="caller"} 3
sidecar_variant_attempts_total{pin="p",variant="canary",model="m",cause="hedge",outcome="lost_hedge",fault=""} 9
"""


def test_metrics_are_read() -> None:
    found = scraped(METRICS)
    assert (found.generation, found.sha256, found.degraded, found.rejected) == ("8", "b", False, 2)
    assert found.requests == {("p", "canary", "m"): Tally(10, 2)}  # a client that left is nobody's fault
    # A hedge that lost is no failure, and a request that is wrong in itself is none of the model's.
    assert found.attempts == {("p", "canary", "m"): Tally(10, 4)}


def test_what_is_no_sidecar_is_not_taken_for_one() -> None:
    with pytest.raises(ValueError, match="no metrics of a sidecar"):
        scraped("# TYPE up gauge\nup 1\n")


def test_metrics_of_another_version_are_not_misread() -> None:
    with pytest.raises(ValueError, match="lacks the label 'variant'"):
        scraped('sidecar_pins_degraded 0\nsidecar_requests_total{pin="chat"} 1\n')


def test_between_two_looks_only_what_came_in_between_counts() -> None:
    assert Tally(10, 4).since(Tally(6, 1)) == Tally(4, 3)
    assert Tally(2, 1).since(Tally(6, 1)) == Tally(2, 1)  # a restart


# --- rows ------------------------------------------------------------------------------------------------------------


def seen(generation: str = "8", **more: object) -> Scraped:
    return Scraped(generation, "b", **more)  # type: ignore[arg-type]


def test_names_without_traffic_are_shown() -> None:
    rows = rows_of(seen(), None, read_pins(pins(8, percent=10).encode(), "p.yaml", None))
    assert [(row.name, row.variant, row.percent, row.requests) for row in rows] == [
        ("chat.core", "stable", 90.0, 0), ("chat.core", "canary", 10.0, 0), ("chat.other", "stable", 100.0, 0),
    ]  # fmt: skip


def test_what_served_aside_from_the_plan_is_told() -> None:
    text = pins(8).replace("{stable: gpt-a-2026-01-01}", "{stable: gpt-a-2026-01-01, fallback: [gpt-c-2026-01-01]}")
    requests = {
        ("chat.core", "stable", "gpt-c-2026-01-01"): Tally(3, 0),
        ("chat.core", "canary", "gpt-b-2026-01-01"): Tally(5, 1),
    }
    rows = rows_of(seen(requests=requests), None, read_pins(text.encode(), "p.yaml", None), only=["chat.core"])
    assert [(row.model[:5], row.percent, row.note) for row in rows] == [
        ("gpt-a", 100.0, ""), ("gpt-b", None, "earlier generation"), ("gpt-c", None, "fallback"),
    ]  # fmt: skip


def test_a_variant_that_only_falls_back_shows_as_broken() -> None:
    now = seen(
        requests={("chat.core", "canary", "gpt-c-2026-01-01"): Tally(4, 0)},
        attempts={("chat.core", "canary", "gpt-b-2026-01-01"): Tally(4, 4)},
    )
    rows = rows_of(now, None, read_pins(pins(8, percent=10).encode(), "p.yaml", None))
    canary = next(row for row in rows if row.model == "gpt-b-2026-01-01")
    assert (canary.requests, canary.failed_ratio) == (0, 1.0)


def test_a_stopped_variant_has_no_share() -> None:
    plan = read_pins(pins(8, percent=10).encode(), "p.yaml", None)
    rows = rows_of(seen("8+stop"), None, plan, stopped=[("chat.core", "canary")])
    assert [(row.percent, row.note) for row in rows[:2]] == [(100.0, ""), (0.0, "stopped")]
    rows = rows_of(seen("8"), None, plan, stopped=[("chat.core", "canary")])  # this pod was not reached
    assert [row.percent for row in rows[:2]] == [90.0, 10.0]


POD = Pod("shop-1", "shop", 4012, "running", ready=True)
LIVE = kept(configmap("model-sidecar-pins", {"pins.yaml": pins(8)}))


@pytest.mark.parametrize(
    ("one", "note"),
    [
        (Standing(POD, Scraped("8", sha(pins(8)))), ""),
        (Standing(POD, Scraped("7", "old")), "not the live file"),
        (Standing(POD, Scraped("7", "old", rejected=1)), "has rejected a file, is not on the live one"),
        (Standing(POD, Scraped("7", sha(pins(8)), degraded=True)), "degraded: the last good copy stands in"),
        (Standing(POD, Scraped(rejected=1)), "rejected: it has no pin file to serve by"),
        (Standing(POD, trouble="unreachable: no"), "unreachable: no"),
        (Standing(Pod("p", "shop", 4012, "running", ready=False), Scraped("8", sha(pins(8)))), "not ready"),
    ],
)
def test_notes(one: Standing, note: str) -> None:
    assert note_of(one, LIVE) == note


def test_a_stand_in_is_not_the_live_file_even_with_its_bytes() -> None:
    assert Standing(POD, Scraped("8", "b")).has("b")
    assert not Standing(POD, Scraped("8", "b", degraded=True)).has("b")
    assert not Standing(POD, Scraped("8", "b"), trouble="unreachable").has("b")


def test_the_summary_names_who_differs() -> None:
    here, there = Standing(POD, Scraped("8", sha(pins(8)))), Standing(POD, Scraped("7", "0ldbytes"))
    live = f"generation 8 ({sha(pins(8))[:8]})"
    assert summary([here, here], LIVE) == f"2 of 2 pods on {live}"
    assert summary([here, there], LIVE) == f"1 of 2 pods on {live}; not: shop-1 (generation 7 (0ldbytes))"
    assert summary([there, there], None) == "2 of 2 pods on generation 7 (0ldbytes)"


def test_a_table_has_a_pod_s_name_once() -> None:
    rows = rows_of(seen(), None, read_pins(pins(8, percent=10).encode(), "p.yaml", None))
    lines = table([(Standing(POD, seen()), "a note", rows)])
    assert [line.split()[0] for line in lines] == ["POD", "shop-1", "chat.core", "chat.other"]
    assert [line.endswith("a note") for line in lines] == [False, True, False, False]


# --- pods ------------------------------------------------------------------------------------------------------------


def test_pods_that_are_over_do_not_count_and_ports_are_found() -> None:
    def one(name: str, phase: str, **spec: object) -> dict[str, object]:
        return {"metadata": {"name": name, "namespace": "s"}, "spec": spec, "status": {"phase": phase}}

    named = {"name": "model-sidecar", "ports": [{"name": "sidecar-probe", "containerPort": 5012}]}
    found = pods_of([
        one("c", "Running", containers=[{"name": "model-sidecar"}]),
        one("b", "Running", containers=[{"name": "app"}], initContainers=[named]),
        one("a", "Running", containers=[{"name": "app"}]),
        one("z", "Succeeded", containers=[{"name": "app"}]),
    ])  # fmt: skip
    assert [(pod.name, pod.port) for pod in found] == [("a", None), ("b", 5012), ("c", 4012)]


# --- kubectl's words -------------------------------------------------------------------------------------------------


FORBIDDEN = 'pods "p" is forbidden: User "u" cannot create resource "pods/exec" in API group "" in the namespace "n"'


@pytest.mark.parametrize(
    ("said", "reason", "sentence"),
    [
        ('Error from server (NotFound): configmaps "x" not found', "NotFound", 'configmaps "x" not found'),
        ("error: You must be logged in to the server (Unauthorized)", "Unauthorized", "log in again"),
        ("Unable to connect to the server: dial tcp: lookup k: no such host", "NoCluster", "cannot be reached"),
        ('error: context "x" does not exist', "NoContext", "config get-contexts"),
        ('error: unknown command "whoami" for "kubectl auth"', "TooOld", "use 1.28 or later"),
        (FORBIDDEN, "Forbidden", "u may not create pods/exec in namespace n: ask for the chart's Role m-operator"),
        ("Error from server (Forbidden): error when creating: exceeded quota: q", "Forbidden", "exceeded quota"),
        ('error: on configmaps "x": the object has been modified\nPlease review', "Conflict", "Please review"),
        ('Error from server: admission webhook "w" denied the request: no', "", "denied the request: no"),
        ("error: no\nWarning: v1 ComponentStatus is deprecated", "", "no"),
        ('error when replacing "STDIN": Put "https://k/api": EOF', "NoCluster", "cannot be reached: EOF: check"),
        ("", "", "exit code 1 and no word"),
    ],
)  # fmt: skip
def test_kubectl_s_failures_in_a_sentence(said: str, reason: str, sentence: str) -> None:
    noise = 'E1123 06:20:18.515013 14227 memcache.go:265] "Unhandled Error" err="x"\n'
    error = trouble(Done(1, "", (noise if said else "") + said), Target(name="m"))
    assert (error.reason, sentence in str(error)) == (reason, True), error
    assert "memcache" not in str(error)


# --- another generation ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "key", "wanted"),
    [
        ("version: 1\ngeneration: 7 # seven\n", "p.yaml", "version: 1\ngeneration: 12 # seven\n"),
        ("'generation' : 7\nunlisted: pass", "p.yaml", "'generation' : 12\nunlisted: pass"),
        ("generation: 7", "p.yaml", "generation: 12"),
        ("generation: 7\r\nunlisted: pass\r\n", "p.yaml", "generation: 12\r\nunlisted: pass\r\n"),
        ("{generation: 7, unlisted: pass}", "p.yaml", "{generation: 12, unlisted: pass}"),
        ("a: |\n  generation: 7\ngeneration: 7\n", "p.yaml", "a: |\n  generation: 7\ngeneration: 12\n"),
        ('{"a": {"generation": 1}, "generation": 7}', "p.json", '{"a": {"generation": 1}, "generation": 12}'),
        ("generation:\n  7\n", "p.yaml", "generation:\n  12\n"),
        ("generation: !!int 7\n", "p.yaml", None),
        ("unlisted: pass\n", "p.yaml", None),
        ("generation: [7", "p.yaml", None),
        ("[generation, 7]", "p.yaml", None),
    ],
)  # fmt: skip
def test_only_the_generation_changes(text: str, key: str, wanted: str | None) -> None:
    assert renumbered(text, key, 12) == wanted


@given(st.text("generation: 7\n#{}'\",|", max_size=60), st.integers(0, 10**15))
def test_whatever_the_text_is_nothing_else_changes(around: str, generation: int) -> None:
    text = f"{around}\ngeneration: 7\n"
    edited = renumbered(text, "p.yaml", generation)
    if edited is not None:
        before, after = (parse(one.encode(), "p.yaml").data for one in (text, edited))
        assert after == {**before, "generation": generation}
