"""What does the name mean? A pin beats an alias, an alias beats a catalogued id; any other name is `unlisted`.

Decides the meaning only. Which arm or model of a pin is meant is decided by `variant` and `choice`.
"""

from __future__ import annotations

import difflib
import heapq
from os.path import commonprefix
from typing import Self

from sidecar.core.facts import Exchange
from sidecar.core.policy import Policy
from sidecar.errors import Code, Refusal
from sidecar.policies.parts import Parts
from sidecar.settings.pins import Pins


class Name(Policy):
    __slots__ = ("_pins",)

    def __init__(self, pins: Pins) -> None:
        self._pins = pins

    @classmethod
    def build(cls, parts: Parts) -> Self:
        return cls(parts.pins)

    def admit(self, x: Exchange, now: float) -> Refusal | None:  # noqa: ARG002
        name = x.ask.name
        x.task = x.ask.task
        if name is None:
            x.kind = "none"
            if x.ask.required:
                x.why.append("refused: a model is required")
                return Refusal(Code.BAD_REQUEST, "This request needs a `model` (or a `capability`), and names none.")
            x.why.append("untouched: no model in the request")
            return None
        if (pin := self._pins.pins.get(name)) is not None:
            x.kind, x.pin = "pin", name
            x.task = x.ask.task or pin.task
            x.why.append(f"pin {name}")
        elif (model := self._pins.aliases.get(name)) is not None:
            x.kind, x.pin, x.chosen = "alias", name, model.id
            x.why.append(f"alias {name}")
        elif name in self._pins.models:
            x.kind, x.pin, x.chosen = "catalogued", name, name
            x.why.append(f"catalogued {name}")
        else:
            x.kind = "unlisted"
            if self._pins.unlisted == "reject":
                x.why.append("unlisted: rejected")
                return Refusal(Code.UNKNOWN_MODEL, self._unknown(name))
            x.why.append("unlisted: passed on unpinned")
        return None

    def _unknown(self, name: str) -> str:
        near = nearest(name, [*self._pins.pins, *self._pins.aliases, *self._pins.models])
        hint = f" Did you mean {', '.join(f'`{n}`' for n in near)}?" if near else ""
        shown = name if len(name) <= 64 else name[:64] + "..."
        return f"The model `{shown}` is not in the pin file (generation {self._pins.label}).{hint}"


def nearest(name: str, known: list[str]) -> list[str]:
    """Up to three known names that look like `name`.

    difflib is slow over thousands of names, and the name is the client's: only the twenty that share the longest
    beginning with it are compared.
    """
    name = name[:128]
    likely = heapq.nlargest(20, known, key=lambda k: len(commonprefix((name, k))))  # noqa: RUF071 - names, not paths
    return difflib.get_close_matches(name, likely, n=3, cutoff=0.5)
