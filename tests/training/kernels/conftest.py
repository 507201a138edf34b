"""The kernels' own tests run in Triton's interpreter, which has to be chosen before anything imports triton.

`tests/training/test_kernels.py` runs them so, in a process of their own; by hand: `TRITON_INTERPRET=1 pytest tests/training/kernels`.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
