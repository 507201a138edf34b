"""Spaces whose configurations say how they are trained: what is refused, and that each use of a configuration trains it so."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float

import naxcli.commands.confirm
from naxcli import Space
from naxcli.commands.bench import BenchCommand, Protocol, find_subjects, measure_subject
from naxcli.commands.confirm import ConfirmRequest, confirm
from naxcli.commands.select import select
from naxcli.commands.train_settings import TrainCommand, plan_training
from naxcli.errors import NaxcliError
from naxcli.export import ExportRequest
from naxcli.export.bundle import make_bundle
from naxcli.export.python import check, render
from naxcli.export.read_python import load_exported_file
from naxcli.measure.roofline import Ceilings
from naxcli.records.directory import RunDirectory
from naxcli.search.feasibility import Feasibility, NetworkShape
from naxcli.search_space.contract import load_space
from naxcli.search_space.recipe_choices import CHOOSABLE_SETTINGS, require_legal_choices, settings_always_chosen
from naxcli.settings.limits import Limits
from naxcli.settings.recipe import Recipe
from naxcli.workers.task import TrialTask
from tests.inline import InlinePool, search_inline

LINEAR = """
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition
from torch import nn

from naxcli import Space


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    loss = Categorical("recipe.loss", ["bce", "cross_entropy"], default="bce")
    smoothing = Categorical("recipe.label_smoothing", [0.1, 0.2], default=0.1)
    space.add(Categorical("bias", [False, True]), Categorical("recipe.learning_rate", [0.01, 0.03]), loss, smoothing)
    space.add(Categorical("recipe.resolution", [0, 6], default=6))
    space.add(EqualsCondition(smoothing, loss, "cross_entropy"))
    return space


def build(config, *, num_classes, in_channels, image_size, width=1.0):
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes, **config))


SPACE = Space(name="linear", configspace=configspace, build=build)
"""


def space_of(*hyperparameters: Any) -> Space:
    def configspace(seed: int | None = None) -> ConfigurationSpace:
        space = ConfigurationSpace(seed=seed)
        space.add(*hyperparameters)
        return space

    return Space(name="wrong", configspace=configspace, build=lambda config, **sizes: None)


@pytest.mark.parametrize(
    ("name", "choices", "what"),
    [
        ("recipe.lr", [0.1], "'recipe.lr'"),
        ("recipe.learning_rte", [0.1], "did you mean recipe.learning_rate?"),
        ("recipe.schedule", ["cosine", "constant"], "from which a checkpoint goes on at the next rung"),
        ("recipe.precision", ["float32", "bfloat16"], "how a machine computes"),
        ("recipe.epochs", [3, 9], "are those of the whole run"),
        ("recipe.width", [0.5, 1.0], "are those of the whole run"),
        ("recipe.optimizer", ["adamw", "adamx"], "recipe.optimizer = 'adamx'"),
        ("recipe.batch_size", [64.0, 128.0], "a whole number"),
        ("recipe.randaugment", [3, 7], "it must be text"),
        ("recipe.image_size", [16, 32], "are those of the whole run"),
        ("recipe.mixup", [0.0, -1.0], "recipe.mixup = -1.0"),
    ],
)
def test_a_choice_that_no_recipe_has_is_refused_when_the_space_is_read(
    name: str, choices: list[Any], what: str
) -> None:
    with pytest.raises(NaxcliError) as refused:
        space_of(Categorical(name, choices)).configuration_space()
    assert what in str(refused.value)
    if name.removeprefix("recipe.") not in CHOOSABLE_SETTINGS:
        assert "learning_rate, weight_decay" in refused.value.hint


def test_choices_are_checked_together_and_against_the_runs_recipe() -> None:
    rate = Float("recipe.learning_rate", (0.01, 0.1))
    lowest = Float("recipe.min_learning_rate", (1e-4, 0.05))
    with pytest.raises(NaxcliError, match=r"recipe.learning_rate = 0.01 and recipe.min_learning_rate = 0.05"):
        space_of(rate, lowest).configuration_space()
    space = space_of(rate).configuration_space()
    require_legal_choices(space, Recipe(), space_name="wrong")
    with pytest.raises(NaxcliError, match=r"recipe.learning_rate = 0.01"):
        require_legal_choices(space, Recipe(learning_rate=0.1, min_learning_rate=0.02), space_name="wrong")


def test_a_space_that_evaluates_by_itself_names_its_hyperparameters_as_it_likes() -> None:
    def configspace(seed: int | None = None) -> ConfigurationSpace:
        return ConfigurationSpace({"recipe.lr": (0.0, 1.0)}, seed=seed)

    space = Space(name="table", configspace=configspace, evaluate=lambda config, *, fidelity, seed: config["recipe.lr"])
    assert list(space.configuration_space()) == ["recipe.lr"]


def test_a_setting_that_some_configuration_leaves_to_the_run_can_be_set() -> None:
    loss, smoothing = Categorical("recipe.loss", ["bce", "cross_entropy"]), Float("recipe.label_smoothing", (0, 0.2))
    space = space_of(loss, smoothing, EqualsCondition(smoothing, loss, "cross_entropy")).configuration_space()
    assert settings_always_chosen(space) == ("recipe.loss",)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished search of the linear networks on digits, over half an epoch and one."""
    folder = tmp_path_factory.mktemp("choices")
    (folder / "linear.py").write_text(LINEAR)
    with pytest.MonkeyPatch.context() as monkeypatch:
        settings = {
            "data": "digits",
            "fidelity": "0.5:1:2",
            "trials": 8,
            "searcher": "smac",
            "searcher_model": "forest",
        }
        search_inline(folder / "linear.py", folder / "run", monkeypatch, **settings)
    yield folder / "run"


