"""Commands that need no running sidecar. Each module has `configure(parser)` and `run(args) -> int`, the exit code.

They may import settings, policies and compose. Only `live.py` asks anybody: by the runtime's client, so that it goes
the same way as an app's calls.
"""
