"""What is published of the sidecar: metrics, events, logs, audit and spans, all projections of finished records."""
