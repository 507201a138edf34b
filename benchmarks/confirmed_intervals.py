"""How often the 95 % interval of a confirmed error rate holds its true mean, for few seeds, on simulated trainings.

    python benchmarks/confirmed_intervals.py

Seeds' error rates are drawn from beta distributions (mean and standard deviation in the first columns; the last two are as skewed as an
error rate near 0 gets). Prints, for Student's interval and for the logit interval that `naxcli confirm` uses, the share of simulations
whose interval holds the mean, and how many of Student's leave [0, 1]. The standard error of a share of 20,000 is 0.0015 at 0.95.
"""

from __future__ import annotations

import argparse

import numpy as np

from naxcli.analysis.winners import mean_interval

CASES = ((0.30, 0.005), (0.30, 0.03), (0.05, 0.005), (0.05, 0.02), (0.01, 0.005), (0.01, 0.01))
NUM_SEEDS = (2, 3, 5, 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=20_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    print("mean   std    seeds  Student  logit   Student's outside [0, 1]")
    for mean, std in CASES:
        total = mean * (1 - mean) / std**2 - 1
        for num_seeds in NUM_SEEDS:
            held, outside = {False: 0, True: 0}, 0
            for costs in rng.beta(mean * total, (1 - mean) * total, (arguments.simulations, num_seeds)):
                for is_error_rate in held:
                    low, high = mean_interval(costs, is_error_rate=is_error_rate)
                    held[is_error_rate] += low <= mean <= high
                    outside += not is_error_rate and not 0 <= low <= high <= 1
            student, logit, left = (count / arguments.simulations for count in (held[False], held[True], outside))
            print(f"{mean:.2f}   {std:.3f}  {num_seeds:5}    {student:.3f}  {logit:.3f}   {left:.3f}")


if __name__ == "__main__":
    main()
