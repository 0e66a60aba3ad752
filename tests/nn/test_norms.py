"""Norms that count what was cut equal the native ones on the uncut tensor, in every way they are computed."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from atofx.nn import CutGroupNorm, CutLayerNorm, CutRMSNorm, functional

KEPT, ALL = 6, 16
SHARE = KEPT / ALL


def pair(kind: str, *, affine: bool = True) -> tuple[nn.Module, nn.Module]:
    """(native norm of all channels, norm of the kept ones with the same weights)."""
    torch.manual_seed(0)
    makers: dict[str, Callable[[int], nn.Module]] = {
        "layer": lambda n: nn.LayerNorm(n, eps=1e-2, elementwise_affine=affine),
        "rms": lambda n: nn.RMSNorm(n, eps=1e-2, elementwise_affine=affine),
        "group": lambda n: nn.GroupNorm(2, n, eps=1e-2, affine=affine),
    }
    cutters = {"layer": CutLayerNorm, "rms": CutRMSNorm, "group": CutGroupNorm}
    whole, small = makers[kind](ALL).double(), makers[kind](KEPT).double()
    if affine:
        for name, parameter in whole.named_parameters():
            nn.init.normal_(parameter)
            small.get_parameter(name).data = parameter.data[kept(kind)].clone()
    return whole, cutters[kind].of(small, SHARE)  # type: ignore[attr-defined]


def kept(kind: str) -> Tensor:
    """Positions of the kept channels: equally many of either half."""
    return torch.tensor([1, 4, 5, 8, 11, 15]) if kind == "group" else torch.tensor([0, 1, 4, 9, 10, 15])


def inputs(kind: str, offset: float = 3.0) -> tuple[Tensor, Tensor]:
    """(uncut tensor with zeros, kept channels of it)."""
    torch.manual_seed(1)
    shape = (3, ALL, 5) if kind == "group" else (3, 5, ALL)
    dim = 1 if kind == "group" else 2
    dense = torch.zeros(shape, dtype=torch.float64)
    small = torch.randn(*shape[:dim], KEPT, *shape[dim + 1 :], dtype=torch.float64) + offset
    return dense.index_copy(dim, kept(kind), small), small


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_equals_the_native_norm_of_the_uncut_tensor(kind: str, affine: bool) -> None:
    whole, cut = pair(kind, affine=affine)
    dense, small = inputs(kind)
    dim = 1 if kind == "group" else 2
    expected = whole(dense).index_select(dim, kept(kind))
    with torch.no_grad():
        torch.testing.assert_close(cut(small), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cut(small), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(torch.jit.trace(cut, small)(small), expected, rtol=1e-12, atol=1e-12)
    compiled = torch.compile(copy.deepcopy(cut), backend="eager")
    torch.testing.assert_close(compiled(small), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_gradients_are_those_of_the_uncut_tensor(kind: str) -> None:
    whole, cut = pair(kind)
    dense, small = (x.requires_grad_() for x in inputs(kind))
    dim = 1 if kind == "group" else 2
    torch.manual_seed(2)
    pull = torch.randn_like(small)
    (whole(dense).index_select(dim, kept(kind)) * pull).sum().backward()
    (cut(small) * pull).sum().backward()
    assert dense.grad is not None
    torch.testing.assert_close(small.grad, dense.grad.index_select(dim, kept(kind)), rtol=1e-10, atol=1e-10)
    for name, parameter in cut.named_parameters():
        gradient = whole.get_parameter(name).grad
        assert gradient is not None
        torch.testing.assert_close(parameter.grad, gradient[kept(kind)], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_a_large_mean_costs_no_precision(kind: str, dtype: torch.dtype) -> None:
    """Against the native norm in the same precision: a difference of squares would lose all digits here."""
    whole, cut = pair(kind)
    dense, small = inputs(kind, offset=300.0)
    dense, small = dense.to(dtype), small.to(dtype)
    dim = 1 if kind == "group" else 2
    exact = whole(dense.double()).index_select(dim, kept(kind))
    native = (whole.to(dtype)(dense).double().index_select(dim, kept(kind)) - exact).abs().max()
    ours = (cut.to(dtype)(small).double() - exact).abs().max()
    assert ours <= 4 * native + 4 * torch.finfo(dtype).eps


def test_variance_and_standardised_weights() -> None:
    dense, small = inputs("layer")
    for correction in (0, 1):
        expected = torch.var_mean(dense, -1, correction=correction)
        found = functional.var_mean(small, -1, correction=correction, share=SHARE)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    rows, cut_rows = dense[0][None], small[0][None]
    weight = torch.randn(5, dtype=torch.float64)
    expected = nn.functional.batch_norm(rows, None, None, weight, training=True)[..., kept("layer")]
    torch.testing.assert_close(functional.batch_norm(cut_rows, weight, share=SHARE), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm_gradients_by_finite_differences(affine: bool) -> None:
    _, cut = pair("layer", affine=affine)
    _, small = inputs("layer")
    assert torch.autograd.gradcheck(cut, small.requires_grad_())


@pytest.mark.parametrize("kind", ["layer", "rms", "group"])
def test_trains_under_autocast(kind: str) -> None:
    _, cut = pair(kind)
    _, small = (x.float().requires_grad_() for x in inputs(kind, offset=0.5))
    cut.float()
    cut(small).square().sum().backward()
    expected, small.grad = small.grad, None
    assert expected is not None
    with torch.autocast("cpu", torch.bfloat16):
        result = cut(small.to(torch.bfloat16))
        result.float().square().sum().backward()
    assert small.grad is not None
    torch.testing.assert_close(small.grad, expected, rtol=0.1, atol=0.1 * float(expected.abs().max()))  # bf16
