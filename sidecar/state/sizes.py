"""How many tokens a request and its answer come to: learned per model from what its provider counted.

Decides the two estimates that a budget reserves by: input, from the bytes of the body and a learned ratio (4 bytes a
token at first, DESIGN 3.8), and output, the learned 95th percentile of one choice. Where an exact counter is set
(`state/tokens.py`, an extra) it counts the texts of a request instead. Does not decide who learns, or what is reserved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from sidecar.core.facts import Ask, Exchange, Usage
from sidecar.settings.pins import Model

BYTES_PER_TOKEN = 4.0
FEWEST_BYTES, MOST_BYTES = 1.0, 16.0
MOST_MEDIA_BYTES = 1e5
"""An image of some megabytes costs about a thousand tokens at each provider."""
WEIGHT = 0.1
"""Of the newest sample, once there are ten."""
ENOUGH_OUTPUTS = 20
OUTPUTS = 200
MOST_MODELS = 1024
EXACT_BYTES = 1024 * 1024
"""Above that counting would hold up the loop for too long: 1 MiB takes some 5 to 10 ms."""

FIRST_OUTPUT_TOKENS = 1024
"""Of one choice, until there are enough answers to learn from."""
NO_OUTPUT = frozenset({"embeddings", "moderation"})

Count = Callable[[str, Sequence[str]], int | None]
"""Model and texts → tokens, or None where its vocabulary isn't known."""


class _Ratio:
    """A moving average of bytes per token. It begins as one sample of the default, so early ones count for more."""

    __slots__ = ("_samples", "_top", "_weight", "value")

    def __init__(self, top: float) -> None:
        self.value = BYTES_PER_TOKEN
        self._samples = 1
        self._weight = 1.0  # of the newest sample
        self._top = top

    def learn(self, size: int, tokens: int) -> None:
        sample = size / tokens
        if not FEWEST_BYTES <= sample <= self._top:
            sample = min(self._top, max(FEWEST_BYTES, sample))
        if self._weight > WEIGHT:
            self._samples += 1
            self._weight = max(WEIGHT, 1 / self._samples)
        self.value += self._weight * (sample - self.value)


class _Model:
    __slots__ = ("_next", "_outputs", "media", "p95", "text")

    def __init__(self) -> None:
        self.text = _Ratio(MOST_BYTES)
        self.media = _Ratio(MOST_MEDIA_BYTES)
        self.p95: int | None = None
        self._outputs: list[int] = []
        self._next = 0

    def output(self, tokens: int) -> None:
        """Keep the newest 200; the percentile is worked out at every tenth, as nobody needs it finer."""
        if len(self._outputs) < OUTPUTS:
            self._outputs.append(tokens)
        else:
            self._outputs[self._next] = tokens
        self._next = (self._next + 1) % OUTPUTS
        if len(self._outputs) >= ENOUGH_OUTPUTS and self._next % 10 == 0:
            ranked = sorted(self._outputs)
            self.p95 = ranked[math.ceil(0.95 * len(ranked)) - 1]


class Sizes:
    """Only catalogued ids are learned; of more than a thousand the one that was first seen goes."""

    __slots__ = ("_models", "exact")

    def __init__(self, exact: Count | None = None) -> None:
        self._models: dict[str, _Model] = {}
        self.exact = exact

    def input_tokens(self, model: str, body_bytes: int, media_bytes: int = 0) -> int:
        """Tokens of a body of so many bytes, `media_bytes` of which are encoded images, sound and files."""
        known = self._models.get(model)
        text = known.text.value if known is not None else BYTES_PER_TOKEN
        tokens = math.ceil(max(0, body_bytes - media_bytes) / text)
        if media_bytes:
            tokens += math.ceil(media_bytes / (known.media.value if known is not None else BYTES_PER_TOKEN))
        return tokens

    def text_tokens(self, model: str, ask: Ask) -> int:
        """Input tokens of a request without its media: exact if that can be, else by the learned ratio."""
        text_bytes = max(0, ask.body_bytes - ask.media_bytes)
        if self.exact is not None and ask.prompt is not None and text_bytes <= EXACT_BYTES:
            prompt = ask.prompt()
            counted = self.exact(model, prompt.texts) if prompt is not None else None
            if prompt is not None and counted is not None:
                return counted + prompt.framing
        return self.input_tokens(model, text_bytes)

    def of(self, model: str, x: Exchange) -> int:
        """The same, once for each request: what was estimated is kept on it, so that an event holds it."""
        if x.sizes is None:
            return self.text_tokens(model, x.ask)
        if model not in x.sizes:
            x.sizes[model] = self.text_tokens(model, x.ask)
        return x.sizes[model]

    def expected(self, model: Model, x: Exchange) -> tuple[int, int]:
        """Input and output tokens to set aside for one attempt at that model."""
        ask = x.ask
        tokens = self.of(model.id, x)
        if ask.media_bytes:
            tokens += self.media_tokens(model.id, ask)
        if ask.operation in NO_OUTPUT:
            return tokens, 0
        output = self.output_p95(model.id) or FIRST_OUTPUT_TOKENS
        for cap in (ask.max_output, model.max_output):
            if cap is not None and cap < output:
                output = cap
        return tokens, output * ask.choices if ask.choices > 1 else output

    def media_tokens(self, model: str, ask: Ask) -> int:
        """What the media of a request add to that."""
        return self.input_tokens(model, ask.media_bytes, ask.media_bytes)

    def output_p95(self, model: str) -> int | None:
        """Output tokens of one choice that 19 of 20 answers don't pass; None until there are twenty."""
        known = self._models.get(model)
        return known.p95 if known is not None else None

    def learn(self, model: str, ask: Ask, usage: Usage) -> None:
        """A complete answer's usage. Nothing is learned from nonsense, nor input from what the provider holds."""
        if usage.odd:
            return
        known = self._models.get(model)
        if known is None:
            if len(self._models) >= MOST_MODELS:
                self._models.pop(next(iter(self._models)))
            known = self._models[model] = _Model()
        if usage.output > 0:
            known.output(math.ceil(usage.output / ask.choices) if ask.choices > 1 else usage.output)
        if ask.bound or usage.input <= 0 or ask.body_bytes <= 0:
            return
        if ask.media_bytes == 0:
            known.text.learn(ask.body_bytes, usage.input)
            return
        media = usage.input - math.ceil((ask.body_bytes - ask.media_bytes) / known.text.value)
        if media > 0:
            known.media.learn(ask.media_bytes, media)
