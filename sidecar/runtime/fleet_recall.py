"""A local miss may be a hit in the fleet: ask the second tier, and make a hit of what was found."""

from __future__ import annotations

from sidecar.core.answers import Stored, entry_key
from sidecar.runtime.call import Call
from sidecar.runtime.shared import Shared


async def recall(call: Call, shared: Shared) -> Stored | None:
    """After an admission that found nothing, before anything is sent. None: go on and ask the provider.

    What was found is kept here too, and given to those who wait for this request. What admission set aside is given
    back when the request is settled, since nothing was launched.
    """
    fleet, x = shared.fleet, call.exchange
    if fleet is None or x is None or x.cache_key is None or x.cache_key.refresh:
        return None
    asked = x.cache_key
    key = entry_key(asked.identity, x.targets[0])
    stored = await fleet.find(key, asked.ttl_s)
    if stored is None:
        return None
    now = shared.now()
    shared.state.answers.put(key, stored, asked.ttl_s - (now - stored.stored_at), now)
    if (flight := shared.state.flights.led_by(call.id)) is not None:
        shared.state.flights.land(flight, stored)
    x.cache, x.cache_key, x.recalled = "hit", None, True
    x.why.append("cache: hit")  # as `offline/replay` says it
    return stored
