"""PreparedSpace: what is known of a space before any trial, in one file that can be handed on: safetensors, with JSON in its header."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from naxcli.errors import NaxcliError

SUFFIX = ".safetensors"
FORMAT = "naxcli-prepared-space-1"
_HEADER = "__metadata__"  # where safetensors keeps texts, by name
_VECTORS, _METRICS, _TRUNK = "vectors", "metrics", "trunk."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedSpace:
    """Zero-cost metrics of a sample of a space, and the trunk of the ensemble that was pretrained on them.

    Args:
        reference: By which the space is loaded: a shipped name, or the name of a file beside it.
        name: Of the space.
        version: Of the space.
        digest: Of the space, as `space_digest` returns it.
        shape: `num_classes`, `in_channels`, `image_size` and `width` of the networks that were measured.
        metric_names: Of the columns of `metrics`.
        vectors: ConfigSpace's, (num_configurations, num_hyperparameters), of the configurations that were measured.
        metrics: (num_configurations, num_metrics).
        trunk: Weights and biases of the ensemble's two layers.
    """

    reference: str
    name: str
    version: str
    digest: str
    shape: dict[str, float]
    metric_names: tuple[str, ...]
    vectors: npt.NDArray[np.float64]
    metrics: npt.NDArray[np.float64]
    trunk: tuple[npt.NDArray[np.float32], ...]

    def to_bytes(self) -> bytes:
        """Return the content of the file."""
        from safetensors.numpy import save

        facts = {
            "format": FORMAT,
            "reference": self.reference,
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "shape": self.shape,
            "metric_names": list(self.metric_names),
        }
        trunk = {f"{_TRUNK}{number}": array for number, array in enumerate(self.trunk)}
        tensors = {_VECTORS: self.vectors, _METRICS: self.metrics, **trunk}
        contiguous = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        return bytes(save(contiguous, metadata={"naxcli": json.dumps(facts)}))

    @classmethod
    def from_bytes(cls, content: bytes, *, source: str) -> PreparedSpace:
        """Return what a file holds.

        Args:
            content: Of the file.
            source: What errors call it.

        Raises:
            NaxcliError: If it is no prepared space, or damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        try:
            tensors = load(content)
            facts = json.loads(_metadata(content)["naxcli"])
            is_ours = facts.pop("format") == FORMAT
            facts["metric_names"] = tuple(facts["metric_names"])
            if not all(isinstance(facts[name], str) for name in ("reference", "name", "version", "digest")):
                raise ValueError("what names its space is no text")
            if not all(isinstance(size, int | float) for size in dict(facts["shape"]).values()):
                raise ValueError("the sizes of its networks are no numbers")
            trunk = tuple(tensors[f"{_TRUNK}{number}"] for number in range(len(tensors) - 2))
            prepared = cls(**facts, vectors=tensors[_VECTORS], metrics=tensors[_METRICS], trunk=trunk)
        except (SafetensorError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise NaxcliError(
                f"{source} is no prepared space",
                why=str(error),
                hint="naxcli space prepare SPACE --out FILE writes one",
            ) from error
        if not is_ours:
            raise NaxcliError(f"{source} was written by another version of naxcli", hint="prepare the space again")
        return prepared

    @classmethod
    def read(cls, path: Path) -> PreparedSpace:
        """Return what a file holds.

        Raises:
            NaxcliError: If it cannot be read, or is no prepared space.
        """
        try:
            content = path.read_bytes()
        except OSError as error:
            raise NaxcliError(f"{path} cannot be read", why=error.strerror or str(error)) from error
        return cls.from_bytes(content, source=str(path))


def _metadata(content: bytes) -> dict[str, Any]:
    """Return the texts in the header of a safetensors file, which begins with the header's length in 8 bytes."""
    (length,) = struct.unpack("<Q", content[:8])
    metadata: dict[str, Any] = json.loads(content[8 : 8 + length]).get(_HEADER, {})
    return metadata
