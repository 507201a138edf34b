"""Our use of SMAC: quiet, exact where the space can be enumerated, and reasonable where it cannot."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ConfigSpace import Categorical, ConfigurationSpace, EqualsCondition, Float, Integer

from naxcli.records.trial import Config, ConfigValue, Suggestion, config_id
from naxcli.search_space.contract import Space, plain_config, to_configuration
from naxcli.search_space.enumeration import enumerate_configurations, sample_configs
from naxcli.searchers import FidelityRange, Searcher, make_searcher
from naxcli.searchers.candidates import Candidates
from naxcli.searchers.history import History
from naxcli.searchers.neighbours import mutate, one_exchange
from naxcli.searchers.process_model import ProcessModel, most_telling
from naxcli.searchers.smac import ExpectedImprovement, forest_seed, sobol_design
from naxcli.settings.choices import SEARCHER_MODELS

SINGLE = FidelityRange(min=3, max=3)
LADDER = FidelityRange(min=1, max=9, eta=3)
PACKAGE = Path(__file__).parents[2] / "naxcli"


def discrete_space(seed: int | None = None) -> ConfigurationSpace:
    """2,430 configurations."""
    space = ConfigurationSpace(seed=seed)
    switch, child = Categorical("switch", ["off", "on"]), Categorical("child", list(range(9)))
    space.add(switch, child, *(Categorical(name, [0, 1, 2]) for name in "abcde"))
    space.add(EqualsCondition(child, switch, "on"))
    return space


def continuous_space(seed: int | None = None) -> ConfigurationSpace:
    space = ConfigurationSpace(seed=seed)
    kind, inner = Categorical("kind", ["p", "q"]), Float("inner", (0.0, 1.0))
    space.add(Float("x", (-1.0, 1.0)), Float("y", (1e-4, 1.0), log=True), Integer("n", (1, 10**6)), kind, inner)
    space.add(EqualsCondition(inner, kind, "q"))
    return space


def discrete_cost(config: Config) -> float:
    return 0.2 + sum(abs(int(config[name]) - 1) for name in "abcde") / 10 + (int(config.get("child", 9)) - 4) ** 2 / 50


def continuous_cost(config: Config) -> float:
    inner = float(config["inner"]) if "inner" in config else 1.5
    return abs(float(config["x"]) - 0.3) + abs(np.log10(float(config["y"])) + 2) / 4 + abs(inner - 0.7)


def smac(
    configspace: Callable[[int | None], ConfigurationSpace],
    seed: int = 0,
    *,
    fidelity: FidelityRange = SINGLE,
    **options: Any,
) -> Searcher:
    space = Space(name="own", configspace=configspace, evaluate=discrete_cost)
    return make_searcher(
        "smac", space=space, configuration_space=configspace(seed), fidelity=fidelity, seed=seed, **options
    )


def search(searcher: Searcher, cost: Callable[[Config], float], number: int) -> list[Config]:
    configs = []
    for _ in range(number):
        suggestion = searcher.ask()
        assert suggestion is not None
        configs.append(suggestion.config)
        searcher.tell(suggestion, cost=cost(suggestion.config))
    return configs


def test_one_module_imports_smac() -> None:
    importing = re.compile(r"^\s*(from|import) smac\b", re.MULTILINE)
    assert [path.name for path in PACKAGE.rglob("*.py") if importing.search(path.read_text())] == ["smac.py"]


def test_naming_searchers_imports_neither_smac_nor_torch() -> None:
    code = "import sys, naxcli.searchers; print([name for name in ('smac', 'torch', 'sklearn') if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "[]"


@pytest.mark.parametrize(
    ("configspace", "cost"), [(discrete_space, discrete_cost), (continuous_space, continuous_cost)]
)
def test_smac_prints_nothing_asks_nothing_warns_of_nothing_and_writes_no_file(
    configspace: Callable[[int | None], ConfigurationSpace],
    cost: Callable[[Config], float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the terminal"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(smac(configspace), cost, 16)
    assert capfd.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_the_default_comes_first_and_then_a_design_that_balances_every_choice() -> None:
    configs = search(smac(discrete_space), discrete_cost, 10)
    assert configs[0] == plain_config(discrete_space().get_default_configuration())
    assert configs[1:] == sobol_design(discrete_space(), num_configs=9, seed=0)
    for name in "abcde":
        assert {config[name] for config in configs[1:]} == {0, 1, 2}


def test_the_suggestion_maximises_expected_improvement_over_all_open_configurations() -> None:
    """The forest's seed is known, so it can be grown again: no configuration scores higher than the suggested one."""
    searcher = smac(discrete_space, seed=3, model="forest")
    told = search(searcher, discrete_cost, 40)
    number = 40
    while np.random.default_rng([3, number]).random() < 0.1:
        told += search(searcher, discrete_cost, 1)
        number += 1
    suggestion = searcher.ask()
    assert suggestion is not None
    space = discrete_space()
    vectors = np.stack([to_configuration(space, config).get_array() for config in told])
    improvement = ExpectedImprovement(
        space,
        vectors=vectors,
        costs=np.array([discrete_cost(config) for config in told]),
        num_trees=20,
        seed=forest_seed(3, num_told=len(told)),
    )
    table = enumerate_configurations(space)
    assert table is not None
    scores = improvement(table.vectors())
    is_open = np.array([table.config(row) not in told for row in range(len(table))])
    row = table.row_of(suggestion.config)
    assert row is not None and is_open[row]
    assert scores[row] == scores[is_open].max()


