"""The choice between ways to compute the same, without a device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from naxcli.training.kernels import choice
from naxcli.training.kernels.choice import Choices, choices_of_worker, works_on
from naxcli.training.kernels.lamb import FusedLamb


class Clock:
    """Times that are given; counts how often it is asked."""

    def __init__(self, **times: float) -> None:
        self.times = times
        self.num_asked = 0

    def __call__(self, ways: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
        self.num_asked += 1
        return {name: self.times[name] for name in ways}


WAYS: dict[str, Callable[[], Any]] = {"cudnn": lambda: 1, "native": lambda: 2, "triton": lambda: 3}


def test_the_fastest_way_is_chosen_and_measured_once_for_each_question() -> None:
    clock = Clock(cudnn=2.0, native=3.0, triton=1.0)
    choices = Choices(measure=clock)
    assert [choices.fastest("a", WAYS) for _ in range(3)] == ["triton"] * 3
    assert clock.num_asked == 1
    clock.times = {"cudnn": 1.0, "native": 3.0, "triton": 2.0}
    assert choices.fastest("b", WAYS) == "cudnn" and choices.fastest("a", WAYS) == "triton"
    assert copy.deepcopy(choices).fastest("a", WAYS) == "triton" and clock.num_asked == 2


def test_what_one_process_measured_another_one_does_not_measure_again(tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    first = Choices(path, Clock(cudnn=2.0, native=3.0, triton=1.0))
    second = Choices(path, Clock(cudnn=1.0, native=3.0, triton=2.0))
    assert first.fastest("a", WAYS) == second.fastest("a", WAYS) == "triton"
    assert second.fastest("b", WAYS) == first.fastest("b", WAYS) == "cudnn"


@pytest.mark.parametrize("content", ["", "[1, 2]", "{", '{"a": "gone"}'])
def test_a_file_that_says_nothing_useful_is_measured_again(content: str, tmp_path: Path) -> None:
    path = tmp_path / "choices.json"
    path.write_text(content)
    assert Choices(path, Clock(cudnn=2.0, native=3.0, triton=1.0)).fastest("a", WAYS) == "triton"


def test_where_nothing_can_be_written_the_choice_holds_in_the_process(tmp_path: Path) -> None:
    clock = Clock(cudnn=2.0, native=1.0, triton=3.0)
    choices = Choices(tmp_path / "missing" / "choices.json", clock)
    assert [choices.fastest("a", WAYS) for _ in range(2)] == ["native"] * 2 and clock.num_asked == 1


def test_a_way_that_fails_is_not_chosen_and_where_all_fail_the_first_is() -> None:
    def broken() -> None:
        raise RuntimeError("out of resource: shared memory")

    assert Choices().fastest("a", {"triton": broken, "cudnn": lambda: None}) == "cudnn"
    assert Choices().fastest("a", {"triton": broken, "cudnn": broken}) == "triton"


def test_where_measuring_finds_no_memory_the_first_way_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError

    def broken() -> None:
        raise RuntimeError("out of resource: shared memory")

    monkeypatch.setattr(torch, "empty", no_memory)
    assert Choices().fastest("a", {"cudnn": broken, "native": lambda: None, "triton": lambda: None}) == "native"


def test_while_a_graph_is_captured_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(cudnn=2.0, native=3.0, triton=1.0)
    choices = Choices(measure=clock)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert choices.fastest("a", WAYS) == "cudnn" and clock.num_asked == 0
    assert choices.fastest("a", WAYS) == "triton"


def test_each_kind_of_device_has_its_own_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(choice.CHOICES_VARIABLE, str(tmp_path / "kernels"))
    choices_of_worker.cache_clear()
    for name, times in (("NVIDIA A", {"cudnn": 1.0}), ("NVIDIA B", {"cudnn": 1.0})):
        choices = choices_of_worker(name)
        assert choices is choices_of_worker(name)
        monkeypatch.setattr(choices, "_measure", Clock(**times))
        choices.fastest("a", {"cudnn": lambda: 1})
    choices_of_worker.cache_clear()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_cpu_has_no_kernels() -> None:
    assert not works_on(torch.device("cpu"))


def test_without_triton_or_a_compiler_a_gpu_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    works_on.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "naxcli.training.kernels.depthwise", None)  # its import fails
    assert not works_on(torch.device("cuda"))
    works_on.cache_clear()


def test_kernels_of_lamb_that_take_another_step_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cpu")
    assert choice._is_lamb_right(device)
    monkeypatch.setattr(FusedLamb, "step_in_graph", lambda self: None)
    assert not choice._is_lamb_right(device)


@pytest.mark.parametrize("failing", [True, False])
def test_a_gpu_on_which_lambs_kernels_fail_or_are_wrong_has_none(
    failing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_lamb_right(device: torch.device) -> bool:
        if failing:
            raise RuntimeError("no such instruction")
        return False

    on_cpu = torch.ones(1, 2, 2, 2)
    monkeypatch.setattr(torch, "ones", lambda *_, **__: on_cpu)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    monkeypatch.setattr("naxcli.training.kernels.depthwise.convolve", lambda *_, **__: None)
    monkeypatch.setattr(choice, "_is_lamb_right", is_lamb_right)
    works_on.cache_clear()
    assert not works_on(torch.device("cuda"))
    works_on.cache_clear()
    monkeypatch.setattr(choice, "_is_lamb_right", lambda device: True)
    assert works_on(torch.device("cuda"))
    works_on.cache_clear()
