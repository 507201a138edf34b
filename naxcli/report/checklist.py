"""The NAS best-practice checklist, answered from the records of one run.

Source: Lindauer and Hutter, "Best Practices for Scientific Research on Neural Architecture Search", JMLR 21(243), 2020; the questions
are shortened. An answer is `yes` only where the records prove it; what they cannot know is `not recorded`, for the author to fill in.
"""

from __future__ import annotations

from dataclasses import dataclass

from naxcli.report.data import ReportData
from naxcli.report.section import MARKDOWN, PAGE, Column, Table
from naxcli.report.text import counted, is_missing, plain
from naxcli.settings.units import format_duration

YES, PARTLY, NO, UNKNOWN, NOT_APPLICABLE = "yes", "partly", "no", "not recorded", "does not apply"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChecklistItem:
    """One question of the checklist with its answer and the evidence for it."""

    part: str
    question: str
    answer: str
    evidence: str


def answers(data: ReportData) -> list[ChecklistItem]:
    """Return the checklist filled in."""
    parts = {
        "Releasing code": (
            ("Code of the training pipeline that evaluates the final networks", _code(data)),
            ("Code of the search space", _space(data)),
            ("Hyperparameters and seeds of the final evaluation", _final_evaluation(data)),
            ("Code of the search method", _code(data)),
            ("Hyperparameters and seeds of the search method", _search_settings(data)),
        ),
        "Comparing methods": (
            (
                "Same data split, search space, training code and its hyperparameters for every method",
                _same_benchmark(data),
            ),
            ("Confounders controlled: hardware, library versions, run times", _confounders(data)),
            ("Ablation studies", _ablation(data)),
            ("Same evaluation protocol for every method", _protocol(data)),
            ("Performance compared over time", _over_time(data)),
            ("Compared with random search", _random(data)),
            ("Several runs of the search, with their seeds", _several_runs(data)),
            ("Tabular or surrogate benchmarks for in-depth evaluation", _benchmarks(data)),
        ),
        "Reporting details": (
            (
                "How hyperparameters were tuned, and what it took",
                (UNKNOWN, "tuning outside this run leaves no trace in its records"),
            ),
            ("Time of the whole method, end to end", _time(data)),
            ("All details of the experimental setup", _setup(data)),
        ),
    }
    return [
        ChecklistItem(part=part, question=question, answer=answer, evidence=evidence)
        for part, questions in parts.items()
        for question, (answer, evidence) in questions
    ]


def table(data: ReportData) -> Table:
    """Return the checklist as a table."""
    return Table(
        name="nas-checklist",
        caption="NAS best practices (Lindauer & Hutter, 2020), answered from the records",
        columns=[
            Column(title="Part", text=lambda row: row["part"], is_minor=True),
            Column(title="Question", text=lambda row: row["question"]),
            Column(
                title="Answer",
                text=lambda row: row["answer"],
                is_marked=lambda row: row["answer"] in {NO, UNKNOWN, PARTLY},
            ),
            Column(title="Evidence", text=lambda row: row["evidence"]),
        ],
        rows=[
            {"part": answer.part, "question": answer.question, "answer": answer.answer, "evidence": answer.evidence}
            for answer in answers(data)
        ],
        note="'Not recorded' is for the author to answer: a run's files cannot know it.",
        on=MARKDOWN | PAGE,
    )


def _commit(data: ReportData) -> str | None:
    commit = (data.environment.get("git") or {}).get("commit")
    return None if commit is None else str(commit)


def _version(data: ReportData) -> str | None:
    version = (data.environment.get("packages") or {}).get("naxcli")
    return None if version is None else str(version)


def _changed(data: ReportData) -> set[str]:
    """Return what sessions of the run had otherwise than those before them."""
    return {name for session in data.environment.get("changes", ()) for name in session["changed"]}


def _code(data: ReportData) -> tuple[str, str]:
    commit, version = _commit(data), _version(data)
    changed = [name for name in ("commit", "naxcli") if name in _changed(data)]
    if changed:
        return PARTLY, f"the run went on with another {' and '.join(changed)} (changes in environment.json)"
    if commit and _is_dirty(data):
        return PARTLY, f"commit {commit[:12]} with uncommitted changes, which are kept with the run"
    if commit:
        return YES, f"commit {commit[:12]}, naxcli {version or 'of unknown version'}"
    return (YES, f"naxcli {version}") if version else (UNKNOWN, "the environment names neither a commit nor a version")


