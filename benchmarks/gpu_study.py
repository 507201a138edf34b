"""`make gpu`: everything that needs a GPU, in one command that a second run continues: tests, benchmarks, the study.

    python benchmarks/gpu_study.py [--out runs/gpu] [--seconds 540] [--wheels DIR] [--packs DIR ...] [--data-root DIR]
                                   [--commit HASH] [--budget 20m] [--workers auto]
                                   [--stages tests bench search report confirm] [--smoke]

Stages, each a command of its own whose output also goes to a file of --out: `tests` runs those marked gpu; `bench` is
benchmarks/gpu.py; `search` is experiments/nexception-cifar100 until --budget of search time is spent, over all runs together;
`report` and `confirm` are of that search. A stage that ended well is not run again (the search goes on where it has budget left,
the benchmarks and the confirmation where measurements or trainings are missing).
--seconds ends the run in time: a stage under way is interrupted as by Ctrl-C, and goes on next time.

Before them --wheels installs the wheels of a folder beside what is there, and --packs takes the packs of CIFAR-100 that are in
any of the folders. Folders outside the checkout do not come along where only the checkout is copied to the machine: copy them into
it first, as large as one transfer allows. What a run was given stays in --out, so that runs can bring the two packs in turn; a
stage that needs the data has it unpacked from those that are there then. --commit names the code where .git did not come along.

After every stage `results.tar.gz` is packed anew: all but data and checkpoints. Unpacked in --out it continues on another machine.
--smoke goes the same ways on a CPU in a few minutes: digits, tiny networks, one small measurement of each kind.

Starts with Python's standard library alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
EXPERIMENT = REPOSITORY / "experiments" / "nexception-cifar100" / "experiment.toml"
STAGES = ("tests", "bench", "search", "report", "confirm")
NEED_DATA = {"bench", "search", "confirm"}
PACK_FILES = ("unpack.py", "meta", "*.head.xz", "cifar100-*.npz")
STOP_SECONDS = 45.0  # between the interrupt and the end of a stage
LEFT_OUT = {"checkpoints", "site", "data", "packs", "lock"}  # of results.tar.gz
SMOKE_SETTINGS = ("width=0.02", "threads=1", "recipe.batch_size=64")


@dataclass(kw_only=True)
class Study:
    """One run of this script: where it writes, until when, and how its stages ended."""

    out: Path
    deadline: float
    is_smoke: bool
    environment: dict[str, str]
    state: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def run(self) -> Path:
        return self.out / "run"

    def naxcli(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "naxcli", *map(str, arguments)]

    def stage(self, name: str, command: list[str], *, good: tuple[int, ...] = (0,)) -> bool:
        """Run a stage's command, its output shown and appended to a file; return whether it came to its end."""
        left = self.deadline - time.monotonic()
        if left < STOP_SECONDS:
            print(f"{name}: no time left, the next run does it", flush=True)
            return False
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        started = time.monotonic()
        code, is_cut = self._run(command, self.out / f"{name}.log", left - STOP_SECONDS)
        before = self.state.get(name, {})
        self.state[name] = {
            "code": code,
            "is_cut": is_cut,
            "is_done": code in good and not is_cut,
            "seconds": round(before.get("seconds", 0.0) + time.monotonic() - started, 1),
        }
        self.save()
        return bool(self.state[name]["is_done"])

    def _run(self, command: list[str], log: Path, limit: float) -> tuple[int, bool]:
        with log.open("a") as file, self._started(command) as process:
            assert process.stdout is not None
            timer = Timer(limit, process)
            for line in process.stdout:
                print(line, end="", flush=True)
                file.write(line)
                file.flush()
            process.wait()
            timer.stop()
        return process.returncode, timer.is_over

    def _started(self, command: list[str]) -> subprocess.Popen[str]:
        """Return the process of a command, which can be interrupted.

        In the background of a script SIGINT is ignored, by everything that is started there, unless its parent has a handler.
        """
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        finally:
            signal.signal(signal.SIGINT, before)

    def save(self) -> None:
        """Write how the stages ended, and pack what is there."""
        write(self.out / "state.json", json.dumps(self.state, indent=1))
        packed = self.out / ".results.tar.gz"
        with tarfile.open(packed, "w:gz") as archive:
            for path in sorted(self.out.iterdir()):
                if path.name not in LEFT_OUT and not path.name.startswith((".", "results.tar")):
                    archive.add(path, arcname=path.name, filter=_without_left_out)
        packed.replace(self.out / "results.tar.gz")


