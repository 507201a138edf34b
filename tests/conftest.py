"""Shared fixtures: a tiny evaluated space, a run directory, and the real CIFAR-100 where it exists."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
CIFAR_PACKS = REPOSITORY.parent / "shared" / "data" / "cifar100"

# As nohup leaves it: what the tests start would inherit it, and ignore a lost terminal as it should.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

TINY_SPACE = '''
"""A space of 60 configurations whose cost is known."""

import time

from ConfigSpace import Categorical, ConfigurationSpace, OrdinalHyperparameter

from naxcli import Space

SLEEP_SECONDS = 0.0


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(
        OrdinalHyperparameter("depth", [1, 2, 3, 4, 5]),
        Categorical("kind", ["x", "y", "z"]),
        Categorical("flag", ["no", "yes"]),
        Categorical("noise", ["p", "q"]),
    )
    return space


def evaluate(config, *, fidelity, seed):
    time.sleep(SLEEP_SECONDS)
    cost = 0.1 * abs(config["depth"] - 4) + {"x": 0.2, "y": 0.0, "z": 0.1}[config["kind"]]
    return {"cost": cost + (config["flag"] == "no") * 0.05 + 0.3 / fidelity, "num_params": config["depth"] * 100}


SPACE = Space(name="tiny", configspace=configspace, evaluate=evaluate, groups={"both": ["kind", "flag"]}, reference={
    "plain": {"depth": 1, "kind": "x", "flag": "no", "noise": "p"}})
'''


@pytest.fixture(scope="session", autouse=True)
def scratch(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a killed search leaves in the folder of temporary files lies in pytest's own, which it clears."""
    from tests.command_line import ENVIRONMENT

    folder = str(tmp_path_factory.mktemp("scratch"))
    for environment in (os.environ, ENVIRONMENT):
        environment["TMPDIR"] = folder
    tempfile.tempdir = None  # known from before


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trials run in the test's own process, one after another: a search that starts no workers takes moments."""
    from tests.inline import InlinePool, use_pool

    use_pool(InlinePool, monkeypatch)


@pytest.fixture
def not_loaded_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python export is taken as right: another process imports torch and timm to compare it, as other tests have it do."""
    monkeypatch.setattr("naxcli.export.python._load_back", lambda *_: 0.0)


@pytest.fixture
def tiny_space(tmp_path: Path) -> Path:
    """A space file whose evaluations take no time."""
    path = tmp_path / "tiny.py"
    path.write_text(TINY_SPACE)
    return path


@pytest.fixture
def slow_space(tmp_path: Path) -> Path:
    """The same space, a fifth of a second an evaluation."""
    path = tmp_path / "slow.py"
    path.write_text(TINY_SPACE.replace("SLEEP_SECONDS = 0.0", "SLEEP_SECONDS = 0.2"))
    return path


@pytest.fixture(scope="session")
def cifar_mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 + 5 real CIFAR-100 images a class; skips where the packs are not at hand."""
    if not (CIFAR_PACKS / "unpack.py").exists():
        pytest.skip("needs the CIFAR-100 packs in ../shared/data/cifar100")
    root = tmp_path_factory.mktemp("cifar")
    subprocess.run(
        [sys.executable, CIFAR_PACKS / "unpack.py", root, "--packs", "mini"], check=True, capture_output=True
    )
    return root