class NoOpinion:
    """Suggests the next of the table."""

    def highest(self, candidates: Candidates, rng: np.random.Generator, factor: None) -> dict[str, ConfigValue] | None:
        assert candidates.table is not None
        return candidates.best(np.zeros(len(candidates.table)), rng)


def test_a_tenth_of_the_suggestions_is_random(monkeypatch: pytest.MonkeyPatch) -> None:
    num_drawn = 0
    draw = Candidates.draw

    def counting(self: Candidates, rng: np.random.Generator) -> dict[str, ConfigValue] | None:
        nonlocal num_drawn
        num_drawn += 1
        return draw(self, rng)

    monkeypatch.setattr(Candidates, "draw", counting)
    monkeypatch.setattr(ProcessModel, "surrogate", lambda *arguments: NoOpinion())
    search(smac(discrete_space), discrete_cost, 410)
    assert 20 < num_drawn < 65


@pytest.mark.parametrize("model", SEARCHER_MODELS)
def test_the_best_of_a_space_is_found_within_a_few_percent_of_it(model: str) -> None:
    for seed in range(2):
        configs = search(smac(discrete_space, seed=seed, model=model), discrete_cost, 70)
        assert min(map(discrete_cost, configs)) == pytest.approx(0.2)


def test_what_different_rungs_say_is_put_together() -> None:
    """The lowest rung has tried only a and b, the highest only c and d: the next suggestion has the best of all four."""
    pairs = list(itertools.product([0, 1, 2], repeat=2))
    start: dict[str, ConfigValue] = {"switch": "off", **dict.fromkeys("abcde", 0)}
    cheap = [{**start, "a": first, "b": second} for first, second in pairs]
    full = [{**start, "c": first, "d": second} for first, second in pairs]
    searcher = smac(discrete_space, fidelity=LADDER, seed=2)
    for config, fidelity in [*((config, 1.0) for config in cheap), *((config, 9.0) for config in full)]:
        suggestion = Suggestion(config=config, fidelity=fidelity, seed=2)
        searcher.note_asked(suggestion)
        searcher.tell(suggestion, cost=discrete_cost(config) + 0.3 / fidelity)
    reference = searcher.ask()
    assert reference is not None
    searcher.tell(reference, cost=discrete_cost(reference.config) + 0.3)
    suggestion = searcher.ask()
    assert suggestion is not None
    assert [suggestion.config[name] for name in "abcd"] == [1, 1, 1, 1]


def test_a_worker_is_not_sent_where_another_is_already_looking() -> None:
    """Nothing is claimed here, so that only the model knows of the running trial."""
    space = Space(name="own", configspace=discrete_space, evaluate=discrete_cost)
    candidates, history = Candidates(space=space, configuration_space=discrete_space(0)), History()
    for config in sample_configs(discrete_space(0), 15, seed=4):
        history.tell(Suggestion(config=config, fidelity=3.0, seed=0), discrete_cost(config))
    model = ProcessModel(discrete_space(0))
    found = []
    for _ in range(3):
        surrogate = model.surrogate(history, candidates, np.random.default_rng(0))
        assert surrogate is not None
        config = surrogate.highest(candidates, np.random.default_rng(0))
        assert config is not None
        found.append(config_id(config))
        history.ask(Suggestion(config=config, fidelity=3.0, seed=0))
    assert len(set(found)) == 3


