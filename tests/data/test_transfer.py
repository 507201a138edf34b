"""Arrays on their way to a device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from naxcli.data.transfer import sent_to


def test_an_array_goes_to_a_gpu_from_pinned_memory_and_to_the_cpu_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    monkeypatch.setattr(Tensor, "pin_memory", lambda tensor: (events.append("pinned"), tensor)[1])
    monkeypatch.setattr(
        Tensor, "to", lambda tensor, device, **options: (events.append((device.type, options)), tensor)[1]
    )
    values = np.arange(3)
    assert torch.equal(sent_to(torch.device("cpu"), values), torch.arange(3))
    sent_to(torch.device("cuda"), values)
    options = {"non_blocking": True}
    assert events == [("cpu", options), "pinned", ("cuda", options)]
