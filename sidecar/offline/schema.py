"""`sidecar pins schema`: the JSON Schema of the pin file (or of sidecar.yaml), for editors and CI."""

from __future__ import annotations

import argparse

from sidecar.offline.files import GOOD, print_json
from sidecar.settings.export import pins_schema, settings_schema


def configure(parser: argparse.ArgumentParser) -> None:
    """Adds this command's arguments."""
    parser.description = "Prints the JSON Schema of the pin file, for editors."
    parser.add_argument("--settings", action="store_true", help="of sidecar.yaml instead")


def run(args: argparse.Namespace) -> int:
    """Prints the schema."""
    print_json(settings_schema() if args.settings else pins_schema())
    return GOOD
