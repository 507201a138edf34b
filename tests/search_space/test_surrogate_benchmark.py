"""Recorded trials as a benchmark: what the forest answers, that it is a training repeated, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, OrdinalHyperparameter
from scipy.stats import spearmanr

from naxcli.commands.from_trials import write_space_from_trials
from naxcli.errors import NaxcliError
from naxcli.search_space.contract import Space, load_space, space_digest
from naxcli.search_space.enumeration import sample_configs
from naxcli.search_space.surrogate_benchmark import read_benchmark, space_from_trials

NOISE = 0.02


def configspace(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(name="own", seed=seed)
    se, ratio = Categorical("se", [False, True]), OrdinalHyperparameter("ratio", [0.25, 0.5])
    space.add(Categorical("kind", ["x", "y", "z"]), Float("rate", (1e-4, 1.0), log=True), se, ratio)
    space.add(EqualsCondition(ratio, se, True))
    return space


def true_cost(config: Any, fidelity: float) -> float:
    kind = {"x": 0.0, "y": 0.3, "z": 0.1}[config["kind"]]
    return float(0.3 + kind + 0.02 * np.log10(config["rate"]) ** 2 + 0.1 * config.get("ratio", 0.0) + 0.3 / fidelity)


def write_trials(folder: Path, *, number: int = 120, fidelities: tuple[float, ...] = (1.0, 3.0, 9.0)) -> Path:
    """Write the tables of a run of random configurations, of which every third reaches the next rung, and one of ten fails."""
    folder.mkdir(exist_ok=True)
    configspace().to_json(folder / "space.json")
    random = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    for index, config in enumerate(sample_configs(configspace(0), number, 0)):
        for rung, fidelity in enumerate(fidelities):
            if index % 3**rung:
                break
            columns = {f"config.{name}": config.get(name) for name in configspace()}
            failed = index % 10 == 9
            cost = None if failed else true_cost(config, fidelity) + random.normal(scale=NOISE)
            rows.append({"status": "crashed" if failed else "success", "fidelity": fidelity, "cost": cost, **columns})
    pd.DataFrame(rows).to_parquet(folder / "trials.parquet")
    return folder / "trials.parquet"


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_trials(tmp_path_factory.mktemp("recorded") / "run")


def test_expected_costs_rank_configurations_that_were_never_trained(trials: Path) -> None:
    benchmark = read_benchmark(trials)
    unseen = sample_configs(configspace(1), 200, 1)
    for fidelity in (1.0, 9.0):
        expected = benchmark.expected_costs(unseen, fidelity=fidelity)
        truth = [true_cost(config, fidelity) for config in unseen]
        assert spearmanr(expected, truth).statistic > 0.8
    assert benchmark.expected_costs(unseen, fidelity=9.0).mean() < benchmark.expected_costs(unseen, fidelity=1.0).mean()


def test_it_says_how_well_it_knows_each_fidelity(trials: Path) -> None:
    benchmark = read_benchmark(trials)
    assert benchmark.fidelities == (1.0, 3.0, 9.0)
    assert [rung.num_trials for rung in benchmark.rungs] == [108, 36, 12]  # without those that failed
    assert 0.5 < benchmark.rungs[0].r2 < 1
    assert all(rung.deviation > NOISE / 2 for rung in benchmark.rungs)


def test_what_has_no_structure_is_not_explained(tmp_path: Path) -> None:
    path = write_trials(tmp_path)
    table = pd.read_parquet(path)
    table["cost"] = np.random.default_rng(0).permutation(table["cost"])
    table.to_parquet(path)
    assert max(rung.r2 for rung in read_benchmark(path).rungs) < 0.2


def test_a_cost_is_a_training_repeated_and_seeds_deviate_as_much_as_is_unexplained(trials: Path) -> None:
    benchmark = read_benchmark(trials)
    config = benchmark.trials[0][0]
    costs = [benchmark.cost(config, fidelity=1.0, seed=seed) for seed in range(100)]
    assert benchmark.cost(config, fidelity=1.0, seed=7) == costs[7]
    assert read_benchmark(trials).cost(config, fidelity=1.0, seed=7) == costs[7]
    assert np.std(costs) == pytest.approx(benchmark.rungs[0].deviation, rel=0.2)
    assert np.mean(costs) == pytest.approx(benchmark.expected_costs([config], fidelity=1.0)[0], abs=0.01)


def test_the_written_file_is_a_space_wherever_its_folder_goes(tmp_path: Path) -> None:
    trials = write_trials(tmp_path / "run")
    benchmark = write_space_from_trials(trials, tmp_path / "bench.py", name="bench")
    space = load_space(str(tmp_path / "bench.py"))
    assert space.name == "bench"
    assert space.configuration_space(3).sample_configuration() == space.configuration_space(3).sample_configuration()
    assert space.evaluate is not None
    config = benchmark.trials[0][0]
    assert space.evaluate(config, fidelity=9.0, seed=1) == benchmark.cost(config, fidelity=9.0, seed=1)
    digest = space_digest(space)
    tmp_path.rename(moved := tmp_path.with_name(tmp_path.name + "-moved"))
    assert space_digest(load_space(str(moved / "bench.py"))) == digest


def test_a_space_of_a_file_beside_the_trials_moves_with_them(tmp_path: Path) -> None:
    trials = write_trials(tmp_path / "run")
    own = tmp_path / "own.py"
    own.write_text(
        "from pathlib import Path\n"
        "from ConfigSpace import ConfigurationSpace\n"
        "from naxcli import Space\n\n\n"
        "def configspace(seed=None):\n"
        "    space = ConfigurationSpace.from_json(Path(__file__).parent / 'run' / 'space.json')\n"
        "    space.seed(seed)\n"
        "    return space\n\n\n"
        "def evaluate(config, *, fidelity, seed):\n"
        "    return 0.0\n\n\n"
        'SPACE = Space(name="own", configspace=configspace, evaluate=evaluate)\n'
    )
    write_space_from_trials(trials, tmp_path / "bench.py", name="bench", space=load_space(str(own)))
    assert str(tmp_path) not in (tmp_path / "bench.py").read_text()
    (other := tmp_path / "other").mkdir()
    for name in ("own.py", "bench.py", "run"):
        (tmp_path / name).rename(other / name)
    assert load_space(str(other / "bench.py")).name == "bench"


def test_the_space_of_the_trials_keeps_what_it_knows_beside_its_configurations(trials: Path) -> None:
    def build(config: Any, **sizes: Any) -> None:
        """No network is needed."""

    def canonical(config: Any) -> Any:
        return {**config, "kind": "x"} if config["kind"] == "z" else config

    own = Space(
        name="own",
        configspace=configspace,
        build=build,
        canonical=canonical,
        reference={"first": {"kind": "x", "rate": 0.1, "se": False}},
    )
    space = space_from_trials(trials, name="bench", space=own)
    assert space.build is build
    assert list(space.reference) == ["first"]
    assert not space.is_trained
    assert {config["kind"] for config, _, _ in read_benchmark(trials, space=own).trials} == {"x", "y"}


@pytest.mark.parametrize(
    ("fidelities", "ladder"), [((1.0, 3.0, 9.0), "1:9:3"), ((4.0,), "4"), ((2.0, 8.0), "2:8:4"), ((1.0, 2.0, 9.0), "9")]
)
def test_the_fidelities_are_named_as_a_search_takes_them(
    tmp_path: Path, fidelities: tuple[float, ...], ladder: str
) -> None:
    assert read_benchmark(write_trials(tmp_path, number=40, fidelities=fidelities)).ladder == ladder


def test_other_trials_than_those_of_the_file_are_refused(tmp_path: Path) -> None:
    path = write_trials(tmp_path)
    write_space_from_trials(path, tmp_path / "bench.py", name="bench")
    table = pd.read_parquet(path)
    table.sample(frac=1, random_state=0).to_parquet(path)
    load_space(str(tmp_path / "bench.py"))  # the same in another order
    table.assign(cost=table["cost"] + 0.1).to_parquet(path)
    with pytest.raises(NaxcliError, match="has other trials than the benchmark was made of"):
        load_space(str(tmp_path / "bench.py"))


def test_a_fidelity_that_was_not_recorded_is_refused_with_those_that_were(trials: Path) -> None:
    benchmark = read_benchmark(trials)
    with pytest.raises(NaxcliError, match="no trials at fidelity 27") as refusal:
        benchmark.cost(benchmark.trials[0][0], fidelity=27.0, seed=0)
    assert "1, 3, 9" in str(refusal.value)
    assert "--fidelity 1:9:3" in str(refusal.value)


def test_bad_input_is_refused(tmp_path: Path, trials: Path) -> None:
    with pytest.raises(NaxcliError, match="at least 20"):
        read_benchmark(write_trials(tmp_path / "few", number=12))
    (tmp_path / "few" / "space.json").unlink()
    with pytest.raises(NaxcliError, match=r"no file .*space\.json"):
        read_benchmark(tmp_path / "few" / "trials.parquet")
    other = ConfigurationSpace({"kind": ["x", "y", "z"], "depth": (1, 9)})
    with pytest.raises(NaxcliError, match="not the hyperparameters depth"):
        read_benchmark(trials, space=Space(name="other", configspace=lambda seed: other, evaluate=true_cost))
    with pytest.raises(NaxcliError, match="not named as a space"):
        write_space_from_trials(trials, tmp_path / "bench.json", name="bench")
    with pytest.raises(NaxcliError, match="not made of letters"):
        write_space_from_trials(trials, tmp_path / "my bench.py", name="my bench")
    with pytest.raises(NaxcliError, match="no folder"):
        write_space_from_trials(trials, tmp_path / "missing" / "bench.py", name="bench")
    assert not list(tmp_path.glob("*.py"))
