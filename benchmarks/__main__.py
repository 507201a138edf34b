"""`make bench`: every measurement that a machine without a GPU can make, one after another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# Run by name: no measurements of their own, or in need of a data set or of hours.
LEFT_OUT = {
    "__init__",
    "__main__",
    "gpu",
    "gpu_facts",
    "gpu_profile",
    "gpu_study",
    "importance_coverage",
    "multi_fidelity",
    "nat_ablations",
    "one_more_day",
    "results",
    "rung_schedules",
    "spaces_lcbench",
    "spaces_nas_bench_macro",
    "timm_baseline",
    "training_accuracy",
}


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem in LEFT_OUT:
            continue
        print(f"\n== {path.stem}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{path.stem}"], check=False)


if __name__ == "__main__":
    main()