def _is_dirty(data: ReportData) -> bool:
    return bool((data.environment.get("git") or {}).get("patch"))


def _space(data: ReportData) -> tuple[str, str]:
    return PARTLY, f"space.json of the run holds the configurations of {data.space}; publish the space's file with it"


def _final_evaluation(data: ReportData) -> tuple[str, str]:
    if data.confirmed is None or data.confirmed.get("winner") is None:
        return NO, "the final networks were not evaluated: naxcli confirm has no verdict yet"
    return YES, "confirmation.json holds the seeds, experiment.toml the recipe"


def _search_settings(data: ReportData) -> tuple[str, str]:
    seed = data.experiment.get("seed")
    return (YES, f"experiment.toml; seed {plain(seed)}") if seed is not None else (UNKNOWN, "no settings were found")


def _same_benchmark(data: ReportData) -> tuple[str, str]:
    methods = data.searchers
    if len(methods) < 2:
        return NOT_APPLICABLE, "one search method ran"
    return YES, f"{' and '.join(methods)} shared this run's split, space, recipe and code"


def _confounders(data: ReportData) -> tuple[str, str]:
    devices = sorted(map(str, data.trials["device"].dropna().unique())) if "device" in data.trials else []
    has_versions = bool(data.environment.get("packages"))
    if not devices or not has_versions:
        return UNKNOWN, "device of the trials or library versions are missing"
    kinds = {device.partition(":")[0] for device in devices}
    recorded = "library versions and each trial's device and seconds are recorded"
    changed = sorted(_changed(data) - {"commit"})
    if changed:
        return PARTLY, f"the run went on with another {' and '.join(changed)} (changes in environment.json); {recorded}"
    return (
        (YES, f"one kind of device ({', '.join(kinds)}); {recorded}")
        if len(kinds) == 1
        else (PARTLY, f"{', '.join(devices)}; {recorded}")
    )


def _ablation(data: ReportData) -> tuple[str, str]:
    if any(entry.get("ablation") for entry in data.importance):
        return (
            PARTLY,
            "an ablation path of the network's choices, predicted by the forest; none of the search method's parts",
        )
    return NO, "too few trials for an ablation path"


def _protocol(data: ReportData) -> tuple[str, str]:
    if len(data.searchers) < 2:
        return NOT_APPLICABLE, "one search method ran"
    return YES, "every trial's cost is measured on the same validation split at the recorded fidelity"


def _over_time(data: ReportData) -> tuple[str, str]:
    if not data.listed("trajectory"):
        return NO, "no trial has succeeded"
    if len(data.searchers) < 2:
        return PARTLY, "cost over time is shown for one method"
    return PARTLY, "cost over time is shown for the run; naxcli compare sets two runs side by side"


def _random(data: ReportData) -> tuple[str, str]:
    arm = data.summary.get("random_arm")
    if not arm:
        return NO, "no random baseline ran (--random-share)"
    return YES, f"{counted(arm.get('num_random'), 'random trial')} in this run; {arm.get('verdict') or 'no verdict'}"


def _several_runs(data: ReportData) -> tuple[str, str]:
    seed = data.summary.get("seed")
    known = "" if is_missing(seed) else f", seed {plain(seed)}"
    return NO, f"this report covers one run{known}; repeat it with other seeds and naxcli compare"


def _benchmarks(data: ReportData) -> tuple[str, str]:
    if data.experiment.get("data") is None and data.experiment:
        return PARTLY, "the space evaluates by itself (evaluate=); whether that is a public benchmark is not recorded"
    return NO, "every cost of this run is a training run"


def _time(data: ReportData) -> tuple[str, str]:
    if "seconds" not in data.trials or not data.trials["seconds"].notna().any():
        return UNKNOWN, "no trial has finished"
    spent = format_duration(float(data.trials["seconds"].fillna(0).sum()))
    if data.confirmed is not None:
        return (
            PARTLY,
            f"search: {spent} of trials; confirmation is in confirmation.json; full-size training is not part of the run",
        )
    return PARTLY, f"search: {spent} of trials; retraining the best network is not part of the run"


def _setup(data: ReportData) -> tuple[str, str]:
    missing = [
        name
        for name, value in (("experiment.toml", data.experiment), ("environment.json", data.environment))
        if not value
    ]
    if missing:
        return UNKNOWN, f"empty: {', '.join(missing)}"
    return (
        YES,
        "experiment.toml (settings), environment.json (versions, hardware, data hash), space.json, search.db (every trial)",
    )
