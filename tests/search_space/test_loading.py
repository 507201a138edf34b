"""A space's file is run whole, once in each process, and a worker holds it against the search's."""

from __future__ import annotations

from pathlib import Path

import pytest

from naxcli.errors import NaxcliError
from naxcli.search_space.contract import load_space, space_digest
from naxcli.workers.evaluate import evaluate
from naxcli.workers.task import TrialTask
from tests.command_line import naxcli

HEAD = """
from ConfigSpace import Categorical, ConfigurationSpace
from naxcli import Space
CHOICES = [1, 2]
def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("a", CHOICES))
    return space
"""
EVALUATED = """
def evaluate(config, *, fidelity, seed):
    return config["a"] {sign} 1
SPACE = Space(name="objective", configspace=configspace, evaluate=evaluate)
"""


@pytest.mark.parametrize(
    "statement",
    [
        "CHOICES = list(map(int, torch.arange(3, 7)))",
        "class Register:\n    def __init_subclass__(cls):\n        CHOICES.append(len(CHOICES) + 1)\n"
        "class First(Register, nn.Module): ...\nclass Second(Register, nn.Module): ...",
        "globals()['CHOICES'] = [1, 2, 3, int(torch.tensor(4))]",
    ],
)
def test_choices_may_depend_on_any_library(statement: str, tmp_path: Path) -> None:
    file = tmp_path / "counted.py"
    file.write_text(f"import torch\nfrom torch import nn\n{HEAD}\n{statement}\n{EVALUATED.format(sign='+')}")
    assert len(load_space(str(file)).configuration_space()["a"].choices) == 4


def test_a_file_whose_networks_do_not_import_ends_the_search_with_their_error(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(f"from torch import nn\n{HEAD}\nLAYER = nn.NoSuchLayer()\n{EVALUATED.format(sign='+')}")
    ended = naxcli("search", "--space", file, "--trials", "2", "--workers", "1", "--run", tmp_path / "run")
    assert ended.returncode != 0
    assert "does not import" in ended.stderr and "NoSuchLayer" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


def test_a_worker_refuses_a_space_that_was_edited_while_the_search_ran(tmp_path: Path) -> None:
    file = tmp_path / "objective.py"
    file.write_text(HEAD + EVALUATED.format(sign="+"))
    digest = space_digest(load_space(str(file)))
    task = TrialTask(trial_id=1, space=str(file), config={"a": 1}, fidelity=1.0, seed=0, space_digest=digest)
    file.write_text(f"{HEAD}\n# A comment changes nothing.\n{EVALUATED.format(sign='+')}")
    assert evaluate(task).cost == 2.0
    other = tmp_path / "edited.py"
    other.write_text(HEAD + EVALUATED.format(sign="-"))
    with pytest.raises(NaxcliError, match="another space"):
        evaluate(TrialTask(trial_id=2, space=str(other), config={"a": 1}, fidelity=1.0, seed=0, space_digest=digest))


def test_the_code_of_a_space_is_also_that_of_the_file_that_it_builds_on(tmp_path: Path) -> None:
    base, top = tmp_path / "base.py", tmp_path / "top.py"
    base.write_text(HEAD + EVALUATED.format(sign="+"))
    top.write_text(
        "import dataclasses\nfrom functools import partial\nfrom naxcli import load_space\n"
        f"BASE = load_space({str(base)!r})\n"
        "SPACE = dataclasses.replace(BASE, name='top', configspace=partial(BASE.configspace))\n"
    )
    before = space_digest(load_space(str(top)))
    base.write_text('"""Reworded."""\n' + HEAD + EVALUATED.format(sign="+"))
    assert space_digest(load_space(str(top))) == before
    base.write_text(HEAD + EVALUATED.format(sign="-"))
    assert space_digest(load_space(str(top))) != before
