"""What only a CUDA device shows: precision, graphs, batches and LAMB there, too little memory, several workers, kills."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import timm.optim
import torch
from torch import Tensor, nn

from naxcli.data import augment
from naxcli.data.augment import Mixing, TrainingBatches, mix_images, mix_targets
from naxcli.data.dataset import Dataset, load_dataset
from naxcli.records.trial import Status
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training import step
from naxcli.training.checkpoint import CheckpointWriter
from naxcli.training.loop import Training, set_drop_path
from naxcli.training.optimizer import build_optimizer
from naxcli.training.request import TrainingRequest
from naxcli.training.step import EagerStep, GraphedStep, autocast_dtype, choose_step
from naxcli.workers.evaluate import evaluate, is_device_broken
from naxcli.workers.task import DataRequest, TrialTask
from tests.command_line import naxcli_process, start
from tests.training.test_lamb import groups_of, largest_difference
from tests.training.test_lamb import small_network as lamb_network
from tests.training.test_loop import QUICK, RECIPE, small_network, train_small

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def full_float32() -> None:
    """Float32 is not rounded to TF32 before a training says otherwise: steps are compared with those of a CPU."""
    step.set_float32_precision(Recipe(precision="float32"))


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)


def random_batch(num_images: int = 16) -> tuple[Tensor, Tensor]:
    return torch.randn(num_images, 1, 8, 8, device=CUDA), torch.rand(num_images, 10, device=CUDA)


# Precision


def test_auto_is_bfloat16_where_the_device_computes_in_it_and_weights_stay_float32(digits: Dataset) -> None:
    recipe = dataclasses.replace(QUICK, precision="auto")
    is_native = torch.cuda.get_device_capability() >= (8, 0)
    assert autocast_dtype(recipe, CUDA) is (torch.bfloat16 if is_native else None)
    network, outcome = train_small(digits, recipe, epochs=1, device="cuda")
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}
    _, exact = train_small(digits, dataclasses.replace(QUICK, precision="float32"), epochs=1, device="cuda")
    assert outcome.train_loss == pytest.approx(exact.train_loss, rel=0.1)


def test_one_step_on_cuda_is_that_of_a_cpu() -> None:
    gradients = []
    images, targets = random_batch()
    for device in (torch.device("cpu"), CUDA):
        network = small_network().to(device).train()
        loss = EagerStep(network, Recipe(precision="float32"), device)(images.to(device), targets.to(device))
        gradients.append([loss.cpu(), *(p.grad.cpu() for p in network.parameters() if p.grad is not None)])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-5) for a, b in zip(*gradients, strict=True))


# Graphs


@pytest.fixture
def always_graphed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph is captured for any training, and taken whatever it measured."""
    monkeypatch.setattr(step, "_MIN_STEPS_FOR_GRAPH", 1)
    monkeypatch.setattr(step, "_seconds", lambda taken, *_: 0.0 if isinstance(taken, GraphedStep) else 1.0)


def test_a_training_with_graphs_is_close_to_an_eager_one(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch, always_graphed: None
) -> None:
    recipe = dataclasses.replace(QUICK, precision="float32", optimizer="sgd", learning_rate=0.01)
    _, graphed = train_small(digits, recipe, epochs=1, device="cuda")
    monkeypatch.setattr(step, "_MIN_STEPS_FOR_GRAPH", 10**9)
    _, eager = train_small(digits, recipe, epochs=1, device="cuda")
    assert graphed.train_loss == pytest.approx(eager.train_loss, rel=1e-2)


def test_stochastic_depth_draws_anew_in_every_replay() -> None:
    network = small_network().cuda().train()
    set_drop_path(network, 0.5)
    eager = EagerStep(network, Recipe(precision="float32"), CUDA)
    images, targets = random_batch()
    graphed = GraphedStep(eager, images, targets)
    losses = {graphed(images, targets).item() for _ in range(8)}
    assert len(losses) > 1


