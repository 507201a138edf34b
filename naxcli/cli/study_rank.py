"""`naxcli study rank`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from naxcli.cli import options
from naxcli.cli.study_progress import StudyProgress
from naxcli.errors import NaxcliError


def register(app: typer.Typer) -> None:
    app.command("rank")(rank)


def rank(
    run: Annotated[
        str | None,
        typer.Option("--run", help="Instead: the nuclear norm of the final features of this run's trained networks."),
    ] = None,
    networks: Annotated[int | None, typer.Option("--networks", help="Random sizes of layers. Default: 1000.")] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance", help="Share of the largest singular value below which another counts as zero. Default: 0.01."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of the random layers. Default: 0.")] = None,
    space: options.CodeOption = None,
    data_root: Annotated[
        str | None, typer.Option("--data-root", help="Folder of the data sets, where it is not the run's.")
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="auto, cpu or cuda, for --run. Default: auto.")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Measure the rank of random layers' features, and say where ReXNet's paper is confirmed; or a run's nuclear norms and accuracy."""
    from naxcli.cli.output import print_json, stdout_console
    from naxcli.commands.study_rank import RankRequest, study_checkpoints, study_random_layers
    from naxcli.records.directory import open_run

    of_layers = {"--networks": networks, "--tolerance": tolerance, "--seed": seed}
    of_run = {"--space": space, "--data-root": data_root, "--device": device}
    _refuse_those_of_the_other_study(of_run if run is None else of_layers, is_of_run=run is None)
    with StudyProgress("networks", is_quiet=False, keeps_stdout=as_json) as progress:
        if run is None:
            request = RankRequest(
                num_networks=1000 if networks is None else networks,
                tolerance=tolerance,
                seed=seed or 0,
            )
            found = study_random_layers(request, progress.update)
        else:
            found = study_checkpoints(
                open_run(run), space=space, data_root=data_root, device=device or "auto", on_progress=progress.update
            )
    if as_json:
        print_json(found)
        return
    for shown in _random_layers(found) if run is None else _checkpoints(found):
        stdout_console().print(shown)


def _refuse_those_of_the_other_study(options_of_it: Mapping[str, Any], *, is_of_run: bool) -> None:
    given = [name for name, value in options_of_it.items() if value is not None]
    if not given:
        return
    what = f"{' and '.join(given)} {'is' if len(given) == 1 else 'are'}"
    if is_of_run:
        raise NaxcliError(f"{what} of a run's networks", hint="name the run with --run DIR")
    raise NaxcliError(f"{what} of the study of random layers", hint="leave out --run, or these options")


def _random_layers(found: Mapping[str, Any]) -> list[Any]:
    """Return the tables of the study of random layers."""
    from rich.table import Table

    parts = list(dict.fromkeys((row["from"], row["to"]) for row in found["rank_ratios"]))
    parts.sort()
    ratios = Table(
        title=f"Rank ratio of {found['num_networks']:,} random layers, by d_in / d_out; tolerance {found['tolerance']:g}",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for title in ("layer", "activation", *(f"{low:g} to {high:g}" for low, high in parts)):
        ratios.add_column(title, justify="left" if title in ("layer", "activation") else "right")
    rows: dict[tuple[str, str], dict[tuple[float, float], str]] = {}
    for row in found["rank_ratios"]:
        spread = "" if row["std"] is None else f" ± {row['std']:.2f}"
        rows.setdefault((row["layer"], row["activation"]), {})[row["from"], row["to"]] = f"{row['mean']:.3f}{spread}"
    for names, cells in rows.items():
        ratios.add_row(*names, *(cells.get(part, "–") for part in parts))
    deviation = f"Layers without an activation differ from the ratio of their dimensions by at most {found['linear_deviation']:g}."
    by_claim: dict[str, list[Mapping[str, Any]]] = {}
    for claim in found["claims"]:
        by_claim.setdefault(claim["says"], []).append(claim)
    return [ratios, deviation, "", *(_claim(says, verdicts) for says, verdicts in by_claim.items())]


def _claim(says: str, verdicts: list[Mapping[str, Any]]) -> Any:
    from rich.table import Table

    table = Table(title=f"Han et al.: {says}?", title_justify="left", box=None, header_style="bold")
    others = [f"at {other['tolerance']:g}" for other in verdicts[0]["at_other_tolerances"]]
    for title in ("layer", "measured", "verdict", *others):
        table.add_column(title)
    for claim in verdicts:
        decided_by = f" ({claim['activation']})" if claim["activation"] and claim["mean"] is not None else ""
        table.add_row(
            claim["layer"],
            _interval(claim) + decided_by,
            claim["verdict"],
            *(other["verdict"] for other in claim["at_other_tolerances"]),
        )
    return table


def _checkpoints(found: Mapping[str, Any]) -> list[Any]:
    """Return the tables of the study of a run's networks."""
    from rich.table import Table

    trials = Table(
        title=f"Final features of {found['num_images']:,} validation images",
        title_justify="left",
        box=None,
        header_style="bold",
    )
    for title in ("trial", "fidelity", "accuracy", "features", "nuclear norm", "share of the largest"):
        trials.add_column(title, justify="right")
    for row in found["trials"]:
        trials.add_row(
            str(row["trial_id"]),
            f"{row['fidelity']:g}",
            f"{100 * row['val_accuracy']:.2f} %",
            str(row["num_features"]),
            f"{row['nuclear_norm']:.3f}",
            f"{row['nuclear_norm_share']:.3f}",
        )
    correlations = Table(title="Rank correlation with accuracy", title_justify="left", box=None, header_style="bold")
    for title in ("number", "trials", "Spearman and its 95 % interval"):
        correlations.add_column(title)
    for row in found["correlations"]:
        correlations.add_row(row["name"].replace("_", " "), str(row["num_trials"]), _interval(row))
    return [trials, "", correlations]


def _interval(numbers: Mapping[str, Any]) -> str:
    if numbers["mean"] is None:
        return "n/a"
    return f"{numbers['mean']:+.3f} [{numbers['low']:+.3f}, {numbers['high']:+.3f}]"
