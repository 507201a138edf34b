from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from timm.layers import DropPath
from torch import Tensor, nn

from naxcli.data.dataset import Dataset, load_dataset
from naxcli.errors import NaxcliError
from naxcli.records.trial import EpochRecord, Status
from naxcli.search_space.contract import load_space
from naxcli.settings.recipe import Recipe
from naxcli.training import checkpoint, loop, optimizer, step
from naxcli.training.checkpoint import load_checkpoint, load_weights, save_checkpoint
from naxcli.training.host_memory import keep_freed_memory, return_freed_memory
from naxcli.training.loop import seed_everything, set_drop_path, train
from naxcli.training.request import Outcome, TrainingRequest
from naxcli.training.step import EagerStep, choose_step, loss_of
from naxcli.training.validation import evaluate_network, padded_to
from naxcli.workers.evaluate import NewProcessNeeded, evaluate
from naxcli.workers.task import DataRequest, TrialTask

NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
RECIPE = Recipe(batch_size=32, learning_rate=0.02, crop_padding=1, mixup=0.2, cutmix=0.5, drop_path=0.2, ema_decay=0.9)
QUICK = Recipe(
    batch_size=32,
    learning_rate=0.03,
    loss="cross_entropy",
    randaugment="",
    crop_padding=0,
    horizontal_flip=0,
    mixup=0,
    cutmix=0,
    drop_path=0,
)


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False),
            nn.Conv2d(channels, channels, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.drop_path = DropPath()

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.drop_path(self.branch(x))).relu()


def small_network(*, in_channels: int = 1, num_classes: int = 10, seed: int = 0) -> nn.Module:
    seed_everything(seed)
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 2, stride=2),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        Block(16),
        Block(16),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(64, num_classes),
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits", root="", split_seed=0, validation_fraction=0.2)


@pytest.fixture(scope="module")
def few_digits(digits: Dataset) -> Dataset:
    return dataclasses.replace(digits, train_images=digits.train_images[:200], train_labels=digits.train_labels[:200])


def train_small(dataset: Dataset, recipe: Recipe = RECIPE, **arguments: object) -> tuple[nn.Module, Outcome]:
    network = small_network()
    names = ("on_step", "on_epoch", "should_stop", "on_failed_capture", "is_kept")
    callbacks = {name: arguments.pop(name) for name in names if name in arguments}
    settings: dict[str, object] = {"epochs": 2, "seed": 0, "device": "cpu", **arguments}
    return network, train(network, dataset, TrainingRequest(recipe=recipe, **settings), **callbacks)  # type: ignore[arg-type]


def without_seconds(outcome: Outcome) -> list[EpochRecord]:
    return [dataclasses.replace(record, seconds=0.0) for record in outcome.curve]


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_a_small_network_learns_digits_in_three_epochs(digits: Dataset) -> None:
    _, outcome = train_small(digits, QUICK, epochs=3)
    assert outcome.status is Status.SUCCESS
    assert outcome.val_accuracy is not None and outcome.val_accuracy > 0.8
    assert [record.epoch for record in outcome.curve] == [1, 2, 3]
    assert outcome.curve[2].train_loss < outcome.curve[0].train_loss
    assert outcome.epochs_run == 3
    assert outcome.peak_memory_bytes is None or outcome.peak_memory_bytes > 10**7


def test_the_same_seed_gives_the_same_training_bit_for_bit(few_digits: Dataset) -> None:
    (one, first), (other, second) = train_small(few_digits), train_small(few_digits)
    assert without_seconds(first) == without_seconds(second)
    assert same_weights(one, other)


def test_another_seed_gives_another_training(few_digits: Dataset) -> None:
    (one, _), (other, _) = train_small(few_digits), train_small(few_digits, seed=1)
    assert not same_weights(one, other)


def test_training_does_not_depend_on_random_numbers_drawn_before(few_digits: Dataset) -> None:
    one, _ = train_small(few_digits)
    network = small_network()
    torch.rand(100)
    train(network, few_digits, TrainingRequest(recipe=RECIPE, epochs=2, seed=0, device="cpu"))
    assert same_weights(one, network)


