"""What a benchmark measured, as JSON beside its printed lines, for those that put several together."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, help="file that the measured values are written to")


def add_kernels_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--kernels", choices=("auto", "off"), default="auto", help="as `--set kernels=` of naxcli")


def keep(arguments: argparse.Namespace, **values: object) -> None:
    """Write measured values and the settings they were measured with, where a file was asked for."""
    if arguments.json is None:
        return
    settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "trial")}
    text = json.dumps({"settings": settings, **values}, indent=1, default=str)
    temporary = arguments.json.with_suffix(".tmp")
    temporary.write_text(text)
    temporary.replace(arguments.json)  # whole or not at all