class Timer:
    """Interrupts a process and its group when its time is over, and ends it where that does not help."""

    def __init__(self, seconds: float, process: subprocess.Popen[str]) -> None:
        import threading

        self.is_over = False
        self._process = process
        self._timers = [
            threading.Timer(max(0.0, seconds), self._send, [signal.SIGINT]),
            threading.Timer(max(0.0, seconds) + STOP_SECONDS - 10, self._send, [signal.SIGKILL]),
        ]
        for timer in self._timers:
            timer.daemon = True
            timer.start()

    def stop(self) -> None:
        for timer in self._timers:
            timer.cancel()

    def _send(self, number: signal.Signals) -> None:
        self.is_over = True
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            self.stop()


def main() -> None:
    arguments = parse()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    study = Study(
        out=out,
        deadline=time.monotonic() + arguments.seconds,
        is_smoke=arguments.smoke,
        environment={**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1"},
        state=read(out / "state.json"),
    )
    if arguments.wheels:
        install_wheels(study, arguments.wheels)
    study.environment["PYTHONPATH"] = os.pathsep.join(
        [str(out / "site"), str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    if arguments.commit:
        study.environment["NAXCLI_COMMIT"] = arguments.commit
    data_root = prepare_data(study, arguments)
    if arguments.smoke:
        study.environment["OMP_NUM_THREADS"] = "1"
    stages: dict[str, Callable[[], bool]] = {
        "tests": lambda: study.stage("tests", tests_command(study), good=(0, 5)),
        "bench": lambda: study.stage("bench", bench_command(study, data_root)),
        "search": lambda: study.stage("search", search_command(study, arguments, data_root)),
        "report": lambda: study.stage("report", report_command(study)),
        "confirm": lambda: study.stage("confirm", confirm_command(study, arguments)),
    }
    for name in arguments.stages:
        is_repeated = name in ("search", "report", "confirm")  # they know themselves what is left
        if study.state.get(name, {}).get("is_done") and not is_repeated:
            continue
        if name in ("report", "confirm") and not (study.run / "trials.parquet").exists():
            continue
        stages[name]()
    facts = study.out / "facts.md"
    subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_facts", str(out)], cwd=REPOSITORY, env=study.environment, check=False
    )
    study.save()
    print(f"\n{facts.read_text() if facts.exists() else 'no facts yet'}")
    for name in STAGES:
        print(f"{name:8s} {ending(study.state.get(name))}")
    print(f"everything: {out / 'results.tar.gz'}")


def ending(stage: dict[str, Any] | None) -> str:
    """Return in words how a stage ended."""
    if stage is None:
        return "not run"
    word = "done" if stage["is_done"] else "cut short" if stage["is_cut"] else f"failed with {stage['code']}"
    return f"{word}, {stage['seconds']:.0f} s"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="default: runs/gpu, or runs/gpu-smoke")
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--wheels", type=existing_folder)
    parser.add_argument(
        "--packs",
        type=existing_folder,
        nargs="+",
        default=[],
        help="folders with unpack.py, its files and packs of CIFAR-100",
    )
    parser.add_argument("--commit", help="of this code, where .git did not come along")
    parser.add_argument("--data-root", type=Path, help="default: OUT/data")
    parser.add_argument("--budget", help="of the search; default 20m, or 20s to smoke")
    parser.add_argument("--fidelity", help="in place of the experiment's")
    parser.add_argument("--workers", default="auto")
    parser.add_argument("--seeds", type=int, help="of the confirmation")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    arguments.out = arguments.out or Path("runs/gpu-smoke" if arguments.smoke else "runs/gpu")
    arguments.budget = arguments.budget or ("20s" if arguments.smoke else "20m")
    arguments.seeds = arguments.seeds or (2 if arguments.smoke else 5)
    return arguments


def existing_folder(text: str) -> Path:
    """Return the path of a folder that exists, for argparse."""
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(
            f"there is no folder {text}; one beside the checkout does not come along with it: copy it into the checkout"
        )
    return path


def install_wheels(study: Study, folder: Path) -> None:
    """Install wheels into a folder of their own, beside what the machine has."""
    wheels = sorted(map(str, folder.glob("*.whl")))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--upgrade"]
    if not wheels:
        sys.exit(f"there is no wheel in {folder}")
    subprocess.run([*command, "--target", str(study.out / "site"), *wheels], check=True)


def prepare_data(study: Study, arguments: argparse.Namespace) -> Path:
    """Return the folder of the data: with the packs unpacked that this run and earlier ones were given, where a stage needs them."""
    root: Path = (arguments.data_root or study.out / "data").resolve()
    packs, unpacked = study.out / "packs", root / "unpacked.txt"
    keep_packs(arguments.packs, packs)
    if study.is_smoke or not NEED_DATA.intersection(arguments.stages) or not (packs / "unpack.py").exists():
        return root
    there = [name for name in ("a", "b", "mini") if (packs / f"cifar100-{name}.npz").exists()]
    names = ",".join(there[:2] if "a" in there and "b" in there else there[:1])
    has_data = (root / "cifar-100-python" / "train").exists()
    if not names or (has_data and (not unpacked.exists() or unpacked.read_text() == names)):
        return root
    if names != "a,b":
        print(f"of CIFAR-100 only the packs {names} are there: the study is on a part of it", flush=True)
    subprocess.run([sys.executable, str(packs / "unpack.py"), str(root), "--packs", names], check=True)
    unpacked.write_text(names)
    return root


def keep_packs(folders: list[Path], kept: Path) -> None:
    """Copy packs and what unpacks them, which may lie in several folders, where later runs find them."""
    for path in (path for folder in folders for pattern in PACK_FILES for path in folder.glob(pattern)):
        kept.mkdir(exist_ok=True)
        shutil.copy(path, kept / path.name)


def tests_command(study: Study) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]


