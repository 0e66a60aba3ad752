"""Ready for inference: norms folded where that is the same function, tensors dense, the rest left alone."""

import copy

import pytest
import torch
from torch import Tensor, fx, nn
from torch.nn import functional

import atofx
from atofx import zoo
from atofx.passes.clean import clean
from atofx.passes.record import call
from atofx.passes.verify import largest_error
from tests.models import CASES


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def lively(model: nn.Module) -> nn.Module:
    """Statistics and scales as a trained model has them."""
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.running_mean is not None:
                for tensor in (m.running_mean, *m.parameters()):
                    tensor.normal_()
                m.running_var.uniform_(0.5, 2.0)
    return model.double().eval()


class Once(nn.Module):
    """Everything folds."""

    left = 0

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Groups(Once):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, groups=3)
        self.norm = nn.BatchNorm2d(6)


class SharedNorm(Once):
    """One norm after two convolutions folds into both."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.norm(self.other(x))


class SharedConvolution(Once):
    """A convolution called twice with different norms."""

    left = 2

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + self.second(self.conv(x))


class ReadTwice(Once):
    """The norm is not the only reader."""

    left = 1

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


class WeightElsewhere(Once):
    """The convolution's weight is used on its own."""

    left = 1

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) + functional.conv2d(x, self.conv.weight)


class BatchStatistics(Once):
    """A norm without running statistics is no fixed scale."""

    left = 1

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)


class NormFirst(Once):
    left = 1

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x))


@pytest.mark.parametrize(
    "kind", [Once, Groups, SharedNorm, SharedConvolution, ReadTwice, WeightElsewhere, BatchStatistics, NormFirst]
)
def test_the_same_function(kind):
    model = lively(kind())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    module = atofx.trace(model, x).module
    before = copy.deepcopy(module.state_dict())
    result = clean(module)
    torch.testing.assert_close(result(x), model(x), rtol=1e-12, atol=1e-12)
    assert norms(result) == kind.left
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_dense_and_compact_alike():
    x = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    program = atofx.trace(lively(zoo.build("resnet20")), x)
    mask = program.random_mask(keep=0.5)
    for module in (program.module, program.compact(mask)):
        result = clean(module)
        torch.testing.assert_close(result(x), module(x), rtol=1e-10, atol=1e-10)
        assert norms(result) == 0
        assert isinstance(result, fx.GraphModule)
        assert not result.training


def test_a_module_that_is_no_graph_keeps_its_norms():
    model = lively(Once())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    result = clean(model)
    assert torch.equal(result(x), model(x))
    assert norms(result) == 1


def test_tensors_are_dense_and_stay_channels_last():
    model = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 6, 3), nn.Linear(5, 5))
    model[0].weight = nn.Parameter(torch.randn(12, 4, 3, 3)[::2])
    model[1].to(memory_format=torch.channels_last)
    model[2].weight = nn.Parameter(torch.randn(5, 10)[:, ::2])
    result = clean(model)
    assert result[0].weight.is_contiguous()
    assert result[1].weight.is_contiguous(memory_format=torch.channels_last)
    assert result[2].weight.is_contiguous()
    assert not model[2].weight.is_contiguous()
    assert all(torch.equal(a, b) for a, b in zip(result.parameters(), model.parameters(), strict=True))


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_every_small_net_with_batch_norms():
    folded = 0
    for case in CASES:
        model = case.build()
        if "eval" not in case.modes or not norms(model):
            continue
        lively(model)
        inputs = case.inputs(2)
        program = atofx.trace(model, inputs)
        for module in (program.module, program.compact(program.random_mask(keep=0.5))):
            result = clean(module)
            with torch.no_grad():
                assert largest_error(call(result, inputs), call(module, inputs)) < 1e-9, case.name
            folded += norms(module) - norms(result)
    assert folded > 20


@pytest.mark.filterwarnings("ignore:.*is deprecated in favor of:FutureWarning")
def test_a_weight_that_a_hook_computes_is_copied_and_not_folded() -> None:
    """Such a weight holds gradients, so torch's own copies refuse a model that is fresh."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6)).double().eval()
    model[1].running_mean.uniform_()
    result, x = clean(model), torch.randn(2, 3, 8, 8, dtype=torch.float64)
    assert isinstance(result, nn.Sequential)
    assert isinstance(result[1], nn.BatchNorm2d)
    assert torch.equal(result(x), model(x))
