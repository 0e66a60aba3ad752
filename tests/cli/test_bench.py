"""`atofx bench`: its page, its files, and one clear message for each thing that can be wrong."""

import json

import pytest
from safetensors.torch import save_file

import atofx
from atofx.bench.files import PLOT, REPORT
from atofx.cli import models

QUICK = ("--seconds", "0", "--rounds", "2", "--threads", "1")
SMALL = ("tests.cli.nets:small", "--input-shape", "1,3,8,8")


@pytest.fixture(scope="module")
def pruned(tmp_path_factory):
    """Mask and compact model of the zoo's resnet20."""
    folder = tmp_path_factory.mktemp("pruned")
    loaded = models.load("resnet20")
    program = atofx.trace(loaded.module, loaded.inputs)
    mask = program.random_mask(keep=0.5)
    mask.save(folder / "mask.json")
    atofx.save(program, mask, folder / "model.safetensors")
    return folder


def test_a_page_and_a_folder(atofx_command, tmp_path):
    result = atofx_command("bench", "resnet20", "--out", str(tmp_path / "out"), "--batch", "2", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith("resnet20 (atofx.zoo), l2, the same share of every group\n")
    assert "multiply-adds counted once" in result.stdout
    assert "Where the rest goes" in result.stdout
    data = json.loads((tmp_path / "out" / REPORT).read_text())
    assert data["folded"] is True
    assert (tmp_path / "out" / PLOT).exists()


def test_a_mask_as_json(atofx_command, pruned):
    options = ("--batch", "1", "--batch", "3", "--memory-format", "channels_last", "--layers", "0")
    result = atofx_command("bench", "resnet20", "--mask", str(pruned / "mask.json"), "--json", *options, *QUICK)
    assert result.exit_code == 0, result.stderr
    data = json.loads(result.stdout)
    assert [row["setting"]["batch"] for row in data["comparisons"]] == [1, 3]
    assert data["machine"]["threads"] == 1
    assert data["layers"] == []
    for row in data["comparisons"]:
        assert row["setting"]["memory_format"] == "channels_last"
        assert len(row["dense"]["seconds"]) == len(row["compact"]["seconds"]) == 2
        assert row["realised"] == pytest.approx(
            row["speedup"]["median"] * data["compact"]["flops"] / data["dense"]["flops"]
        )


def test_a_compact_file_is_the_model_of_its_mask(atofx_command, pruned):
    by_file = atofx_command("bench", "resnet20", "--compact", str(pruned / "model.safetensors"), "--json", *QUICK)
    by_mask = atofx_command("bench", "resnet20", "--mask", str(pruned / "mask.json"), "--json", *QUICK)
    assert by_file.exit_code == 0, by_file.stderr
    first, second = json.loads(by_file.stdout), json.loads(by_mask.stdout)
    for key in ("dense", "compact"):
        assert first[key] == second[key]
    larger = ("--input-shape", "2,3,64,64")
    twice = atofx_command(
        "bench", "resnet20", "--compact", str(pruned / "model.safetensors"), "--json", *larger, *QUICK
    )
    assert json.loads(twice.stdout)["dense"]["flops"] > 7 * first["dense"]["flops"]


def test_blocks_that_a_run_left_out_are_left_out(atofx_command, tmp_path):
    """A mask and a file of a network without some blocks are compared with the whole one, and verified."""
    loaded = models.load("resnet20")
    whole = atofx.trace(loaded.module, loaded.inputs, freeze=["conv1"])
    program = whole.without_blocks(["layer1.1", "layer2.2"])
    mask, file = program.random_mask(), str(tmp_path / "mask.json")
    mask.save(file)
    (tmp_path / "result.json").write_text(json.dumps({"freeze": ["conv1"], "without": ["layer1.1", "layer2.2"]}))
    atofx.save(program, mask, tmp_path / "compact.safetensors")
    for source in (("--mask", file), ("--compact", str(tmp_path / "compact.safetensors"))):
        result = atofx_command("bench", "resnet20", *source, "--json", *QUICK)
        assert result.exit_code == 0, result.stderr
        data = json.loads(result.stdout)
        assert [data["dense"][key] for key in ("flops", "params")] == [whole.flops(), whole.params()]
        assert [data["compact"][key] for key in ("flops", "params")] == [program.flops(mask), program.params(mask)]
    assert atofx_command("verify", "resnet20", "--mask", file).exit_code == 0
    wrong = atofx_command("verify", "vgg16_bn", "--mask", file, "--freeze", "features.0")
    assert "no block 'layer1.1' can be left out; the model has none" in wrong.stderr


def test_norms_can_stay(atofx_command):
    result = atofx_command("bench", "resnet20", "--no-fold", "--json", *QUICK)
    kinds = {layer["kind"] for layer in json.loads(result.stdout)["layers"]}
    assert "BatchNorm2d" in kinds


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--mask", "none.json"), "cannot read the mask 'none.json'"),
        (("--compact", "none.safetensors"), "cannot read 'none.safetensors' as a safetensors file"),
        (("--mask", "a", "--compact", "b"), "--mask and --compact each say what is cut; give one of them"),
        (("--flops", "0.5", "--mask", "a"), "--flops and --mask each say what is cut"),
        (("--backend", "tensorrt"), "--backend 'tensorrt' is not one of eager, compile, onnxruntime, cudagraphs"),
        (("--dtype", "int3"), "--dtype 'int3' is not one of float32, bfloat16, float16"),
        (("--compact", "b", "--freeze", "fc"), "the file of --compact says what was cut, and how; leave out --freeze"),
        (("--flops", "0.0001"), "FLOPs"),
    ],
)
def test_one_clear_error(atofx_command, options, message):
    result = atofx_command("bench", *SMALL, *options, *QUICK)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_files_of_another_model(atofx_command, pruned, tmp_path):
    wrong = atofx_command("bench", *SMALL, "--mask", str(pruned / "mask.json"), *QUICK)
    assert wrong.exit_code == 2
    assert "the mask names a group this program does not have" in wrong.stderr
    wrong = atofx_command("bench", *SMALL, "--compact", str(pruned / "model.safetensors"), *QUICK)
    assert wrong.exit_code == 2
    assert "holds a mask of another model" in wrong.stderr
    save_file(models.load("resnet20").module.state_dict(), tmp_path / "dense.safetensors")
    wrong = atofx_command("bench", "resnet20", "--compact", str(tmp_path / "dense.safetensors"), *QUICK)
    assert "is not a compact model" in wrong.stderr
    for option in (("--round-to", "8"), ("--scope", "traffic")):
        wrong = atofx_command("bench", *SMALL, "--mask", "m", *option)
        assert wrong.exit_code == 2
        assert option[0] in wrong.stderr


def test_scope_says_where_the_cut_goes(atofx_command):
    found = {}
    for scope in ("uniform", "traffic"):
        result = atofx_command("bench", "resnet20", "--scope", scope, "--json", *QUICK)
        assert result.exit_code == 0, result.stderr
        found[scope] = json.loads(result.stdout)
    assert found["uniform"]["mask"] == "l2, the same share of every group"
    assert found["traffic"]["mask"] == "l2, less of groups that move more memory"
    moved = {scope: data["comparisons"][0]["compact"]["moved"] for scope, data in found.items()}
    assert moved["traffic"] < moved["uniform"]


def test_a_batch_that_the_model_does_not_take(atofx_command):
    result = atofx_command("bench", "tests.cli.nets:fixed_batch", "--batch", "3", *QUICK)
    assert result.exit_code == 2
    assert "the models do not run in the setting eager, batch 3, float32, contiguous" in result.stderr
    assert "give an example input of that size" in result.stderr