def test_of_many_trials_those_of_the_highest_rungs_and_the_best_of_each_are_learned_from() -> None:
    fidelities = np.repeat([1.0, 3.0, 9.0], [900, 90, 10])
    targets = np.random.default_rng(0).random(1000)
    chosen = most_telling(fidelities, targets, 100)
    assert len(chosen) == len(set(chosen.tolist())) == 100
    by_rung = {rung: set(chosen[fidelities[chosen] == rung].tolist()) for rung in (1.0, 3.0, 9.0)}
    assert {rung: len(members) for rung, members in by_rung.items()} == {9.0: 10, 3.0: 45, 1.0: 45}
    for rung, members in by_rung.items():
        of_rung = np.flatnonzero(fidelities == rung)
        ranked = of_rung[np.argsort(targets[of_rung])]
        assert set(ranked[: len(members) // 2].tolist()) <= members
        assert ranked[-1] in members, "the worst says where not to look"


def test_a_few_results_are_all_learned_from() -> None:
    assert most_telling(np.ones(4), np.array([0.1, 0.4, 0.3, 0.2]), 100).tolist() == [0, 1, 2, 3]


REFERENCES: dict[str, Config] = {
    "plain": {"switch": "off", **dict.fromkeys("abcde", 2)},
    "rich": {"switch": "on", "child": 7, **dict.fromkeys("abcde", 0)},
}


@pytest.mark.parametrize("fidelity", [SINGLE, LADDER])
@pytest.mark.parametrize("name", ["smac", "ensemble"])
def test_references_follow_the_default_at_the_lowest_rung(name: str, fidelity: FidelityRange) -> None:
    space = Space(name="own", configspace=discrete_space, evaluate=discrete_cost)
    searcher = make_searcher(
        name,
        space=space,
        configuration_space=discrete_space(0),
        fidelity=fidelity,
        seed=0,
        references=[*REFERENCES.values()],
    )
    configs = search(searcher, discrete_cost, 4)
    assert configs[0] == plain_config(discrete_space().get_default_configuration())
    assert configs[1:3] == list(REFERENCES.values())
    assert len({config_id(config) for config in configs}) == 4
    asked = searcher.ask()
    assert asked is not None and asked.fidelity == fidelity.min


def test_a_reference_that_is_infeasible_or_the_default_is_left_out() -> None:
    default = plain_config(discrete_space().get_default_configuration())
    references = [default, *REFERENCES.values()]
    searcher = smac(discrete_space, references=references, is_feasible=lambda config: config["a"] != 2)
    configs = search(searcher, discrete_cost, 12)
    assert configs[:2] == [default, REFERENCES["rich"]]
    assert REFERENCES["plain"] not in configs


@pytest.mark.parametrize("name", ["random", "evolution"])
def test_random_search_and_evolution_are_as_they_are_without_references(name: str) -> None:
    space = Space(name="own", configspace=discrete_space, evaluate=discrete_cost)

    def found(references: list[Config]) -> list[Config]:
        searcher = make_searcher(
            name, space=space, configuration_space=discrete_space(0), fidelity=SINGLE, seed=0, references=references
        )
        return search(searcher, discrete_cost, 60)

    assert found([]) == found([*REFERENCES.values()])


def test_a_continuous_space_is_searched_better_than_by_chance() -> None:
    configs = search(smac(continuous_space), continuous_cost, 45)
    costs = [continuous_cost(config) for config in configs]
    assert min(costs[:10]) > min(costs)
    assert np.median(costs[30:]) < np.quantile(costs[:10], 0.25)


def test_neighbours_differ_in_one_hyperparameter_and_what_depends_on_it() -> None:
    space = discrete_space()
    start = to_configuration(space, {"switch": "on", "child": 3, "a": 0, "b": 1, "c": 2, "d": 0, "e": 1})
    neighbours = one_exchange(space, start.get_array(), np.random.default_rng(0))
    assert len(neighbours) == 5 * 2 + 8 + 1
    for neighbour in neighbours:
        changed = np.flatnonzero(~np.isclose(neighbour, start.get_array(), equal_nan=True))
        names = {list(space)[index] for index in changed}
        assert len(names) == 1 or names == {"switch", "child"}


def test_mutations_change_one_choice_and_draw_what_becomes_active() -> None:
    space = discrete_space()
    start = to_configuration(space, {"switch": "off", "a": 0, "b": 1, "c": 2, "d": 0, "e": 1}).get_array()
    rng = np.random.default_rng(0)
    children = set()
    for _ in range(200):
        vector = mutate(space, start, rng)
        assert vector is not None
        changed = {
            name for index, name in enumerate(space) if not np.isclose(vector[index], start[index], equal_nan=True)
        }
        assert len(changed) == 1 or changed == {"switch", "child"}
        if "child" in changed:
            children.add(vector[space.index_of["child"]])
    assert len(children) > 5, "drawn, not the default"
