"""`naxcli train`: the final training, its folder, and how it resumes."""

from __future__ import annotations

import csv
import json
import shlex
import signal
import socket
import subprocess
import sys
import time
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from naxcli.commands.select import select
from naxcli.commands.train import TrainingEnd, _prepare_folder, run_training
from naxcli.commands.train_settings import TrainCommand, TrainingPlan, decided_again, plan_training
from naxcli.data.dataset import load_dataset
from naxcli.errors import ExitCode, NaxcliError
from naxcli.export import ExportRequest, export_network
from naxcli.export.config import read_config
from naxcli.export.read_python import import_file
from naxcli.records.trial import EpochRecord
from naxcli.search_space.contract import load_space, spaces_folder
from naxcli.search_space.networks import build_network
from naxcli.settings.recipe import IMAGENET_RECIPE, Recipe
from naxcli.training.checkpoint import load_weights
from tests.command_line import ENVIRONMENT, naxcli, naxcli_process, start

OWN_NAMES = """
from ConfigSpace import Categorical, ConfigurationSpace
from naxcli import Space

def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("width", [4, 8]), Categorical("epochs", [1, 2]), Categorical("recipe.mixup", [0.0, 0.1]))
    return space

def build(config, *, num_classes, in_channels, image_size, width=1.0):
    from torch import nn
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))

SPACE = Space(name="own", configspace=configspace, build=build)
"""

# A small network and a seventh of the digits: about a second an epoch.
SMALL = ("--config", "nexception:xception", "--data", "digits", "--width", "0.03", "--device", "cpu")
ASSIGNMENTS = ("recipe.batch_size=128",)


