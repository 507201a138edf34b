"""Searchers of the user's own: the documented contract, what breaks it, and going on with a search."""

from __future__ import annotations

from pathlib import Path

import pytest

from naxcli.commands.run import open_run
from naxcli.commands.session import SearchRequest, open_session
from naxcli.errors import NaxcliError
from naxcli.search.loop import EndReason
from tests.inline import search_inline
from tests.searchers.test_searchers import OWN, run, tiny_space

DOCUMENTATION = Path(__file__).parents[2] / "docs" / "searchers.md"
HEAD = """import random


class Mine:
    def __init__(self, space, *, seed, is_open):
        self.space = space
        space.seed(seed)

"""
ASK = "    def ask(self):\n        return self.space.sample_configuration()\n\n"
TELL = "    def tell(self, config, cost):\n        pass\n"
FINITE = HEAD.replace("self.space", "self.left, self.waits = list(range(3)), False; self.space") + (
    "    def ask(self):\n"
    "        return {'a': self.left.pop(), 'b': 'x', 'c': 1} if self.left and not self.waits else None\n\n"
    "    def tell(self, config, cost):\n        pass\n"
)


def written(folder: Path, text: str) -> str:
    (folder / "mine.py").write_text(text)
    return f"{folder / 'mine.py'}:Mine"


def test_the_documentation_shows_the_searcher_that_keeps_the_contract() -> None:
    example = Path(OWN.rpartition(":")[0]).read_text()
    assert f"```python\n{example}```\n" in DOCUMENTATION.read_text()


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        (HEAD + ASK, "cannot be called as tell(config, cost)", 4),
        (HEAD + TELL, "cannot be called as ask()", 4),
        (HEAD + ASK + "    def tell(self, cost):\n        pass\n", "cannot be called as tell(config, cost)", 12),
        (HEAD.replace(", is_open", "") + ASK + TELL, "cannot be called as NAME(space, *, seed, is_open)", 4),
        (HEAD.replace("space.seed(seed)", "space.sow(seed)") + ASK + TELL, "making of searcher mine.py:Mine raised", 7),
        (HEAD + ASK.replace("sample_", "draw_") + TELL, "ask of searcher mine.py:Mine raised AttributeError", 10),
        (HEAD + ASK + TELL.replace("pass", "cost[0]"), "tell of searcher mine.py:Mine raised TypeError", 13),
        (HEAD + ASK.replace("self.space.sample_configuration()", "3") + TELL, "ask returned int", 9),
        (HEAD + ASK.replace("self.space.sample_configuration()", "{'a': 7}") + TELL, "7 is not a value of a", 9),
        (
            HEAD + ASK.replace("self.space.sample_configuration()", "{'a': 1}") + TELL,
            "no configuration of the space",
            9,
        ),
        (HEAD + "    def ask(self:\n", "does not import", 9),
        ("def Mine(space, *, seed, is_open):\n    return space\n", "cannot be called as ask()", 1),
    ],
)
def test_a_searcher_that_breaks_the_contract_is_refused_with_the_line(
    text: str, what: str, line: int, tmp_path: Path
) -> None:
    with pytest.raises(NaxcliError) as error:
        run(written(tmp_path, text), configspace=tiny_space).until(3)
    assert what in str(error.value) and f"see line {line}" in error.value.hint


def test_a_searcher_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match=r"no class or function Nine"):
        run(written(tmp_path, HEAD + ASK + TELL).replace(":Mine", ":Nine"))
    with pytest.raises(NaxcliError, match="there is no searcher file"):
        run("nowhere.py:Mine")


def test_a_searcher_that_has_nothing_waits_for_results_and_ends_the_search_when_none_is_to_come(tmp_path: Path) -> None:
    name = written(tmp_path, FINITE)
    search = run(name, configspace=tiny_space, num_workers=5)
    asked = [search.searcher.ask() for _ in range(4)]
    assert [suggestion is None for suggestion in asked] == [False, False, False, True]
    assert not search.searcher.is_exhausted
    for suggestion in asked[:3]:
        assert suggestion is not None
        search.tell(suggestion)
    assert search.searcher.ask() is None
    assert search.searcher.is_exhausted


def test_answers_that_are_not_open_are_asked_for_again_and_at_last_drawn_at_random(tmp_path: Path) -> None:
    always = HEAD + ASK.replace("self.space.sample_configuration()", "{'a': 1, 'b': 'x', 'c': 1}") + TELL
    search = run(written(tmp_path, always), configspace=tiny_space).until(4)
    assert len({suggestion.config_id for suggestion in search.suggestions}) == 4
    assert "answered 20 times with what is not open" in search.searcher.notice()


def test_an_own_searcher_goes_on_where_it_was_and_is_refused_when_it_was_edited(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(OWN.rpartition(":")[0]).read_text()
    file = tmp_path / "annealing.py"
    file.write_text(text)
    searcher = f"{file}:Annealing"
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    search_inline(tiny_space, whole, monkeypatch, searcher=searcher, trials=14)
    search_inline(tiny_space, parts, monkeypatch, searcher=searcher, trials=5)
    (tmp_path / "elsewhere").mkdir()
    moved = tmp_path / "elsewhere" / "annealing.py"
    moved.write_text(f"# the same code\n{text}")
    search_inline(tiny_space, parts, monkeypatch, searcher=f"{moved}:Annealing", trials=14)
    first, second = (open_run(path).trials[["config_id", "searcher", "cost"]] for path in (whole, parts))
    assert first.equals(second) and set(first["searcher"]) == {"annealing.py:Annealing"}
    file.write_text(text.replace("0.97", "0.9"))
    with pytest.raises(NaxcliError, match=r"the searcher file of .* was edited") as error:
        search_inline(tiny_space, parts, monkeypatch, searcher=searcher, trials=20)
    assert "-        self.temperature *= 0.97" in error.value.why
    with pytest.raises(NaxcliError, match="only loaded when you name it"):
        open_session(SearchRequest(space=str(tiny_space), flags={}, run=str(parts)))
    with pytest.raises(NaxcliError, match=r"searcher: 'annealing\.py:Annealing' in the run, 'random' now"):
        open_session(SearchRequest(space=str(tiny_space), flags={"searcher": "random"}, run=str(parts)))


def test_a_searcher_that_answers_otherwise_than_before_goes_on_and_says_so(tmp_path: Path) -> None:
    unseeded = HEAD + ASK.replace("return", "self.space.seed(random.randrange(2**31))\n        return") + TELL
    name = written(tmp_path, unseeded)
    search = run(name).until(9)
    assert search.searcher.notice() == ""
    resumed = run(name, history=tuple(search.events), state=search.state).until(20)
    assert len({suggestion.config_id for suggestion in resumed.suggestions}) == 20
    assert "does not answer as it did" in resumed.searcher.notice()


def test_an_own_searcher_beside_the_random_baseline_ends_its_search_in_a_run(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = FINITE.replace(
        "{'a': self.left.pop(), 'b': 'x', 'c': 1}",
        "[*self.left, self.left.pop()] and self.space.sample_configuration()",
    )
    end = search_inline(tiny_space, tmp_path / "run", monkeypatch, searcher=written(tmp_path, text), trials=30)
    assert (end.reason, end.num_finished) == (EndReason.EXHAUSTED, 3)
