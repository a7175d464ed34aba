"""What the sidecar costs, beside a bare pass-through and its peers, measured in one run."""