@pytest.mark.parametrize(
    ("lengths", "optimizer"),
    [((1, 3), "lamb"), ((0.5, 1.25, 3), "lamb"), ((1.5, 3), "adamw"), ((1.5, 3), "sgd")],
    ids=str,
)
def test_a_continued_training_equals_one_in_one_go(
    lengths: tuple[float, ...], optimizer: str, few_digits: Dataset, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, learning_rate=1e-3)
    straight, expected = train_small(few_digits, recipe, epochs=3, checkpoint_to=tmp_path / "straight.pt")
    previous: Path | None = None
    for length in lengths:
        path = tmp_path / f"{length}.pt"
        network, outcome = train_small(
            few_digits, recipe, epochs=length, schedule_epochs=3, checkpoint_from=previous, checkpoint_to=path
        )
        previous = path
    assert same_weights(straight, network)
    assert without_seconds(outcome) == without_seconds(expected)
    assert outcome.epochs_run == pytest.approx(lengths[-1] - lengths[-2], abs=0.2)
    averages = [load_checkpoint(tmp_path / name)["average"] for name in ("straight.pt", f"{lengths[-1]}.pt")]
    assert all(torch.equal(averages[0][name], averages[1][name]) for name in averages[0])


def test_warmup_stable_decay_is_continued_from_before_its_decay(few_digits: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, schedule="warmup_stable_decay", decay_fraction=0.25, warmup_epochs=0.2)
    straight, expected = train_small(few_digits, recipe, epochs=4, checkpoint_to=tmp_path / "straight.pt")
    network, low = train_small(few_digits, recipe, epochs=2, schedule_epochs=4, checkpoint_to=tmp_path / "low.pt")
    network.load_state_dict(load_weights(tmp_path / "low.pt"))
    assert evaluate_network(network, few_digits, RECIPE)[0] == low.val_accuracy
    continued, outcome = train_small(few_digits, recipe, epochs=4, checkpoint_from=tmp_path / "low.pt")
    assert load_checkpoint(tmp_path / "low.pt")["step"] == round(0.75 * 2 * 6)  # 200 images in batches of 32
    assert outcome.epochs_run == pytest.approx(4 - 0.75 * 2, abs=0.1)
    assert low.curve[-1].learning_rate < 0.3 * recipe.learning_rate < expected.curve[1].learning_rate
    assert same_weights(straight, continued)
    assert without_seconds(outcome) == without_seconds(expected)


def test_a_fraction_of_an_epoch_is_trained_and_validated(digits: Dataset) -> None:
    _, outcome = train_small(digits, QUICK, epochs=0.5)
    assert outcome.epochs_run == pytest.approx(0.5, abs=0.03)
    assert outcome.val_accuracy is not None and len(outcome.curve) == 1


