"""Commands that need no running sidecar. Each module has `configure(parser)` and `run(args) -> int`, the exit code.

A layer like the runtime's side: it may import settings, policies and compose, nothing of runtime or provider.
"""
