"""What tokens cost, by the pin file's prices. Each dialect's usage has one meaning by now (`core.facts.Usage`).

Cached input and cache writes are inside `input` there, wherever the provider counts them, and priced by themselves;
reasoning and tool-use tokens are inside `output` and `input` and cost what those cost.
"""

from __future__ import annotations

from sidecar.core.facts import Usage
from sidecar.settings.pins import Model, Price


def cost_usd(usage: Usage, model: Model | None) -> float | None:
    """USD of one usage; None where the model has no price."""
    price = model.price if model is not None else None
    if price is None:
        return None
    cached_price = price.cached_input if price.cached_input is not None else price.input
    write_price = price.cache_write if price.cache_write is not None else price.input
    plain = max(0, usage.input - usage.cached_input - usage.cache_write)
    return (
        plain * price.input
        + usage.cached_input * cached_price
        + usage.cache_write * write_price
        + usage.output * price.output
    ) / 1e6


def highest_usd(price: Price | None, input_tokens: int, output_tokens: int) -> float:
    """The most that so many tokens may cost: all of the input may turn out to be written to a cache."""
    if price is None:
        return 0.0
    return (input_tokens * max(price.input, price.cache_write or 0.0) + output_tokens * price.output) / 1e6