def test_the_average_of_the_weights_is_what_is_validated_and_handed_over(few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    network, outcome = train_small(few_digits, checkpoint_to=path)
    weights = load_weights(path)
    assert not torch.equal(weights["0.weight"], network.state_dict()["0.weight"])
    network.load_state_dict(weights)
    assert evaluate_network(network, few_digits, RECIPE)[0] == outcome.val_accuracy


def test_without_averaging_the_weights_are_the_networks_own(few_digits: Dataset, tmp_path: Path) -> None:
    network, _ = train_small(few_digits, QUICK, checkpoint_to=tmp_path / "a.pt")
    assert torch.equal(load_weights(tmp_path / "a.pt")["0.weight"], network.state_dict()["0.weight"])


@pytest.mark.parametrize("rate", [1e30, 1e6])
def test_a_loss_that_is_not_finite_ends_the_training_as_diverged(
    rate: float, few_digits: Dataset, tmp_path: Path
) -> None:
    recipe = dataclasses.replace(QUICK, optimizer="sgd", learning_rate=rate, warmup_epochs=0, max_grad_norm=0)
    _, outcome = train_small(few_digits, recipe, epochs=5, checkpoint_to=tmp_path / "a.pt")
    assert outcome.status is Status.DIVERGED
    assert outcome.val_accuracy is None
    assert outcome.epochs_run < 5
    assert not (tmp_path / "a.pt").exists()


def test_a_long_epoch_is_checked_on_the_way(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "_STEPS_BETWEEN_CHECKS", 10)
    recipe = dataclasses.replace(QUICK, optimizer="sgd", learning_rate=1e30, warmup_epochs=0, max_grad_norm=0)
    _, outcome = train_small(digits, recipe)
    assert outcome.epochs_run == pytest.approx(10 / 35, abs=0.01)


def test_a_stopped_training_leaves_a_checkpoint_that_continues(few_digits: Dataset, tmp_path: Path) -> None:
    path, straight = tmp_path / "stopped.pt", train_small(few_digits, epochs=2)[0]
    calls = iter(range(100))
    _, stopped = train_small(few_digits, should_stop=lambda: next(calls) == 8, checkpoint_to=path)
    assert (stopped.status, stopped.val_accuracy) == (None, None)
    assert stopped.epochs_run == pytest.approx(8 / 6)
    network, outcome = train_small(few_digits, checkpoint_from=path)
    assert outcome.status is Status.SUCCESS
    assert same_weights(straight, network)


def test_checkpoints_on_the_way_are_written_when_due(few_digits: Dataset, tmp_path: Path) -> None:
    path, seen = tmp_path / "a.pt", []
    train_small(
        few_digits,
        epochs=4,
        checkpoint_to=path,
        checkpoint_every=2,
        on_epoch=lambda record: seen.append((record.epoch, path.exists() and load_checkpoint(path)["step"])),
    )
    assert seen == [(1, False), (2, False), (3, 12), (4, 12)]
    assert load_checkpoint(path)["step"] == 24


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files of the checkpoints that are written."""
    paths: list[Path] = []

    def save(state: dict[str, object], path: Path) -> None:
        paths.append(path)
        save_checkpoint(state, path)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    return paths


def test_a_checkpoint_that_is_not_worth_keeping_is_never_written(
    few_digits: Dataset, tmp_path: Path, written: list[Path]
) -> None:
    asked: list[float | None] = []

    def is_kept(outcome: Outcome) -> bool:
        asked.append(outcome.val_accuracy)
        return False

    _, outcome = train_small(few_digits, QUICK, epochs=1, checkpoint_to=tmp_path / "a.pt", is_kept=is_kept)
    assert asked == [outcome.val_accuracy] and written == [] and not list(tmp_path.iterdir())


def test_the_branch_of_a_training_with_a_decay_is_written_once(
    few_digits: Dataset, tmp_path: Path, written: list[Path]
) -> None:
    recipe, path = dataclasses.replace(QUICK, schedule="warmup_stable_decay", decay_fraction=0.5), tmp_path / "a.pt"
    network, _ = train_small(few_digits, recipe, epochs=1, schedule_epochs=2, checkpoint_to=path)
    assert written == [path]
    state = load_checkpoint(path)
    assert state["step"] == 3  # of 6: before the decay, whose steps did not change it
    assert not torch.equal(state["network"]["0.weight"], state["evaluated"]["0.weight"])
    assert torch.equal(state["evaluated"]["0.weight"], network.state_dict()["0.weight"])


def test_a_checkpoint_written_while_the_training_goes_on_is_of_the_moment_it_was_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()

    def save(state: dict[str, object], path: Path) -> None:
        assert may_write.wait(30)
        save_checkpoint(state, path)

    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    network = nn.Linear(2, 2)
    nn.init.zeros_(network.weight)
    with checkpoint.CheckpointWriter() as writer:
        writer.write({"network": network.state_dict(), "nested": [network.bias]}, tmp_path / "a.pt")
        nn.init.ones_(network.weight)
        assert not list(tmp_path.iterdir())
        may_write.set()
    assert not load_checkpoint(tmp_path / "a.pt")["network"]["weight"].any()  # and the block ended with it on disk


@pytest.mark.parametrize("when", ["on the way", "at the end"])
def test_an_error_of_writing_a_checkpoint_is_not_lost(
    when: str, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise NaxcliError("the disk is full")

    monkeypatch.setattr(checkpoint, "save_checkpoint", fail)
    every = {"checkpoint_every": 1} if when == "on the way" else {}
    seen: list[int] = []
    with pytest.raises(NaxcliError, match="disk is full"):
        train_small(
            few_digits,
            QUICK,
            epochs=3,
            checkpoint_to=tmp_path / "a.pt",
            on_epoch=lambda record: seen.append(record.epoch),
            **every,
        )
    assert seen == ([1] if when == "on the way" else [1, 2, 3])


def test_a_trial_whose_checkpoint_is_gone_or_damaged_trains_from_the_start(few_digits: Dataset, tmp_path: Path) -> None:
    straight = train_small(few_digits, epochs=1)[0]
    (tmp_path / "damaged.pt").write_bytes(b"no checkpoint")
    for name in ("gone.pt", "damaged.pt"):
        path = tmp_path / name
        network, outcome = train_small(few_digits, epochs=1, checkpoint_from=path, may_start_anew=True)
        assert outcome.epochs_run == 1 and same_weights(straight, network)


def test_an_epoch_ends_with_one_wait_for_the_device(few_digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.Training, "mean_loss", lambda _: pytest.fail("waited before the validation"))
    waits: list[int] = []
    tolist = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda tensor: (waits.append(len(tensor)), tolist(tensor))[1])
    _, outcome = train_small(few_digits, QUICK, epochs=1)
    assert outcome.status is Status.SUCCESS and waits == [3]


def test_a_last_validation_batch_is_filled_up_behind_its_images() -> None:
    images = torch.randint(1, 256, (3, 2, 4, 4), dtype=torch.uint8)
    padded = padded_to(5, images)
    assert padded.shape == (5, 2, 4, 4) and padded.dtype == torch.uint8
    assert torch.equal(padded[:3], images) and not padded[3:].any()
    assert padded_to(3, images) is images is padded_to(0, images)


@pytest.mark.parametrize(
    ("change", "named"), [({"learning_rate": 0.5}, "recipe.learning_rate"), ({"mixup": 0.0}, "recipe.mixup")]
)
def test_a_checkpoint_of_another_recipe_is_refused(
    change: dict[str, float], named: str, few_digits: Dataset, tmp_path: Path
) -> None:
    train_small(few_digits, epochs=0.2, schedule_epochs=1, checkpoint_to=tmp_path / "a.pt")
    other = dataclasses.replace(RECIPE, **change)
    with pytest.raises(NaxcliError, match=named):
        train_small(few_digits, other, epochs=1, checkpoint_from=tmp_path / "a.pt")


def test_a_checkpoint_of_another_seed_schedule_or_network_is_refused(few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    train_small(few_digits, epochs=0.2, schedule_epochs=1, checkpoint_to=path)
    with pytest.raises(NaxcliError, match="seed was 0, is 1"):
        train_small(few_digits, epochs=1, checkpoint_from=path, seed=1)
    with pytest.raises(NaxcliError, match=r"schedule_epochs was 1.0, is 2.0"):
        train_small(few_digits, epochs=1, checkpoint_from=path, schedule_epochs=2)
    with pytest.raises(NaxcliError, match="of another network"):
        network = small_network(num_classes=11)
        train(network, few_digits, TrainingRequest(recipe=RECIPE, epochs=1, seed=0, device="cpu", checkpoint_from=path))


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None])
def test_a_damaged_or_missing_checkpoint_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NaxcliError, match=r"checkpoint .*a\.pt"):
        load_checkpoint(path)


def test_a_setting_that_came_after_a_checkpoint_had_its_default(few_digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    train_small(few_digits, QUICK, epochs=1, schedule_epochs=2, checkpoint_to=path)
    state = torch.load(path, weights_only=True)
    del state["identity"]["recipe.label_smoothing"]
    save_checkpoint(state, path)
    _, outcome = train_small(few_digits, QUICK, checkpoint_from=path)
    assert outcome.status is Status.SUCCESS and len(outcome.curve) == 2
    with pytest.raises(NaxcliError, match="another training") as refused:
        train_small(few_digits, dataclasses.replace(QUICK, label_smoothing=0.1), checkpoint_from=path)
    assert refused.value.why == "recipe.label_smoothing was 0.0, is 0.1"


def test_a_checkpoint_that_names_a_setting_as_an_earlier_version_did_is_continued(
    few_digits: Dataset, tmp_path: Path
) -> None:
    path, recipe = tmp_path / "a.pt", dataclasses.replace(QUICK, schedule="warmup_stable_decay")
    train_small(few_digits, recipe, epochs=1, schedule_epochs=2, checkpoint_to=path)
    state = torch.load(path, weights_only=True)
    state["identity"]["recipe.schedule"] = "trunk"
    save_checkpoint(state, path)
    _, outcome = train_small(few_digits, recipe, checkpoint_from=path)
    assert outcome.status is Status.SUCCESS and len(outcome.curve) == 2


def test_a_checkpoint_of_another_format_is_refused(tmp_path: Path) -> None:
    torch.save({"format": 0}, tmp_path / "a.pt")
    with pytest.raises(NaxcliError, match="not a checkpoint of this version"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_failed_write_leaves_the_old_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    save_checkpoint({"step": 1}, path)
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_checkpoint({"step": lambda: None}, path)
    assert load_checkpoint(path)["step"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["a.pt"]


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_trial_after_trial_the_process_does_not_grow(few_digits: Dataset) -> None:
    for _ in range(2):
        train_small(few_digits, epochs=0.5)
    before = resident_bytes()
    for seed in range(6):
        train_small(few_digits, epochs=0.5, seed=seed)
    assert resident_bytes() - before < 20 * 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux's /proc")
def test_freed_memory_is_kept_until_it_is_returned() -> None:
    keep_freed_memory()
    blocks = [torch.ones(2**20) for _ in range(30)]
    used = resident_bytes()
    del blocks
    assert resident_bytes() > used - 60 * 2**20
    return_freed_memory()
    assert resident_bytes() < used - 60 * 2**20


def test_fewer_images_than_a_batch_still_train(digits: Dataset) -> None:
    tiny = dataclasses.replace(digits, train_images=digits.train_images[:7], train_labels=digits.train_labels[:7])
    _, outcome = train_small(tiny, QUICK, epochs=3)
    assert (outcome.status, outcome.epochs_run) == (Status.SUCCESS, 3)


def test_stochastic_depth_is_set_on_timms_layers_or_by_the_network_itself() -> None:
    network = small_network()
    set_drop_path(network, 0.3)
    assert {module.drop_prob for module in network.modules() if isinstance(module, DropPath)} == {0.3}

    class Own(nn.Module):
        rate = 0.0

        def set_drop_path_rate(self, rate: float) -> None:
            self.rate = 2 * rate

    own = Own()
    set_drop_path(own, 0.3)
    assert own.rate == 0.6


def test_bce_thresholds_mixed_targets_as_timms_loss_does() -> None:
    from timm.loss import BinaryCrossEntropy

    logits, targets = torch.randn(8, 5), torch.rand(8, 5)
    for threshold in (0.0, 0.2):
        expected = BinaryCrossEntropy(smoothing=0, target_threshold=threshold or None)(logits, targets)
        assert torch.equal(loss_of(logits, targets, Recipe(bce_target_threshold=threshold)), expected)
    assert loss_of(logits.bfloat16(), targets, Recipe()).dtype == torch.float32


def test_cross_entropy_takes_mixed_targets() -> None:
    from timm.loss import SoftTargetCrossEntropy

    logits, targets = torch.randn(8, 5), torch.rand(8, 5).softmax(1)
    ours = loss_of(logits, targets, Recipe(loss="cross_entropy"))
    assert ours.item() == pytest.approx(SoftTargetCrossEntropy()(logits, targets).item(), rel=1e-6)


def test_bfloat16_trains_too(few_digits: Dataset) -> None:
    network, outcome = train_small(few_digits, dataclasses.replace(QUICK, precision="bfloat16"))
    assert outcome.status is Status.SUCCESS
    assert {parameter.dtype for parameter in network.parameters()} == {torch.float32}


def test_parts_of_a_batch_add_up_to_its_gradient() -> None:
    network = small_network()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # the one layer that sees the parts
    images, targets = torch.randn(7, 1, 8, 8), torch.rand(7, 10)
    eager = EagerStep(network, Recipe(), torch.device("cpu"))
    gradients = []
    for eager.grad_accum_steps in (1, 3):
        loss = eager(images, targets)
        gradients.append([loss, *(parameter.grad for parameter in network.parameters())])
    assert all(torch.allclose(whole, parts, atol=1e-6) for whole, parts in zip(*gradients, strict=True))


def test_out_of_memory_cuts_batches_on_cuda_only(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 2

    class Hungry(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if len(x) > largest:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().forward(x)

    images, targets = torch.randn(8, 4), torch.rand(8, 3)
    eager = EagerStep(Hungry(4, 3), Recipe(), torch.device("cpu"))
    with pytest.raises(torch.OutOfMemoryError):
        eager(images, targets)

    eager = EagerStep(
        Hungry(4, 3), Recipe(), torch.device("cuda")
    )  # the tensors stay on the CPU: only the policy is asked
    assert torch.isfinite(eager(images, targets))
    assert eager.grad_accum_steps == 4
    largest = 0
    with pytest.raises(torch.OutOfMemoryError):
        eager(images, targets)


@pytest.mark.parametrize("precision", ["float32", "tf32", "auto", "bfloat16"])
def test_float32_is_rounded_to_tf32_only_where_the_recipe_says_so(precision: str) -> None:
    torch.backends.cudnn.allow_tf32 = precision != "tf32"
    recipe = Recipe(precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        step.set_float32_precision(recipe)
    assert torch.backends.cudnn.allow_tf32 is torch.backends.cuda.matmul.allow_tf32 is (precision == "tf32")
    assert step.computed_precision(recipe, torch.device("cpu")) == (
        "bfloat16" if precision == "bfloat16" else "float32"
    )


def test_a_training_sets_the_precision_of_float32(few_digits: Dataset) -> None:
    torch.backends.cudnn.allow_tf32 = True  # torch's own
    train_small(few_digits, dataclasses.replace(QUICK, precision="float32"), epochs=0.01)
    assert not torch.backends.cudnn.allow_tf32


def test_a_batch_that_may_not_be_cut_runs_out_of_memory() -> None:
    class TooLarge(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    eager = EagerStep(TooLarge(4, 2), Recipe(), torch.device("cuda"), may_cut=False)
    with pytest.raises(torch.OutOfMemoryError):
        eager(torch.randn(8, 4), torch.rand(8, 2))
    assert eager.grad_accum_steps == 1


def test_graphs_of_a_process_are_captured_on_one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.append(device) or object())
    step.capture_stream.cache_clear()
    devices = [torch.device("cuda", 0), torch.device("cuda", 1), torch.device("cuda", 0)]
    streams = [step.capture_stream(device) for device in devices]
    step.capture_stream.cache_clear()
    assert streams[0] is streams[2] is not streams[1]
    assert made == devices[:2]


def test_the_peak_of_memory_is_measured_after_the_first_step(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    class Noting(loop.PeakMemory):
        def forget_first_step(self) -> None:
            events.append("forget")

        def read(self) -> int | None:
            events.append("read")
            return 1

    monkeypatch.setattr(loop, "PeakMemory", Noting)
    train_small(few_digits, QUICK, epochs=1, on_step=lambda _: events.append("step"))
    assert events[:3] == ["step", "forget", "step"] and events.count("forget") == 1 and events[-1] == "read"
    events.clear()
    train_small(few_digits, QUICK, epochs=0.01, on_step=lambda _: events.append("step"))
    assert events == ["step", "read"]  # its one step is all there is to measure


@pytest.mark.parametrize("fails_in", ["the warm-up", "the capture", "putting things back"])
def test_a_capture_that_fails_is_told_from_a_network_that_does(fails_in: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def at(place: str) -> None:
        if fails_in == place:
            raise RuntimeError(place)

    @contextlib.contextmanager
    def unchanged(*_: object) -> Iterator[None]:
        yield
        at("putting things back")

    class Capture(contextlib.nullcontext[None]):
        def __exit__(self, *_: object) -> None:
            at("the capture")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: Capture())
    monkeypatch.setattr(step, "_unchanged", unchanged)
    monkeypatch.setattr(step.GraphedStep, "_warm_up", lambda *_: at("the warm-up"))
    eager = EagerStep(nn.Linear(4, 2), Recipe(), torch.device("cpu"))
    with pytest.raises(RuntimeError) as raised:
        step.GraphedStep(eager, torch.randn(2, 4), torch.rand(2, 2))
    assert isinstance(raised.value, step.GraphCaptureError) == (fails_in != "the warm-up")


def test_kernels_are_switched_on_where_they_are_wanted_and_off_at_the_end(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(loop, "switch_on", lambda *_: calls.append("on") or True)
    monkeypatch.setattr(loop, "switch_off", lambda _: calls.append("off"))
    # Its kernels are for a GPU.
    monkeypatch.setattr(
        loop, "build_optimizer", lambda network, recipe, **_: optimizer.build_optimizer(network, recipe)
    )
    train_small(few_digits, QUICK, epochs=0.01)
    assert calls == ["on", "off"]
    train_small(few_digits, QUICK, epochs=0.01, uses_kernels=False)
    assert calls == ["on", "off"]


def test_a_failed_capture_is_reported_and_the_training_goes_on_without_a_graph(
    few_digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = train_small(few_digits, QUICK, epochs=1)

    def fail(*_: object, **__: object) -> None:
        raise step.GraphCaptureError

    monkeypatch.setattr(loop, "choose_step", fail)
    failures: list[None] = []
    _, outcome = train_small(few_digits, QUICK, epochs=1, on_failed_capture=lambda: failures.append(None))
    assert len(failures) == 1 and without_seconds(outcome) == without_seconds(expected)
    train_small(few_digits, QUICK, epochs=0.01, uses_graphs=False)  # chooses nothing
    task = TrialTask(
        trial_id=0,
        space="nexception",
        config=load_space("nexception").default_config(),
        fidelity=0.01,
        seed=0,
        width=0.02,
        recipe=QUICK,
        data=DataRequest(name="digits", root="", split_seed=0, validation_fraction=0.2),
    )
    with pytest.raises(NewProcessNeeded):  # of a trial, which is then no failure
        evaluate(task)


def test_a_step_off_cuda_is_eager() -> None:
    eager = EagerStep(small_network(), Recipe(), torch.device("cpu"))
    assert choose_step(eager, torch.randn(2, 1, 8, 8), torch.rand(2, 10), num_steps=10**6) is eager


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_graphed_step_leaves_the_eager_steps_gradients_and_statistics() -> None:
    results = []
    for is_graphed in (False, True):
        network = small_network().cuda().train()
        recipe = Recipe(precision="float32")
        step.set_float32_precision(recipe)
        eager = EagerStep(network, recipe, torch.device("cuda"))
        generator = torch.Generator().manual_seed(0)
        batches = [
            (torch.randn(8, 1, 8, 8, generator=generator), torch.rand(8, 10, generator=generator)) for _ in range(4)
        ]
        batches = [(images.cuda(), targets.cuda()) for images, targets in batches]
        gradient_step = step.GraphedStep(eager, *batches[0]) if is_graphed else eager
        losses = [gradient_step(*batch).clone() for batch in batches]
        gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
        results.append([*losses, *gradients, *(buffer.clone() for buffer in network.buffers())])
    assert all(torch.allclose(a.float(), b.float(), atol=1e-5) for a, b in zip(*results, strict=True))


@pytest.mark.gpu
@NEEDS_CUDA
def test_choosing_a_step_changes_neither_network_nor_random_state() -> None:
    network = small_network().cuda().train()
    set_drop_path(network, 0.2)
    eager = EagerStep(network, Recipe(), torch.device("cuda"))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    random_state = torch.cuda.get_rng_state()
    choose_step(eager, torch.randn(8, 1, 8, 8).cuda(), torch.rand(8, 10).cuda(), num_steps=10**6)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert torch.equal(torch.cuda.get_rng_state(), random_state)


@pytest.mark.gpu
@NEEDS_CUDA
def test_a_training_on_cuda_learns_and_continues(digits: Dataset, tmp_path: Path) -> None:
    recipe = dataclasses.replace(QUICK, precision="auto")
    _, outcome = train_small(
        digits, recipe, epochs=3, device="cuda", checkpoint_to=tmp_path / "a.pt", schedule_epochs=5
    )
    assert outcome.val_accuracy is not None and outcome.val_accuracy > 0.75
    _, outcome = train_small(digits, recipe, epochs=5, device="cuda", checkpoint_from=tmp_path / "a.pt")
    assert outcome.epochs_run == 2 and outcome.val_accuracy is not None and outcome.val_accuracy > 0.8
