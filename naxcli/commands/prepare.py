"""Preparing a space: zero-cost metrics of a sample of it, measured on workers, and the ensemble that is pretrained on them."""

from __future__ import annotations

import dataclasses
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from naxcli.errors import ExitCode, NaxcliError
from naxcli.records.files import check_target, guard_disk, write_atomically
from naxcli.records.trial import Config
from naxcli.search_space.contract import Space, shipped_spaces, space_digest
from naxcli.search_space.prepared import SUFFIX, PreparedSpace
from naxcli.search_space.zero_cost import SAMPLE_SEED, config_of, has_metrics, sample_to_measure

if TYPE_CHECKING:
    from ConfigSpace import ConfigurationSpace

    from naxcli.workers.pool import WorkerPool

CONFIGS_AT_ONCE = 8
MAX_ATTEMPTS = 2
# Of one machine, on which suggestions must not depend.
UNLEARNED = "latency_ms"


def prepare_space_file(
    space: Space,
    out: Path,
    *,
    shape: Mapping[str, float],
    workers: int | str = "auto",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> PreparedSpace:
    """Measure a space on this machine and write what a search with `ensemble` starts from into a file.

    Args:
        space: Loaded space with networks, or with `zero_cost`.
        out: File to write, `NAME.safetensors`.
        shape: `num_classes`, `in_channels`, `image_size` and `width` of the networks to measure.
        workers: Number of processes, or `auto`.
        on_progress: Told the configurations that were measured, and how many there are.

    Raises:
        NaxcliError: If the space has nothing to measure, no network of it can be built, or the file cannot be written.
    """
    from naxcli.workers.pool import WorkerPool
    from naxcli.workers.slots import local_slots
    from naxcli.workers.zero_cost import measure_configs

    if out.suffix != SUFFIX:
        raise NaxcliError(f"{out} is not named as a prepared space", hint=f"name it {out.with_suffix(SUFFIX)}")
    check_target(out, is_folder=False)
    reference = _reference(space, out)
    if not has_metrics(space):
        raise NaxcliError(
            f"space {space.name!r} has nothing to measure before a trial",
            why="it has neither build= nor zero_cost=",
            hint="a search with --searcher ensemble learns from its trials alone there",
        )
    with WorkerPool(measure_configs, slots=local_slots(workers=workers, threads=1)) as pool:
        prepared = prepare_on(pool, space, shape=shape, with_latency=True, on_progress=on_progress)
    if prepared is None or not len(prepared.metrics):
        raise NaxcliError(
            f"no configuration of space {space.name!r} could be measured",
            hint=f"naxcli space validate {space.origin} says what is wrong",
            exit_code=ExitCode.FAILED,
        )
    with guard_disk(out):
        write_atomically(out, dataclasses.replace(prepared, reference=reference).to_bytes())
    return prepared


def _reference(space: Space, out: Path) -> str:
    """Return what a prepared file names its space by, so that the user who names the file has named the code it loads."""
    if space.origin in shipped_spaces():
        return space.origin
    file = Path(space.origin)
    if file.suffix != ".py" or file.resolve().with_suffix(SUFFIX) != out.resolve():
        raise NaxcliError(
            f"{out} is not beside the space's file, with its name",
            why="a space is code, and a prepared file loads the one of its own name beside it and no other",
            hint=f"--out {shlex.quote(str(file.with_suffix(SUFFIX)))}"
            if file.suffix == ".py"
            else f"name the space by its file, not as {space.origin}",
        )
    return file.name


def prepare_on(
    pool: WorkerPool,
    space: Space,
    *,
    shape: Mapping[str, float],
    with_latency: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_notice: Callable[[str], None] = lambda text: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> PreparedSpace | None:
    """Return a space with metrics that a pool measures, None where it is stopped before the end.

    What the ensemble learns depends on the space and the shape alone.

    Args:
        pool: Workers to measure on.
        space: Loaded space with networks, or with `zero_cost`.
        shape: As above.
        with_latency: Whether latency is measured, which takes the networks' weights and time, and is not learned.
        on_progress: As above.
        on_notice: Told of configurations that could not be measured.
        should_stop: Asked between results.

    Raises:
        NaxcliError: If a worker cannot load the space.
    """
    configuration_space = space.configuration_space(SAMPLE_SEED)
    vectors = sample_to_measure(configuration_space)
    configs = [config_of(space, configuration_space, vector) for vector in vectors]
    metrics: list[Mapping[str, float]] = [{}] * len(configs)
    num_done = 0
    on_progress(0, len(configs))
    request = {
        "space": space.origin,
        "space_digest": space_digest(space),
        "shape": dict(shape),
        "with_latency": with_latency,
    }
    for start, measured in _measured(pool, request, configs, should_stop):
        metrics[start : start + len(measured)] = measured
        num_done += len(measured)
        on_progress(num_done, len(configs))
    if should_stop():
        return None
    names, known = _measured_by_most(metrics)
    if len(known) < len(configs):
        on_notice(
            f"{len(configs) - len(known)} of {len(configs)} configurations could not be measured, and are left out"
        )
    table = np.array([[metrics[index][name] for name in names] for index in known]).reshape(len(known), len(names))
    is_learned = [space.zero_cost is not None or not name.endswith(UNLEARNED) for name in names]
    return PreparedSpace(
        reference=space.origin,
        name=space.name,
        version=space.version,
        digest=space_digest(space),
        shape=dict(shape),
        metric_names=names,
        vectors=vectors[known],
        metrics=table,
        trunk=pretrained_trunk(configuration_space, vectors[known], table[:, is_learned]),
    )


def _measured(
    pool: WorkerPool, request: Mapping[str, Any], configs: Sequence[Config], should_stop: Callable[[], bool]
) -> Iterator[tuple[int, list[Mapping[str, float]]]]:
    """Yield the metrics of a few configurations at a time, with the index of the first; those that a worker died of are left out."""
    from naxcli.workers.batch import run_payloads
    from naxcli.workers.pool import WorkerLost
    from naxcli.workers.zero_cost import ZERO_COST

    starts = range(0, len(configs), CONFIGS_AT_ONCE)
    payloads: Iterator[tuple[int, Mapping[str, Any]]] = (
        (start, {**request, ZERO_COST: [dict(config) for config in configs[start : start + CONFIGS_AT_ONCE]]})
        for start in starts
    )
    for finished in run_payloads(pool, payloads, max_attempts=MAX_ATTEMPTS, should_stop=should_stop):
        if isinstance(finished.outcome, WorkerLost):
            continue
        if isinstance(finished.outcome, BaseException):
            raise finished.outcome
        yield finished.task_id, finished.outcome[ZERO_COST]


def _measured_by_most(metrics: Sequence[Mapping[str, float]]) -> tuple[tuple[str, ...], list[int]]:
    """Return the names of the metrics that most of the measured configurations have, and the indices of those that have them all."""
    measured = [values for values in metrics if values]
    counts = Counter(name for values in measured for name in values)
    names = tuple(sorted(name for name, count in counts.items() if 2 * count > len(measured)))
    return names, [index for index, values in enumerate(metrics) if names and all(name in values for name in names)]


def pretrained_trunk(
    configuration_space: ConfigurationSpace, vectors: npt.NDArray[np.float64], metrics: npt.NDArray[np.float64]
) -> tuple[npt.NDArray[np.float32], ...]:
    """Return the trunk that learned metrics, (num_configurations, num_metrics), where there are any."""
    from naxcli.measure.threads import one_thread
    from naxcli.searchers.deep_ensemble import Encoder, Ensemble

    encoder = Encoder(configuration_space)
    ensemble = Ensemble.untrained(encoder.num_columns, seed=SAMPLE_SEED)
    if not metrics.size:
        return ensemble.trunk
    # Sizes span orders of magnitude.
    scaled = np.where((metrics > 0).all(axis=0), np.log(np.maximum(metrics, 1e-30)), metrics)
    with one_thread():
        return ensemble.pretrained(encoder(vectors), scaled).trunk