def space_file(run: Path) -> str:
    return str(run.parent / "linear.py")


def test_each_trial_trains_by_its_own_choices_and_a_promoted_one_goes_on_with_them(run: Path) -> None:
    with sqlite3.connect(run / "search.db") as connection:
        rows = connection.execute(
            "SELECT config, status, learning_rate, parent_trial_id, error FROM trials JOIN curves USING (trial_id)"
        ).fetchall()
    assert [(status, error) for _, status, _, _, error in rows] == [("success", None)] * 8
    # The curve has the rate of the last step, which is a share of the highest.
    rates: dict[float, set[float]] = {}
    for config, _, rate, _, _ in rows:
        rates.setdefault(json.loads(config)["recipe.learning_rate"], set()).add(rate)
    assert set(rates) == {0.01, 0.03} and max(rates[0.01]) < min(rates[0.03])
    assert any(parent is not None for _, _, _, parent, _ in rows)


def test_the_network_is_built_for_the_resolution_that_its_configuration_chooses(run: Path) -> None:
    with sqlite3.connect(run / "search.db") as connection:
        rows = connection.execute("SELECT config, num_params FROM trials").fetchall()
    configs = [(json.loads(config), num_params) for config, num_params in rows]
    assert {config["recipe.resolution"] for config, _ in configs} == {0, 6}
    for config, num_params in configs:
        assert num_params == 10 * ((config["recipe.resolution"] or 8) ** 2 + config["bias"])
    shape = NetworkShape(num_classes=10, in_channels=1, image_size=8)
    allows = Feasibility(load_space(space_file(run)), Limits(max_params=500), width=1.0, shape=shape)
    assert all(allows(config) is (config["recipe.resolution"] == 6) for config, _ in configs)


def test_an_export_says_which_recipe_trained_the_network_and_gives_its_code_the_network_alone(
    run: Path, tmp_path: Path
) -> None:
    selection = select(run=str(run), trial="best", config=None, space=space_file(run))
    recipe = selection.provenance["recipe"]
    chosen = {name: value for name, value in selection.config.items() if name.startswith("recipe.")}
    assert {f"recipe.{name}": value for name, value in recipe.items()}.items() >= chosen.items()
    assert recipe["schedule"] == "warmup_stable_decay" and recipe["batch_size"] == 64
    assert selection.image_size == (chosen["recipe.resolution"] or 8)
    request = ExportRequest(
        space=selection.space,
        config=selection.config,
        format="python",
        out=tmp_path,
        num_classes=10,
        in_channels=1,
        image_size=selection.image_size or 0,
        name="trained_linear",
    )
    file = tmp_path / "trained_linear.py"
    file.write_text(render(request, make_bundle(request)))
    assert "and the configuration's own choices" in file.read_text()
    assert f"--lr {chosen['recipe.learning_rate'] * 100:g}e-2" in file.read_text()
    loaded = load_exported_file(file)
    assert loaded.config == selection.config and loaded.space.default_config() == selection.config


