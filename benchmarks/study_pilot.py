"""What a small study can afford: seconds an epoch and accuracy of a space's references under an experiment's settings.

    python -m benchmarks.study_pilot FILE [--set recipe.learning_rate=5e-3 ...] [--fidelity 9] [--references xception]

FILE is an experiment (TOML). Each reference of its space is trained once as a trial of the search would train it, on one
thread and its split's validation images, to the fidelity asked for (the lowest where none is). Prints a line a reference:
CPU seconds an epoch with validation, and the validation accuracy after each epoch. It is how the sizes of
`experiments/nexception-cpu` were chosen.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from naxcli.data.dataset import load_dataset
from naxcli.search_space.contract import load_space
from naxcli.settings.sources import resolve
from naxcli.training.loop import seed_everything, train
from naxcli.training.request import TrainingRequest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--fidelity", type=float)
    parser.add_argument("--references", nargs="*")
    arguments = parser.parse_args()
    experiment = resolve(flags={}, assignments=arguments.set, experiment_file=arguments.experiment, has_networks=True)
    space = load_space(experiment.space)
    assert space.build is not None and experiment.data is not None
    dataset = load_dataset(
        experiment.data,
        root=Path(experiment.data_root),
        split_seed=experiment.seed,
        validation_fraction=experiment.validation_fraction,
        images_per_class=experiment.images_per_class,
        image_size=experiment.image_size,
    )
    torch.set_num_threads(1)
    epochs = arguments.fidelity or experiment.fidelity.min
    print(
        f"{len(dataset.train_labels):,} training and {len(dataset.validation_labels):,} validation images", flush=True
    )
    for name in arguments.references or space.reference:
        seed_everything(experiment.seed)
        network = space.build(
            dict(space.reference[name]),
            num_classes=dataset.num_classes,
            in_channels=dataset.in_channels,
            image_size=dataset.image_size,
            width=experiment.width,
        )
        started = time.process_time()
        request = TrainingRequest(recipe=experiment.trial_recipe(), epochs=epochs, seed=experiment.seed, device="cpu")
        outcome = train(network, dataset, request)
        seconds = (time.process_time() - started) / epochs
        curve = " ".join(f"{epoch.val_accuracy:.4f}" for epoch in outcome.curve if epoch.val_accuracy is not None)
        print(f"{name}: {seconds:.1f} CPU-s an epoch, loss {outcome.train_loss:.4f}, accuracy {curve}", flush=True)


if __name__ == "__main__":
    main()
