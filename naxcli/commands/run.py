"""A search from Python: start or resume one, open one that is there, and everything that can be done with it.

What `naxcli search`, `status`, `report` and `export` do, by the same code. docs/python.md shows it at work.
"""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from naxcli.analysis.methods import METHODS
from naxcli.commands.report import Report, ReportRequest, report_run
from naxcli.errors import ExitCode, NaxcliError
from naxcli.records import directory
from naxcli.records.database import Records
from naxcli.records.directory import RunDirectory
from naxcli.records.incumbent import Incumbent, find_incumbent
from naxcli.search_space.contract import Space, load_space, space_digest
from naxcli.search_space.recorded import read_space
from naxcli.settings.experiment import Experiment

if TYPE_CHECKING:
    import pyarrow as pa
    from pandas import DataFrame
    from torch import nn


@dataclass(frozen=True, slots=True)
class Run:
    """The directory of a search. Every access reads its records anew, so it may be running in another process.

    Args:
        path: Run directory.
        space: Space that its networks are built by, as on the command line: a shipped name, a Python file, or
            `package.module:SPACE`. None takes the recorded one if it ships with naxcli: any other is code, which is loaded only
            where you name it.
    """

    path: Path
    space: str | None = None

    @property
    def settings(self) -> Experiment:
        """The resolved settings of the search."""
        return self._directory.experiment()

    @property
    def trials(self) -> DataFrame:
        """The finished trials, a row each in the order in which they ended, with the columns of trials.parquet."""
        frame: DataFrame = self._tables()[0].to_pandas()
        return frame

    @property
    def curves(self) -> DataFrame:
        """The learning curves: a row per epoch of a finished trial, with the columns of curves.parquet."""
        frame: DataFrame = self._tables()[1].to_pandas()
        return frame

    @property
    def incumbent(self) -> Incumbent | None:
        """The best configuration so far, with its `config`, `cost`, `fidelity` and `num_seeds`; None without a success."""
        with Records.open(self._directory) as records:
            return find_incumbent(records.finished())

    def status(self) -> dict[str, Any]:
        """Return progress, rate, incumbent and time left as plain values: what `naxcli status --json` prints."""
        from naxcli.commands.status import describe_run

        return describe_run(self._directory)

    def report(
        self,
        *,
        methods: Sequence[str] = METHODS,
        lpi: str = "naxcli",
        at: float | str | None = None,
        bootstrap: int = 100,
        seed: int = 0,
        exact_model: bool = False,
        best: tuple[float, float] = (0.1, 0.5),
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Return which choices mattered, how sure that is, and how good the incumbent is against the references.

        Args:
            methods: Methods of importance: any of `lpi`, `fanova`, `ablation`, `shapley`, `ped_anova` and `tunability`.
            lpi: Definition of local parameter importance, `naxcli` or `deepcave`.
            at: Fidelity that is analysed, or `all`; None analyses all.
            bootstrap: Number of draws from the posterior behind the intervals; 0 gives none.
            seed: Random seed of forests and draws.
            exact_model: Whether the trials are a complete factorial without noise: one tree of full depth, and no intervals.
            best: Which share of the trials `ped_anova` takes for the best, and which larger share it tells them from.
            on_progress: Called with the number of draws that are done, and of all.

        Raises:
            NaxcliError: If the records cannot be read, or there is no such method or fidelity.
        """
        request = ReportRequest(
            methods=methods,
            lpi=lpi,
            at=None if at is None else str(at),
            bootstrap=bootstrap,
            seed=seed,
            is_exact=exact_model,
            best=best,
        )
        return Report(report_run(self._directory, request, on_progress, space=self.space))

    def export(
        self,
        *,
        format: str = "python",
        out: str | Path | None = None,
        trial: int | str = "best",
        variant: str | None = None,
        width: float | None = None,
        target_flops: str | None = None,
        target_params: str | None = None,
        num_classes: int | None = None,
        name: str = "",
        opset: int | None = None,
        fold: bool = False,
        bench: bool = True,
        overwrite: bool = False,
        on_notice: Callable[[str], None] | None = None,
    ) -> Path:
        """Export a network that needs no naxcli, or with `format="deepcave"` the whole run, and return what was written.

        Args:
            format: One of `config`, `python`, `weights`, `onnx`, `torch` and `deepcave`.
            out: Folder to make, or a file such as `best.onnx`; None is `export/<space>`.
            trial: Number of the trial, or `best`.
            variant: `reduced`, or a full-size variant of the space.
            width: Factor on the channels; None keeps that of the run.
            target_flops: Multiply-adds that the width is chosen for, such as `4.5G`.
            target_params: Number of parameters that the width is chosen for, such as `25M`.
            num_classes: Number of classes; None keeps that of the run's data.
            name: Name of the network; made of space, variant and configuration where empty.
            opset: Operator set of ONNX; None takes the oldest that the exporter writes.
            fold: Whether normalizations become part of convolutions, in `onnx` and `torch`.
            bench: Whether latency and throughput are measured on this machine's CPU and recorded.
            overwrite: Whether an earlier export is replaced.
            on_notice: Called with each line that `naxcli export` prints, for instance `print`.

        Returns:
            The main file, or the folder where the format's files have fixed names.

        Raises:
            NaxcliError: If the trial or the export is not possible; nothing is left behind then.
        """
        from naxcli.commands.export import ExportCommand, export

        command = ExportCommand(
            run=str(self.path),
            trial=str(trial),
            space=self.space,
            out=None if out is None else str(out),
            format=format,
            variant=variant,
            width=width,
            target_flops=target_flops,
            target_params=target_params,
            num_classes=num_classes,
            name=name,
            opset=opset,
            fold=fold,
            bench=bench,
            overwrite=overwrite,
        )
        return export(command, on_notice or (lambda _: None))

    def build_network(
        self,
        trial: int | str = "best",
        *,
        variant: str | None = None,
        width: float | None = None,
        num_classes: int | None = None,
        image_size: int | None = None,
        pretrained: bool = False,
        seed: int = 0,
    ) -> nn.Module:
        """Return the network of a trial, with the sizes that the run trained it with unless others are given.

        Args:
            trial: Number of the trial, or `best`.
            variant: `reduced`, or a full-size variant of the space.
            width: Factor on the channels.
            num_classes: Number of classes.
            image_size: Side of the images in pixels.
            pretrained: Whether it has the trial's trained weights, which a run keeps of its incumbent, rather than random ones.
            seed: Random seed of the initial weights.

        Returns:
            The network on the CPU, in training mode: (batch, channels, n, n) -> (batch, num_classes).

        Raises:
            NaxcliError: If there is no such trial or variant, the space makes no networks, or the weights are not there.
        """
        from naxcli.commands.network import build_selected
        from naxcli.commands.network_sizes import network_sizes
        from naxcli.commands.select import select

        selection = select(run=str(self.path), trial=str(trial), config=None, space=self.space)
        sizes = network_sizes(selection, variant=variant, width=width, num_classes=num_classes, image_size=image_size)
        return build_selected(selection, sizes, pretrained=pretrained, seed=seed)

    def _tables(self) -> tuple[pa.Table, pa.Table]:
        configuration_space = read_space(self._directory.space_file)
        with Records.open(self._directory) as records:
            return records.tables(configuration_space)

    @property
    def _directory(self) -> RunDirectory:
        return RunDirectory(path=self.path)


def open_run(path: str | Path | None = None, *, space: str | Path | None = None) -> Run:
    """Return a run that is there.

    Args:
        path: Run directory; None is the one under `runs/` whose records changed last.
        space: Space that its networks are built by, where it does not ship with naxcli. Its file is code, and runs.

    Raises:
        NaxcliError: If there is no run.
    """
    found = directory.open_run(None if path is None else str(path))
    return Run(found.path, None if space is None else str(space))


def run_search(
    space: str | Path | Space | None = None,
    *,
    budget: str | None = None,
    trials: int | None = None,
    data: str | None = None,
    run: str | Path | None = None,
    searcher: str | None = None,
    fidelity: str | None = None,
    experiment: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
    **settings: Any,
) -> Run:
    """Search a space, and return its run: starts one, resumes it, or extends it with a larger budget, as `naxcli search` does.

    Trials run in processes of their own, which load the space by its name and nothing else of the program that calls this: it may be
    a notebook, or a script without `if __name__ == "__main__"`.

    Args:
        space: Shipped name, Python file, `package.module:SPACE`, or a `Space` of a module that can be imported; None where the
            experiment file names one that ships.
        budget: Active time of the whole search, such as `90s`, `10m` or `3d`.
        trials: Number of finished trials at which the search ends.
        data: Data set, such as `cifar100`, `digits` or `folder:DIR`.
        run: Run directory; None is `runs/<space>-<data>`.
        searcher: One of `smac`, `random`, `evolution`, `local` and `ensemble`, or `path/to/file.py:NAME` of your own.
        fidelity: Range of epochs for successive halving, `MIN:MAX:ETA`; `epochs=N` trains every trial as long.
        experiment: Experiment file, or the name of a shipped one.
        overwrite: Whether an existing run is deleted and started anew.
        progress: Whether a bar shows how far the search is, on stderr or in the notebook.
        settings: Any other setting of `Experiment`, such as `seed=3`, `width=0.5` or `workers=2`; `recipe` and `limits` are
            mappings, and `limits` may be a `Limits`.

    Returns:
        The run, also where no trial succeeded: its `incumbent` is None then.

    Raises:
        NaxcliError: If the settings are wrong, differ from those of an existing run, or the search cannot go on.
        KeyboardInterrupt: After Ctrl-C, or the notebook's stop button, once the records are complete; the same call resumes.
        SystemExit: After a signal to end, likewise.
    """
    from naxcli.commands.bar import SearchBar
    from naxcli.commands.search import run_session
    from naxcli.commands.session import SearchRequest, open_session
    from naxcli.search.loop import EndReason

    named = {"budget": budget, "trials": trials, "data": data, "searcher": searcher, "fidelity": fidelity}
    request = SearchRequest(
        space=reference_of(space) if isinstance(space, Space) else None if space is None else str(space),
        flags={**named, **{name: _plain(value) for name, value in settings.items()}},
        experiment_file=None if experiment is None else str(experiment),
        run=None if run is None else str(run),
        overwrite=overwrite,
    )
    session = open_session(request)
    bar = SearchBar(session.experiment, is_accuracy=session.space.build is not None, is_quiet=not progress)
    with _main_module_unnamed(), bar:
        end = run_session(session, bar)
    if end.reason is EndReason.INTERRUPTED:
        if end.exit_code is ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        raise SystemExit(end.exit_code)
    return Run(session.run.path, session.space.origin)


def reference_of(space: Space) -> str:
    """Return how other processes can load a space: where it was loaded from, or the module that holds it.

    Raises:
        NaxcliError: If they cannot, or would load another space.
    """
    reference = space.origin or _module_of(space)
    if not reference:
        raise NaxcliError(
            f"no other process can load the space {space.name!r}",
            why="trials run in processes of their own, and the space is defined in a script or a notebook",
            hint=f"write it to a file, such as {space.name}.py, and give the file's path",
        )
    loaded, given = load_space(reference), dataclasses.replace(space, origin=reference)
    if space_digest(loaded) != space_digest(given) or _code_of(loaded) != _code_of(given):
        raise NaxcliError(
            f"the space {space.name!r} is not the one of {reference}",
            why="trials run in processes of their own, which load it from there",
            hint="change the file, and give its path",
        )
    return reference


def _module_of(space: Space) -> str:
    """Return the `module:NAME` of a space among the modules that are imported, empty where it is in none."""
    function = space.build or space.evaluate
    home = getattr(function, "__module__", None) or ""
    # Under any name in the module of its functions; in others, which may have imported these, as SPACE.
    for name in (home, *sys.modules):
        content = getattr(sys.modules.get(name), "__dict__", {})
        names = content if name == home else ["SPACE"]
        found = next((attribute for attribute in names if content.get(attribute) is space), None)
        if found is not None and name != "__main__":
            return f"{name}:{found}"
    return ""


def _code_of(space: Space) -> list[Any]:
    """Return the compiled functions of a space, by which those that were put in another's place are told."""
    functions = (space.configspace, space.build, space.evaluate, space.canonical, space.zero_cost)
    return [getattr(function, "__code__", type(function)) for function in functions]


def _plain(value: Any) -> Any:
    """Return a setting as an experiment file would hold it: a table of settings without those that are None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: item for name, item in dataclasses.asdict(value).items() if item is not None}
    return dict(value) if isinstance(value, Mapping) else value


@contextlib.contextmanager
def _main_module_unnamed() -> Iterator[None]:
    """Keep the processes that are spawned in the block from running the user's script, which would start the search again.

    multiprocessing lets each import the main module by its name or file, for functions that are defined there. Workers need none.
    """
    content: dict[str, Any] = sys.modules["__main__"].__dict__
    names = [name for name in ("__file__", "__spec__") if name in content]
    kept: dict[str, Any] = {name: content.pop(name) for name in names}
    content["__spec__"] = None  # which multiprocessing asks for, and finds nothing to import in
    try:
        yield
    finally:
        del content["__spec__"]
        content.update(kept)