class Silent:
    """A display that keeps what it is told."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.records: list[EpochRecord] = []
        self.done: list[EpochRecord] = []
        self.notices: list[str] = []
        self.stop_after = stop_after

    def started(self, plan: TrainingPlan, facts: Mapping[str, Any], done: Sequence[EpochRecord]) -> None:
        self.done = list(done)

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def step(self, epochs_done: float) -> None:
        pass

    def epoch(self, record: EpochRecord) -> None:
        self.records.append(record)
        if len(self.records) == self.stop_after:
            signal.raise_signal(signal.SIGINT)


def command(out: Path, **changes: Any) -> TrainCommand:
    flags = {"data": "digits", "width": 0.03, "seed": 3, **changes.pop("flags", {})}
    values = {
        "config": "nexception:xception",
        "flags": flags,
        "assignments": ASSIGNMENTS,
        "epochs": 3,
        "out": str(out),
        "device": "cpu",
    }
    return TrainCommand(**{**values, **changes})


def train(out: Path, display: Silent | None = None, **changes: Any) -> TrainingEnd:
    return run_training(plan_training(command(out, **changes)), display or Silent())


def curve(folder: Path) -> list[dict[str, str]]:
    """The rows of log.csv without their seconds."""
    with (folder / "log.csv").open() as file:
        return [{name: text for name, text in row.items() if name != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingEnd]:
    folder = tmp_path_factory.mktemp("trained") / "digits"
    return folder, train(folder)


def test_a_training_measures_on_the_test_set_what_it_learned_from_all_other_images(
    trained: tuple[Path, TrainingEnd],
) -> None:
    folder, end = trained
    digits = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2, with_test=True)
    assert digits.test_labels is not None
    assert end.exit_code is ExitCode.DONE
    assert end.facts["num_train_images"] == len(digits.train_labels) + len(digits.validation_labels)
    assert end.facts["num_measured_images"] == len(digits.test_labels)
    rows = curve(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert float(rows[-1]["test_accuracy"]) == end.facts["accuracy"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])


def test_the_search_split_is_used_on_request(tmp_path: Path) -> None:
    end = train(tmp_path / "out", on_test=False, epochs=1)
    digits = load_dataset("digits", root="", split_seed=3, validation_fraction=0.2)
    assert end.facts["num_measured_images"] == len(digits.validation_labels)
    assert "validation_accuracy" in curve(tmp_path / "out")[0]


def test_the_folder_is_an_export_with_the_last_epochs_weights(trained: tuple[Path, TrainingEnd]) -> None:
    folder, end = trained
    saved = read_config(folder)
    assert (saved.variant, saved.width, saved.num_classes, saved.in_channels, saved.image_size) == (
        "reduced",
        0.03,
        10,
        1,
        8,
    )
    assert saved.provenance["test_accuracy"] == end.facts["accuracy"]
    weights = load_file(folder / "model.safetensors")
    last = load_weights(folder / "checkpoints" / "last.pt")
    assert all(torch.equal(weights[name], tensor) for name, tensor in last.items())
    assert select(run=None, trial="best", config=str(folder)).weights == folder / "model.safetensors"


def test_the_weights_of_a_better_epoch_lie_beside_the_last_ones(tmp_path: Path) -> None:
    # A learning rate that rises from nothing: the accuracy has its highest value somewhere, rarely at the end.
    end = train(
        tmp_path / "out", epochs=4, assignments=(*ASSIGNMENTS, "recipe.learning_rate=0.3", "recipe.schedule=constant")
    )
    rows = curve(tmp_path / "out")
    accuracies = [float(row["test_accuracy"]) for row in rows]
    assert end.facts["best"] == {"epoch": accuracies.index(max(accuracies)) + 1, "accuracy": max(accuracies)}
    is_last_best = accuracies.index(max(accuracies)) == len(accuracies) - 1
    assert (tmp_path / "out" / "best" / "model.safetensors").exists() is not is_last_best
    assert (tmp_path / "out" / "checkpoints" / "best.pt").exists()


def test_an_interrupted_training_resumes_to_the_same_curve(trained: tuple[Path, TrainingEnd], tmp_path: Path) -> None:
    whole, whole_end = trained
    first = train(tmp_path / "out", Silent(stop_after=1))
    assert (first.exit_code, first.facts["status"]) == (ExitCode.INTERRUPTED, "interrupted")
    assert not (tmp_path / "out" / "config.json").exists()
    display = Silent()
    second = train(tmp_path / "out", display)
    assert [record.epoch for record in display.done] == [1]
    assert [record.epoch for record in display.records] == [2, 3]
    assert curve(tmp_path / "out") == curve(whole)
    assert second.facts["accuracy"] == whole_end.facts["accuracy"]
    expected, actual = load_file(whole / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


@pytest.mark.slow
def test_a_killed_training_resumes_to_the_same_curve(trained: tuple[Path, TrainingEnd], tmp_path: Path) -> None:
    arguments = ("train", *SMALL, "--epochs", "3", "--seed", "3", "--set", ASSIGNMENTS[0], "--out", tmp_path / "out")
    process = start(*arguments)
    log, checkpoint = tmp_path / "out" / "log.csv", tmp_path / "out" / "checkpoints" / "last.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert log.exists()
    resumed = naxcli_process(*arguments, "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming after epoch" in resumed.stderr
    assert json.loads(resumed.stdout)["accuracy"] == trained[1].facts["accuracy"]
    assert curve(tmp_path / "out") == curve(trained[0])


@pytest.mark.slow
def test_sigterm_stops_with_its_own_exit_code_and_says_how_to_go_on(tmp_path: Path) -> None:
    process = start("train", *SMALL, "--epochs", "500", "--out", tmp_path / "out")
    deadline = time.monotonic() + 120
    while not (tmp_path / "out" / "log.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == ExitCode.STOPPED
    assert "the same command resumes it" in errors
    assert (tmp_path / "out" / "checkpoints" / "last.pt").exists()


def test_other_settings_are_refused_with_the_difference(trained: tuple[Path, TrainingEnd]) -> None:
    folder, _ = trained
    with pytest.raises(NaxcliError, match="other settings") as refusal:
        plan_training(command(folder, epochs=4, flags={"seed": 9}, assignments=(*ASSIGNMENTS, "recipe.mixup=0.2")))
    assert refusal.value.why == (
        "epochs: 3 in the folder, 4 now; recipe.mixup: 0.0 in the folder, 0.2 now; seed: 3 in the folder, 9 now"
    )
    assert plan_training(command(folder)).is_new is False
    assert plan_training(command(folder, epochs=4, overwrite=True)).is_new


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(NaxcliError, match="something else"):
        plan_training(command(tmp_path))


@pytest.mark.parametrize("name", ["README.md", "training.toml", "checkpoints/last.pt", "lock.txt", "best/config.json"])
def test_overwriting_deletes_nothing_in_a_folder_without_a_training(name: str, tmp_path: Path) -> None:
    for file in (name, "wandb/run", "tensorboard/events.out.tfevents.1"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("mine = true")
    with pytest.raises(NaxcliError, match="something else"):
        plan_training(command(tmp_path, overwrite=True))
    assert (tmp_path / name).read_text() == (tmp_path / "wandb" / "run").read_text() == "mine = true"


def test_overwriting_a_training_keeps_the_files_of_others(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    _prepare_folder(plan_training(command(folder)))
    others = ("notes.txt", "checkpoints/mine.pt", "tensorboard/notes.txt", "wandb/run", "config.json.orig")
    own = (
        "checkpoints/last.pt",
        "checkpoints/.last.pt.ab_12345.tmp",
        "checkpoints/.best.pt.99.tmp",
        "best/README.md",
        "log.csv",
        "README.md",
    )
    for file in (*others, *own):
        (folder / file).parent.mkdir(exist_ok=True)
        (folder / file).write_text("written")
    _prepare_folder(plan_training(command(folder, epochs=7, overwrite=True)))
    assert all((folder / file).exists() for file in others) and not any((folder / file).exists() for file in own)
    assert not plan_training(command(folder, epochs=7)).is_new


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_training_that_another_process_made_meanwhile_is_kept(overwrite: bool, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    first, late = (plan_training(command(folder, overwrite=overwrite)) for _ in range(2))
    _prepare_folder(decided_again(first))
    with pytest.raises(NaxcliError, match="another process trained"):
        decided_again(late)


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path) -> None:
    plan = plan_training(command(tmp_path / "out"))
    from naxcli.records.directory import RunDirectory

    with RunDirectory(path=plan.folder).locked(), pytest.raises(NaxcliError, match="another process"):
        run_training(plan, Silent())


def test_a_hyperparameter_may_have_the_name_of_a_setting(tmp_path: Path) -> None:
    """It is the network's; only what is named `recipe.<setting>` decides a training's settings."""
    file, config = tmp_path / "own.py", tmp_path / "config.json"
    file.write_text(OWN_NAMES)
    config.write_text('{"width": 8, "epochs": 2, "recipe.mixup": 0.1}')
    plan = plan_training(command(tmp_path / "out", config=str(config), space=str(file)))
    assert plan.selection.config["epochs"] == 2 and plan.command.epochs == command(tmp_path).epochs
    assert plan.experiment.recipe.mixup == 0.1
    with pytest.raises(NaxcliError, match=r"recipe\.mixup never counts"):
        plan_training(command(tmp_path / "out", config=str(config), space=str(file), assignments=["recipe.mixup=0.2"]))


def test_a_full_size_variant_is_trained_by_its_own_recipe_unless_told_otherwise(tmp_path: Path) -> None:
    def recipe(data: str = "cifar100", **command: Any) -> Recipe:
        out = str(tmp_path / str(len(command)))
        return plan_training(
            TrainCommand(config="nexception:nexception", flags={"data": data}, out=out, **command)
        ).experiment.recipe

    own, reduced = recipe(variant="S"), recipe()
    assert (own.batch_size, own.learning_rate) == (128, 1.4e-3)
    assert (reduced.batch_size, reduced.learning_rate) == (Recipe().batch_size, Recipe().learning_rate)
    assert recipe(variant="S", assignments=["recipe.learning_rate=0.002"]).learning_rate == 0.002
    file = tmp_path / "mine.toml"
    file.write_text("[recipe]\nbatch_size = 256\n")
    mine = recipe(variant="S", experiment_file=str(file))
    assert (mine.batch_size, mine.learning_rate) == (256, 1.4e-3)
    assert recipe("digits", variant="S").learning_rate == 0.02  # which experiments/digits.toml chose


def test_the_shipped_imagenet_recipe_is_the_authors_and_leaves_a_variant_its_own(tmp_path: Path) -> None:
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
    for variant, own in (("T", {}), ("S", {"batch_size": 128, "learning_rate": 1.4e-3})):
        plan = plan_training(
            TrainCommand(
                config="nexception:nexception",
                flags={"data": f"folder:{tmp_path / 'images'}"},
                variant=variant,
                experiment_file="imagenet",
                out=str(tmp_path / variant),
            )
        )
        assert plan.experiment.recipe == Recipe(**IMAGENET_RECIPE, **own)


def test_a_full_size_variant_has_its_own_image_size_width_and_test_crop(tmp_path: Path) -> None:
    plan = plan_training(
        TrainCommand(config="nexception:nexception", flags={"data": "digits"}, variant="T", out=str(tmp_path / "a"))
    )
    assert (plan.image_size, plan.experiment.width, plan.test_crop, plan.command.epochs) == (224, 1.0, 0.95, 300)
    small = plan_training(command(tmp_path / "b"))
    assert (small.image_size, small.test_crop) == (8, 1.0)


def test_test_images_are_resized_and_cropped_by_the_ratio() -> None:
    whole = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2, with_test=True, image_size=10)
    middle = load_dataset(
        "digits", root="", split_seed=0, validation_fraction=0.2, with_test=True, image_size=8, test_crop=0.8
    )
    assert whole.test_images is not None and middle.test_images is not None
    assert torch.equal(middle.test_images, whole.test_images[..., 1:9, 1:9])
    assert middle.train_images.shape[-1] == 8


def test_training_continues_from_the_weights_of_an_export(trained: tuple[Path, TrainingEnd], tmp_path: Path) -> None:
    folder, _ = trained
    changes = {"config": str(folder), "epochs": 1, "assignments": (*ASSIGNMENTS, "recipe.learning_rate=1e-5")}
    display = Silent()
    tuned = train(tmp_path / "tuned", display, flags={"width": None}, **changes)
    assert display.notices == [f"starting from the weights of {folder / 'model.safetensors'}"]
    display = Silent()
    fresh = train(tmp_path / "fresh", display, pretrained=False, flags={"width": None}, **changes)
    assert display.notices == []
    assert tuned.facts["train_loss"] < 0.9 * fresh.facts["train_loss"]
    with pytest.raises(NaxcliError, match="no weights to start from"):
        plan_training(command(tmp_path / "none", pretrained=True))


def test_weights_of_another_size_are_taken_only_where_asked_for(
    trained: tuple[Path, TrainingEnd], tmp_path: Path
) -> None:
    folder, _ = trained
    wider = {"config": str(folder), "flags": {"width": 0.05}}
    assert plan_training(command(tmp_path / "a", **wider)).initial_weights is None
    assert plan_training(command(tmp_path / "b", config=str(folder), variant="T")).initial_weights is None
    with pytest.raises(NaxcliError, match="belong to another network") as refused:
        train(tmp_path / "c", pretrained=True, epochs=1, **wider)
    assert "--from-scratch" in refused.value.hint


def exported(out: Path, format: str, **sizes: int) -> Path:
    """Export a small network with random weights, as if they were trained, and return the main file."""
    space = load_space("nexception")
    settings: dict[str, Any] = {"num_classes": 10, "in_channels": 1, "image_size": 8, "width": 0.03, **sizes}
    torch.manual_seed(7)
    network = build_network(space, space.reference["xception"], **settings)
    weights = out.parent / "random.safetensors"
    save_file(network.state_dict(), weights)
    request = ExportRequest(
        space=space, config=space.reference["xception"], format=format, out=out, weights=weights, **settings
    )
    return export_network(request).files[0]


def test_weights_for_other_classes_get_a_new_classifier(tmp_path: Path) -> None:
    folder = exported(tmp_path / "five", "weights", num_classes=5).parent
    display = Silent()
    train(
        tmp_path / "out",
        display,
        config=str(folder),
        flags={"width": None},
        epochs=1,
        assignments=(*ASSIGNMENTS, "recipe.learning_rate=1e-9", "recipe.min_learning_rate=1e-9"),
    )
    assert display.notices == [f"starting from the weights of {folder / 'model.safetensors'}, with a new head.fc"]
    before, after = load_file(folder / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert (before["head.fc.weight"].shape[0], after["head.fc.weight"].shape[0]) == (5, 10)
    torch.testing.assert_close(after["stem.conv1.weight"], before["stem.conv1.weight"], atol=1e-5, rtol=1e-4)


@pytest.mark.usefixtures("not_loaded_back")
def test_a_python_export_is_trained_and_reads_the_result(tmp_path: Path) -> None:
    file = exported(tmp_path / "leaf_mine.py", "python")
    settings = {"config": str(file), "flags": {"width": None}, "epochs": 1}
    end = train(tmp_path / "out", **settings)
    assert (end.facts["space"], end.facts["width"], end.facts["variant"]) == ("leaf_mine", 0.03, "reduced")
    # What was trained is the file's code with other weights: the file itself reads them, and timm knows the folder.
    module = import_file(file)
    network = module.load_weights(tmp_path / "out" / "model.safetensors")
    images = torch.randn(2, 1, 8, 8)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["architecture"] == "leaf_mine"
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    assert torch.equal(again(images), network(images))
    # Its weights on request, and the same command resumes.
    display = Silent()
    train(tmp_path / "tuned", display, pretrained=True, **settings)
    assert display.notices == [f"starting from the weights of {file.with_suffix('.safetensors')}"]
    assert plan_training(command(tmp_path / "out", **settings)).is_new is False
    # The folder names the file, and does not make naxcli load it.
    with pytest.raises(NaxcliError, match="loaded only when you name it") as refused:
        read_config(tmp_path / "out")
    assert str(file) in refused.value.hint
    assert select(run=None, trial="best", config=str(tmp_path / "out"), space=str(file)).space.name == "leaf_mine"


@pytest.mark.usefixtures("not_loaded_back")
def test_an_edited_python_export_is_another_training(tmp_path: Path) -> None:
    file = exported(tmp_path / "leaf_edited.py", "python")
    settings = {"config": str(file), "flags": {"width": None}, "epochs": 2}
    train(tmp_path / "out", Silent(stop_after=1), **settings)
    file.write_text(file.read_text() + "\n\nEDITED = 1\n")
    with pytest.raises(NaxcliError, match="other settings") as refused:
        plan_training(command(tmp_path / "out", **settings))
    assert "space_code" in refused.value.why


def test_accumulating_cuts_the_batch_without_changing_its_mean(tmp_path: Path) -> None:
    # Without batch normalization between the parts, the gradient is the same up to the order of additions.
    from naxcli.settings.recipe import Recipe
    from naxcli.training.loop import EagerStep

    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    images, targets = torch.randn(30, 1, 8, 8), torch.rand(30, 10)
    gradients = []
    for grad_accum_steps in (1, 4):
        loss = EagerStep(network, Recipe(), torch.device("cpu"), grad_accum_steps=grad_accum_steps)(images, targets)
        gradients.append((loss, network[1].weight.grad.clone()))
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-5, atol=1e-7)
    end = train(tmp_path / "out", grad_accum_steps=4, epochs=1)
    assert end.exit_code is ExitCode.DONE


def test_the_averaged_weights_are_measured_and_exported(tmp_path: Path) -> None:
    train(tmp_path / "out", epochs=1, assignments=(*ASSIGNMENTS, "recipe.ema_decay=0.5"))
    state = torch.load(tmp_path / "out" / "checkpoints" / "last.pt", weights_only=True)
    weights = load_file(tmp_path / "out" / "model.safetensors")
    name = next(name for name, tensor in weights.items() if tensor.ndim == 4)
    assert torch.equal(weights[name], state["average"][name])
    assert not torch.equal(weights[name], state["network"][name])


def test_a_diverged_training_fails_and_says_so(tmp_path: Path) -> None:
    done = naxcli(
        "train",
        *SMALL,
        "--epochs",
        "2",
        "--set",
        "recipe.learning_rate=1e30",
        "--set",
        "recipe.optimizer=sgd",
        "--set",
        "recipe.max_grad_norm=0",
        "--out",
        tmp_path / "out",
    )
    assert done.returncode == ExitCode.FAILED, done.stderr
    assert "not finite" in done.stderr


def test_tensorboard_gets_every_epoch(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(tmp_path / "out", tracker="tensorboard", epochs=2)
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard"))
    events.Reload()
    rows = curve(tmp_path / "out")
    logged = [(event.step, event.value) for event in events.Scalars("test/accuracy")]
    assert logged == [(int(row["epoch"]), pytest.approx(float(row["test_accuracy"]))) for row in rows]


def test_mlflow_continues_its_run_after_an_interruption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str | None] = []
    metrics: list[tuple[int, float]] = []

    class Run:
        info = types.SimpleNamespace(run_id="run-7")

        def __enter__(self) -> Run:
            return self

        def __exit__(self, *_: object) -> None:
            return None

    def start_run(*, run_id: str | None, run_name: str | None) -> Run:
        started.append(run_id)
        return Run()

    parameters: dict[str, Any] = {}
    module = types.ModuleType("mlflow")
    module.start_run = start_run  # type: ignore[attr-defined]
    module.log_params = parameters.update  # type: ignore[attr-defined]
    module.log_metrics = lambda values, step: metrics.append((step, values["train/loss"]))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", module)
    train(tmp_path / "out", Silent(stop_after=1), tracker="mlflow", epochs=2)
    train(tmp_path / "out", tracker="mlflow", epochs=2)
    assert started == [None, "run-7"]
    assert [step for step, _ in metrics] == [1, 2]
    assert parameters["recipe.batch_size"] == 128 and parameters["epochs"] == 2


def test_weights_and_biases_continues_its_run_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[dict[str, Any]] = []
    logged: list[tuple[int, dict[str, float]]] = []

    class Run:
        id = "run-7"

        def __enter__(self) -> Run:
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((step, values))

    def init(**settings: Any) -> Run:
        started.append(settings)
        return Run()

    module = types.ModuleType("wandb")
    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)
    train(tmp_path / "out", Silent(stop_after=1), tracker="wandb", epochs=2)
    train(tmp_path / "out", tracker="wandb", epochs=2)
    assert [settings["id"] for settings in started] == [None, "run-7"]
    assert started[0]["config"]["recipe"]["batch_size"] == 128 and started[0]["dir"] == tmp_path / "out"
    accuracies = [float(row["test_accuracy"]) for row in curve(tmp_path / "out")]
    assert [(step, values["test/accuracy"]) for step, values in logged] == [*enumerate(accuracies, start=1)]


def test_a_missing_or_unknown_tracker_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(NaxcliError, match="needs the package mlflow") as missing:
        train(tmp_path / "a", tracker="mlflow")
    assert "naxcli[trackers]" in missing.value.hint
    with pytest.raises(NaxcliError, match="no tracker 'paper'"):
        train(tmp_path / "b", tracker="paper")


def test_a_folder_with_the_setting_names_of_an_earlier_version_is_resumed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    settings = {"grad_accum_steps": 2, "assignments": ("recipe.schedule=warmup_stable_decay",)}
    folder.mkdir()
    _prepare_folder(plan_training(command(folder, **settings)))
    file = folder / "training.toml"
    former = file.read_text().replace("grad_accum_steps", "accumulate").replace("warmup_stable_decay", "trunk")
    assert "accumulate = 2" in former and '"trunk"' in former and "resolution = 0\n" in former
    file.write_text(former.replace("resolution = 0\n", ""))  # a setting that came later
    assert not plan_training(command(folder, **settings)).is_new
    with pytest.raises(NaxcliError, match="other settings") as refused:
        plan_training(command(folder, **{**settings, "grad_accum_steps": 4}))
    assert refused.value.why == "grad_accum_steps: 2 in the folder, 4 now"


@pytest.mark.parametrize("assignment", ["images_per_class=10", "trials=5", "limits.max_params=5M"])
def test_a_setting_of_searches_is_refused(assignment: str, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="does not count in a full training") as refused:
        plan_training(command(tmp_path / "out", assignments=[assignment]))
    assert assignment.partition("=")[0].partition(".")[0] in refused.value.what
    with pytest.raises(NaxcliError, match="unknown setting"):
        plan_training(command(tmp_path / "out", assignments=["imagesperclass=10"]))


def test_the_next_command_names_a_space_that_does_not_ship(tmp_path: Path) -> None:
    file = tmp_path / "my space.py"
    file.write_text((spaces_folder() / "nexception.py").read_text())
    small = ("--set", "width=0.03", "--set", "recipe.batch_size=512", "--epochs", "1", "--data", "digits")
    done = naxcli("train", "--config", f"{file}:xception", "--out", tmp_path / "out", *small)
    assert done.returncode == ExitCode.DONE, done.stderr
    command = " ".join(done.stderr.split()).partition("next: naxcli ")[2]
    assert shlex.split(command) == ["export", "--config", str(tmp_path / "out"), "--space", str(file)]
    assert naxcli(*shlex.split(command), "--no-bench", "--out", tmp_path / "export").returncode == ExitCode.DONE


def test_a_space_without_networks_cannot_be_trained(tiny_space: Path, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match="makes no networks"):
        plan_training(TrainCommand(config=f"{tiny_space}:plain", flags={"data": "digits"}, out=str(tmp_path / "out")))


@pytest.mark.slow
def test_two_processes_train_what_one_process_does(tmp_path: Path) -> None:
    """Same data, same global batch, no stochastic depth: losses and weights agree up to the order of additions.

    With SGD, as LAMB divides gradients by their own size: there a rounding error in one near 0 becomes a whole step.
    """
    settings = ("batch_size=256", "ema_decay=0.5", "optimizer=sgd", "learning_rate=0.5", "warmup_epochs=0")
    arguments = ["train", *SMALL, "--epochs", "1", "--seed", "3"]
    for setting in settings:
        arguments += ["--set", f"recipe.{setting}"]
    alone = naxcli_process(*arguments, "--out", tmp_path / "one")
    assert alone.returncode == 0, alone.stderr
    together = torchrun(2, *arguments, "--out", tmp_path / "two", "--json")
    assert together.returncode == 0, together.stderr
    assert json.loads(together.stdout)["num_processes"] == 2  # one object: only the first process prints
    for one, two in zip(curve(tmp_path / "one"), curve(tmp_path / "two"), strict=True):
        assert {name: pytest.approx(float(text), rel=1e-4) for name, text in one.items()} == {
            name: float(text) for name, text in two.items()
        }
    expected, actual = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "two"))
    for name, tensor in expected.items():
        torch.testing.assert_close(
            actual[name], tensor, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


RESUME_TOGETHER = """
import dataclasses, sys
from pathlib import Path
import torch
from timm.layers import DropPath
from torch import nn
from naxcli.data.dataset import load_dataset
from naxcli.training.loop import seed_everything, train
from naxcli.training.request import TrainingRequest
from naxcli.training.distributed import joined_processes
from naxcli.settings.recipe import IMAGENET_RECIPE, Recipe

