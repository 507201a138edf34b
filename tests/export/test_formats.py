"""The formats with a network: each is written, read back elsewhere, and gives the original's output."""

from __future__ import annotations

import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from naxcli.errors import NaxcliError
from naxcli.export import Exported, ExportRequest, export_network
from naxcli.export.bundle import make_bundle
from naxcli.export.python import render
from naxcli.export.python_template import training_flags
from naxcli.export.source_slice import slice_source
from naxcli.search_space.contract import load_space
from naxcli.search_space.networks import build_network
from naxcli.settings.recipe import IMAGENET_RECIPE, Recipe
from tests.command_line import load_alone

SPACE = load_space("nexception")
NEXCEPTION = dict(SPACE.reference["nexception"])
SIZES = {"num_classes": 5, "in_channels": 1, "image_size": 16}
WIDTH = 0.05


def trained_network() -> nn.Module:
    """Return a network whose statistics have seen images, so that no layer is the identity."""
    torch.manual_seed(3)
    network = build_network(SPACE, NEXCEPTION, width=WIDTH, **SIZES)
    for _ in range(3):
        network(torch.randn(8, 1, 16, 16))
    return network.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "trained.safetensors"
    save_file(trained_network().state_dict(), path)
    return path


def export(format: str, out: Path, **changes: Any) -> Exported:
    settings: dict[str, Any] = {"space": SPACE, "config": NEXCEPTION, "width": WIDTH, **SIZES, **changes}
    return export_network(ExportRequest(format=format, out=out, **settings))


