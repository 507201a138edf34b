"""Two runs side by side."""

from __future__ import annotations

from typing import Any

from naxcli.analysis import compare as analysis
from naxcli.commands.report import ReportRequest, report_run
from naxcli.records.directory import RunDirectory
from naxcli.search_space.recorded import read_space


def compare_runs(first: RunDirectory, second: RunDirectory, *, bootstrap: int = 0, seed: int = 0) -> dict[str, Any]:
    """Return two runs side by side: settings that differ, anytime curves, importance, and a verdict.

    Args:
        first: Directory of a run.
        second: Directory of the run it is compared with.
        bootstrap: Number of draws behind the intervals of importance; 0 gives none.
        seed: Random seed of forests and draws.

    Returns:
        What `naxcli compare --json` prints, as `naxcli.analysis.compare.compare_runs` describes it.

    Raises:
        NaxcliError: If a run cannot be read.
    """
    request = ReportRequest(methods=("lpi", "fanova"), bootstrap=bootstrap, seed=seed)
    return analysis.compare_runs(_side(first, request), _side(second, request), seed=seed)


def _side(run: RunDirectory, request: ReportRequest) -> analysis.Run:
    data = report_run(run, request)
    return analysis.Run(
        name=str(run.path),
        frame=data.trials,
        configuration_space=read_space(run.space_file),
        settings=data.experiment,
        summary=data.summary,
        continues=data.experiment.get("data") is not None,
    )