def test_a_final_training_and_a_confirmation_train_by_the_configurations_choices(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command: dict[str, Any] = {"run": str(run), "space": space_file(run), "out": str(tmp_path / "trained")}
    plan = plan_training(TrainCommand(**command))
    assert plan.experiment.recipe.resolution == plan.selection.config["recipe.resolution"]
    rate = plan.selection.config["recipe.learning_rate"]
    assert plan.settings["recipe"]["learning_rate"] == rate and plan.settings["recipe"]["schedule"] == "cosine"
    with pytest.raises(NaxcliError, match=r"recipe.learning_rate never counts here") as refused:
        plan_training(TrainCommand(**command, assignments=["recipe.learning_rate=0.5"]))
    assert "--config FILE" in refused.value.hint
    tasks: list[TrialTask] = []

    def note(pool: Any, given: Iterator[TrialTask]) -> list[Any]:
        tasks.extend(given)
        return []

    monkeypatch.setattr(naxcli.commands.confirm, "WorkerPool", InlinePool)
    monkeypatch.setattr(naxcli.commands.confirm, "run_tasks", note)
    monkeypatch.setattr(naxcli.commands.confirm, "_verdict", lambda *_: {"sentence": ""})
    confirm(RunDirectory(path=run), ConfirmRequest(num_seeds=1, space=space_file(run)), lambda *_: None)
    assert len(tasks) >= 3
    for task in tasks:
        assert task.recipe is not None and task.recipe.learning_rate == task.config["recipe.learning_rate"]
        assert task.recipe.label_smoothing == task.config.get("recipe.label_smoothing", 0.0)  # inactive: the run's


def test_a_bench_measures_the_training_step_that_the_configuration_chooses(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = find_subjects(BenchCommand(run=str(run), space=space_file(run)))[0]
    assert subject.build is not None
    steps: list[Recipe] = []

    def note(network: Any, recipe: Recipe, device: Any) -> Any:
        steps.append(recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr("naxcli.commands.bench.EagerStep", note)
    with pytest.raises(KeyboardInterrupt):
        measure_subject(
            subject,
            Protocol(
                device=torch.device("cpu"),
                recipe=Recipe(),
                batch_size=2,
                repetitions=1,
                ceilings=Ceilings(bytes_per_second=1.0, flops_per_second=1.0),
            ),
            ["training"],
        )
    assert steps[0].loss == subject.config["recipe.loss"] and steps[0].learning_rate < 1e-5


def test_a_search_refuses_to_set_what_every_configuration_chooses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = tmp_path / "linear.py"
    space.write_text(LINEAR)
    with pytest.raises(NaxcliError, match=r"recipe.learning_rate never counts here"):
        search_inline(space, tmp_path / "run", monkeypatch, data="digits", trials=1, **{"recipe.learning_rate": 0.5})
    with pytest.raises(NaxcliError, match=r"recipe.learning_rate = 0.01 is a choice of space 'linear'"):
        search_inline(
            space, tmp_path / "run", monkeypatch, data="digits", trials=1, **{"recipe.min_learning_rate": 0.02}
        )
    assert not (tmp_path / "run").exists()


def test_the_shipped_example_has_the_networks_of_nexception_and_the_papers_recipe() -> None:
    space, networks = load_space("nexception_recipe"), load_space("nexception")
    configuration_space = space.configuration_space()
    assert set(configuration_space) > set(networks.configuration_space())
    for config in space.legal_references(configuration_space):
        trained = Recipe(learning_rate=1.0, mixup=0.0, drop_path=0.5, randaugment="").with_choices(config)
        assert trained == Recipe()
    # The code of a Python export is cut out of the file that the networks come from.
    sizes: dict[str, Any] = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    config = space.default_config()
    for variant in ("reduced", "T"):
        check(ExportRequest(space=space, config=config, format="python", out=Path("out"), variant=variant, **sizes))
