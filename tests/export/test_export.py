"""What every export format shares: destinations, errors, configurations read back, weights from strangers."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from naxcli.commands.select import select
from naxcli.errors import ExitCode, NaxcliError
from naxcli.export import FORMATS, ExportRequest, export_network, hub, read_config
from naxcli.export.bundle import read_weights
from naxcli.search_space.contract import Space, load_space
from naxcli.search_space.networks import build_network

SPACE = load_space("nexception")
NEXCEPTION = dict(SPACE.reference["nexception"])
SIZES = {"num_classes": 5, "in_channels": 1, "image_size": 8}


def request(out: Path, **changes: Any) -> ExportRequest:
    settings: dict[str, Any] = {
        "space": SPACE,
        "config": NEXCEPTION,
        "format": "config",
        "out": out,
        "width": 0.05,
        **SIZES,
        **changes,
    }
    return ExportRequest(**settings)


def trained_network(width: float = 0.05) -> torch.nn.Module:
    torch.manual_seed(3)
    return build_network(SPACE, NEXCEPTION, width=width, **SIZES)


def test_a_configuration_comes_back_with_all_that_it_was_exported_with(tmp_path: Path) -> None:
    provenance = {"run": Path("runs/a"), "cost": 0.25, "versions": {"torch": "2.9"}}
    exported = export_network(request(tmp_path / "out", provenance=provenance, variant="T", image_size=32))
    saved = read_config(exported.files[0])
    assert dict(saved.config) == NEXCEPTION
    assert (saved.variant, saved.width, saved.num_classes, saved.in_channels, saved.image_size) == ("T", 0.05, 5, 1, 32)
    assert saved.provenance == {"run": "runs/a", "cost": 0.25, "versions": {"torch": "2.9"}}
    assert saved.space.name == "nexception"
    data = json.loads(exported.files[0].read_text())
    assert (data["space"], data["version"], data["origin"]) == ("nexception", "1", "nexception")
    assert data["num_params"] == exported.num_params


@pytest.mark.parametrize("layout", ["config file", "weights folder", "its config.json", "written before 0.1"])
def test_the_statistics_of_the_images_come_back(layout: str, tmp_path: Path) -> None:
    format = "config" if layout == "config file" else "weights"
    path = export_network(request(tmp_path / "out", format=format, mean=(0.25,), std=(0.125,))).files[0]
    if layout == "written before 0.1":  # the statistics stood for timm only
        data = json.loads(path.read_text())
        del data["naxcli"]["mean"], data["naxcli"]["std"]
        path.write_text(json.dumps(data))
    named = path.parent if layout == "weights folder" else path
    saved = read_config(named)
    assert (saved.mean, saved.std) == ((0.25,), (0.125,))
    selection = select(run=None, trial="best", config=str(named))
    assert (selection.mean, selection.std) == ((0.25,), (0.125,))


def test_out_may_name_a_file_which_names_the_network(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("mine")
    exported = export_network(request(tmp_path / "best.json"))
    assert exported.files == (tmp_path / "best.json",)
    assert exported.name == "best"
    with pytest.raises(NaxcliError, match="exists already"):
        export_network(request(tmp_path / "best.json"))


@pytest.mark.parametrize("format", FORMATS)
def test_an_existing_folder_is_refused_before_any_work(format: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(NaxcliError, match="exists already and is not empty") as caught:
        # The weights do not exist either; the destination is looked at first.
        export_network(request(tmp_path, format=format, weights=tmp_path / "missing"))
    assert caught.value.exit_code == ExitCode.USAGE
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_overwrite_replaces_the_exported_files_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    exported = export_network(request(tmp_path, overwrite=True))
    exported.files[0].write_text("old")
    export_network(request(tmp_path, overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["mine.txt", exported.files[0].name])
    assert json.loads(exported.files[0].read_text())["space"] == "nexception"


def test_overwrite_spares_files_of_common_names_that_no_export_wrote(tmp_path: Path) -> None:
    for name in ("README.md", "config.json"):
        (tmp_path / name).write_text('{"mine": true}')
    with pytest.raises(NaxcliError, match="is not of an export"):
        export_network(request(tmp_path, format="weights", overwrite=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json"]
    assert {path.read_text() for path in tmp_path.iterdir()} == {'{"mine": true}'}
    export_network(request(tmp_path / "export", format="weights"))
    export_network(request(tmp_path / "export", format="weights", overwrite=True))


def test_an_exported_folder_has_the_usual_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    exported = export_network(request(tmp_path / "deep" / "out"))
    assert exported.files[0].parent.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("format", ["config", "weights"])
def test_a_full_disk_is_an_error_that_leaves_nothing_behind(
    format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_text" if format == "config" else "write_bytes", full)
    with pytest.raises(NaxcliError, match="could not be written") as caught:
        export_network(request(tmp_path / "deep" / "out", format=format))
    assert caught.value.exit_code == ExitCode.FAILED
    assert "full" in caught.value.why
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_differs_when_loaded_back_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(path: Path) -> dict[str, torch.Tensor]:
        return {name: tensor + 0.01 for name, tensor in read_weights(path).items()}

    monkeypatch.setattr(hub, "read_weights", damaged)
    with pytest.raises(NaxcliError, match="its output differs by") as caught:
        export_network(request(tmp_path / "out", format="weights"))
    assert caught.value.exit_code == ExitCode.FAILED
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NaxcliError, match="is a file"):
        export_network(request(tmp_path / "out"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "gguf"}, "no format 'gguf'"),
        ({"variant": "XXL"}, "no variant 'XXL'"),
        ({"name": "not a name"}, "cannot name a network"),
        ({"name": "class"}, "cannot name a network"),
        ({"width": 0}, "width is 0"),
        ({"num_classes": -1}, "num_classes is -1"),
        ({"image_size": 4}, "does not build this network"),
        ({"weights": Path("nowhere.safetensors")}, "no weights at"),
    ],
)
def test_bad_requests_are_clear_errors(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match=message):
        export_network(request(tmp_path / "out", **changes))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("layout", ["safetensors", "plain", "model", "training", "averaged", "decayed"])
def test_weights_are_read_from_every_kind_of_checkpoint(layout: str, tmp_path: Path) -> None:
    state = trained_network().state_dict()
    other = {name: torch.zeros_like(tensor) for name, tensor in state.items()}
    path = tmp_path / ("weights.safetensors" if layout == "safetensors" else "checkpoint.pt")
    if layout == "safetensors":
        save_file(state, path)
    else:
        content = {
            "plain": state,
            "model": {"model": state, "epoch": 3},
            "training": {"format": 1, "network": state, "average": None},
            "averaged": {"format": 1, "network": other, "average": state},
            "decayed": {"format": 1, "network": other, "average": other, "evaluated": state},
        }[layout]
        torch.save(content, path)
    read = read_weights(path)
    assert read.keys() == state.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "was_here"

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(marker),))

    torch.save({"model": Hostile()}, tmp_path / "hostile.pt")
    with pytest.raises(NaxcliError, match="is refused"):
        export_network(request(tmp_path / "out", format="weights", weights=tmp_path / "hostile.pt"))
    assert not marker.exists()


@pytest.mark.parametrize("name", ["damaged.safetensors", "damaged.pt"])
def test_damaged_weights_are_a_clear_error(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x00damaged" * 100)
    with pytest.raises(NaxcliError, match="damaged"):
        read_weights(tmp_path / name)


def test_a_checkpoint_without_weights_is_a_clear_error(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(NaxcliError, match="holds no weights"):
        read_weights(tmp_path / "checkpoint.pt")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file(trained_network(width=0.1).state_dict(), tmp_path / "wide.safetensors")
    with pytest.raises(NaxcliError, match="belong to another network") as caught:
        export_network(request(tmp_path / "out", format="weights", weights=tmp_path / "wide.safetensors"))
    assert "other differences" in caught.value.why


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    state = trained_network().state_dict()
    state["head.fc.bias"][0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(NaxcliError, match="not finite"):
        export_network(request(tmp_path / "out", format="weights", weights=tmp_path / "nan.safetensors"))


def test_plain_json_is_a_configuration_of_the_space_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "plain.json"
    path.write_text(json.dumps(NEXCEPTION))
    saved = read_config(path, space=SPACE)
    assert dict(saved.config) == NEXCEPTION
    assert saved.variant is None
    with pytest.raises(NaxcliError, match="does not name a search space"):
        read_config(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "other"}, "holds a configuration of space 'other', not of 'nexception'"),
        ({"version": "0"}, "holds a configuration of version '0'"),
        ({"schema": "naxcli/config/99"}, "has the schema"),
        ({"config": None}, "holds no configuration"),
        ({"config": {**NEXCEPTION, "kernel_size": 4}}, "4 is not a value of kernel_size"),
        ({"config": {**NEXCEPTION, "depth": 4}}, "unknown hyperparameters: depth"),
        ({"config": {"kernel_size": 3}}, "not legal in this space"),
        ({"config": {**NEXCEPTION, "stem": ["conv"]}}, "stem is not a plain value"),
        ({"num_classes": "five"}, "num_classes is 'five'"),
        ({"width": True}, "width is True"),
        ({"mean": [0.5, 0.5]}, "cannot normalize images"),
        ({"mean": None}, "cannot normalize images"),
        ({"std": [0.0]}, "cannot normalize images"),
        ({"std": ["1"]}, "cannot normalize images"),
        ({"mean": [float("nan")]}, "cannot normalize images"),
        ({"mean": 0.5}, "mean is 0.5"),
    ],
)
def test_another_spaces_or_an_edited_configuration_is_refused(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = export_network(request(tmp_path / "best.json")).files[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(NaxcliError, match=message):
        read_config(path, space=SPACE)


@pytest.mark.parametrize(
    "content", ["", "not json", "[1, 2]", "\xff\xfe", "[" * 100_000, '"' + "x" * 11_000_000 + '"'], ids=range(6)
)
def test_what_is_no_configuration_file_is_a_clear_error(content: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(content, encoding="latin-1")
    with pytest.raises(NaxcliError):
        read_config(path, space=SPACE)


def test_a_configuration_file_cannot_make_naxcli_load_code(tmp_path: Path) -> None:
    marker = tmp_path / "was_here"
    hostile = tmp_path / "hostile.py"
    hostile.write_text(f"import os; os.mkdir({str(marker)!r})")
    path = export_network(request(tmp_path / "best.json")).files[0]
    data = json.loads(path.read_text())
    for origin in (str(hostile), "../hostile", "os:path", 7, None):
        path.write_text(json.dumps({**data, "origin": origin}))
        with pytest.raises(NaxcliError, match="does not ship with naxcli"):
            read_config(path)
    assert not marker.exists()


def test_a_space_without_networks_exports_its_configuration_only(tmp_path: Path) -> None:
    def configspace(seed: int | None) -> Any:
        from ConfigSpace import ConfigurationSpace

        return ConfigurationSpace({"a": [0, 1], "x": (0.0, 1.0)}, seed=seed)

    table = Space(name="table", configspace=configspace, evaluate=lambda config, **_: 0.0)
    config = {"a": 1, "x": 0.1}
    exported = export_network(request(tmp_path / "best.json", space=table, config=config))
    assert dict(read_config(exported.files[0], space=table).config) == config
    with pytest.raises(NaxcliError, match="makes no networks"):
        export_network(request(tmp_path / "out", space=table, config=config, format="weights"))


def test_the_weights_folder_is_read_as_a_configuration(tmp_path: Path) -> None:
    folder = export_network(request(tmp_path / "out", format="weights")).files[0].parent
    assert dict(read_config(folder).config) == NEXCEPTION
