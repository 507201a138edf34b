from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from naxcli.errors import NaxcliError
from naxcli.settings.experiment import Experiment, as_recorded, differences, from_settings
from naxcli.settings.fidelity import FidelityRange
from naxcli.settings.sources import resolve


def settings(**flags: Any) -> Experiment:
    assignments = flags.pop("assignments", ())
    environment = flags.pop("environment", {})
    stored = flags.pop("stored", None)
    experiment_file = flags.pop("experiment_file", None)
    return resolve(
        flags={"space": "nexception", **flags},
        assignments=assignments,
        environment=environment,
        stored=stored,
        experiment_file=experiment_file,
        has_networks=True,
    )


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text("seed = 1\nwidth = 0.1\nvalidation_fraction = 0.3\n[recipe]\nlearning_rate = 0.5\nmixup = 0.7\n")
    found = settings(
        seed=3,
        experiment_file=str(file),
        environment={"NAXCLI_SEED": "2", "NAXCLI_WIDTH": "0.2", "NAXCLI_RECIPE__MIXUP": "0.6"},
    )
    assert (found.seed, found.width, found.validation_fraction) == (3, 0.2, 0.3)
    assert (found.recipe.learning_rate, found.recipe.mixup, found.recipe.batch_size) == (0.5, 0.6, 256)


def test_set_reaches_every_setting_and_converts_text() -> None:
    found = settings(
        assignments=["recipe.learning_rate=1e-3", "limits.max_params=5M", "data=digits", "recipe.channels_last=false"]
    )
    assert found.recipe.learning_rate == 1e-3
    assert found.limits.max_params == 5e6
    assert found.data == "digits"
    assert found.recipe.channels_last is False


@pytest.mark.parametrize(
    "assignment",
    [
        "nonsense=1",
        "recipe.nonsense=1",
        "recipe=3",
        "seed=often",
        "seed",
        "=3",
        "recipe.learning_rate=-1",
        "searcher=best",
        "width=0",
    ],
)
def test_a_wrong_setting_is_refused(assignment: str) -> None:
    with pytest.raises(NaxcliError):
        settings(assignments=[assignment])


def test_an_unknown_environment_variable_is_refused_by_name() -> None:
    with pytest.raises(NaxcliError, match="NAXCLI_SEDE"):
        settings(environment={"NAXCLI_SEDE": "2"})