@pytest.fixture(scope="module")
def python_file(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Path:
    provenance = {"run": 'runs/"""odd\\', "trial_id": 7, "cost": 0.125}
    out = tmp_path_factory.mktemp("python") / "mynet.py"
    return export("python", out, weights=weights, provenance=provenance).files[0]


@pytest.fixture(scope="module")
def module(python_file: Path) -> Any:
    return load_alone(python_file)


IMAGES = torch.randn(4, 1, 16, 16, generator=torch.Generator().manual_seed(5))


def outputs_of(network: nn.Module) -> Tensor:
    with torch.no_grad():
        return network.eval()(IMAGES)


def test_the_python_file_names_its_origin_and_how_to_train(python_file: Path) -> None:
    header = python_file.read_text().split('"""')[1]
    for text in ("ICPRAM 2023", "trial id: 7", "cost: 0.125", "parameters", "--opt lamb", "--bce-target-thresh 0.2"):
        assert text in header
    code = python_file.read_text().split('"""', maxsplit=2)[2]
    assert "naxcli" not in code
    assert "ConfigSpace" not in code


# Of timm's train.py (its repository at commit 2aabaef, of 2023; the same flags since then): how many values each flag takes.
TIMM_TRAIN_FLAGS = {
    "--data-dir": 1,
    "--model": 1,
    "--input-size": 3,
    "--num-classes": 1,
    "--crop-pct": 1,
    "--epochs": 1,
    "-b": 1,
    "--opt": 1,
    "--lr": 1,
    "--weight-decay": 1,
    "--sched": 1,
    "--warmup-epochs": 1,
    "--warmup-lr": 1,
    "--cooldown-epochs": 1,
    "--min-lr": 1,
    "--bce-loss": 0,
    "--bce-target-thresh": 1,
    "--smoothing": 1,
    "--drop-path": 1,
    "--aa": 1,
    "--mixup": 1,
    "--cutmix": 1,
    "--reprob": 1,
    "--aug-repeats": 1,
    "--amp": 0,
    "--channels-last": 0,
}


def training_command(text: str) -> list[str]:
    """Return the words of the ImageNet command in an exported file's header."""
    header = text.split('"""')[1]
    return shlex.split(header[header.index("torchrun") :].split("\n\n", maxsplit=1)[0].replace("\\\n", " "))


def test_the_training_command_names_crops_and_erasing_where_they_are_not_timms_own() -> None:
    def flags(**settings: Any) -> str:
        return training_flags(Recipe(**settings), image_size=224, test_crop=0.95, epochs=300)["augmentation_flags"]

    authors = flags(**IMAGENET_RECIPE)
    assert "--reprob 0 " in authors and not {"--scale", "--ratio", "--remode"} & set(authors.split())
    others = flags(resized_crop_scale=0.35, resized_crop_ratio=0.8, erase_prob=0.25, erase_mode="rand", erase_count=2)
    for words in ("--scale 0.35 1.0", "--ratio 0.8 1.25", "--reprob 0.25", "--remode rand --recount 2"):
        assert words in others


@pytest.mark.parametrize(
    ("variant", "batch_size", "rate"), [("reduced", "64", 2e-3), ("T", "64", 2e-3), ("S", "32", 1.4e-3)]
)
def test_the_training_command_is_one_that_timm_takes(
    variant: str, batch_size: str, rate: float, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"num_classes": 3, "in_channels": 3, "image_size": 32}
    request = ExportRequest(
        space=SPACE,
        config=NEXCEPTION,
        format="python",
        out=tmp_path,
        name="net_to_train",
        variant=variant,
        width=0.02,
        **sizes,
    )
    launcher, processes, file, script, *words = training_command(render(request, make_bundle(request)))
    assert (launcher, processes, file) == ("torchrun", "--nproc-per-node=4", "net_to_train.py")
    assert script.endswith("train.py")
    given: dict[str, list[str]] = {}
    for word in words:
        if word.startswith("-"):
            assert word not in given
            given[word] = []
        else:
            given[list(given)[-1]].append(word)
    assert {flag: len(values) for flag, values in given.items()} == TIMM_TRAIN_FLAGS
    assert (given["--model"], given["-b"], float(given["--lr"][0])) == (["net_to_train"], [batch_size], rate)
    assert given["--input-size"] == ["3", *2 * ["224" if variant == "reduced" else "32"]]


def test_the_python_file_loads_its_weights(module: Any) -> None:
    assert torch.allclose(outputs_of(module.load_weights()), outputs_of(trained_network()), atol=1e-5)
    assert module.CONFIG == NEXCEPTION
    assert module.create(num_classes=3).get_classifier().out_features == 3


def test_loading_a_file_by_importlib_alone_leaves_no_module_behind(module: Any, python_file: Path) -> None:
    assert "mynet" not in sys.modules
    assert timm.get_pretrained_cfg("mynet").file == str(python_file.with_suffix(".safetensors"))
    assert timm.create_model("mynet").default_cfg["architecture"] == "mynet"


@pytest.mark.usefixtures("not_loaded_back")
def test_a_users_dataclass_with_annotations_as_text_loads_by_importlib_alone(tmp_path: Path) -> None:
    text = user_space(tmp_path, helper="from dataclasses import dataclass\nfrom typing import ClassVar").read_text()
    text = "from __future__ import annotations\n" + text.replace('"""A user\'s space."""\n', "")
    text = text.replace(
        "class Net(", "@dataclass\nclass Sizes:\n    channels: int\n    least: ClassVar[int] = 8\n\n\nclass Net("
    )
    path = tmp_path / "with_dataclass.py"
    path.write_text(text.replace("pass\n", "self.sizes = Sizes(channels)\n"))
    exported = export(
        "python", tmp_path / "out", space=load_space(str(path)), config={"depth": 2}, name="sized_net", width=1.0
    )
    assert load_alone(exported.files[0]).create().sizes.channels == 1


def test_timm_creates_the_exported_network_in_all_its_ways(module: Any) -> None:
    assert timm.is_model("mynet")
    network = timm.create_model("mynet", num_classes=7, in_chans=3, drop_path_rate=0.1)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 7)
    assert {m.drop_prob for m in network.modules() if isinstance(m, timm.layers.DropPath)} == {0.1}
    assert network.pretrained_cfg["input_size"] == (1, 16, 16)
    assert network.pretrained_cfg["crop_pct"] == 1.0
    with pytest.raises(ValueError, match="drop_rate must be 0"):
        timm.create_model("mynet", drop_rate=0.5)

    pretrained = timm.create_model("mynet", pretrained=True)
    assert torch.allclose(outputs_of(pretrained), outputs_of(trained_network()), atol=1e-5)
    adapted = timm.create_model("mynet", pretrained=True, num_classes=3)
    assert outputs_of(adapted).shape == (4, 3)
    assert torch.equal(adapted.stem.conv.weight, pretrained.stem.conv.weight)

    features = timm.create_model("mynet", features_only=True)
    assert [tuple(maps.shape[1:]) for maps in features(IMAGES)] == [
        (channels, 16 // reduction, 16 // reduction)
        for channels, reduction in zip(features.feature_info.channels(), features.feature_info.reduction(), strict=True)
    ]
    unpooled = timm.create_model("mynet", num_classes=0, global_pool="")
    assert outputs_of(unpooled).ndim == 4
    network.set_grad_checkpointing()
    network.train()(torch.randn(2, 3, 16, 16)).sum().backward()


def test_the_weights_folder_opens_with_timm_where_the_python_file_is_imported(
    module: Any, weights: Path, tmp_path: Path
) -> None:
    exported = export("weights", tmp_path / "hub", name="mynet", weights=weights)
    folder = exported.files[0].parent
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    network = timm.create_model(f"local-dir:{folder}", pretrained=True)
    assert torch.allclose(outputs_of(network), outputs_of(trained_network()), atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "mynet"
    assert load_file(folder / "model.safetensors").keys() == trained_network().state_dict().keys()
    card = (folder / "README.md").read_text()
    assert "library_name: timm" in card
    assert "| kernel_size | 5 |" in card


def test_the_python_file_runs_a_script_that_then_knows_the_network(python_file: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys, timm\nprint(timm.is_model('mynet'), *sys.argv[1:])\n")
    finished = subprocess.run(
        [sys.executable, python_file, script, "--lr", "1"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert finished.stdout.split() == ["True", "--lr", "1"]


def test_the_torch_program_runs_any_batch(weights: Path, tmp_path: Path) -> None:
    exported = export("torch", tmp_path / "program.pt2", weights=weights)
    network = torch.export.load(exported.files[0]).module()
    for size in (1, 2, 4):
        assert torch.allclose(network(IMAGES[:size]), outputs_of(trained_network())[:size], atol=1e-4)
    assert exported.max_difference is not None and exported.max_difference <= 1e-4


def test_the_onnx_graph_runs_any_batch(weights: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    exported = export("onnx", tmp_path / "graph.onnx", weights=weights)
    session = onnxruntime.InferenceSession(exported.files[0])
    for size in (1, 4):
        (logits,) = session.run(None, {"images": IMAGES[:size].numpy()})
        assert torch.allclose(torch.from_numpy(logits), outputs_of(trained_network())[:size], atol=1e-4)


@pytest.mark.parametrize("opset", [9, 17, 999])
def test_an_opset_that_cannot_be_written_is_a_clear_error(opset: int, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    with pytest.raises(NaxcliError, match=f"opset {opset} cannot be written"):
        export("onnx", tmp_path / "graph.onnx", opset=opset)
    assert list(tmp_path.iterdir()) == []


def test_missing_onnx_packages_are_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *_: None)
    with pytest.raises(NaxcliError, match="needs onnx") as caught:
        export("onnx", tmp_path / "graph.onnx")
    assert "naxcli[onnx]" in caught.value.hint


USER_SPACE = '''
"""A user's space."""
import math
import os.path
from collections import OrderedDict
from ConfigSpace import Categorical, ConfigurationSpace
import torch.nn.functional as F
from torch import nn
from naxcli import Space
{helper}

UNUSED = 3
ACTIVATIONS = {{}}
ACTIVATIONS["relu"] = nn.ReLU  # the only one
ACTIVATIONS.update(gelu=nn.GELU)


# A comment about Net
# on two lines.
class Net(nn.Module):
    def __init__(self, config, num_classes, channels):
        super().__init__()
        {body}
        self.conv = nn.Conv2d(channels, config["depth"] * 8, 3)
        self.act = ACTIVATIONS["relu"]()
        self.fc = nn.Linear(config["depth"] * 8, num_classes)

    def forward(self, x):
        return self.fc(F.relu(self.act(self.conv(x))).mean((2, 3)))


def unused(): return UNUSED + os.path.sep


def make(config, *, num_classes, in_channels, image_size, width=1.0):
    return Net(config, num_classes, in_channels)


def configspace(seed=None):
    space = ConfigurationSpace(seed=seed)
    space.add(Categorical("depth", [1, 2]))
    return space


SPACE = Space(name="mine", configspace=configspace, build={build})
'''


def user_space(folder: Path, *, helper: str = "", body: str = "pass", build: str = "make") -> Path:
    path = folder / "mine.py"
    path.write_text(USER_SPACE.format(helper=helper, body=body, build=build))
    return path


def test_a_users_space_is_exported_with_what_its_network_needs(tmp_path: Path) -> None:
    space = load_space(str(user_space(tmp_path)))
    exported = export("python", tmp_path / "out", space=space, config={"depth": 2}, name="mine_net", width=1.0)
    text = exported.files[0].read_text()
    for kept in (
        "# A comment about Net\n# on two lines.\nclass Net",
        'ACTIVATIONS["relu"] = nn.ReLU',
        "ACTIVATIONS.update",
    ):
        assert kept in text
    for dropped in ("ConfigSpace", "UNUSED", "unused", "os.path", "math", "OrderedDict", "SPACE ="):
        assert dropped not in text
    assert exported.max_difference == 0.0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine_net.py", "mine_net.safetensors"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"helper": "from naxcli.measure.counts import num_params", "body": "num_params(self)"},
            "cannot leave naxcli: line 10",
        ),
        ({"body": "from naxcli import errors"}, "cannot leave naxcli"),
        ({"body": "import naxcli.errors"}, "cannot leave naxcli"),
        ({"build": "lambda config, **kw: make(config, **kw)"}, "has no name"),
    ],
)
def test_network_code_that_does_not_stand_alone_is_a_clear_error(
    changes: dict[str, str], message: str, tmp_path: Path
) -> None:
    space = load_space(str(user_space(tmp_path, **changes)))
    with pytest.raises(NaxcliError, match=message):
        export("python", tmp_path / "out", space=space, config={"depth": 2}, width=1.0)
    assert not (tmp_path / "out").exists()


def test_a_neighbouring_module_is_named_as_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "helper_of_mine.py").write_text("WIDTH = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = user_space(tmp_path, helper="from helper_of_mine import WIDTH", body="self.width = WIDTH")
    with pytest.raises(NaxcliError, match="does not run without naxcli") as caught:
        export("python", tmp_path / "out", space=load_space(str(path)), config={"depth": 2}, width=1.0)
    assert "helper_of_mine" in caught.value.why
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["Network", "build", "create", "timm", "resnet18"])
def test_a_name_that_is_taken_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(NaxcliError, match=name):
        export("python", tmp_path / "out", name=name)


def test_a_slice_holds_only_what_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(
        "import json as j, re\n"
        "from typing import Any, Dict\n"
        "SIZE = 1\n"
        "SIZE += 1\n"
        "OTHER = 5\n"
        "if SIZE:\n    FLAG = re.compile('x')\nelse:\n    FLAG = None\n"
        "def helper(OTHER: Any):\n    return OTHER, SIZE, FLAG\n"
        "def entry():\n    re = 3\n    return [helper(OTHER) for OTHER in range(re)]\n"
    )
    result = slice_source(path, "entry")
    assert result.imports == ("import re", "from typing import Any")
    assert "OTHER = 5" not in result.definitions
    namespace: dict[str, Any] = {}
    exec("\n".join(result.imports) + "\n" + result.definitions, namespace)
    assert len(namespace["entry"]()) == 3
    assert namespace["SIZE"] == 2