def bench_command(study: Study, data_root: Path) -> list[str]:
    seconds = max(30.0, study.deadline - time.monotonic() - 180)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(study.out / "bench"), "--seconds", f"{seconds:.0f}"]
    if study.is_smoke:
        return [*command, "--device", "cpu", "--smoke"]
    return [*command, "--data-root", str(data_root)]


def search_command(study: Study, arguments: argparse.Namespace, data_root: Path) -> list[str]:
    flags = ["--run", study.run, "--budget", arguments.budget, "--workers", arguments.workers]
    if study.is_smoke:
        settings = [part for item in SMOKE_SETTINGS for part in ("--set", item)]
        flags += [
            "--data",
            "digits",
            "--fidelity",
            arguments.fidelity or "0.3:0.9:3",
            *settings,
            "--experiment",
            "digits",
        ]
        return study.naxcli("search", "--space", "nexception", *flags, "--random-share", "0.2")
    if arguments.fidelity:
        flags += ["--fidelity", arguments.fidelity]
    return study.naxcli("search", "--experiment", EXPERIMENT, *flags, "--data-root", data_root)


def report_command(study: Study) -> list[str]:
    folder = study.out / "report"
    folder.mkdir(exist_ok=True)
    flags = ["--html", folder / "report.html", "--csv", folder / "csv", "--md", folder / "report.md", "--at", "all"]
    if not study.is_smoke:
        flags += ["--plots", folder / "plots"]
    return study.naxcli("report", study.run, *flags, "--bootstrap", "5" if study.is_smoke else "100")


def confirm_command(study: Study, arguments: argparse.Namespace) -> list[str]:
    flags = ["--top", "1"] if study.is_smoke else ["--top", "3"]
    return study.naxcli("confirm", study.run, "--seeds", str(arguments.seeds), "--workers", arguments.workers, *flags)


def _without_left_out(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(item.name).name in LEFT_OUT else item


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)


if __name__ == "__main__":
    main()
