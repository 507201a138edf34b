"""Images and labels as NumPy arrays, and what identifies them."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]  # (n, channels, size, size)
Labels = npt.NDArray[np.int64]  # (n,)


def hash_of(*parts: npt.NDArray[Any] | str) -> str:
    """Return 16 hexadecimal characters that identify arrays and texts."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        if isinstance(part, str):
            digest.update(part.encode())
        else:
            digest.update(f"{part.dtype}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()
