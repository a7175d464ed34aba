"""The injection webhook: `sidecar inject-webhook` puts the sidecar into pods while the API server creates them."""
