"""Two hundred mistakes: each ends in one message that says what is wrong, with its exit code, without a traceback or a new file."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from naxcli.cli import app
from tests.command_line import naxcli
from tests.conftest import TINY_SPACE
from tests.inline import InlinePool, use_pool

USAGE, FAILED = 2, 1
TINY = "--space {space} --trials 1"

# (command line, what the message has to name); words in braces are files of the `world` below.
SEARCH = [
    ("search", "space"),
    ("search --space", "space"),
    ("search --trials 3", "space"),
    ("search --space {space}", "no end"),
    ("search --space nowhere --trials 1", "nowhere"),
    ("search --space nexeption --trials 1", "nexception"),
    ("search --space missing.py --trials 1", "missing.py"),
    ("search --space {folder} --trials 1", "empty"),
    ("search --space {text} --trials 1", "notes.txt"),
    ("search --space {not_python} --trials 1", "broken.py"),
    ("search --space {no_space} --trials 1", "SPACE"),
    ("search --space {wrong_space} --trials 1", "SPACE"),
    ("search --space {raises} --trials 1", "raises.py"),
    ("search --space {empty_space} --trials 1", "hyperparameter"),
    ("search --space {binary} --trials 1", "binary.py"),
    ("search --space no.such.module:SPACE --trials 1", "no.such.module"),
    ("search --space json:SPACE --trials 1", "SPACE"),
    ("search --space json:nothing --trials 1", "nothing"),
    ("search --space : --trials 1", "space"),
    ("search --space {space} --budget 3", "3"),
    ("search --space {space} --budget 3x", "3x"),
    ("search --space {space} --budget -1d", "-1d"),
    ("search --space {space} --budget 0s", "0s"),
    ("search --space {space} --budget soon", "soon"),
    ("search --space {space} --budget nan", "nan"),
    ("search --space {space} --budget 1e400s", "1e400s"),
    ("search --space {space} --budget 3d --budget", "budget"),
    ("search --space {space} --trials 0", "trials"),
    ("search --space {space} --trials -5", "trials"),
    ("search --space {space} --trials many", "--trials"),
    ("search --space {space} --trials 1.5", "--trials"),
    (f"search {TINY} --searcher sma", "smac"),
    (f"search {TINY} --searcher random,smac", "random,smac"),
    (f"search {TINY} --random-share 2", "random_share"),
    (f"search {TINY} --random-share -0.1", "random_share"),
    (f"search {TINY} --random-share nan", "random_share"),
    (f"search {TINY} --random-share half", "--random-share"),
    (f"search {TINY} --set searcher_model=tree", "gp or forest"),
    (f"search {TINY} --set searcher_model=3", "searcher_model"),
    (f"search {TINY} --set references=maybe", "references"),
    ("search --space {odd_reference} --trials 1", "reference 'odd' of space"),
    (f"search {TINY} --from", "--from"),
    (f"search {TINY} --from {{folder}}", "no run"),
    (f"search {TINY} --from missing.parquet", "missing.parquet"),
    (f"search {TINY} --from {{text}}", "notes.txt"),
    (f"search {TINY} --from {{other_csv}}", "no hyperparameter of space 'tiny'"),
    (f"search {TINY} --from {{strange_csv}}", "no configuration of space 'tiny'"),
    (f"search {TINY} --from {{other_csv}} --searcher random", "random makes no use of --from"),
    (f"search {TINY} --from {{other_csv}} --set searcher_model=forest", "needs the model gp"),
    (f"search {TINY} --from {{other_csv}} --objective cost,params", "several objectives"),
    (f"search {TINY} --set warm_start=3", "warm_start"),
    (f"search {TINY} --prior", "--prior"),
    (f"search {TINY} --prior missing.toml", "missing.toml"),
    (f"search {TINY} --prior {{broken_toml}}", "not valid TOML"),
    (f"search {TINY} --prior {{prior_unknown}}", "did you mean kind"),
    (f"search {TINY} --prior {{prior_zero}}", "zero for each of its choices"),
    (f"search {TINY} --prior {{prior_zero}} --searcher evolution", "evolution makes no use of --prior"),
    (f"search {TINY} --searcher nowhere.py:Mine", "there is no searcher file"),
    (f"search {TINY} --searcher {{broken_toml}}:Mine", "there is no searcher"),
    (f"search {TINY} --set prior.reference=plane", "did you mean plain"),
    (f"search {TINY} --set prior.confidence=high", "says nothing"),
    (f"search {TINY} --seed -1", "seed"),
    (f"search {TINY} --seed one", "--seed"),
    (f"search {TINY} --epochs 0", "epochs"),
    (f"search {TINY} --epochs -2", "epochs"),
    (f"search {TINY} --epochs nan", "nan"),
    (f"search {TINY} --epochs ten", "--epochs"),
    (f"search {TINY} --fidelity 3:27", "3:27"),
    (f"search {TINY} --fidelity 3:28:3", "28"),
    (f"search {TINY} --fidelity 27:3:3", "27"),
    (f"search {TINY} --fidelity 3:27:1", "1"),
    (f"search {TINY} --fidelity 0:27:3", "0"),
    (f"search {TINY} --fidelity -3:27:3", "-3"),
    (f"search {TINY} --fidelity a:b:c", "a:b:c"),
    (f"search {TINY} --fidelity 1:inf:3", "inf"),
    (f"search {TINY} --fidelity 3:27:3:9", "3:27:3:9"),
    (f"search {TINY} --fidelity 1:9:3 --epochs 3", "epochs"),
    (f"search {TINY} --fidelity 1:9:3 --objective cost,params", "objective"),
    (f"search {TINY} --fidelity 1:9:3 --repeats 3", "repeats and several fidelities do not go together"),
    (f"search {TINY} --repeats 0", "--repeats"),
    (f"search {TINY} --budget-evaluations 0", "budget_evaluations"),
    (f"search {TINY} --budget-evaluations many", "--budget-evaluations"),
    (f"search {TINY} --epochs 9 --cost 9=0", "it must be above 0"),
    (f"search {TINY} --epochs 9 --cost 9", "FIDELITY=COST"),
    (f"search {TINY} --fidelity 1:9:3 --cost 1=0.05,9=1", "its rungs are 1, 3, 9"),
    (f"search {TINY} --fidelity 1:9:3 --cost 1=1,2=2,9=9", "its rungs are 1, 3, 9"),
    (f"search {TINY} --objective speed", "speed"),
    (f"search {TINY} --objective cost,", "objective"),
    (f"search {TINY} --objective ,", "objective"),
    (f"search {TINY} --workers 0", "workers"),
    (f"search {TINY} --workers -1", "workers"),
    (f"search {TINY} --workers 1.5", "1.5"),
    (f"search {TINY} --workers all", "all"),
    (f"search {TINY} --cluster nonsense", "cluster"),
    (f"search {TINY} --cluster tcp://127.0.0.1", "cluster"),
    (f"search {TINY} --cluster tcp://127.0.0.1:1", "127.0.0.1:1"),
    (f"search {TINY} --cluster slurm:", "slurm:"),
    (f"search {TINY} --cluster slurm:missing.toml", "missing.toml"),
    (f"search {TINY} --cluster slurm:{{broken_toml}}", "broken.toml"),
    (f"search {TINY} --cluster slurm:{{slurm_unknown}}", "colour"),
    (f"search {TINY} --cluster slurm:{{slurm_jobs}}", "jobs"),
    (f"search {TINY} --cluster slurm:{{slurm_list}}", "directives"),
    (f"search {TINY} --cluster slurm:{{slurm_newline}}", "queue"),
    (f"search {TINY} --cluster slurm:{{slurm_walltime}}", "walltime"),
    (f"search {TINY} --trial-timeout 5", "5"),
    (f"search {TINY} --trial-timeout never", "never"),
    (f"search {TINY} --max-params lots", "lots"),
    (f"search {TINY} --max-params -1", "-1"),
    (f"search {TINY} --max-params 0", "0"),
    (f"search {TINY} --max-flops 1Z", "1Z"),
    (f"search {TINY} --max-flops nan", "nan"),
    (f"search {TINY} --max-latency-ms fast", "--max-latency-ms"),
    (f"search {TINY} --max-latency-ms -1", "latency"),
    (f"search {TINY} --max-params 1M", "size"),
    (f"search {TINY} --set", "set"),
    (f"search {TINY} --set seed", "seed"),
    (f"search {TINY} --set =3", "=3"),
    (f"search {TINY} --set sed=3", "seed"),
    (f"search {TINY} --set seed=x", "seed"),
    (f"search {TINY} --set recipe=3", "recipe"),
    (f"search {TINY} --set recipe.learning_rte=1", "learning_rate"),
    (f"search {TINY} --set recipe.learning_rate=-1", "learning_rate"),
    (f"search {TINY} --set recipe.learning_rate=fast", "learning_rate"),
    (f"search {TINY} --set recipe.learning_rate=nan", "learning_rate"),
    (f"search {TINY} --set recipe.batch_size=0", "batch_size"),
    (f"search {TINY} --set recipe.batch_size=2.5", "batch_size"),
    (f"search {TINY} --set recipe.optimizer=adamx", "adamx"),
    (f"search {TINY} --set recipe.schedule=step", "step"),
    (f"search {TINY} --set recipe.loss=l2", "l2"),
    (f"search {TINY} --set recipe.precision=int8", "int8"),
    (f"search {TINY} --set recipe.drop_path=1.5", "drop_path"),
    (f"search {TINY} --set recipe.mixup=-1", "mixup"),
    (f"search {TINY} --set recipe.randaugment=strong", "strong"),
    (f"search {TINY} --set recipe.horizontal_flip=2", "horizontal_flip"),
    (f"search {TINY} --set recipe.channels_last=maybe", "channels_last"),
    (f"search {TINY} --set width=0", "width"),
    (f"search {TINY} --set width=nan", "width"),
    (f"search {TINY} --set width=inf", "width"),
    (f"search {TINY} --set validation_fraction=1", "validation_fraction"),
    (f"search {TINY} --set validation_fraction=0", "validation_fraction"),
    (f"search {TINY} --set images_per_class=0", "images_per_class"),
    (f"search {TINY} --set image_size=-8", "image_size"),
    (f"search {TINY} --set image_size=1.5", "image_size"),
    (f"search {TINY} --set data_in_memory=maybe", "data_in_memory"),
    (f"search {TINY} --set kernels=on", "kernels"),
    (f"search {TINY} --set rung_schedule=steps", "rung_schedule"),
    (f"search {TINY} --set skip_corrupt=perhaps", "skip_corrupt"),
    (f"search {TINY} --set limits.max_width=3", "max_width"),
    (f"search {TINY} --set a.b.c=3", "a"),
    ("search --space nexception --trials 1 --data digit", "digits"),
    ("search --space nexception --trials 1 --data folder:", "folder"),
    ("search --space nexception --trials 1 --data folder:missing", "missing"),
    ("search --space nexception --trials 1 --data folder:{folder}", "empty"),
    ("search --space nexception --trials 1 --data folder:{space}", "tiny.py"),
    ("search --space nexception --trials 1 --data hf:", "hf"),
    ("search --space nexception --trials 1 --data cifar100 --data-root {fake_cifar}", "cifar-100"),
    ("search --space nexception --trials 1 --data digits --set image_size=0", "image_size"),
    (f"search {TINY} --experiment missing.toml", "missing.toml"),
    (f"search {TINY} --experiment {{folder}}", "empty"),
    (f"search {TINY} --experiment {{broken_toml}}", "broken.toml"),
    (f"search {TINY} --experiment {{binary_toml}}", "binary.toml"),
    (f"search {TINY} --experiment {{unknown_toml}}", "colour"),
    (f"search {TINY} --experiment {{wrong_toml}}", "seed"),
    ("search --experiment {foreign_space_toml} --trials 1", "tiny.py"),
    (f"search {TINY} --experiment {{cluster_toml}}", "cluster"),
    (f"search {TINY} --run {{space}}", "tiny.py"),
    (f"search {TINY} --run {{space}}/below", "tiny.py"),
    (f"search {TINY} --run {{users_folder}}", "work"),
    (f"search {TINY} --run {{users_folder}} --overwrite", "work"),
    (f"search {TINY} --run {'x' * 300}", "xxx"),
    (f"search {TINY} --run {'/'.join(['y' * 200] * 30)}", "yyy"),
    (f"search {TINY} --run {{run}} --seed 5", "seed"),
    (f"search {TINY} --run {{run}} --searcher smac", "searcher"),
    ("search --run {run} --space {other} --trials 20", "space"),
    ("search --run {run} --trials 20", "--space"),
    (f"search {TINY} --run {{damaged_run}}", "search.db"),
    (f"search {TINY} --run {{newer_run}}", "newer"),
    (f"search {TINY} --run {{half_run}}", "search.db"),
    (f"search {TINY} --no-such-flag", "--no-such-flag"),
    (f"search {TINY} extra", "extra"),
    (f"search {TINY} --dry-run", "slurm"),
]
OTHERS = [
    ("serch", "serch"),
    ("--no-such-flag", "--no-such-flag"),
    ("plan", "space"),
    ("plan --space {space}", "budget"),
    ("plan --space {space} --budget 5", "5"),
    ("plan --space nowhere --budget 1h", "nowhere"),
    ("plan --space {space} --budget 1h --fidelity 2:7:3", "7"),
    ("status missing", "missing"),
    ("status {folder}", "empty"),
    ("status {space}", "tiny.py"),
    ("status", "no run"),
    ("status {damaged_run}", "search.db"),
    ("stop", "RUN"),
    ("stop missing", "missing"),
    ("stop {run}", "run"),
    ("report missing", "missing"),
    ("report", "no run"),
    ("report {run} --method shap", "shap"),
    ("report {run} --lpi exact", "exact"),
    ("report {run} --at never", "never"),
    ("report {run} --at 77", "77"),
    ("report {run} --at -1", "-1"),
    ("report {run} --best half", "not two percentages"),
    ("report {run} --best 50:10", "no part of the best 10 %"),
    ("report {run} --bootstrap -1", "bootstrap"),
    ("report {run} --bootstrap some", "--bootstrap"),
    ("report {run} --seed x", "x"),
    ("report {run} --seed -1", "seed"),
    ("report {run} --html {folder}", "empty"),
    ("report {run} --csv {text}", "notes.txt"),
    ("report {run} --plots {text}", "notes.txt"),
    ("report {run} --md {folder}", "empty"),
    ("report --trials missing.parquet --space-json {run}/space.json", "missing.parquet"),
    ("report --trials {text} --space-json {run}/space.json", "notes.txt"),
    ("report --trials {run}/trials.parquet", "space-json"),
    ("report --trials {run}/trials.parquet --space-json missing.json", "missing.json"),
    ("report --trials {run}/trials.parquet --space-json {text}", "notes.txt"),
    ("report --trials {run}/curves.parquet --space-json {run}/space.json", "column"),
    ("report {run} --trials {run}/trials.parquet --space-json {run}/space.json", "run"),
    ("compare {run}", "B"),
    ("compare {run} missing", "missing"),
    ("compare missing {run}", "missing"),
    ("compare {run} {run} --bootstrap -3", "bootstrap"),
    ("confirm missing", "missing"),
    ("confirm {run}", "--space"),
    ("confirm {run} --space {space} --top 0", "top"),
    ("confirm {run} --space {space} --seeds 0", "seeds"),
    ("confirm {run} --space {space} --seeds 1", "seed"),
    ("confirm {run} --space {space} --epochs 0", "epochs"),
    ("confirm {run} --space {space} --workers 0", "workers"),
    ("confirm {run} --space nexception", "hyperparameter"),
    ("export missing", "missing"),
    ("export {run}", "--space"),
    ("export {run} --space {space}", "network"),
    ("export --config missing.json", "missing.json"),
    ("export --config {text}", "notes.txt"),
    ("export --config nexception:nothing", "nothing"),
    ("export --config nowhere:nexception", "nowhere"),
    ("export --config {wrong_config} --space nexception", "kernel_size"),
    ("export --config {list_config}", "list.json"),
    ("export --config nexception:xception --format tensorflow", "tensorflow"),
    ("export --config nexception:xception --variant XL", "XL"),
    ("export --config nexception:xception --width 0", "width"),
    ("export --config nexception:xception --width nan", "width"),
    ("export --config nexception:xception --target-params 0", "0"),
    ("export --config nexception:xception --target-params many", "many"),
    ("export --config nexception:xception --target-flops 1", "1"),
    ("export --config nexception:xception --target-params 1M --target-flops 1G", "target"),
    ("export --config nexception:xception --target-params 1M --width 2", "width"),
    ("export --config nexception:xception --num-classes 0", "num"),
    ("export --config nexception:xception --name 2fast", "2fast"),
    ("export --config nexception:xception --name class", "class"),
    ("export --config nexception:xception --fold --format python", "fold"),
    ("export --config nexception:xception --format onnx --opset 3", "opset"),
    ("export --config nexception:xception --format deepcave", "deepcave"),
    ("export --config nexception:xception --trial 3", "trial"),
    ("export {run} --trial 999 --space {space}", "999"),
    ("export {run} --trial first --space {space}", "first"),
    ("export --config nexception:xception --out {text}", "notes.txt"),
    ("export --config nexception:xception --out {text}/below", "notes.txt"),
    ("train --config missing.json", "missing.json"),
    ("train --config nexception:nothing", "nothing"),
    ("train --config nexception:xception --data digit", "digits"),
    ("train --config nexception:xception --data digits --epochs 0", "epochs"),
    ("train --config nexception:xception --data digits --image-size 0", "image"),
    ("train --config nexception:xception --data digits --test-crop 2", "crop"),
    ("train --config nexception:xception --data digits --accumulate 0", "accumulate"),
    ("train --config nexception:xception --data digits --device tpu", "tpu"),
    ("train --config nexception:xception --data digits --tracker spreadsheet", "spreadsheet"),
    ("train --config nexception:xception --data digits --variant XL", "XL"),
    ("train --config nexception:xception --data digits --set recipe.ema_decay=2", "ema_decay"),
    ("train --config nexception:xception --data digits --set trials=3 --set colour=blue", "colour"),
    ("train --run missing", "missing"),
    ("train --run {run} --space {space}", "network"),
    ("bench --config timm:no_such_network_at_all", "no_such_network_at_all"),
    ("bench --config nexception:nothing", "nothing"),
    ("bench --config missing.onnx", "missing.onnx"),
    ("bench --config {fake_program}", "trusted"),
    ("bench --config nexception:xception --batch 0", "batch"),
    ("bench --config nexception:xception --repetitions 0", "repetitions"),
    ("bench --config nexception:xception --device tpu", "tpu"),
    ("bench --config nexception:xception --precision int8", "int8"),
    ("bench --config nexception:xception --phase deployment", "deployment"),
    ("bench --config nexception:xception --image-size 0", "image"),
    ("space show nowhere", "nowhere"),
    ("space show", "SPACE"),
    ("space count {not_python}", "broken.py"),
    ("space sample {space} -n 0", "n"),
    ("space sample {space} -n -3", "n"),
    ("space sample {space} -n few", "-n"),
    ("space sample {space} --seed x", "x"),
    ("space validate nowhere", "nowhere"),
    ("space validate {space} -n 0", "n"),
    ("data check nothing", "nothing"),
    ("data check folder:missing", "missing"),
    ("data check digits --image-size 0", "image"),
    ("data prepare nothing", "nothing"),
    ("data prepare folder:missing", "missing"),
]


def test_there_are_two_hundred_mistakes_or_more() -> None:
    assert len(SEARCH) + len(OTHERS) >= 200
    assert len({line for line, _ in [*SEARCH, *OTHERS]}) == len(SEARCH) + len(OTHERS)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with a finished run, damaged ones, and files of every wrong kind."""
    root = tmp_path_factory.mktemp("world")
    contents: dict[str, tuple[str, str | bytes]] = {
        "space": ("tiny.py", TINY_SPACE),
        "other": ("other.py", TINY_SPACE.replace('"z"', '"w"').replace("'z'", "'w'")),
        "text": ("notes.txt", "nothing of interest\n"),
        "not_python": ("broken.py", "def configspace(:\n"),
        "no_space": ("no_space.py", "VALUE = 3\n"),
        "wrong_space": ("wrong_space.py", "SPACE = 3\n"),
        "odd_reference": (
            "odd_reference.py",
            TINY_SPACE.replace(
                "reference={", "reference={'odd': {'depth': 9, 'kind': 'x', 'flag': 'no', 'noise': 'p'}, "
            ),
        ),
        "raises": ("raises.py", "raise RuntimeError('not today')\n"),
        "empty_space": (
            "empty_space.py",
            "from ConfigSpace import ConfigurationSpace\nfrom naxcli import Space\n"
            "SPACE = Space(name='none', configspace=lambda seed=None: ConfigurationSpace(seed=seed),\n"
            "              evaluate=lambda config, *, fidelity, seed: 0.0)\n",
        ),
        "binary": ("binary.py", b"\xff\xfe\x00SPACE"),
        "broken_toml": ("broken.toml", "jobs = = 3"),
        "other_csv": ("study.csv", "number,value,params_lr,state\n0,0.3,0.1,COMPLETE\n"),
        "strange_csv": ("strange.csv", "kind,cost\nw,0.3\n"),
        "prior_unknown": ("prior_unknown.toml", "[hyperparameters]\nkimd = { x = 3 }\n"),
        "prior_zero": ("prior_zero.toml", "[hyperparameters]\nflag = { no = 0, yes = 0 }\n"),
        "binary_toml": ("binary.toml", b"\xff\xfe\x00"),
        "unknown_toml": ("unknown.toml", "colour = 'blue'\n"),
        "wrong_toml": ("wrong.toml", "seed = 'x'\n"),
        "foreign_space_toml": ("foreign.toml", "space = 'tiny.py'\n"),
        "cluster_toml": ("cluster.toml", "cluster = 'tcp://127.0.0.1:1'\n"),
        "slurm_unknown": ("slurm_unknown.toml", "jobs = 1\nwalltime = '1h'\ncolour = 'blue'\n"),
        "slurm_jobs": ("slurm_jobs.toml", "jobs = 'two'\nwalltime = '1h'\n"),
        "slurm_list": ("slurm_list.toml", "jobs = 1\nwalltime = '1h'\ndirectives = '--qos=long'\n"),
        "slurm_newline": ("slurm_newline.toml", 'jobs = 1\nwalltime = "1h"\nqueue = "gpu\\ntouch pwned"\n'),
        "slurm_walltime": ("slurm_walltime.toml", "jobs = 1\nwalltime = 'long'\n"),
        "wrong_config": ("wrong.json", '{"kernel_size": 4}'),
        "list_config": ("list.json", "[1, 2]"),
        "fake_program": ("fake.pt2", b"PK\x03\x04 not a program"),
    }
    files = {name: root / file for name, (file, _) in contents.items()}
    for name, (_, content) in contents.items():
        files[name].write_bytes(content.encode() if isinstance(content, str) else content)
    for name, folder in (("folder", "empty"), ("users_folder", "work"), ("fake_cifar", "cifar")):
        files[name] = root / folder
        files[name].mkdir()
    (files["users_folder"] / "checkpoints").mkdir()
    (files["users_folder"] / "checkpoints" / "best.pt").write_text("a week of training")
    (files["users_folder"] / "log.jsonl").write_text("{}\n")
    (files["fake_cifar"] / "cifar-100-python").mkdir()
    (files["fake_cifar"] / "cifar-100-python" / "train").write_text("not a pickle")
    files["run"] = root / "run"
    flags = ("--searcher", "random", "--trials", "12", "--workers", "1")
    with pytest.MonkeyPatch.context() as patch:
        use_pool(InlinePool, patch)
        started = naxcli("search", "--space", files["space"], *flags, "--run", files["run"])
    assert started.returncode == 0, started.stderr
    for name in ("damaged_run", "newer_run", "half_run"):
        files[name] = root / name
        files[name].mkdir()
        for file in files["run"].iterdir():
            if file.is_file():
                (files[name] / file.name).write_bytes(file.read_bytes())
    (files["damaged_run"] / "search.db").write_bytes(b"this is no database" * 100)
    _set_schema_version(files["newer_run"] / "search.db", 99)
    for name in ("experiment.toml", "search.db"):
        (files["half_run"] / name).unlink()
    return files


def _set_schema_version(database: Path, version: int) -> None:
    import sqlite3

    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))
    connection.close()


def _snapshot(root: Path) -> dict[str, bytes]:
    passing = {"lock", "search.db-shm", "search.db-wal", "search.db-journal", "search.db.backup"}
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and path.name not in passing and "__pycache__" not in path.parts
    }


@pytest.mark.parametrize(("line", "named"), [*SEARCH, *OTHERS], ids=lambda value: str(value)[:70])
def test_a_mistake_is_named_in_one_message(
    line: str, named: str, world: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = world["space"].parent
    before = _snapshot(root)
    arguments = [word.format(**world) for word in line.split()]
    result = CliRunner().invoke(app, arguments, prog_name="naxcli", env={"COLUMNS": "300"})
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code in (USAGE, FAILED), result.output
    assert named in result.stderr
    assert result.stdout == ""
    assert _snapshot(root) == before
    assert _snapshot(tmp_path) == {}
