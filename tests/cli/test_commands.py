"""Every subcommand: what it prints for people and machines, and its exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import atofx
from atofx import zoo
from atofx.cli import models
from atofx.cli.finetune import Workbench

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("tests.cli.nets:small", "--input-shape", "1,3,8,8")


def test_help_lists_the_subcommands_in_order(atofx_command):
    text = atofx_command("--help").stdout
    places = [
        text.index(f"\n  {name} ")
        for name in ("train", "inspect", "prune", "compact", "verify", "bench", "diff", "explain")
    ]
    assert places == sorted(places)


def test_version(atofx_command):
    assert atofx_command("--version").stdout == f"atofx {atofx.__version__}\n"


def test_inspect_tells_groups_shares_and_pins(atofx_command):
    result = atofx_command("inspect", *SMALL)
    assert result.exit_code == 0, result.stderr
    first = result.stdout.splitlines()[0]
    assert first == (
        "tests.cli.nets:small (tests.cli.nets): 9.22 k FLOPs (fused multiply-adds, counted once), 1.67 k parameters."
    )
    assert "1 prunable group with 8 units." in result.stdout
    assert "Pinned, so kept whole:" in result.stdout


def test_inspect_as_json(atofx_command):
    data = json.loads(atofx_command("inspect", *SMALL, "--json").stdout)
    assert data["flops"] == 8 * 27 * 36 + 8 * 36 * 5
    assert data["flops_unit"] == "fused multiply-adds"
    (group,) = [group for group in data["groups"] if group["prunable"]]
    assert group["units"] == 8
    assert group["producers"] == ["0.weight[0]", "0.bias[0]"]
    assert group["consumers"] == ["3.weight[1]"]
    assert group["flops_share"] == 1.0
    assert data["least_flops"] == data["flops"] // 8


def test_inspect_lists_axes(atofx_command):
    assert "  zeroed  0.weight[0]\n" in atofx_command("inspect", *SMALL, "--axes").stdout


def test_inspect_draws(atofx_command, tmp_path):
    files = [str(tmp_path / "net.html"), str(tmp_path / "again.HTML")]
    result = atofx_command("inspect", *SMALL, "--draw", files[0], "--draw", files[1])
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith(f"Drawn to {files[0]}.\n\nDrawn to {files[1]}.\n")
    assert all(Path(file).read_text(encoding="utf-8").startswith("<!doctype html>") for file in files)
    assert json.loads(atofx_command("inspect", *SMALL, "--json", "--draw", files[0]).stdout)["drawn"] == files[:1]


def test_inspect_draws_no_other_kind(atofx_command, tmp_path):
    result = atofx_command("inspect", *SMALL, "--draw", str(tmp_path / "net.pdf"))
    assert result.exit_code == 2
    assert "must end in one of .html, .svg, .png, .dot" in result.stderr


def test_explain(atofx_command):
    result = atofx_command("explain", "tests.cli.nets:small", "0.weight", "--input-shape", "1,3,8,8")
    assert result.exit_code == 0, result.stderr
    assert "0.weight" in result.stdout
    data = json.loads(
        atofx_command("explain", "tests.cli.nets:small", "0.weight", "--input-shape", "1,3,8,8", "--json").stdout
    )
    assert data["parameter"] == "0.weight"
    assert ("producer", 0, True) in {(g["role"], g["dim"], g["prunable"]) for g in data["groups"]}


def test_verify_a_random_mask(atofx_command):
    result = atofx_command("verify", *SMALL, "--keep", "0.5", "--seed", "1")
    assert result.exit_code == 0, result.stderr
    assert "4 of 8 units kept" in result.stdout
    assert "The compact model computes the same function." in result.stdout


def test_verify_as_json(atofx_command):
    data = json.loads(atofx_command("verify", *SMALL, "--json").stdout)
    assert data["ok"] is True
    assert data["error"] <= 1e-9
    assert data["flops_predicted"] == data["flops_counted"]
    assert data["params_predicted"] == data["params_counted"]


def test_prune_writes_a_folder_that_load_reads(atofx_command, tmp_path):
    out = tmp_path / "deep" / "folder"
    result = atofx_command("prune", "resnet20", "--flops", "0.5", "--criterion", "l2", "--out", str(out), "--json")
    assert result.exit_code == 0, result.stderr
    assert "has random weights, so l2 ranks noise" in result.stderr
    data = json.loads(result.stdout)
    assert data == json.loads((out / "result.json").read_text())
    assert data["ok"] is True
    assert abs(data["flops_compact"] / data["flops_dense"] - 0.5) <= 0.01
    module = atofx.load(out / "model.safetensors", lambda: models.load("resnet20").module)
    assert sum(p.numel() for p in module.parameters()) == data["params_compact"]
    again = atofx_command("verify", "resnet20", "--mask", str(out / "mask.json"), "--json")
    assert json.loads(again.stdout)["flops_counted"] == data["flops_compact"]


def test_prune_within_limits(atofx_command, tmp_path):
    out = tmp_path / "pruned"
    limits = ("--round-to", "8", "--min-width", "4", "--limit", "layer3=0.5", "--limit", "layer3.0.*:round_to=16")
    chosen = ("--freeze", "layer1.*.bn1", "--only", "conv1", "--only", "bn1", "--only", "layer*")
    result = atofx_command("prune", "resnet20", "--out", str(out), "--criterion", "random", "--json", *limits, *chosen)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert (data["freeze"], data["only"]) == (["layer1.*.bn1"], ["conv1", "bn1", "layer*"])
    assert data["limits"]["per_group"] == {"layer3": {"min_keep": 0.5}, "layer3.0.*": {"round_to": 16}}
    assert abs(data["flops_compact"] / data["flops_dense"] - 0.5) <= 0.01
    kept = atofx.Mask.load(out / "mask.json").kept
    assert not any(name.startswith("layer1") for name in kept)
    assert all(count % 8 == 0 for count in kept.values())
    assert kept["layer3.0.conv1"] in (32, 48, 64)
    verified = atofx_command("verify", "resnet20", "--mask", str(out / "mask.json"), "--json")  # what result.json says
    assert json.loads(verified.stdout)["flops_counted"] == data["flops_compact"]
    module = atofx.load(out / "model.safetensors", lambda: models.load("resnet20").module)
    assert sum(p.numel() for p in module.parameters()) == data["params_compact"]
    other = atofx_command("verify", "resnet20", "--mask", str(out / "mask.json"), "--freeze", "layer3")
    assert "the mask names a group this program does not have" in other.stderr
    (out / "result.json").write_text("cut", encoding="utf-8")
    assert "result.json" in atofx_command("verify", "resnet20", "--mask", str(out / "mask.json")).stderr


ATTENTION = (
    "torchvision.models.vision_transformer:VisionTransformer",
    *(part for option in ("image_size=16", "patch_size=8", "num_layers=2") for part in ("--arg", option)),
    *(part for option in ("num_heads=2", "hidden_dim=8", "mlp_dim=16", "num_classes=3") for part in ("--arg", option)),
    "--input-shape",
    "1,3,16,16",
)


def test_granularity_by_module_name(atofx_command, tmp_path):
    mask = tmp_path / "mask.json"
    chosen = ("--granularity", "*layer_0.self_attention=dims", "--criterion", "random", "--json")
    result = atofx_command("prune", *ATTENTION, "--out", str(tmp_path), *chosen)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["granularity"] == [["*layer_0.self_attention", "dims"]]
    sizes = {name: vector.numel() for name, vector in atofx.Mask.load(mask).items() if "attention" in name}
    assert sorted(sizes.values()) == [2, 4, 4]  # two heads; queries with keys, and values, of four dimensions
    assert atofx_command("verify", *ATTENTION, "--mask", str(mask)).exit_code == 0  # what result.json says
    wrong = atofx_command("verify", *ATTENTION, "--mask", str(mask), "--granularity", "heads")
    assert "has shape (4,), the group has 2 units" in wrong.stderr
    refused = atofx_command("inspect", *ATTENTION, "--granularity", "*layer_9.*=dims")
    assert "no module matches '*layer_9.*'" in refused.stderr


def test_inspect_and_explain_say_what_is_frozen(atofx_command):
    text = atofx_command("inspect", "resnet20", "--freeze", "layer3.0.bn1", "--only", "layer3").stdout
    assert "3 prunable groups with 160 units." in text
    words = " ".join(text.split())
    assert "frozen by freeze='layer3.0.bn1'" in words
    assert "outside of only='layer3'" in words
    result = atofx_command("explain", "resnet20", "layer1.0.conv1.weight", "--freeze", "layer1", "--json")
    assert "frozen by freeze='layer1'" in json.loads(result.stdout)["explanation"]


def test_prune_prints_before_and_after(atofx_command, tmp_path):
    result = atofx_command("prune", *SMALL, "--criterion", "random", "--out", str(tmp_path))
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    assert "dense   compact" in result.stdout
    assert f"Written to {tmp_path}." in result.stdout


def test_prune_with_images_measures_and_tunes(atofx_command, tmp_path):
    out = tmp_path / "pruned"
    arguments = ("prune", "resnet20", "--data", "digits", "--criterion", "taylor", "--out", str(out))
    result = atofx_command(*arguments, "--finetune", "1", "--set", "batch_size=128", "--json")
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert data["finetune_epochs"] == 1
    assert data["compact_top1"] > data["pruned_top1"]
    module = atofx.load(out / "model.safetensors", lambda: zoo.build("resnet20", num_classes=10, in_channels=1))
    bench = Workbench.open({"model": "resnet20", "data": "digits"}, {})
    assert bench.top1(module) == data["compact_top1"]
    again = atofx_command(*arguments, "--finetune", "1")
    assert again.exit_code == 2
    assert "holds an earlier fine-tune" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("inspect", "resnet200"),
            "atofx: no model 'resnet200' in atofx.zoo or torchvision (did you mean 'resnet20'?)",
        ),
        (("inspect", "tests.cli.nets:small"), "needs the shape of its input: add `--input-shape"),
        (("verify", "resnet20", "--mask", "nowhere.json"), "atofx: cannot read the mask 'nowhere.json'"),
        (("explain", "resnet20", "layer1.0.conv1.wight"), "(did you mean 'layer1.0.conv1.weight'?)"),
        (("prune", "resnet20", "--flops", "1.5", "--out", "unused"), "flops=1.5 is not a kept fraction"),
        (("prune", "resnet20", "--finetune", "1", "--out", "unused"), "--finetune needs images: add --data digits"),
        (("prune", "resnet20", "--criterion", "taylor", "--out", "unused"), "--criterion taylor needs images"),
        (("prune", "resnet20", "--data", "digit", "--out", "unused"), "no data set 'digit' (did you mean 'digits'?)"),
        (
            ("prune", "resnet20", "--data", "digits", "--input-shape", "1,1,8,8", "--out", "unused"),
            "--data sets the input shape",
        ),
        (("inspect", "resnet20", "--freeze", "layr1"), "matches 'layr1'; the nearest is 'layer1'"),
        (("verify", "resnet20", "--only", "layr1"), "(only=) matches 'layr1'; the nearest is 'layer1'"),
        (("prune", "resnet20", "--limit", "layer1", "--out", "unused"), "--limit 'layer1' is not PATTERN=SHARE"),
        (("prune", "resnet20", "--limit", "layr1=0.5", "--out", "unused"), "matches 'layr1'; the nearest is 'layer1'"),
        (("prune", "resnet20", "--limit", "layer1:keep=0.5", "--out", "unused"), "did you mean 'min_keep'?"),
        (("prune", "resnet20", "--limit", "layer1=much", "--out", "unused"), "min_keep='much' is not a share"),
        (("prune", "resnet20", "--min-keep", "0.9", "--out", "unused"), "with the least that the limits allow"),
        (("train", "--config", "digit", "--print-config"), "did you mean 'digits'?"),
        (("train", "--set", "ato.evry=5", "--print-config"), "unknown key 'evry' in 'ato' (did you mean 'every'?)"),
        (("train", "--set", "ato.every", "--print-config"), "--set 'ato.every' is not KEY=VALUE"),
        (("train", "--epochs", "many", "--print-config"), "epochs"),
        (("inspect", "resnet20", "--arg", "num_classes=ten"), "atofx: cannot build resnet20 with num_classes='ten': "),
        (("verify", "resnet20", "--mask", "m.json", "--keep", "0.5"), "leave out --keep and --round-to"),
        (("compact", ".", "--model", "resnet20", "--out", "unused"), "'.' is a folder; name the file in it"),
        (
            ("prune", "resnet20", "--data", "digits", "--set", "epochs=7", "--out", "unused"),
            "atofx: --set epochs: a fine-tune has no such option",
        ),
    ],
)
def test_user_errors_are_one_message_and_exit_code_2(atofx_command, arguments, message, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    monkeypatch.chdir(tmp_path)
    result = atofx_command(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.startswith("atofx: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--round-to", "8"), "round_to: 8"),
        (("--round-to", "auto:onnxruntime"), "round_to: auto:onnxruntime"),
        (("--freeze", "conv1"), "freeze: [conv1]"),
        (("--milestones", "0.5"), "milestones: [0.5]"),
        (("--set", "model_args.width=16"), "model_args: {width: 16}"),
    ],
)
def test_options_of_train_are_what_they_look_like(atofx_command, options, line):
    result = atofx_command("train", *options, "--print-config")
    assert result.exit_code == 0, result.stderr
    assert line in result.stdout.splitlines()


def test_weights_that_cannot_be_downloaded(atofx_command, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # where nobody listens
    result = atofx_command("inspect", "torchvision:resnet18", "--weights", "pretrained")
    assert result.exit_code == 2
    assert result.stderr.startswith("atofx: cannot download torchvision's weights of resnet18: ")
    assert "give a .safetensors file" in result.stderr


def test_a_factory_may_have_loaded_weights(atofx_command, tmp_path):
    command = ("prune", "tests.cli.nets:with_inputs", "--out", str(tmp_path / "cut"))
    first, second = atofx_command(*command), atofx_command(*command)
    assert "no --weights: unless tests.cli.nets:with_inputs loads trained ones itself, l2 ranks noise" in first.stderr
    assert "is replaced" not in first.stderr
    assert f"the cut that was in {tmp_path / 'cut'} is replaced" in second.stderr


def test_a_mask_of_another_model(atofx_command, tmp_path):
    file = tmp_path / "mask.json"
    atofx.trace(models.load("resnet32").module, models.load("resnet32").inputs).full_mask().save(file)
    result = atofx_command("verify", "resnet20", "--mask", str(file))
    assert result.exit_code == 2
    assert result.stderr.startswith("atofx: ")
    assert "group" in result.stderr


@pytest.mark.parametrize("text", ["not json", "{}", '{"format": "other", "groups": {}}'])
def test_a_file_that_is_no_mask(atofx_command, tmp_path, text):
    file = tmp_path / "mask.json"
    file.write_text(text, encoding="utf-8")
    result = atofx_command("verify", "resnet20", "--mask", str(file))
    assert result.exit_code == 2
    assert str(file) in result.stderr


def test_a_shape_the_model_cannot_take(atofx_command):
    result = atofx_command("inspect", "tests.cli.nets:small", "--input-shape", "1,4,8,8")
    assert result.exit_code == 2
    assert result.stderr.startswith("atofx: ")
    assert "Traceback" not in result.stderr


def test_as_a_program():
    command = [sys.executable, "-m", "atofx", "inspect"]
    done = subprocess.run([*command, "resnet20", "--json"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "resnet20"
    wrong = subprocess.run([*command, "resnet200"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert wrong.stderr.splitlines()[-1].startswith("atofx: no model 'resnet200'")


@pytest.mark.parametrize("library", ["typer", "yaml"])
def test_without_the_train_extra(library):
    code = f"import sys; sys.modules[{library!r}] = None; from atofx.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith(
        f'atofx: the command line needs the [train] extra ({library} is not installed): pip install "atofx[train]"\n'
    )
