"""What survives a swap of the pin file. Methods take `now`; nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.state.credentials import Credentials
from sidecar.state.latency import Latency
from sidecar.state.quirks import Quirks
from sidecar.state.recent import Recent


@dataclass(frozen=True, slots=True)
class State:
    """One of each, for the life of the process."""

    credentials: Credentials = field(default_factory=Credentials)
    latency: Latency = field(default_factory=Latency)
    quirks: Quirks = field(default_factory=Quirks)
    recent: Recent = field(default_factory=Recent)
