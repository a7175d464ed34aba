"""The policy that refuses pods which should have got a sidecar: what happens where the one that injects is gone."""

from __future__ import annotations

from tests.cluster.cluster import Cluster, until
from tests.cluster.policy_kit import ASK, OPT_OUT, answer, installed, pod, remove
from tests.kube.injection_cases import FIT, UNFIT, policy_values

SENTENCE = "the MutatingAdmissionPolicy model-sidecar-injection has put none in"


def test_while_nothing_injects_pods_that_are_asked_for_are_refused_and_no_others(cluster: Cluster) -> None:
    plain = FIT["plain"]
    with installed(cluster, policy_values()) as policies:
        asking, silent = cluster.namespace(**ASK), cluster.namespace()
        remove(cluster, [m for m in policies if m["kind"] == "MutatingAdmissionPolicyBinding"])
        until(lambda: SENTENCE in answer(cluster, pod(silent, plain, ASK)))
        until(lambda: SENTENCE in answer(cluster, pod(asking, plain)))
        assert answer(cluster, pod(silent, plain)) == ""
        assert answer(cluster, pod(asking, plain, OPT_OUT)) == ""
        assert answer(cluster, pod(asking, UNFIT["host network"][0])) == ""