class Waiting(nn.Linear):
    """Asks the device for a value in each forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(1)) * (1.0 if x.sum().item() else 2.0)


def test_a_network_that_waits_for_the_device_trains_eagerly_and_leaves_the_device_usable() -> None:
    eager = EagerStep(Waiting(64, 10).cuda(), Recipe(precision="float32"), CUDA)
    stream = torch.cuda.current_stream()
    images, targets = random_batch()
    assert choose_step(eager, images, targets, num_steps=10**6) is eager
    assert torch.cuda.current_stream() == stream
    assert torch.cuda.get_sync_debug_mode() == 0
    assert torch.isfinite(eager(images, targets)) and not is_device_broken()


def test_a_mistake_of_the_network_itself_is_raised_as_it_is() -> None:
    class Broken(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    eager = EagerStep(Broken(64, 10).cuda(), Recipe(), CUDA)
    images, targets = random_batch()
    assert choose_step(eager, images, targets, num_steps=10**6) is eager
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        eager(images, targets)


def test_no_graph_is_captured_where_memory_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (0, 0))
    monkeypatch.setattr(torch.cuda, "memory_reserved", torch.cuda.memory_allocated)
    monkeypatch.setattr(step, "GraphedStep", lambda *_: pytest.fail("captured"))
    eager = EagerStep(small_network().cuda(), Recipe(), CUDA)
    images, targets = random_batch()
    assert choose_step(eager, images, targets, num_steps=10**6) is eager


@pytest.mark.parametrize("is_graphed", [False, True])
def test_a_step_with_augmentation_and_optimizer_never_waits_for_the_device(
    is_graphed: bool, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step, "_MIN_STEPS_FOR_GRAPH", 1 if is_graphed else 10**9)
    recipe = Recipe(batch_size=64, drop_path=0.1, ema_decay=0.9)
    request = TrainingRequest(recipe=recipe, epochs=10.0, seed=0, device=CUDA)
    training = Training(small_network(), digits, request, writer=CheckpointWriter())
    for _ in range(3):
        training.take_step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(25):  # into the second epoch
            training.take_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


# Batches


def test_batches_made_on_cuda_are_those_of_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_CHUNK_BYTES", {"cpu": 1 << 18, "cuda": 1 << 18})
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (256, 3, 32, 32), dtype=torch.uint8, generator=generator)
    dataset = Dataset(
        name="test",
        train_images=images,
        train_labels=torch.arange(256) % 5,
        validation_images=images,
        validation_labels=torch.arange(256) % 5,
        num_classes=5,
        in_channels=3,
        image_size=32,
        mean=(0.5, 0.4, 0.6),
        std=(0.2, 0.3, 0.25),
        class_names=tuple("abcde"),
        content_hash="0",
        is_official=True,
    )
    recipe = Recipe(batch_size=64, mixup=0.5)
    ours = TrainingBatches(dataset.to(CUDA), recipe, seed=0, device=CUDA)
    expected = TrainingBatches(dataset, recipe, seed=0, device=torch.device("cpu"))
    for index in range(6):
        (one, one_targets), (other, other_targets) = ours.batch(index), expected.batch(index)
        assert one.device.type == "cuda" and one.is_contiguous(memory_format=torch.channels_last)
        difference = (one.cpu() - other).abs() * torch.tensor(dataset.std).view(3, 1, 1) * 255  # in levels
        assert difference.max() < 1.1 and (difference > 0.01).float().mean() < 1e-3
        assert torch.allclose(one_targets.cpu(), other_targets)


def test_images_that_do_not_fit_on_the_device_are_sent_batch_by_batch(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = [TrainingBatches(data, RECIPE, seed=0, device=CUDA) for data in (digits, digits.to(CUDA))]
    for index in range(3):
        from_host, from_device = (made.batch(index) for made in batches)
        assert all(torch.equal(one, other) for one, other in zip(from_host, from_device, strict=True))


@pytest.mark.parametrize("mixing", [Mixing(weight=0.3), Mixing(weight=0.75, box=(0, 4, 2, 6))], ids=str)
def test_mixing_on_cuda_is_that_of_a_cpu(mixing: Mixing) -> None:
    images, labels = torch.randn(8, 3, 8, 8), torch.arange(8) % 5
    expected = mix_images(images.clone(), mixing), mix_targets(labels, mixing, 5, 0.1)
    ours = mix_images(images.cuda(), mixing), mix_targets(labels.cuda(), mixing, 5, 0.1)
    assert all(torch.allclose(one.cpu(), other, atol=1e-6) for one, other in zip(ours, expected, strict=True))


# LAMB


def test_lamb_on_cuda_equals_timms_over_100_steps() -> None:
    ours, theirs = (lamb_network().double().cuda() for _ in range(2))
    ours.to(memory_format=torch.channels_last)
    optimizers = build_optimizer(ours, Recipe()), timm.optim.Lamb(groups_of(theirs), lr=2e-3, max_grad_norm=1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        images = torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64).cuda() * 5
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad(set_to_none=True)
            network(images).square().mean().backward()
            optimizer.step()
    assert largest_difference(ours, theirs) < 1e-6


# Too little memory


@pytest.fixture
def small_device() -> Iterator[None]:
    """A device of which this process gets 3 GB."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(3e9 / torch.cuda.get_device_properties(0).total_memory)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


class Wide(nn.Module):
    """Keeps about 150 MB per image."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(*(nn.Conv2d(64 if index else 1, 64, 1) for index in range(16)))
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.interpolate(x, scale_factor=24)
        for layer in self.layers:
            x = layer(x).relu()
        return self.head(x.mean((2, 3)))


def test_a_batch_that_does_not_fit_is_cut_until_its_parts_do(small_device: None) -> None:
    images, targets = random_batch(128)
    eager = EagerStep(Wide().cuda(), Recipe(precision="float32"), CUDA)
    assert torch.isfinite(eager(images, targets))
    assert eager.grad_accum_steps > 1
    whole = [parameter.grad.clone() for parameter in eager.network.parameters() if parameter.grad is not None]
    eager.grad_accum_steps *= 2
    eager(images, targets)
    again = [parameter.grad for parameter in eager.network.parameters() if parameter.grad is not None]
    assert all(torch.allclose(one, other, rtol=1e-2, atol=1e-6) for one, other in zip(whole, again, strict=True))


OUT_OF_MEMORY_SPACE = """
import torch
from ConfigSpace import Categorical, ConfigurationSpace
from torch import nn