folder = Path(sys.argv[1])
torch.set_num_threads(1)
dataset = load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)
recipe = Recipe(batch_size=256, randaugment="", drop_path=0.5)

def run(processes, epochs, **options):
    seed_everything(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), DropPath(), nn.BatchNorm1d(64), nn.Linear(64, 10))
    request = TrainingRequest(recipe=recipe, epochs=epochs, schedule_epochs=4, seed=1, device="cpu", **options)
    outcome = train(network, dataset, request, processes=processes)
    return [dataclasses.replace(record, seconds=0.0) for record in outcome.curve]

with joined_processes() as processes:
    whole = run(processes, 4)
    first = run(processes, 2, checkpoint_to=folder / "part.pt")
    processes.any(False)  # the checkpoint is written by now
    resumed = run(processes, 4, checkpoint_from=folder / "part.pt")
    states = torch.load(folder / "part.pt", weights_only=True)["random_state"]
    assert len(states) == 2 and not torch.equal(states[0], states[1]), "processes draw the same layers"
    assert resumed == whole and resumed[:2] == first, (resumed, whole)
    if processes.is_main_process:
        print("the same curve")
"""


@pytest.mark.slow
def test_two_processes_resume_to_the_same_curve_with_stochastic_depth(tmp_path: Path) -> None:
    script = tmp_path / "resume_together.py"
    script.write_text(RESUME_TOGETHER)
    done = torchrun(2, script, tmp_path, module=())
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "the same curve"


def torchrun(
    num_processes: int, *arguments: str | Path, module: tuple[str, ...] = ("-m", "naxcli")
) -> subprocess.CompletedProcess[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = (
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(num_processes),
        "--master-port",
        str(port),
    )
    return subprocess.run(
        [*launcher, *module, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=ENVIRONMENT,
        check=False,
    )
