"""The bundled fake provider: OpenAI, Anthropic and Gemini on one port, with faults on request.

It stands in for real providers in the demo, the tests and the benchmarks. It
understands nothing of a prompt; it answers quickly, predictably and keeps books.
"""

from sidecar.provider.command import configure, run, serve
from sidecar.provider.faults import Fault, FaultError
from sidecar.provider.ledger import Ledger, Record
from sidecar.provider.script import ScriptError
from sidecar.provider.server import FakeProvider, Options

__all__ = [
    "FakeProvider",
    "Fault",
    "FaultError",
    "Ledger",
    "Options",
    "Record",
    "ScriptError",
    "configure",
    "run",
    "serve",
]