def test_epochs_and_fidelity_replace_each_other_across_sources(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text('fidelity = "3:27:3"\n')
    assert settings(experiment_file=str(file)).fidelity.rungs() == (3.0, 9.0, 27.0)
    assert settings(experiment_file=str(file), epochs=5).fidelity == FidelityRange(min=5, max=5)


def test_a_fidelity_that_is_no_ladder_names_the_nearest() -> None:
    with pytest.raises(NaxcliError) as refused:
        settings(fidelity="3:30:3")
    assert "3:27:3" in refused.value.hint and "3:81:3" in refused.value.hint


def test_several_objectives_with_several_fidelities_are_refused_with_the_reason() -> None:
    with pytest.raises(NaxcliError) as refused:
        settings(objective="cost,flops", fidelity="3:27:3")
    assert "unsound" in refused.value.why


def test_settings_survive_the_file() -> None:
    import tomllib

    first = settings(fidelity="3:27:3", budget="3d", objective="cost", **{"limits.max_params": "5M"})
    assert from_settings(tomllib.loads(first.to_toml())) == first


def test_differences_leave_out_what_may_change() -> None:
    first = settings(seed=1, budget="3d")
    assert differences(first, settings(seed=1, budget="5d", workers=4, assignments=["kernels=off"])) == []
    assert [name for name, _, _ in differences(first, settings(seed=2, budget="3d"))] == ["seed"]


def test_stored_settings_take_the_place_of_defaults() -> None:
    first = settings(seed=7, width=0.5, budget="3d")
    assert settings(stored=first.to_settings(), budget="5d").seed == 7


def test_a_space_without_networks_has_no_data() -> None:
    assert resolve(flags={"space": "x.py"}, has_networks=False, environment={}).data is None


@pytest.mark.parametrize("source", ["run", "file"])
def test_a_cluster_that_only_a_file_names_is_refused(source: str, tmp_path: Path) -> None:
    """A run or an experiment file may be a stranger's: a job script, or pickles from a scheduler, would run code."""
    file = tmp_path / "study.toml"
    file.write_text('cluster = "slurm:evil.toml"')
    sources: dict[str, Any] = (
        {"experiment_file": str(file)} if source == "file" else {"stored": {"cluster": "slurm:evil.toml"}}
    )
    with pytest.raises(NaxcliError, match=r"slurm:evil\.toml") as error:
        resolve(flags={"space": "nexception"}, **sources)
    assert "--cluster slurm:evil.toml" in error.value.hint
    assert resolve(flags={"space": "nexception", "cluster": "local"}, **sources).cluster is None
    assert resolve(flags={"space": "nexception", "cluster": "tls://a:1"}, **sources).cluster == "tls://a:1"


def test_rungs_branch_from_a_trunk_unless_the_whole_schedule_is_asked_for() -> None:
    rungs = settings(fidelity="1:9:3", assignments=["recipe.decay_fraction=0.25"])
    assert (rungs.trial_recipe().schedule, rungs.continued_share()) == ("warmup_stable_decay", 0.75)
    assert rungs.trial_recipe().warmup_epochs == pytest.approx(0.2)  # a fifth of the lowest rung
    assert rungs.recipe.schedule == "cosine"  # of confirmation and final training
    whole = settings(fidelity="1:9:3", assignments=["rung_schedule=whole"])
    single = settings(epochs=9)
    for experiment in (whole, single):
        assert (experiment.trial_recipe(), experiment.continued_share()) == (experiment.recipe, 1.0)
    with pytest.raises(NaxcliError, match="rung_schedule"):
        settings(fidelity="1:9:3", assignments=["rung_schedule=steps"])


def test_a_run_from_before_a_setting_was_recorded_goes_on_as_it_was() -> None:
    """Neither another model nor references may come into the middle of a search; new runs and users' files get the defaults."""
    old = as_recorded({"space": "nexception", "data": "cifar100", "searcher": "smac"})
    assert (from_settings(old).searcher_model, from_settings(old).references) == ("forest", False)
    resumed = settings(stored=old)
    assert (resumed.searcher_model, resumed.references) == ("forest", False)
    assert differences(from_settings(old), resumed) == []
    new = settings()
    assert (new.searcher_model, new.references) == ("gp", True)
    again = from_settings(as_recorded(new.to_settings()))
    assert (again.searcher_model, again.references) == ("gp", True)


def test_a_run_goes_on_promoting_as_it_began() -> None:
    recorded = {"space": "nexception", "data": "cifar100"}
    assert from_settings(recorded).promotion == "tapered"
    assert from_settings(as_recorded(recorded)).promotion == "hyperband", "from before it was recorded"
    assert from_settings(as_recorded({**recorded, "promotion": "halving"})).promotion == "halving"


def test_evolution_has_the_papers_population_where_the_trials_allow_it() -> None:
    def of(**flags: Any) -> tuple[int | None, int | None]:
        found = settings(searcher="evolution", **flags)
        return found.evolution_population, found.evolution_sample

    assert of() == of(budget="3d") == of(trials=400) == (100, 25)
    assert of(trials=200, budget_evaluations=1000.0) == of(budget_evaluations=200.0) == (50, 12)
    assert of(trials=3) == (10, 2)
    assert of(evolution_population=20) == (20, 5)
    assert of(evolution_population=20, evolution_sample=7, trials=10) == (20, 7)
    assert (settings().evolution_population, settings().evolution_sample) == (None, None)
    assert of(trials=40, evolution_sample=30) == (30, 30)
    for unfit in ({"evolution_sample": 0}, {"evolution_sample": 11, "evolution_population": 10}):
        with pytest.raises(NaxcliError, match="evolution_sample"):
            of(trials=40, **unfit)


def test_a_run_of_evolution_keeps_its_population_when_it_is_extended() -> None:
    begun = settings(searcher="evolution", trials=80)
    extended = settings(stored=as_recorded(begun.to_settings()), trials=800)
    assert (extended.evolution_population, differences(begun, extended)) == (20, [])
    old = as_recorded({"space": "nexception", "data": "digits", "searcher": "evolution", "trials": 80})
    assert (from_settings(old).evolution_population, from_settings(old).evolution_sample) == (50, 12)


def test_a_prior_is_its_content_and_not_its_file(tmp_path: Path) -> None:
    """So that a run goes on as it began when the file is gone, and another prior is another setting."""
    file = tmp_path / "prior.toml"
    file.write_text('confidence = "high"\n[hyperparameters]\nblock = { xception = 3 }\nse = { "0.5" = 2 }\n')
    first = settings(prior=str(file))
    recorded = tomllib.loads(first.to_toml())
    assert recorded["prior"]["hyperparameters"] == {"block": {"xception": 3.0}, "se": {"0.5": 2.0}}
    file.unlink()
    assert settings(stored=recorded).prior == first.prior
    assert settings(prior=recorded["prior"]).prior == first.prior
    other = settings(stored=recorded, prior={"hyperparameters": {"block": {"xception": 4}}})
    assert [name for name, _, _ in differences(first, other)] == [
        "prior.confidence",
        "prior.hyperparameters.block.xception",
        "prior.hyperparameters.se.0.5",
    ], "one prior takes the place of the other as a whole"


def test_a_prior_may_name_a_hyperparameter_with_a_point_as_toml_writes_it() -> None:
    table = tomllib.loads("hyperparameters.recipe.mixup = { centre = 0.1, width = 0.2 }")
    found = settings(prior=table)
    assert found.prior is not None
    assert found.prior.hyperparameters == {"recipe.mixup": {"centre": 0.1, "width": 0.2}}
    assert settings(stored=tomllib.loads(found.to_toml())).prior == found.prior


def test_what_a_search_starts_from_is_one_path_or_several() -> None:
    assert settings().warm_start == () and settings(warm_start="runs/a").warm_start == ("runs/a",)
    both = settings(warm_start=["runs/a", Path("b.csv")])
    assert both.warm_start == ("runs/a", "b.csv")
    assert settings(stored=tomllib.loads(both.to_toml())).warm_start == both.warm_start
    assert [name for name, _, _ in differences(settings(), both)] == ["warm_start"]
    with pytest.raises(NaxcliError, match="warm_start"):
        settings(warm_start=3)


@pytest.mark.parametrize("knowledge", [{"warm_start": "runs/a"}, {"prior": {"reference": "nexception"}}])
@pytest.mark.parametrize("searcher", ["random", "evolution", "ensemble"])
def test_only_smac_starts_from_what_is_known(searcher: str, knowledge: dict[str, Any]) -> None:
    with pytest.raises(NaxcliError, match=f"{searcher} makes no use of --(from|prior)"):
        settings(searcher=searcher, **knowledge)
