"""The zoo builds the published networks."""

import pytest
import torch
from torch import fx

from atofx import zoo

# Parameters and input size: He et al. 2016 table 6 (0.27, 0.46, 0.85, 1.7 M), Li et al. 2017 table 1 (VGG16: 15 M);
# ResNet-18 and MobileNetV2 in the CIFAR form the pruning papers use (11.17 M, 2.24 M).
PUBLISHED = {
    "resnet20": 0.27e6,
    "resnet32": 0.46e6,
    "resnet56": 0.85e6,
    "resnet110": 1.73e6,
    "resnet18": 11.17e6,
    "vgg16_bn": 14.72e6,
    "mobilenetv2": 2.24e6,
}


def test_every_network_has_a_row() -> None:
    assert set(zoo.names()) == set(PUBLISHED)


@pytest.mark.parametrize("name", zoo.names())
def test_parameters_as_published(name: str) -> None:
    count = sum(parameter.numel() for parameter in zoo.build(name).parameters())
    assert count == pytest.approx(PUBLISHED[name], rel=0.015)


@pytest.mark.parametrize("name", zoo.names())
def test_takes_classes_and_channels(name: str) -> None:
    model = zoo.build(name, num_classes=7, in_channels=1).eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 7)


@pytest.mark.parametrize("name", [name for name in zoo.names() if name != "vgg16_bn"])
def test_takes_small_images(name: str) -> None:
    model = zoo.build(name).eval()
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 8, 8)).shape == (1, 10)


@pytest.mark.parametrize("name", zoo.names())
def test_is_symbolically_traceable(name: str) -> None:
    assert isinstance(fx.symbolic_trace(zoo.build(name)), fx.GraphModule)


def test_option_a_pads_and_strides() -> None:
    block = zoo.resnet20().layer2[0]
    image = torch.randn(1, 16, 8, 8)
    shortcut = block.shortcut(image)
    assert shortcut.shape == (1, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], image[:, :, ::2, ::2])
    assert not shortcut[:, :8].any()
    assert not shortcut[:, 24:].any()


def test_depth_is_6n_plus_2() -> None:
    with pytest.raises(ValueError, match=r"6n \+ 2 .* not 21"):
        zoo.CifarResNet(21)


def test_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(KeyError, match=r"no network 'resnet65' in the zoo; did you mean 'resnet56'"):
        zoo.build("resnet65")
