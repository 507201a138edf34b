"""An outline says the same of a space as its whole file, and imports no torch; where it might not, there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from naxcli.enumeration import sample_configs
from naxcli.errors import NaxcliError
from naxcli.evaluate import TrialTask, evaluate
from naxcli.outline import outline_of
from naxcli.space import load_space, space_digest, space_source
from tests.commands import naxcli

HEAD = """
from __future__ import annotations
import random
import torch
from torch import nn
from ConfigSpace import Categorical, ConfigurationSpace
from naxcli import Space
CHOICES = [1, 2]
class Network(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(CHOICES[0] * width, 2)
def build(config, *, num_classes, in_channels, image_size, width=1.0):
    return Network(config["width"])
def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("width", CHOICES))
    return space
"""
SPACE = 'SPACE = Space(name="small", configspace=configspace, build=build)\n'


def run_without_torch(code: str) -> str:
    """Run code in a process of its own that ends in an error if torch was imported."""
    code += "\nimport sys; assert not {'torch', 'timm', 'torchvision'} & sys.modules.keys()"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_outline_of_nexception_says_what_the_whole_file_says() -> None:
    outline, whole = load_space("nexception", only_outline=True), load_space("nexception")
    assert outline.build is not whole.build
    assert space_digest(outline) == space_digest(whole)
    assert space_source(outline) == space_source(whole)
    for name in ("name", "version", "groups", "reference", "paper", "origin"):
        assert getattr(outline, name) == getattr(whole, name)
    for config in sample_configs(whole.configuration_space(1), 300, seed=1):
        assert outline.canonicalise(config) == whole.canonicalise(config)
    assert outline.merged_choices() == whole.merged_choices()
    assert dict(outline.variants).keys() == whole.variants.keys() and len(outline.variants) == 3


def test_what_was_put_off_is_loaded_when_it_is_called() -> None:
    outline, whole = load_space("nexception", only_outline=True), load_space("nexception")
    assert outline.build is not None and whole.build is not None
    sizes = {"num_classes": 10, "in_channels": 1, "image_size": 8, "width": 0.0625}
    first, second = (space.build(whole.reference["nexception"], **sizes) for space in (outline, whole))
    assert [tensor.shape for tensor in first.parameters()] == [tensor.shape for tensor in second.parameters()]


def test_an_outline_imports_no_torch() -> None:
    code = "from naxcli.space import load_space; print(len(load_space('nexception', only_outline=True).reference))"
    assert run_without_torch(code) == "2\n"


def test_a_search_imports_no_torch(tmp_path: Path) -> None:
    flags = ["search", "--space", "nexception", "--data", "digits", "--epochs", "1", "--trials", "1", "--workers", "1"]
    flags += ["--set", "width=0.0625", "--run", str(tmp_path / "run"), "--quiet"]
    code = f"import sys; sys.argv = ['naxcli', *{flags!r}]\nfrom naxcli.cli import main\n"
    code += "if __name__ == '__main__':\n    try: main()\n    except SystemExit as end: print(end.code)"
    script = tmp_path / "searching.py"
    script.write_text(code + "\n    assert not {'torch', 'timm', 'torchvision'} & sys.modules.keys()\n")
    shown = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[-1] == "0"


@pytest.mark.parametrize(
    ("part", "choices"),
    [
        ("", [1, 2]),
        ("random.seed(3)\n", [1, 2]),
        ("try:\n    import timm\nexcept ImportError:\n    timm = None\n", [1, 2]),
        ("NAMES = {'small': Network}\n", [1, 2]),
        ("def helper(x: torch.Tensor) -> None: ...\n", [1, 2]),
        ("def helper():\n    import torch\n    return 1\nCHOICES.append(3)\n", [1, 2, 3]),
    ],
)
def test_networks_are_left_out_of_an_outline(part: str, choices: list[int], tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(HEAD + part + SPACE)
    assert outline_of(file.read_text()) is not None
    code = f"from naxcli.space import load_space; space = load_space({str(file)!r}, only_outline=True).configuration_space()"
    assert run_without_torch(code + "; print(list(space['width'].choices))") == f"{choices}\n"
    assert space_digest(load_space(str(file), only_outline=True)) == space_digest(load_space(str(file)))


@pytest.mark.parametrize(
    "part",
    [
        "CHOICES = [int(torch.ones(1)), 3]\n",
        "CHOICES.append(int(torch.ones(1)) + 2)\n",
        "for number in torch.arange(3, 5).tolist():\n    CHOICES.append(number)\n",
        "def grow(kind):\n    CHOICES.append(3)\n    return kind\n@grow\nclass Other(nn.Module): ...\n",
        "def grow(kind):\n    also_grow()\ndef also_grow():\n    CHOICES.append(3)\ngrow(Network)\n",
        "def grow(choice):\n    global CHOICES\n    CHOICES = [choice]\ngrow(int(torch.ones(1)))\n",
        "class Registry:\n    def add(kind):\n        CHOICES.append(3)\nRegistry.add(Network)\n",
        "class Other(nn.Module):\n    CHOICES.append(3)\n",
        "if torch.cuda.is_available() or True:\n    CHOICES = [1, 5]\n",
        "from torch.nn import *\n",
        "def configspace(seed=None):\n    space = ConfigurationSpace(seed=seed)\n"
        "    space.add(Categorical('width', [int(torch.ones(1))]))\n    return space\n",
        "configspace = (lambda kind, function: function)(Network, configspace)\n",
    ],
)
def test_there_is_no_outline_where_the_configurations_may_depend_on_what_is_left_out(part: str, tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(HEAD + part + SPACE)
    assert outline_of(file.read_text()) is None
    assert space_digest(load_space(str(file), only_outline=True)) == space_digest(load_space(str(file)))


@pytest.mark.parametrize("last", ["SPACE = make_space()\n", "SPACE = Space(**{})\n", SPACE + SPACE, "NAME = 1\n"])
def test_there_is_no_outline_of_a_space_made_in_another_way(last: str) -> None:
    assert outline_of(HEAD + last) is None


def test_a_broken_file_shows_its_error_as_before(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(HEAD + "raise RuntimeError('no such thing')\n" + SPACE)
    with pytest.raises(NaxcliError, match="does not import") as caught:
        load_space(str(file), only_outline=True)
    assert "no such thing" in caught.value.why


def test_a_file_whose_networks_do_not_import_ends_the_search_with_their_error(tmp_path: Path) -> None:
    file = tmp_path / "small.py"
    file.write_text(HEAD + "LAYER = nn.NoSuchLayer()\n" + SPACE)
    flags = ["--data", "digits", "--epochs", "1", "--trials", "2", "--workers", "1", "--run", tmp_path / "run"]
    ended = naxcli("search", "--space", file, *flags)
    assert ended.returncode != 0
    assert "does not import" in ended.stderr and "NoSuchLayer" in ended.stderr and "Traceback" not in ended.stderr


def test_a_worker_refuses_a_space_that_was_edited_while_the_search_ran(tmp_path: Path) -> None:
    file = tmp_path / "objective.py"
    head = "from ConfigSpace import Categorical, ConfigurationSpace\nfrom naxcli import Space\n"
    body = "def configspace(seed=None):\n    space = ConfigurationSpace(seed=seed)\n    space.add(Categorical('a', [1, 2]))\n"
    body += "    return space\ndef evaluate(config, *, fidelity, seed):\n    return config['a'] {sign} 1\n"
    last = "SPACE = Space(name='objective', configspace=configspace, evaluate=evaluate)\n"
    file.write_text(head + body.format(sign="+") + last)
    digest = space_digest(load_space(str(file)))
    task = TrialTask(trial_id=1, space=str(file), config={"a": 1}, fidelity=1.0, seed=0, space_digest=digest)
    file.write_text(head + "# A comment changes nothing.\n" + body.format(sign="+") + last)
    assert evaluate(task).cost == 2.0
    other = tmp_path / "edited.py"
    other.write_text(head + body.format(sign="-") + last)
    with pytest.raises(NaxcliError, match="another space"):
        evaluate(TrialTask(trial_id=2, space=str(other), config={"a": 1}, fidelity=1.0, seed=0, space_digest=digest))
