"""What a policy is built from, once for each snapshot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sidecar.settings.pins import Pins
from sidecar.settings.static import Provider
from sidecar.state import State


@dataclass(frozen=True, slots=True)
class Parts:
    """`default_provider`: dialect → the provider that a path without a provider's name means."""

    providers: Mapping[str, Provider]
    default_provider: Mapping[str, str]
    pins: Pins
    state: State
