"""A newcomer's tour: the sidecar in front of the bundled fake provider, with live traffic by the real SDKs."""
