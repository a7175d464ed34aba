"""A pipeline without a process: the policies of a pin file, for commands that only decide."""

from __future__ import annotations

from collections.abc import Mapping

from sidecar.compose import Snapshot, build
from sidecar.policies.parts import Parts
from sidecar.settings.options import TlsSpec
from sidecar.settings.pins import Pins
from sidecar.settings.static import Provider, Settings
from sidecar.settings.units import Proxy
from sidecar.state import State


def snapshot(pins: Pins, settings: Settings | None, defaults: Mapping[str, str | None] | None = None) -> Snapshot:
    """Decides as a sidecar with these settings would.

    Without settings every provider is taken to have a credential, and a dialect's default is the provider of its
    first model in the file, unless `defaults` (dialect → provider, None for none at all) says otherwise.
    """
    state = State()
    if settings is not None:
        default = dict(settings.default_provider)
        injected = [p.name for p in settings.providers.values() if p.has_key]
    else:
        default = {}
        for model in pins.models.values():
            default.setdefault(model.dialect, model.provider)
        for dialect in ("openai", "anthropic", "gemini"):
            default.setdefault(dialect, dialect)
        injected = [m.provider for m in pins.models.values()]
    for dialect, provider in (defaults or {}).items():
        if provider is None:
            default.pop(dialect, None)
        else:
            default[dialect] = provider
    for provider in injected:
        state.credentials.put(provider, "-")  # stands for a key that a decision never reads
    known = {m.provider: m.dialect for m in pins.models.values()} | {p: d for d, p in default.items()}
    providers = {name: _provider(name, dialect) for name, dialect in known.items()}
    return build(Parts(providers, default, pins, state))


def _provider(name: str, dialect: str) -> Provider:
    """As much of one as a decision reads. Whether an attempt asked a stream for its usage stands in its event."""
    return Provider(name, dialect, "", False, None, None, "add", Proxy("none"), TlsSpec())
