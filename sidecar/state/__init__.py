"""What survives a swap of the pin file. Methods take `now`; nothing here does I/O."""

from __future__ import annotations

from dataclasses import dataclass, field

from sidecar.state.allowance import Allowance
from sidecar.state.answers import Answers
from sidecar.state.breakers import Breakers
from sidecar.state.credentials import Credentials
from sidecar.state.drills import Drills
from sidecar.state.flights import Flights
from sidecar.state.latency import Latency
from sidecar.state.ledger import Ledger
from sidecar.state.quantiles import Quantiles
from sidecar.state.quirks import Quirks
from sidecar.state.recent import Recent
from sidecar.state.sizes import Sizes


@dataclass(frozen=True, slots=True)
class State:
    """One of each, for the life of the process."""

    allowance: Allowance = field(default_factory=Allowance)
    answers: Answers = field(default_factory=Answers)
    breakers: Breakers = field(default_factory=Breakers)
    credentials: Credentials = field(default_factory=Credentials)
    drills: Drills = field(default_factory=Drills)
    flights: Flights = field(default_factory=Flights)
    latency: Latency = field(default_factory=Latency)
    ledger: Ledger = field(default_factory=Ledger)
    quantiles: Quantiles = field(default_factory=Quantiles)
    quirks: Quirks = field(default_factory=Quirks)
    recent: Recent = field(default_factory=Recent)
    sizes: Sizes = field(default_factory=Sizes)
