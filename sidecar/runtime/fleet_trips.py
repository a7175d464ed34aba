"""Trips of breakers that pods tell each other: what is told, and what is believed.

A pod that trips a target saves the others the same failures. But its trouble may be its own (its network, its key), and
then it trips again and again. So what only one pod says is believed for at most `LONGEST_S`, and after that not again
for `QUIET_S`: meanwhile each pod finds out for itself. What two pods say at the same time is believed every time.
A trip that was taken over is never passed on.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from sidecar.core.facts import Target

LONGEST_S = 60.0
QUIET_S = 300.0
MOST = 200


class _Told(msgspec.Struct, array_like=True, frozen=True):
    pod: str
    provider: str
    model: str | None


_DECODER = msgspec.json.Decoder(_Told)


class Trips:
    """`pending` are this pod's own that weren't told yet, with the time at which each ends."""

    __slots__ = ("_believed", "_pod", "pending")

    def __init__(self, pod: str) -> None:
        self.pending: dict[Target, float] = {}
        self._pod = pod
        self._believed: dict[tuple[str, Target], float] = {}  # until when

    def tell(self, now: float) -> list[tuple[bytes, int]]:
        """What to pass on: the words, and the milliseconds for which they hold."""
        for target in [t for t, until in self.pending.items() if until <= now]:
            del self.pending[target]
        return [
            (msgspec.json.encode(_Told(self._pod, target.provider, target.model)), int((until - now) * 1000) + 1)
            for target, until in list(self.pending.items())[:MOST]
        ]

    def told(self, sent: int) -> None:
        """The first so many have arrived."""
        for target in list(self.pending)[:sent]:
            del self.pending[target]

    def hear(self, words: Iterable[tuple[bytes, int]], now: float) -> list[tuple[Target, float]]:
        """What other pods say, as the server keeps it. Returns what is to be taken over, and until when."""
        said: dict[Target, dict[str, float]] = {}
        for text, left_ms in words:
            try:
                told = _DECODER.decode(text)
            except msgspec.MsgspecError:
                continue  # another version's
            if told.pod != self._pod and left_ms > 0:
                said.setdefault(Target(told.provider, told.model), {})[told.pod] = now + min(left_ms / 1000, LONGEST_S)
        self._believed = {who: until for who, until in self._believed.items() if until + QUIET_S > now}
        taken = []
        for target, pods in said.items():
            fresh = [pod for pod in pods if len(pods) > 1 or (pod, target) not in self._believed]
            if not fresh:
                continue
            until = max(pods[pod] for pod in fresh)
            if until > max(self._believed.get((pod, target), 0.0) for pod in pods) + 0.1:
                taken.append((target, until))
            for pod in fresh:
                self._believed[pod, target] = max(pods[pod], self._believed.get((pod, target), 0.0))
        return taken
