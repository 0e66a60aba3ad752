"""Names of models: zoo, torchvision, factories, and what is refused."""

import pytest
import torch
import torchvision
from torch import nn

from atofx import zoo
from atofx.errors import ConfigError
from atofx.train.models import model_names, resolve_model
from tests.train.nets import Small


def test_zoo_name() -> None:
    assert isinstance(resolve_model("resnet20", 10, 1), zoo.CifarResNet)


def test_torchvision_name() -> None:
    model = resolve_model("squeezenet1_1", 5)
    assert isinstance(model, torchvision.models.SqueezeNet)
    with torch.no_grad():
        assert model.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_a_name_of_both_is_ours_for_small_images() -> None:
    assert isinstance(resolve_model("resnet18", 10, 3, image_size=32), zoo.WideStageResNet)


def test_a_name_of_both_is_refused_for_large_images() -> None:
    with pytest.raises(ConfigError, match=r"two networks.*write torchvision:resnet18 \(or zoo:resnet18\)"):
        resolve_model("resnet18", 10, 3, image_size=224)


def test_spelled_out() -> None:
    assert isinstance(resolve_model("torchvision.models:resnet18", 10, 3, 224), torchvision.models.ResNet)
    assert isinstance(resolve_model("atofx.zoo:resnet18", 10, 3, 224), zoo.WideStageResNet)


def test_factory_gets_what_it_takes() -> None:
    model = resolve_model("tests.train.nets:Small", 4, 2)
    assert isinstance(model, Small)
    assert (model.fc.out_features, model.conv1.in_channels) == (4, 2)
    assert isinstance(resolve_model("tests.train.nets:three_classes", 4, 2), nn.Module)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnt20", r"no model 'resnt20' in atofx.zoo or torchvision \(did you mean 'resnet20'"),
        (
            "qqq",
            r"no model 'qqq' in atofx.zoo or torchvision \(the zoo has resnet18, resnet20.*; your own model is package",
        ),
        ("no.such.package:f", "no module 'no.such.package'"),
        ("tests.train.nets:Smal", r"has no factory 'Smal' \(did you mean 'Small'"),
        ("tests.train.nets:__name__", "is a str, not a function or class"),
        ("tests.train.nets:not_a_module", "gave int, not a torch.nn.Module"),
    ],
)
def test_what_is_refused(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve_model(name, 10)


def test_torchvision_takes_three_channels() -> None:
    with pytest.raises(ConfigError, match=r"mobilenet_v2 takes images of 3 channels, the data has 1; choose .* zoo"):
        resolve_model("mobilenet_v2", 10, 1)


def test_names_are_all_there() -> None:
    assert {"resnet20", "vit_b_16", "convnext_tiny"} <= set(model_names())


def test_places_as_on_the_command_line() -> None:
    assert isinstance(resolve_model("torchvision:resnet18", 10, 3, 224), torchvision.models.ResNet)
    assert isinstance(resolve_model("zoo:resnet18", 10, 3, 224), zoo.WideStageResNet)


def test_arguments_of_the_factory() -> None:
    model = resolve_model("torchvision:mobilenet_v3_small", 4, arguments={"width_mult": 0.5})
    assert sum(p.numel() for p in model.parameters()) < sum(
        p.numel() for p in resolve_model("torchvision:mobilenet_v3_small", 4).parameters()
    )
    with pytest.raises(ConfigError, match=r"cannot build resnet20: .*'widht'.*--set model_args.KEY=VALUE"):
        resolve_model("resnet20", 10, arguments={"widht": 2})


def test_a_model_instead_of_a_factory_is_copied() -> None:
    first, second = (resolve_model("tests.cli.nets:instance", 4) for _ in range(2))
    assert first is not second


def test_a_factory_may_bring_inputs() -> None:
    assert isinstance(resolve_model("tests.cli.nets:with_inputs", 4), nn.Module)


def test_only_classifiers_are_trained() -> None:
    with pytest.raises(ConfigError, match="fcn_resnet50 of torchvision does not score classes of images"):
        resolve_model("fcn_resnet50", 10)
