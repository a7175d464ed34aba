"""Kubernetes: the injection webhook, and what operators do to a fleet's pin file by way of kubectl."""