from naxcli import Space


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("kind", ["fits", "hungry", "broken"]))
    return space


class Hungry(nn.Module):
    def __init__(self, kind, classes, pixels):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(pixels, classes)

    def forward(self, x):
        if self.kind == "hungry" and x.is_cuda:
            torch.empty(1 << 45, dtype=torch.uint8, device=x.device)
        if self.kind == "broken" and x.is_cuda:
            torch.zeros(4, device=x.device)[torch.full((1,), 1000, device=x.device)]
        return self.layer(x.flatten(1))


def build(config, *, num_classes, in_channels, image_size, width=1.0):
    return Hungry(config["kind"], num_classes, in_channels * image_size**2)


SPACE = Space(name="hungry", configspace=configspace, build=build)
"""


@pytest.fixture
def hungry_space(tmp_path: Path) -> Path:
    (tmp_path / "hungry.py").write_text(OUT_OF_MEMORY_SPACE)
    return tmp_path / "hungry.py"


def test_a_trial_out_of_memory_says_so_and_the_next_one_trains(hungry_space: Path) -> None:
    def run(kind: str) -> Status:
        task = TrialTask(
            trial_id=0,
            space=str(hungry_space),
            config={"kind": kind},
            fidelity=0.2,
            seed=0,
            recipe=QUICK,
            data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
        )
        return evaluate(task).status

    assert [run("hungry"), run("fits")] == [Status.OUT_OF_MEMORY, Status.SUCCESS]
    assert torch.cuda.memory_reserved() < 2**30


# Workers


def test_a_broken_device_costs_its_trial_only(hungry_space: Path, tmp_path: Path) -> None:
    done = naxcli_process(
        "search",
        "--space",
        hungry_space,
        "--data",
        "digits",
        "--trials",
        "3",
        "--epochs",
        "1",
        "--workers",
        "1",
        "--searcher",
        "random",
        "--run",
        tmp_path / "run",
    )
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(tmp_path / "run" / "trials.parquet").set_index("config.kind")
    assert trials["status"].to_dict() == {"fits": "success", "hungry": "out_of_memory", "broken": "crashed"}


def search_arguments(run: Path, *more: str) -> list[str | Path]:
    settings = ("width=0.06", "recipe.batch_size=64")
    return [
        "search",
        "--space",
        "nexception",
        "--data",
        "digits",
        "--run",
        run,
        *more,
        *(part for item in settings for part in ("--set", item)),
    ]


def test_two_workers_share_one_gpu(tmp_path: Path) -> None:
    done = naxcli_process(*search_arguments(tmp_path / "run", "--trials", "6", "--epochs", "2", "--workers", "2"))
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(tmp_path / "run" / "trials.parquet")
    assert trials["worker"].nunique() == 2 and trials["status"].isin(["success", "diverged"]).all()
    assert set(trials["device"]) == {torch.cuda.get_device_name()}
    assert trials["peak_memory_bytes"].between(2**20, 2**33).all()


def test_a_killed_search_on_cuda_resumes_with_its_trials(tmp_path: Path) -> None:
    run = tmp_path / "run"
    arguments = search_arguments(run, "--trials", "12", "--fidelity", "1:3:3", "--workers", "2")
    process = start(*arguments)
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not (run / "trials.parquet").exists():
        time.sleep(0.2)
    time.sleep(2)
    process.kill()
    process.communicate()
    before = pd.read_parquet(run / "trials.parquet").set_index("trial_id")["cost"]
    done = naxcli_process(*arguments)
    assert done.returncode == 0, done.stderr
    trials = pd.read_parquet(run / "trials.parquet")
    assert len(trials) == 12 and trials["trial_id"].is_unique
    assert trials.set_index("trial_id")["cost"].loc[before.index].equals(before)
    assert trials["parent_trial_id"].notna().any()


def test_a_trial_of_a_nexception_network_trains_with_the_papers_recipe() -> None:
    space = load_space("nexception")
    task = TrialTask(
        trial_id=0,
        space="nexception",
        config=space.reference["nexception"],
        fidelity=3,
        seed=0,
        width=0.25,
        recipe=Recipe(batch_size=128),
        measure_latency=True,
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2, image_size=32),
    )
    result = evaluate(task)
    assert (result.status, result.error) == (Status.SUCCESS, None)
    assert result.latency_ms is not None and result.peak_memory_bytes is not None
