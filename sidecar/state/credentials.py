"""The sidecar's own credentials, as last read by the runtime, and who may be reached with which.

The only place where a secret lives. It has no repr, is never compared, logged or sent anywhere but to its provider.
"""

from __future__ import annotations


class Credentials:
    __slots__ = ("_injected", "_secrets")

    def __init__(self) -> None:
        self._injected: set[str] = set()
        self._secrets: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Credentials(for={sorted(self._injected)})"

    def put(self, provider: str, secret: str | None) -> None:
        """Remember that a provider has a credential of its own; None if it is configured but cannot be read now."""
        self._injected.add(provider)
        if secret is None:
            self._secrets.pop(provider, None)
        else:
            self._secrets[provider] = secret

    def injects(self, provider: str) -> bool:
        """Whether the caller's credentials are replaced at this provider."""
        return provider in self._injected

    def secret(self, provider: str) -> str | None:
        return self._secrets.get(provider)

    def usable(self, provider: str, *, addressed: bool) -> bool:
        """Whether a request can be sent there: with our credential, or with the caller's if it addresses it."""
        if provider in self._injected:
            return provider in self._secrets
        return addressed
