"""Export: a configuration becomes a network that is ready to use elsewhere, one module per format."""

from __future__ import annotations

from naxcli.export.config import SavedConfig, read_config
from naxcli.export.deepcave import write_deepcave
from naxcli.export.exporter import FORMATS, check_export, export_network
from naxcli.export.request import Exported, ExportRequest

__all__ = [
    "FORMATS",
    "ExportRequest",
    "Exported",
    "SavedConfig",
    "check_export",
    "export_network",
    "read_config",
    "write_deepcave",
]
