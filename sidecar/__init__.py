"""Model Sidecar: a per-pod proxy that gives LLM SDKs stable model names."""

__version__ = "0.1.0"
