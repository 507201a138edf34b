"""Admission: whether a worker that joins a cluster can run this search's trials, asked of it once.

The question is an expression of built-in functions: a worker without naxcli, or with another Python, could not even load a
function of ours.
"""

from __future__ import annotations

import platform
import urllib.parse
from collections.abc import Callable, Sequence
from typing import Any

import naxcli

QUESTION = "[__import__('platform').python_version(), __import__('naxcli').__version__]"


class Admission:
    """Which workers of a cluster are used.

    Args:
        client: Dask's client of the cluster.
        on_notice: Called with why a worker is not used.
    """

    def __init__(self, client: Any, *, on_notice: Callable[[str], None]) -> None:
        self._client = client
        self._on_notice = on_notice
        self._asked: dict[str, Any] = {}  # worker address -> future of its answer
        self._refusals: dict[str, str | None] = {}  # worker address -> why it is not used
        self._said: set[tuple[str, str]] = set()

    def admitted(self, addresses: Sequence[str]) -> list[str]:
        """Return those of the present workers that are used; one that is new is asked, and used once it has answered well."""
        for gone in (self._asked.keys() | self._refusals.keys()) - set(addresses):
            self._asked.pop(gone, None)
            self._refusals.pop(gone, None)
        for address in addresses:
            if address not in self._refusals:
                self._ask(address)
        return [address for address in addresses if self._refusals.get(address, "unasked") is None]

    def _ask(self, address: str) -> None:
        if address not in self._asked:
            self._asked[address] = self._client.submit(
                eval, QUESTION, workers=[address], allow_other_workers=False, pure=False, retries=0
            )
        answer = self._asked[address]
        if answer.status == "pending":
            return
        del self._asked[address]
        if answer.status == "finished":
            self._refusals[address] = refusal(*answer.result(timeout=30))
        elif answer.status == "error" and type(error := answer.exception(timeout=30)).__name__ != "KilledWorker":
            self._refusals[address] = f"naxcli cannot be imported there: {type(error).__name__}: {error}"
        else:
            return  # lost with its worker, which is asked again where it comes back
        reason, host = self._refusals[address], urllib.parse.urlsplit(address).hostname or address
        if reason is not None and (host, reason) not in self._said:
            self._said.add((host, reason))
            self._on_notice(f"the worker {address} is not used: {reason}")


def refusal(python: str, version: str) -> str | None:
    """Return why a worker with this Python and this naxcli is not used, or None where it is."""
    own_python = platform.python_version()
    if python.split(".")[:2] != own_python.split(".")[:2]:
        return f"it runs Python {python}, and the search {own_python}"
    if version != naxcli.__version__:
        return f"it has naxcli {version}, and the search {naxcli.__version__}"
    return None
