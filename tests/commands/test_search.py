"""What a run keeps of what it started from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from naxcli import NaxcliError, open_run
from naxcli.cli.output import stderr_console
from naxcli.cli.progress import SearchProgress
from naxcli.commands.session import SearchRequest, Session, open_session
from tests.inline import search_inline


class Listening(SearchProgress):
    """Keeps the notices."""

    def __init__(self, session: Session) -> None:
        super().__init__(session, stderr_console(), is_quiet=True)
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


def configs_of(run: Path) -> list[dict[str, Any]]:
    trials = open_run(run).trials
    columns = [column for column in trials if column.startswith("config.")]
    return trials.sort_values("trial_id")[columns].to_dict("records")  # type: ignore[no-any-return]


def test_a_run_goes_on_exactly_when_what_it_started_from_is_gone(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, prior = tmp_path / "old", tmp_path / "prior.toml"
    prior.write_text("[hyperparameters]\nflag = { yes = 3 }\n")
    search_inline(tiny_space, old, monkeypatch, trials=12, epochs=2)
    flags: dict[str, Any] = {"searcher": "smac", "warm_start": [str(old)], "prior": str(prior)}
    heard: list[Listening] = []

    def listening(session: Session) -> SearchProgress:
        heard.append(Listening(session))
        return heard[-1]

    search_inline(tiny_space, tmp_path / "whole", monkeypatch, listening, trials=22, **flags)
    search_inline(tiny_space, tmp_path / "parts", monkeypatch, trials=18, **flags)
    shutil.rmtree(old)
    prior.unlink()
    # Without the file its flag is left out, as any setting of a run can be.
    search_inline(tiny_space, tmp_path / "parts", monkeypatch, trials=22, searcher="smac", warm_start=[str(old)])
    assert configs_of(tmp_path / "parts") == configs_of(tmp_path / "whole")
    assert [notice for notice in heard[0].notices if "12 results at fidelity 2" in notice]


def test_another_start_or_prior_is_refused_and_names_the_flag(
    tiny_space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    search_inline(tiny_space, run, monkeypatch, trials=2, searcher="smac")
    for name, value, flag in (
        ("warm_start", ["old"], "--from"),
        ("prior", {"reference": "plain"}, "--prior"),
    ):
        request = SearchRequest(space=str(tiny_space), flags={"trials": 3, name: value}, run=str(run))
        with pytest.raises(NaxcliError, match="other settings") as error:
            open_session(request)
        assert f"leave out {flag} to resume" in error.value.hint
