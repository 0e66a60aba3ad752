"""MODEL on the command line: where it is looked for, and what each mistake is told."""

import pytest
import safetensors.torch
import torch
from torch import nn

from atofx.cli import models
from atofx.errors import ConfigError, FileError
from atofx.train import checkpoint


def test_zoo_comes_first_and_says_so():
    loaded = models.load("resnet18")
    assert loaded.title == "resnet18 (atofx.zoo)"
    assert tuple(loaded.inputs.shape) == (1, 3, 32, 32)
    assert not loaded.module.training
    assert not loaded.trained


def test_torchvision_by_name_and_by_place():
    assert tuple(models.load("mobilenet_v3_small").inputs.shape) == (1, 3, 224, 224)
    assert models.load("torchvision:resnet18").title == "torchvision:resnet18 (torchvision)"


def test_a_shared_name_with_a_large_image_is_torchvisions():
    assert models.load("resnet18", shapes=["1,3,64,64"]).origin == "atofx.zoo"
    assert models.load("resnet18", shapes=["1,3,224,224"]).origin == "torchvision"
    assert models.load("zoo:resnet18", shapes=["1,3,224,224"]).origin == "atofx.zoo"


@pytest.mark.parametrize(("name", "shape"), [("inception_v3", (1, 3, 299, 299)), ("r3d_18", (1, 3, 16, 112, 112))])
def test_default_shapes(name, shape):
    assert tuple(models.load(name).inputs.shape) == shape


def test_factory_with_arguments_and_shape():
    loaded = models.load("tests.cli.nets:small", shapes=["2x3x8x8"], arguments=["width=4"])
    assert loaded.module[0].out_channels == 4
    assert tuple(loaded.inputs.shape) == (2, 3, 8, 8)
    assert loaded.build()[0].out_channels == 4


def test_factory_that_brings_its_inputs():
    loaded = models.load("tests.cli.nets:with_inputs")
    assert tuple(loaded.inputs.shape) == (1, 3, 8, 8)
    assert isinstance(loaded.build(), nn.Module)


def test_several_inputs():
    loaded = models.load("tests.cli.nets:TwoInputs", shapes=["1,4", "1,3"])
    assert [tuple(t.shape) for t in loaded.inputs] == [(1, 4), (1, 3)]


def test_an_instance_instead_of_a_factory():
    assert isinstance(models.load("tests.cli.nets:instance", shapes=["1,3,8,8"]).module, nn.Sequential)


def test_same_seed_same_weights_and_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    first, second = models.load("resnet20", seed=3), models.load("resnet20", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a, b) for a, b in zip(first.module.parameters(), second.module.parameters(), strict=True))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet200", {}, r"no model 'resnet200' in atofx.zoo or torchvision \(did you mean 'resnet20'\?\)"),
        ("mobilenet_v22", {}, "did you mean 'mobilenet_v2'"),
        ("torchvision:resnet20", {}, r"no model 'resnet20' in torchvision \(did you mean 'resnet"),
        ("zoo:mobilenet_v2", {}, r"no model 'mobilenet_v2' in atofx.zoo \(did you mean 'mobilenetv2'\?\)"),
        ("no_such_package:net", {}, "no module 'no_such_package'"),
        ("tests.cli.nets:smal", {}, r"tests.cli.nets has no factory 'smal' \(did you mean 'small'\?\)"),
        ("tests.cli.nets:small", {}, "needs the shape of its input: add `--input-shape"),
        ("tests.cli.nets:not_a_model", {}, "gave dict, not a torch.nn.Module"),
        ("tests.cli.nets:small", {"arguments": ["depth=3"]}, "unexpected keyword argument 'depth'.*--arg KEY=VALUE"),
        ("resnet20", {"arguments": ["width=3"]}, "cannot build resnet20.*'width'"),
        ("resnet20", {"arguments": ["width"]}, "--arg 'width' is not KEY=VALUE"),
        ("resnet20", {"shapes": ["1,3,a"]}, "--input-shape '1,3,a' is not a shape; write positive integers"),
        ("resnet20", {"shapes": ["1,3,0,32"]}, "is not a shape"),
        ("resnet20", {"weights": "pretrained"}, "the zoo has no pretrained weights"),
        ("tests.cli.nets:small", {"weights": "pretrained"}, "is for torchvision's models"),
    ],
)
def test_mistakes(name, options, message):
    with pytest.raises(ConfigError, match=message):
        models.load(name, **options)


def test_a_bug_in_the_users_factory_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="a bug of the user's own"):
        models.load("tests.cli.nets:broken")


def test_weights_are_loaded(tmp_path):
    state = {key: torch.full_like(value, 2) for key, value in models.load("resnet20").module.state_dict().items()}
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(state, file)
    loaded = models.load("resnet20", weights=str(file))
    assert loaded.trained
    assert all(bool((value == 2).all()) for value in loaded.module.state_dict().values())


def test_weights_of_a_checkpoint_are_loaded(tmp_path):
    trained = models.load("resnet20", seed=1).module
    checkpoint.save({"step": 3, "model": trained.state_dict()}, tmp_path / "last.safetensors")
    loaded = models.load("resnet20", weights=str(tmp_path / "last.safetensors")).module
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), loaded.parameters(), strict=True))


def test_missing_weights():
    with pytest.raises(FileError, match=r"no file 'nowhere.safetensors' with weights"):
        models.load("resnet20", weights="nowhere.safetensors")


def test_a_pickle_is_refused_with_the_way_to_convert_it(tmp_path):
    file = tmp_path / "weights.pt"
    torch.save({}, file)
    with pytest.raises(FileError, match=r"(?s)can run code; convert it once:.*weights_only=True.*weights.safetensors"):
        models.load("resnet20", weights=str(file))


def test_truncated_weights(tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(models.load("resnet20").module.state_dict(), file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(FileError, match="is not a whole safetensors file"):
        models.load("resnet20", weights=str(file))


def test_weights_of_another_model(tmp_path):
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(models.load("resnet20", arguments=["num_classes=3"]).module.state_dict(), file)
    with pytest.raises(FileError, match=r"do not fit the model: .* is \(3, 64\) in the file, \(10, 64\) in the model"):
        models.load("resnet20", weights=str(file))
