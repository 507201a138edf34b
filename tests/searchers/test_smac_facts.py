"""How SMAC and ConfigSpace really behave: each fact that `naxcli.searchers` works around, held against the installed ones.

A test that fails after an upgrade says which workaround can go.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import (
    Categorical,
    Configuration,
    ConfigurationSpace,
    Constant,
    EqualsCondition,
    ForbiddenAndConjunction,
    ForbiddenEqualsClause,
    Integer,
    OrdinalHyperparameter,
)
from smac import HyperparameterOptimizationFacade, MultiFidelityFacade, Scenario
from smac.acquisition.function import EI
from smac.acquisition.maximizer.local_search import LocalSearch
from smac.main.config_selector import ConfigSelector
from smac.main.exceptions import ConfigurationSpaceExhaustedException
from smac.model.random_forest import RandomForest
from smac.runhistory import RunHistory, StatusType, TrialInfo, TrialValue
from smac.runhistory.encoder import RunHistoryLogScaledEncoder

from naxcli.records.trial import Suggestion
from naxcli.search_space.enumeration import count_configurations, sample_configs
from naxcli.searchers.costs import log_scaled, scalarised
from naxcli.searchers.history import Told
from naxcli.searchers.smac import ExpectedImprovement

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def flat_space() -> ConfigurationSpace:
    """24 configurations."""
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("a", [0, 1, 2]), Categorical("b", ["x", "y"]), OrdinalHyperparameter("c", [1, 2, 3, 4]))
    return space


def conditional_space() -> ConfigurationSpace:
    space = flat_space()
    child = Categorical("child", [64, 128])
    space.add(child)
    space.add(EqualsCondition(child, space["b"], "y"))
    return space


def quick_forest(space: ConfigurationSpace) -> RandomForest:
    return RandomForest(space, log_y=True, n_trees=10, n_jobs=1, max_leaf_nodes=None, seed=0)


def facade(
    directory: Path, space: ConfigurationSpace, *, kind: Any = HyperparameterOptimizationFacade, **scenario: Any
) -> Any:
    """SMAC as its documentation builds it for ask and tell, but for a forest that is quick to build."""
    settings = {"deterministic": True, "n_trials": 1000, "seed": 0, "name": "facts"} | scenario
    scenario = Scenario(space, output_directory=directory, **settings)
    return kind(
        scenario,
        lambda config, seed=0, budget=None: 0.0,
        logging_level=False,
        model=quick_forest(space),
        initial_design=kind.get_initial_design(scenario, n_configs=4),
        intensifier=None if kind is MultiFidelityFacade else kind.get_intensifier(scenario, max_config_calls=1),
    )


def cost_of(configuration: Configuration) -> float:
    return 0.1 + 0.1 * configuration["a"] + 0.05 * (configuration["b"] == "x")


def asked_and_told(smac: Any, number: int) -> list[TrialInfo]:
    infos = []
    for _ in range(number):
        infos.append(smac.ask())
        smac.tell(infos[-1], TrialValue(cost=cost_of(infos[-1].config)), save=False)
    return infos


# Versions and dependencies


def test_the_project_asks_for_the_first_smac_that_imports_with_scikit_learn_1_9() -> None:
    dependencies = tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
    assert "smac>=2.4.1" in dependencies


# Forest


def test_the_forest_preallocates_and_uses_all_threads_unless_told_otherwise() -> None:
    parameters = inspect.signature(RandomForest).parameters
    assert parameters["max_leaf_nodes"].default == 2**20
    assert parameters["n_jobs"].default == -1
    facade_parameters = inspect.signature(HyperparameterOptimizationFacade.get_model).parameters
    assert not {"max_leaf_nodes", "n_jobs"} & set(facade_parameters), "the facade cannot turn either off"


def test_ours_does_neither_and_takes_the_facades_other_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}
    original = RandomForest.__init__

    def spy(self: RandomForest, *arguments: Any, **settings: Any) -> None:
        seen.update(settings)
        original(self, *arguments, **settings)

    monkeypatch.setattr(RandomForest, "__init__", spy)
    vectors = np.array([configuration.get_array() for configuration in flat_space().sample_configuration(8)])
    ExpectedImprovement(flat_space(), vectors=vectors, costs=np.linspace(0.1, 0.8, 8), num_trees=7, seed=3)
    assert seen == {
        "n_trees": 7,
        "ratio_features": 5 / 6,
        "min_samples_split": 2,
        "min_samples_leaf": 1,
        "max_leaf_nodes": None,
        "n_jobs": 1,
        "seed": 3,
    }


def test_averaging_a_leaf_before_the_logarithm_changes_nothing_where_a_leaf_is_one_trial() -> None:
    space = flat_space()
    vectors = np.unique([configuration.get_array() for configuration in space.sample_configuration(40)], axis=0)
    values = np.log(np.random.default_rng(0).uniform(0.1, 1, len(vectors)))[:, None]
    settings: dict[str, Any] = {
        "min_samples_split": 2,
        "min_samples_leaf": 1,
        "max_leaf_nodes": None,
        "n_jobs": 1,
        "n_trees": 10,
        "seed": 1,
    }
    slow, quick = (RandomForest(space, log_y=log_y, **settings).train(vectors, values) for log_y in (True, False))
    for slow_prediction, quick_prediction in zip(slow.predict(vectors), quick.predict(vectors), strict=True):
        np.testing.assert_allclose(slow_prediction, quick_prediction, atol=1e-9)


def test_choices_enter_the_forest_as_their_index_and_inactive_ones_as_their_number() -> None:
    space = conditional_space()
    model = RandomForest(space, n_jobs=1, max_leaf_nodes=None)
    configuration = Configuration(space, values={"a": 2, "b": "x", "c": 3})
    imputed = model._impute_inactive(configuration.get_array()[None])[0]
    assert dict(zip(space, imputed, strict=True)) == {"a": 2, "b": 0, "c": 2, "child": 2}


# Selector and maximizer


def test_the_best_predicted_cost_is_asked_for_one_row_at_a_time() -> None:
    class CountingModel:
        num_calls = 0

        def predict_marginalized(self, vectors: Any) -> Any:
            self.num_calls += 1
            return np.zeros((len(vectors), 1)), np.ones((len(vectors), 1))

    selector = ConfigSelector(Scenario(flat_space(), name="facts"))
    selector._model = CountingModel()  # type: ignore[assignment]
    selector._get_x_best(np.zeros((50, 3)))
    assert selector._model.num_calls == 50  # type: ignore[union-attr]


def test_the_model_is_retrained_only_every_eighth_configuration_by_default() -> None:
    assert inspect.signature(ConfigSelector).parameters["retrain_after"].default == 8


@pytest.mark.parametrize(("configspace", "is_dead"), [(flat_space, False), (conditional_space, True)])
def test_local_search_skips_every_neighbour_of_a_configuration_with_an_inactive_hyperparameter(
    configspace: Any, is_dead: bool
) -> None:
    space = configspace()
    scored: list[Configuration] = []

    def acquisition(configurations: list[Configuration]) -> np.ndarray:
        scored.extend(configurations)
        return np.array([[-cost_of(configuration)] for configuration in configurations])

    search = LocalSearch(space, acquisition, seed=0)  # type: ignore[arg-type]
    start = Configuration(space, values={"a": 1, "b": "x", "c": 2})
    search._search([start])
    assert all(configuration == start for configuration in scored) == is_dead


def test_ours_climbs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    from naxcli.searchers.neighbours import one_exchange

    space = conditional_space()
    start = Configuration(space, values={"a": 1, "b": "x", "c": 2})
    neighbours = one_exchange(space, start.get_array(), np.random.default_rng(0))
    found = [dict(Configuration(space, vector=neighbour)) for neighbour in neighbours]
    assert len(found) == 2 + 1 + 2
    assert {config.get("child") for config in found if config["b"] == "y"} == {64}


# Numbers: ours are SMAC's


def trial(cost: Any, config: Any = None) -> Told:
    return Told(suggestion=Suggestion(config=config or {"a": 0}, fidelity=1, seed=0), cost=cost)


def test_log_scaled_costs_are_those_of_smacs_encoder() -> None:
    space = flat_space()
    encoder = RunHistoryLogScaledEncoder(Scenario(space, name="facts"))
    encoder.runhistory = RunHistory()
    configurations = space.sample_configuration(15)
    costs = np.random.default_rng(0).uniform(0.1, 0.9, 15)
    for index, cost in enumerate(costs):
        encoder.runhistory.add(configurations[index], cost=float(cost), seed=index)
    np.testing.assert_allclose(log_scaled(costs), encoder.transform()[1][:, 0], rtol=1e-12)


def test_expected_improvement_is_that_of_smacs_public_function() -> None:
    space = conditional_space()
    configurations = space.sample_configuration(40)
    vectors = np.array([configuration.get_array() for configuration in configurations])
    costs = np.array([cost_of(configuration) for configuration in configurations[:20]])
    ours = ExpectedImprovement(space, vectors=vectors[:20], costs=costs, num_trees=10, seed=5)
    model = RandomForest(
        space,
        n_trees=10,
        ratio_features=5 / 6,
        min_samples_split=2,
        min_samples_leaf=1,
        n_jobs=1,
        seed=5,
        max_leaf_nodes=None,
    ).train(vectors[:20], log_scaled(costs)[:, None])
    theirs = EI(log=True)
    theirs.update(model, eta=min(model.predict_marginalized(row[None])[0].item() for row in vectors[:20]))
    np.testing.assert_allclose(ours(vectors), theirs(configurations)[:, 0], rtol=1e-12)


def test_equal_costs_are_scaled_without_a_division_by_zero() -> None:
    for cost in (0.0, 0.25, 1e9):
        assert np.isfinite(log_scaled(np.full(5, cost))).all()


# Ask and tell


def test_smacs_limits_do_nothing_in_ask_and_tell(tmp_path: Path) -> None:
    smac = facade(tmp_path, flat_space(), n_trials=6, walltime_limit=0.001, trial_walltime_limit=1)
    assert len(asked_and_told(smac, 12)) == 12


def test_smac_writes_files_as_soon_as_it_is_built_and_every_tell_writes_them_again(tmp_path: Path) -> None:
    smac = facade(tmp_path, flat_space())
    written = {path.name: path for path in tmp_path.rglob("*.json")}
    assert {"scenario.json", "configspace.json", "runhistory.json", "intensifier.json", "optimization.json"} <= set(
        written
    )
    before = written["runhistory.json"].read_text()
    asked_and_told(smac, 2)
    assert written["runhistory.json"].read_text() == before, "with save=False"
    smac.tell(smac.ask(), TrialValue(cost=0.5))
    assert written["runhistory.json"].read_text() != before


@pytest.mark.parametrize("cost", [float("inf"), float("nan")])
def test_a_cost_that_is_not_finite_breaks_a_later_fit(tmp_path: Path, cost: float) -> None:
    smac = facade(tmp_path, flat_space())
    asked_and_told(smac, 3)
    smac.tell(smac.ask(), TrialValue(cost=cost, status=StatusType.CRASHED), save=False)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        for info in [smac.ask() for _ in range(3)]:
            smac.tell(info, TrialValue(cost=0.3), save=False)


def test_a_huge_cost_squashes_the_log_scale_and_the_worst_seen_does_not() -> None:
    costs = np.linspace(0.1, 0.9, 40)
    assert np.ptp(log_scaled(np.append(costs, 1e9))[:40]) < 0.05 * np.ptp(log_scaled(costs)) or (
        np.median(log_scaled(np.append(costs, 1e9))[:40]) < -18
    )
    filled = scalarised([*(trial(float(cost)) for cost in costs), trial(None)], np.random.default_rng(0))
    assert filled[-1] == costs.max()
    np.testing.assert_allclose(log_scaled(filled)[:40], log_scaled(costs), atol=0.1)


@pytest.mark.parametrize("kind", [HyperparameterOptimizationFacade, MultiFidelityFacade])
def test_stock_smac_stops_before_the_end_of_a_finite_space(tmp_path: Path, kind: Any) -> None:
    """Now and then it does reach the end, by luck of its random draws; three seeds in a row do not."""
    budgets = {"min_budget": 1, "max_budget": 9} if kind is MultiFidelityFacade else {}
    numbers = []
    for seed in range(3):
        smac = facade(tmp_path, flat_space(), kind=kind, seed=seed, **budgets)
        seen = set()
        with pytest.raises(ConfigurationSpaceExhaustedException):
            while True:
                info = smac.ask()
                seen.add(tuple(info.config.get_array()))
                smac.tell(info, TrialValue(cost=cost_of(info.config)), save=False)
        numbers.append(len(seen))
    assert min(numbers) < 24


# Hyperband


def hyperband(directory: Path, space: ConfigurationSpace | None = None) -> Any:
    if space is None:
        space = ConfigurationSpace(seed=0)
        space.add(*(Categorical(name, [0, 1, 2, 3]) for name in "abcdef"))
        space.add(Constant("b_", "x"))
    scenario = Scenario(
        space,
        output_directory=directory,
        deterministic=True,
        n_trials=5000,
        seed=0,
        name="hb",
        min_budget=3,
        max_budget=27,
    )
    return MultiFidelityFacade(
        scenario,
        lambda config, seed=0, budget=None: 0.0,
        logging_level=False,
        model=quick_forest(space),
        initial_design=MultiFidelityFacade.get_initial_design(scenario, n_configs=20),
    )


def tell(smac: Any, info: TrialInfo) -> None:
    smac.tell(info, TrialValue(cost=0.1 * info.config["a"] + 0.01 * info.config["c"] + 1 / info.budget), save=False)


def test_smacs_hyperband_never_blocks_and_opens_brackets_without_end(tmp_path: Path) -> None:
    smac = hyperband(tmp_path)
    infos = [smac.ask() for _ in range(40)]
    assert {info.budget for info in infos} == {3.0, 9.0, 27.0}
    assert len({(tuple(info.config.get_array()), info.budget) for info in infos}) == 40


def test_smacs_budgets_are_floats_of_max_times_eta_to_a_negative_power(tmp_path: Path) -> None:
    smac = hyperband(tmp_path)
    smac.ask()
    assert smac.intensifier._budgets_in_stage[0] == [27 * 3.0**-2, 27 * 3.0**-1, 27.0]


def test_results_out_of_order_with_eight_in_flight_give_no_duplicate(tmp_path: Path) -> None:
    smac = hyperband(tmp_path)
    rng = np.random.default_rng(0)
    running, asked = [], []
    for _ in range(60):
        while len(running) < 8:
            running.append(smac.ask())
            asked.append((tuple(running[-1].config.get_array()), running[-1].budget))
        tell(smac, running.pop(int(rng.integers(8))))
    assert len(set(asked)) == len(asked)


def test_the_model_learns_only_from_the_highest_budget_with_enough_rows(tmp_path: Path) -> None:
    smac = hyperband(tmp_path)
    for _ in range(20):
        tell(smac, smac.ask())
    selector = smac.intensifier.config_selector
    at_maximum = sum(key.budget == 27.0 for key in smac.runhistory)
    assert 0 < at_maximum < 20
    assert len(selector._collect_data()[0]) == at_maximum
    selector._min_trials = at_maximum + 1
    assert len(selector._collect_data()[0]) == sum(key.budget == 9.0 for key in smac.runhistory)


def test_replaying_hyperband_without_its_state_falls_back_to_the_lowest_rung(tmp_path: Path) -> None:
    first = hyperband(tmp_path / "first")
    told = []
    for _ in range(30):
        told.append(first.ask())
        tell(first, told[-1])
    replayed = hyperband(tmp_path / "replayed")
    for info in told:
        tell(replayed, info)
    next_ones = [replayed.ask() for _ in range(12)]
    uninterrupted = [first.ask() for _ in range(12)]
    assert [info.budget for info in next_ones] != [info.budget for info in uninterrupted]
    assert sum(info.budget == 3.0 for info in next_ones) > 6


# SMAC's own files


def test_a_changed_scenario_asks_a_question_on_the_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_and_told(facade(tmp_path, flat_space()), 2)

    def refuse(prompt: str) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr("builtins.input", refuse)
    with pytest.raises(AssertionError, match="asked"):
        facade(tmp_path, flat_space(), walltime_limit=5)


def test_a_trial_saved_as_running_stays_running_for_ever(tmp_path: Path) -> None:
    smac = facade(tmp_path, flat_space())
    asked_and_told(smac, 2)
    lost = smac.ask()
    smac.tell(smac.ask(), TrialValue(cost=0.4))
    loaded = facade(tmp_path, flat_space())
    assert loaded.runhistory.running == 1
    later = [loaded.ask() for _ in range(10)]
    assert tuple(lost.config.get_array()) not in {tuple(info.config.get_array()) for info in later}


def test_a_truncated_intensifier_file_is_lost_without_an_error(tmp_path: Path) -> None:
    smac = facade(tmp_path, flat_space())
    asked_and_told(smac, 3)
    smac.tell(smac.ask(), TrialValue(cost=0.01))
    (saved,) = tmp_path.rglob("intensifier.json")
    saved.write_text(saved.read_text()[:20])
    assert facade(tmp_path, flat_space()).intensifier.trajectory == []


def test_saving_is_not_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smac = facade(tmp_path, flat_space())
    asked_and_told(smac, 3)
    (saved,) = tmp_path.rglob("runhistory.json")

    def break_off(data: Any, file: Any, **options: Any) -> None:
        file.write("{")
        raise OSError("disk full")

    monkeypatch.setattr(json, "dump", break_off)
    with pytest.raises(OSError, match="disk full"):
        smac.runhistory.save(saved)
    assert saved.read_text() == "{"


# ConfigSpace


def test_a_configuration_rebuilt_from_json_equals_the_sampled_one_but_hashes_differently() -> None:
    space = conditional_space()
    sampled = next(one for one in space.sample_configuration(20) if "child" in one)
    rebuilt = Configuration(
        space, values=json.loads(json.dumps({name: int(v) if name != "b" else str(v) for name, v in sampled.items()}))
    )
    assert rebuilt == sampled
    assert hash(rebuilt) != hash(sampled)
    from_vector = Configuration(space, vector=sampled.get_array().copy())
    assert hash(from_vector) == hash(Configuration(space, vector=rebuilt.get_array().copy()))


def test_values_leak_as_numpy_types_and_ours_are_plain() -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("word", ["x", "y"]), Integer("number", (1, 9)), Categorical("flag", [True, False]))
    leaked = {type(value) for value in dict(space.sample_configuration()).values()}
    assert any(kind.__module__ == "numpy" for kind in leaked)
    assert {type(value) for value in sample_configs(space, 1, seed=0)[0].values()} == {str, int, bool}


def test_hyperparameters_are_reordered() -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("z", [0, 1]), Categorical("m", [0, 1]), Categorical("a", [0, 1]))
    assert list(space) == ["a", "m", "z"]


def test_two_parents_need_an_explicit_conjunction() -> None:
    space = flat_space()
    child = Categorical("child", [0, 1])
    space.add(child, EqualsCondition(child, space["a"], 1))
    with pytest.raises(Exception, match=r"(?i)condition"):
        space.add(EqualsCondition(child, space["b"], "x"))


def test_integers_have_no_quantisation() -> None:
    assert "q" not in inspect.signature(Integer).parameters


def test_tuple_choices_do_not_survive_json(tmp_path: Path) -> None:
    space = ConfigurationSpace(seed=0)
    space.add(Categorical("shape", [(3, 3), (5, 5)]))
    space.to_json(tmp_path / "space.json")
    try:
        loaded = ConfigurationSpace.from_json(tmp_path / "space.json")
    except TypeError:
        return  # unhashable lists
    assert list(loaded["shape"].choices) != [(3, 3), (5, 5)]


def test_the_size_estimate_is_a_product_that_ignores_conditions() -> None:
    assert conditional_space().estimate_size() == 48
    assert count_configurations(conditional_space()) == 12 + 24


def test_forbidden_clauses_are_checked_one_by_one_for_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is why 1,700 of them do not scale, and constraints are predicates here."""
    space = flat_space()
    clauses = [
        ForbiddenAndConjunction(ForbiddenEqualsClause(space["a"], a), ForbiddenEqualsClause(space["c"], c))
        for a in (1, 2)
        for c in (2, 3, 4)
    ]
    space.add(*clauses)
    checked: list[int] = []
    original = ForbiddenAndConjunction.is_forbidden_vector_array

    def counting(self: ForbiddenAndConjunction, vectors: Any) -> Any:
        checked.append(vectors.shape[1])
        return original(self, vectors)

    monkeypatch.setattr(ForbiddenAndConjunction, "is_forbidden_vector_array", counting)
    space.sample_configuration(100)
    assert len(checked) >= len(clauses)
