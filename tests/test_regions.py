"""Models that cannot be traced whole: what becomes a region, what stays whole, and every promise on the rest."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.hooks import RemovableHandle

import atofx
from atofx.cost.count import analysis as fvcore_analysis
from atofx.errors import ExampleInputError, FileError, TraceError
from atofx.gates import ChannelGate
from atofx.passes.merge import TracedRegions
from tests.invariants import (
    Subject,
    agree,
    effect,
    explained,
    full_mask_is_dense,
    gates_are_differentiable,
    parameter_count,
    prunable_axis,
    randomise,
    take,
    trace,
    twice,
    well_formed,
)


def block(width_in: int, width_out: int, hidden: int = 8) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width_in, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, width_out, 1)
    )


class Branch(nn.Module):
    """The path depends on a mean; only one of two blocks runs on the example."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.left, self.right = block(3, 6), block(6, 5), block(6, 5)
        self.out = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = self.left(x) if float(x.mean()) < 1e6 else self.right(x)
        return self.out(x.mean((2, 3)))


class TwoSizes(nn.Module):
    """One region called three times, with images of two sizes; a flatten and a `view` by sizes inside."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convs = block(3, 8)
            self.out = nn.Linear(8, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.convs(x))
            n, c, h, w = x.shape
            return self.out(x.view(n, c, h * w).transpose(1, 2)).flatten(1, 2)

    def __init__(self) -> None:
        super().__init__()
        self.head = self.Head()

    def forward(self, x: Tensor) -> Tensor:
        results = [self.head(x), self.head(x[..., ::2, ::2]), self.head(-x)]
        return torch.cat(results[:2] if float(results[0].sum()) > 1e9 else results, 1)


class Lists(nn.Module):
    """A list of images of several sizes, a region that gets a list and gives a dict."""

    class Pyramid(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.ModuleList([block(3, 4), block(3, 4)])
            self.last = block(4, 4)

        def forward(self, images: list[Tensor]) -> dict[str, Tensor]:
            return {str(i): self.last(level(x)) for i, (level, x) in enumerate(zip(self.levels, images, strict=True))}

    def __init__(self) -> None:
        super().__init__()
        self.pyramid = self.Pyramid()

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        results = self.pyramid([images[0][None], images[1][None]])
        best = [r.flatten()[r.flatten().argsort()[-int(3 + (r.sum() > 0)) :]] for r in results.values()]
        return [{"scores": scores} for scores in best]


class SharedInside(nn.Module):
    """A parameter of a region is read by the code outside too; so its two axes stay whole."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return F.linear(y, self.body[2].weight) if float(y.abs().sum()) > 0 else y


class Twins(nn.Module):
    """Two regions in a ModuleList share a layer: its channels are coupled across both; a loop on values calls them."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Linear(8, 8)
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, 8), nn.ReLU(), shared, nn.ReLU(), nn.Linear(8, 4)) for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        while float(x.abs().max()) < 1e3:
            for part in self.parts:
                x = part(x) + x
            x = x * 40
        return x


class Methods(nn.Module):
    """The outside calls another method of a region's class and reads its attributes, in train mode only."""

    class Head(nn.Module):
        scale = 3.0

        def __init__(self) -> None:
            super().__init__()
            self.layers = block(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layers(x)

        def loss(self, y: Tensor) -> Tensor:
            return y.square().mean() * self.scale

    def __init__(self) -> None:
        super().__init__()
        self.head = self.Head()

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        if self.training:
            return self.head.loss(y)
        return y[y > float(y.mean())]


class Literal(nn.Module):
    """A region is told by a number what to do."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = block(3, 4), block(3, 4)

        def forward(self, x: Tensor, way: int) -> Tensor:
            return self.first(x) if way > 0 else self.second(x)

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: Tensor) -> Tensor:
        return self.part(x, int(x.mean() > 0))


def image(n: int = 2) -> Tensor:
    return torch.randn(n, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(n)) + 0.5


def rows(n: int = 3) -> Tensor:
    return torch.randn(n, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def images(n: int = 1) -> tuple[list[Tensor]]:
    return ([image(1)[0], image(2)[0, :, :6]],)


CASES: list[tuple[type[nn.Module], Any, tuple[str, ...], dict[str, int]]] = [
    (Branch, image(), ("stem", "left", "out"), {"stem.0.weight:0": 8, "left.0.weight:0": 8, "left.3.weight:0": 0}),
    (TwoSizes, image(), ("head",), {"head.convs.0.weight:0": 8, "head.convs.3.weight:0": 8, "head.out.weight:0": 0}),
    (Lists, images(), ("pyramid",), {"pyramid.levels.0.0.weight:0": 8, "pyramid.levels.0.3.weight:0": 4}),
    (SharedInside, rows(), ("body",), {"body.0.weight:0": 0, "body.2.weight:0": 0, "body.2.bias:0": 0}),
    (Twins, rows(), ("parts.0", "parts.1"), {"parts.0.0.weight:0": 8, "parts.0.4.weight:1": 8}),
    (Methods, image(), ("head",), {"head.layers.0.weight:0": 8, "head.layers.3.weight:0": 0}),
    (Literal, image(), ("part",), {"part.first.0.weight:0": 8, "part.second.0.weight:0": 0}),
]
NAMES = [case[0].__name__ for case in CASES]


@pytest.mark.parametrize(("net", "inputs", "regions", "expected"), CASES, ids=NAMES)
def test_every_promise(net: type[nn.Module], inputs: Any, regions: tuple[str, ...], expected: dict[str, int]) -> None:
    model = net().double().train(net is not Methods)  # in train mode it can be traced whole
    randomise(model, 0)
    subject = trace(model, inputs)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == regions
    assert {axis: prunable_axis(program, axis)[0] for axis in expected} == expected
    well_formed(subject)
    explained(subject)
    full_mask_is_dense(subject)
    mask = program.random_mask(keep=0.5, seed=1)
    if program.prunable:
        assert effect(subject, mask) > 1e-3
    agree(subject, mask)
    assert program.verify(mask).ok
    assert program.verify(mask).error <= 1e-9
    check_costs(subject, mask)
    check_state_dict(subject, mask)
    if net not in (Lists, Methods):  # their results are chosen by value
        gates_are_differentiable(subject)
    twice(subject, mask, 0)


def check_costs(subject: Subject, mask: atofx.Mask) -> None:
    """Predicted FLOPs are those fvcore counts on the whole compact model, but for those outside of the regions."""
    program = subject.program
    small = copy.deepcopy(program.compact(mask)).eval()
    inputs = subject.inputs if isinstance(subject.inputs, tuple) else (subject.inputs,)
    outside = 3 * 8 * 6 if isinstance(subject.model, SharedInside) else 0  # its own F.linear
    assert program.flops(mask) == int(fvcore_analysis(small, inputs).total()) - outside
    assert program.params(mask) == parameter_count(small)
    soft = {name: vector.double() for name, vector in mask.items()}
    if soft:
        assert float(program.flops(soft)) == program.flops(mask)


def check_state_dict(subject: Subject, mask: atofx.Mask) -> None:
    """The compact model has the keys of the dense one, and its own tensors at the kept indices."""
    old, new = subject.model.state_dict(), subject.program.compact(mask).state_dict()
    mapping = subject.program.state_dict_map(mask)
    assert set(new) == set(old) == {entry.key for entry in mapping.values()}
    for key, tensor in old.items():
        kept = take(tensor, mapping[key].kept)
        assert torch.equal(new[key], kept)
        assert new[key].data_ptr() != tensor.data_ptr()


def test_compact_is_the_same_outer_model() -> None:
    model = Methods().double().eval()
    program = atofx.trace(model, image())
    small = program.compact(program.random_mask())
    assert type(small) is Methods
    assert isinstance(small.head, Methods.Head)
    assert isinstance(small.head.layers[0], nn.Conv2d)
    assert small.head.layers[0].out_channels == 4
    loss = small.train()(image())
    loss.backward()
    assert all(p.grad is not None for p in small.parameters())
    zeroed = program.zeroed(program.random_mask()).train()
    assert torch.allclose(zeroed(image()), copy.deepcopy(small)(image()), rtol=1e-12)


def test_a_branch_that_the_example_does_not_take_stays_as_it_is() -> None:
    model = Branch().double()
    program = atofx.trace(model, image())
    small = program.compact(program.random_mask())
    text = program.explain("right.0.weight")
    assert "is used by no traced region" in text
    assert "What helps: use example inputs" in text
    huge = image() * 1e12
    zeroed = program.zeroed(program.random_mask())
    assert torch.equal(small.right[0].weight, model.right[0].weight)
    for module in (small, zeroed):
        module.eval()
    torch.testing.assert_close(small(huge), zeroed(huge), rtol=1e-9, atol=0)


def test_borders_are_pinned_with_a_reason() -> None:
    program = atofx.trace(Branch().double(), image())
    leaving = program.explain("stem.3.weight")
    assert "leaves the traced region 'stem', whose outside could not be traced (program.frontend" in leaving
    assert "What helps: " in leaving
    entering = program.explain("left.0.weight")
    assert "its layer reads what enters the traced region 'left', whose outside could not be traced (" in entering
    summary = program.summary()
    assert "traced in 3 regions: stem, left, out" in summary
    assert "depends on the data" in program.frontend_reason


def test_tensors_used_outside_are_pinned_with_a_reason() -> None:
    program = atofx.trace(SharedInside().double(), rows())
    assert "is used outside the traced regions" in program.explain("body.2.weight")
    assert [g.size for g in program.prunable] == []


def test_a_call_of_another_kind_is_refused() -> None:
    program = atofx.trace(Literal().double(), image())
    small = program.compact(program.random_mask())
    small(image())
    with pytest.raises(TraceError, match=r"region 'part' was traced with way = 1 and is now called with 0"):
        small(-image())


class Literals(nn.Module):
    """A block that is called with two numbers, behind a constant that they change."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = block(3, 8), nn.Conv2d(8, 3, 1)

        def forward(self, x: Tensor, factor: float) -> Tensor:
            return self.last(torch.sigmoid(self.first(x)) * factor)

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(self.part(x, 1.0), 3.0)
        return y if float(y.abs().sum()) > 0 else x


def test_numbers_of_every_call_are_taken() -> None:
    subject = trace(Literals().double(), image())
    assert isinstance(subject.program.traced, TracedRegions)
    assert subject.program.traced.plan.regions == ("part",)
    agree(subject, subject.program.random_mask())
    small = subject.program.compact(subject.program.random_mask())
    with pytest.raises(TraceError, match=r"was traced with factor = 1\.0 or 3\.0 and is now called with 2\.0"):
        small.part(image(), 2.0)


def test_longer_lists_are_refused() -> None:
    program = atofx.trace(Lists().double(), images())
    small = program.compact(program.random_mask())
    with pytest.raises(TraceError, match=r"'pyramid' was traced with images = \[a tensor of 4 dimensions, a tensor"):
        small.pyramid([image()] * 3)


class FixedBySize(nn.Module):
    """A block whose compact graph would hold places that depend on the image: it is no region for two sizes."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = block(3, 8), block(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            y = F.relu(self.first(x)).flatten(1)
            y = y * torch.arange(y.shape[1])
            return self.last(y.reshape(x.shape[0], 8, x.shape[2], x.shape[3]))

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.part(x).flatten(1), self.part(x[..., ::2, ::2]).flatten(1)
        return torch.cat([y, z], 1) if float(z.sum()) != 0 else z


def test_one_graph_serves_every_size_or_there_is_none() -> None:
    subject = trace(FixedBySize().double(), image())
    assert isinstance(subject.program.traced, TracedRegions)
    assert subject.program.traced.plan.regions == ("part.first", "part.last")
    mask = subject.program.random_mask()
    agree(subject, mask)
    agree(subject, mask, F.pad(image(), (2, 2, 2, 2)))


class NoRows(nn.Module):
    """A head gets the rows that pass a threshold: none on the example."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6))
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.head(y[y.abs().sum(1) > 1e3])


def test_a_region_that_gets_no_rows_is_pruned_too() -> None:
    subject = trace(NoRows().double(), rows())
    program = subject.program
    assert prunable_axis(program, "head.1.weight:0") == (8, 8)
    mask = program.random_mask()
    assert program.verify(mask).ok
    check_costs(subject, mask)
    agree(subject, mask, rows() * 1e4)
    assert program.compact(mask)(rows() * 1e4).shape == (3, 2)


class Attends(nn.Module):
    """Attention in a region: its name in a pattern is the one it has in the model."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x)
        return y if float(y.sum()) != 0 else x


def test_options_name_modules_of_the_model() -> None:
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    heads = atofx.trace(Attends().double().eval(), x)
    dims = atofx.trace(Attends().double().eval(), x, granularity={"part.self_attn": "dims"})
    frozen = atofx.trace(Attends().double().eval(), x, freeze="part.linear1")
    axis = "part.self_attn.in_proj_weight:0"
    assert prunable_axis(heads, axis)[1] == 2
    assert prunable_axis(dims, axis)[1] > 2
    assert prunable_axis(heads, "part.linear1.weight:0") == (16, 16)
    assert prunable_axis(frozen, "part.linear1.weight:0") == (0, 0)
    for program in (heads, dims, frozen):
        assert program.verify(program.random_mask()).ok


class NothingTraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.second(x if float(x.sum()) > 0 else -x)


def test_nothing_to_trace_says_so_with_the_reason() -> None:
    with pytest.raises(TraceError, match=r"(?s)depends on the data.*No submodule with more than one layer"):
        atofx.trace(NothingTraceable(), torch.randn(2, 4))


class Fails(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = block(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        if float(self.body(x).sum()) != 0:
            raise ValueError("no such thing")
        return x


def test_a_model_that_does_not_run_says_so() -> None:
    said = r"Fails does not run on the example inputs \(\(2, 3, \d+, \d+\)\): ValueError: no such thing"
    with pytest.raises(ExampleInputError, match=said):
        atofx.trace(Fails().double(), image())


class HoldsLock(nn.Module):
    """Runs, but cannot be copied, so it cannot be watched."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.lock = block(3, 4), threading.Lock()
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.body(x) if float(x.sum()) != 0 else x


def test_a_model_that_runs_is_not_said_to_fail() -> None:
    model = HoldsLock().double().train()
    said = (
        r"(?s)depends on the data.*HoldsLock runs on the example inputs, but .* watched raises TypeError: cannot pickle"
    )
    with pytest.raises(TraceError, match=said) as caught:
        atofx.trace(model, image())
    assert not isinstance(caught.value, ExampleInputError)
    assert model.calls.item() == 0
    assert model.training
    assert model.body.training


class Packed(nn.Module):
    """A block before a recurrent layer that gets sequences of several lengths, packed: no tuple of any tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 5))
        self.recurrent, self.out = nn.LSTM(5, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.body(x), lengths, batch_first=True, enforce_sorted=False)
        return self.out(pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)[0])


def test_a_block_before_packed_sequences_is_a_region() -> None:
    inputs = (torch.randn(3, 7, 4, dtype=torch.float64), torch.tensor([5, 7, 2]))
    subject = trace(Packed().double(), inputs)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("body", "out")
    assert prunable_axis(program, "body.0.weight:0") == (8, 8)
    agree(subject, program.random_mask())
    agree(subject, program.random_mask(), (inputs[0][:, :6], torch.tensor([1, 6, 6])))


class Condition(nn.Module):
    """A branch as an operator of torch, which may read something of a region."""

    def __init__(self, way: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.way = way
        self.body, self.other, self.out = block(3, 8), block(8, 8), block(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.out(torch.cond(y.abs().sum() > 0, lambda z: self.way(self, x, z), lambda z: z * 2, (y,)))


WAYS: dict[str, tuple[Callable[[Any, Tensor, Tensor], Tensor], int]] = {
    "another": (lambda m, x, y: m.other(y), 8),
    "weight": (lambda m, x, y: y + F.conv2d(x, m.body[0].weight, padding=1), 0),
    "layer": (lambda m, x, y: y + m.body[0](x), 0),
    "size": (lambda m, x, y: y * m.body[0].weight.shape[0], 0),
}


@pytest.mark.parametrize(("way", "size"), WAYS.values(), ids=WAYS)
def test_what_a_branch_of_an_operator_reads_stays(way: Callable[[Any, Tensor, Tensor], Tensor], size: int) -> None:
    subject = trace(Condition(way).double(), image())
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert {"body", "out"} <= set(program.traced.plan.regions)
    assert prunable_axis(program, "body.0.weight:0") == (size, size)
    assert prunable_axis(program, "out.0.weight:0") == (8, 8)
    agree(subject, program.random_mask())


class Compiled(nn.Module):
    """An operator that torch.compile takes as one, with a function that reads a region's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.out = (nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).unflatten(-1, (2, 4)).transpose(1, 2)
        y = flex_attention(y, y, y, score_mod=lambda score, b, h, i, j: score + self.out[0].weight[i, j])
        return self.out(y.transpose(1, 2).flatten(2))


@pytest.mark.filterwarnings("ignore:flex_attention called without")
def test_operators_that_are_compiled_are_watched() -> None:
    inputs = torch.randn(2, 6, 8, dtype=torch.float64)
    subject = trace(Compiled().double().requires_grad_(False), inputs)
    assert isinstance(subject.program.traced, TracedRegions)
    assert prunable_axis(subject.program, "body.0.weight:0") == (8, 8)
    assert prunable_axis(subject.program, "out.0.weight:0") == (0, 0)
    agree(subject, subject.program.random_mask())


class OtherInTraining(nn.Module):
    """A block gives something else in train mode: it is no region, its parts are."""

    class Part(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = block(3, 4), block(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            return x * 2 if self.training else self.second(x)

    def __init__(self) -> None:
        super().__init__()
        self.part = self.Part()

    def forward(self, x: Tensor) -> Tensor:
        y = self.part(x)
        return y[y > float(y.mean())]


@pytest.mark.parametrize("training", [True, False])
def test_regions_work_in_both_modes(training: bool) -> None:
    model = OtherInTraining().double().train(training)
    subject = trace(model, image())
    assert isinstance(subject.program.traced, TracedRegions)
    assert "part.first" in subject.program.traced.plan.regions
    agree(subject, subject.program.random_mask())


class Remembers(nn.Module):
    """Keeps what it computed; a failed trace must not leave its values behind."""

    def __init__(self) -> None:
        super().__init__()
        self.body = block(3, 4)
        self.cache: list[Any] = []
        self.last: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.last = self.body(x)
        self.cache.append(self.last)
        return self.last[self.last > float(self.last.mean())]


def test_the_model_is_left_without_traced_values() -> None:
    model = Remembers().double()
    cache = model.cache
    atofx.trace(model, image())
    assert model.last is None
    assert model.cache is cache
    assert cache == []


@pytest.mark.parametrize("net", [Branch, TwoSizes, Lists, Twins])
def test_saved_and_loaded(net: Callable[[], nn.Module], tmp_path: Any) -> None:
    inputs = next(case[1] for case in CASES if case[0] is net)
    model = net().double().eval()
    randomise(model, 3)
    program = atofx.trace(model, inputs)
    mask = program.random_mask()
    atofx.save(program, mask, tmp_path / "small.safetensors")
    loaded = atofx.load(tmp_path / "small.safetensors", lambda: net().double())
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    expected, actual = program.compact(mask)(*arguments), loaded(*arguments)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)
    other = Methods if net is not Methods else Branch
    with pytest.raises(FileError, match="another model"):
        atofx.load(tmp_path / "small.safetensors", lambda: other().double())


class Part(nn.Module):
    """Two blocks; what is beside them serves the code outside."""

    kept: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = block(3, 6), block(6, 5)
        self.bare = nn.BatchNorm2d(5, affine=False, track_running_stats=False)
        self.memo: dict[str, Any] = {}
        self.factor = 1.0
        self.register_buffer("last", torch.zeros(1))
        self.elsewhere: list[nn.Module] = []

    @property
    def width(self) -> int:
        return int(self.wide[0].out_channels)

    def keep(self, y: Tensor) -> None:
        """Nothing is kept."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        self.keep(y)
        return self.bare(self.narrow(torch.relu(y)) * self.factor)


class Observed(nn.Module):
    """Code outside of a region that may read something of it before or after it runs."""

    def __init__(self, part: Part, read: Callable[[Any], Any], prepare: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.part, self.read, self.prepare = part, read, prepare
        self.out = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
        self.parameters_of_part = list(part.parameters())
        self.kept: Any = None

    def forward(self, x: Tensor) -> Tensor:
        self.prepare(self.part, x)
        y = self.part(x)
        y = y * self.read(self) if float(y.abs().sum()) > 0 else y
        return self.out(y.mean((2, 3)))


def nothing(*_: Any) -> float:
    return 1.0


def observed(
    read: Callable[[Any], Any] = nothing, prepare: Callable[[Any, Tensor], Any] = nothing, part: type[Part] = Part
) -> Subject:
    """A model that has run before, so that what a call leaves is there while it is traced, with its program."""
    model = Observed(part(), read, prepare).double().eval()
    model.part.elsewhere.append(model)
    randomise(model, 0)
    with torch.no_grad():
        model(image())
    return trace(model, image())


def agrees_on_other_images(subject: Subject) -> None:
    assert isinstance(subject.program.traced, TracedRegions)
    mask = subject.program.random_mask(keep=0.5, seed=1)
    assert effect(subject, mask) > 1e-3
    agree(subject, mask)
    agree(subject, mask, -image(3))
    agree(subject, mask, F.pad(image(), (2, 2, 2, 2)))


SIZES: dict[str, Callable[[Any], Any]] = {
    "attribute": lambda m: m.part.wide[0].out_channels,
    "property": lambda m: m.part.width,
    "by name": lambda m: vars(m.part.wide[0])["out_channels"],
    "shape": lambda m: m.part.wide[0].weight.shape[0],
    "size": lambda m: m.part.wide[0].bias.size(0),
    "len": lambda m: len(m.part.wide[1].running_var),
    "numel": lambda m: sum(p.numel() for p in m.part.wide[:2].parameters()) / 100,
    "held elsewhere": lambda m: m.parameters_of_part[0].shape[0],
    "stride": lambda m: m.part.wide[3].weight.stride(0),
    "data": lambda m: m.part.wide[0].weight.data.shape[0],
}


@pytest.mark.parametrize("read", SIZES.values(), ids=SIZES)
def test_sizes_that_are_read_outside_stay(read: Callable[[Any], Any]) -> None:
    subject = observed(read)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("part", "out")
    assert prunable_axis(program, "part.wide.0.weight:0") == (0, 0)
    assert prunable_axis(program, "part.narrow.0.weight:0") == (8, 8)
    text = program.explain("part.wide.0.weight") + program.explain("part.wide.3.weight")
    assert "outside the traced regions" in text
    assert "What helps: call the submodule that owns it as a whole" in text
    agrees_on_other_images(subject)


def harmless(model: Observed) -> float:
    """What is the same without some channels."""
    first = next(model.part.parameters())
    like = torch.ones(1).to(first.device, first.dtype).to(first)
    assert first.requires_grad
    assert first.dim() == 4
    assert first in set(model.part.parameters())
    names = [name for name, _ in model.part.named_parameters()]
    assert isinstance(model.part.wide[0], nn.Conv2d)
    assert model.part.wide[0].padding_mode == "zeros"
    return float(like) * len(names) * len(model.part.wide) * model.part.factor * (1 + model.part.training)


def test_reading_what_has_no_size_pins_nothing() -> None:
    subject = observed(harmless)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("part", "out")
    assert prunable_axis(program, "part.wide.0.weight:0") == (8, 8)
    assert prunable_axis(program, "part.wide.3.weight:0") == (6, 6)
    agrees_on_other_images(subject)


class Sets(Part):
    def keep(self, y: Tensor) -> None:
        self.kept = y.mean()


class SetsNumber(Part):
    def keep(self, y: Tensor) -> None:
        self.kept = y.shape[2]  # the same object as before, if the image has the size it had before


class FillsDict(Part):
    def keep(self, y: Tensor) -> None:
        self.memo["kept"] = y.mean()


class SetsBuffer(Part):
    def keep(self, y: Tensor) -> None:
        self.last = y.mean()


class SetsOnClass(Part):
    def keep(self, y: Tensor) -> None:
        SetsOnClass.kept = y.mean()


class SetsElsewhere(Part):
    def keep(self, y: Tensor) -> None:
        self.elsewhere[0].kept = y.mean()


KEPT: dict[str, tuple[type[Part], Callable[[Any], Any]]] = {
    "attribute": (Sets, lambda m: m.part.kept),
    "number": (SetsNumber, lambda m: m.part.kept),
    "all attributes": (Sets, lambda m: vars(m.part)["kept"]),
    "dict": (FillsDict, lambda m: m.part.memo["kept"]),
    "buffer": (SetsBuffer, lambda m: m.part.last),
    "all buffers": (SetsBuffer, lambda m: next(m.part.buffers(recurse=False))),
    "class": (SetsOnClass, lambda m: SetsOnClass.kept),
    "another module": (SetsElsewhere, lambda m: m.kept),
}


@pytest.mark.parametrize(("part", "read"), KEPT.values(), ids=KEPT)
def test_what_a_call_leaves_and_the_outside_reads_is_set_by_its_own_code(
    part: type[Part], read: Callable[[Any], Any]
) -> None:
    subject = observed(read, part=part)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("part.wide", "part.narrow", "out")
    assert "'part' cannot be a region: " in program.frontend_reason
    agrees_on_other_images(subject)


def test_what_a_call_leaves_and_nobody_reads_is_no_harm() -> None:
    subject = observed(part=Sets)
    assert isinstance(subject.program.traced, TracedRegions)
    assert subject.program.traced.plan.regions == ("part", "out")
    agrees_on_other_images(subject)


def set_factor(part: Part, x: Tensor) -> None:
    part.factor = 2.0 if float(x.mean()) > 0 else 3.0


class Settings:
    factor: Any = 1.0


class ReadsClass(Part):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * Settings.factor


def set_on_class(part: Part, x: Tensor) -> None:
    Settings.factor = 2.0 + float(x.mean())


@pytest.mark.parametrize(("prepare", "part"), [(set_factor, Part), (set_on_class, ReadsClass)])
def test_what_the_outside_sets_is_read_by_its_own_code(prepare: Callable[[Any, Tensor], Any], part: type[Part]) -> None:
    subject = observed(prepare=prepare, part=part)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("part.wide", "part.narrow", "out")
    assert "'part' cannot be a region: code outside of it sets " in program.frontend_reason
    agrees_on_other_images(subject)


class ReadsAnother(nn.Module):
    """A block that reads what another has left."""

    def __init__(self, other: Part) -> None:
        super().__init__()
        self.layers, self.other = block(5, 5), [other]

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x) * self.other[0].kept


def test_what_another_region_leaves_is_read_by_its_own_code() -> None:
    part = Sets()
    model = Observed(part, nothing, nothing).double().eval()
    model.out.insert(0, nn.Flatten())
    model.between = ReadsAnother(part).double()
    model.read = lambda m: m.between(m.part.narrow[3].bias.detach().new_ones(1, 5, 8, 8)).mean()
    randomise(model, 0)
    with torch.no_grad():
        model(image())
    subject = trace(model, image())
    assert isinstance(subject.program.traced, TracedRegions)
    assert {"part", "between"}.isdisjoint(subject.program.traced.plan.regions)
    agrees_on_other_images(subject)


def test_a_layer_without_parameters_whose_size_is_read_outside_is_not_inside_a_region() -> None:
    subject = observed(lambda m: m.part.bare.num_features)
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("part.wide", "part.narrow", "out")
    assert "reads the size of 'part.bare', which has no parameters" in program.frontend_reason
    agrees_on_other_images(subject)


def test_the_reason_says_why_nothing_is_left() -> None:
    class Pair(Sets):
        def __init__(self) -> None:
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 5, 1)

    class Only(Observed):
        def __init__(self) -> None:
            super().__init__(Pair(), lambda m: m.part.kept, nothing)
            self.out = nn.Linear(5, 2)

    with pytest.raises(TraceError, match=r"'part' cannot be a region: code outside of it reads 'part\.kept', which"):
        atofx.trace(Only().double(), image())


def test_watching_leaves_the_class_of_all_modules_as_it_was() -> None:
    before = nn.Module.__setattr__
    observed(part=Sets)
    with pytest.raises(ExampleInputError):
        atofx.trace(Fails().double(), image())
    assert nn.Module.__setattr__ is before
    assert "__getattribute__" not in vars(nn.Module)


class Plain(nn.Module):
    """A region of torch's own class; code outside looks at it, or calls some of it."""

    def __init__(self, use: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.use = use
        self.body, self.out = block(3, 6), block(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        return self.out(self.use(self.body, x, y) if float(y.abs().sum()) > 0 else y)


PARTS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "slice": lambda body, x, y: y + body[:3](x)[:, :6],
    "end": lambda body, x, y: y + body[2:](body[:2](x)),
    "class": lambda body, x, y: y + type(body)(*body)(x),
    "own class": lambda body, x, y: y + body.__class__(body[0], body[3])(x),
    "sum": lambda body, x, y: y + (body + nn.Sequential(nn.ReLU()))(x),
    "index": lambda body, x, y: y + body[0](x)[:, :6],
}


@pytest.mark.parametrize("use", PARTS.values(), ids=PARTS)
def test_parts_of_a_region_are_called_from_outside(use: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    subject = trace(Plain(use).double(), image())
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("body", "out")
    assert prunable_axis(program, "body.0.weight:0") == (0, 0)
    assert prunable_axis(program, "out.0.weight:0") == (8, 8)
    agree(subject, program.random_mask())
    small = program.compact(program.random_mask())
    assert isinstance(small, Plain)
    assert type(small.body[:2]) is nn.Sequential
    assert isinstance(copy.deepcopy(small).body, type(small.body))
    twice(subject, program.random_mask(), 0)


LOOKS: dict[str, Callable[[Any, Tensor, Tensor], Tensor]] = {
    "length": lambda body, x, y: y * len(body),
    "modules": lambda body, x, y: y * len(list(body.modules())) * sum(1 for _ in body.children()),
    "names": lambda body, x, y: y * max(int(name) for name, _ in body.named_children()),
    "last": lambda body, x, y: y * (2.0 if isinstance(body[-1], nn.Conv2d) else 1.0),
}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_gates_are_no_children_of_a_region(look: Callable[[Any, Tensor, Tensor], Tensor]) -> None:
    subject = trace(Plain(look).double(), image())
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert prunable_axis(program, "body.0.weight:0") == (8, 8)
    agree(subject, program.random_mask())
    gated = program.gated()
    gates = [module for module in gated.modules() if isinstance(module, ChannelGate)]
    assert len(gates) == 2
    assert copy.deepcopy(gated).body.gate_0 is not gated.body.gate_0
    assert gated.to("meta").body.gate_0.position_0.is_meta


class Hooked(nn.Module):
    """Code outside of a block puts a hook on it while it runs, and takes it off again."""

    def __init__(self, register: Callable[[Any, Callable[[Tensor], None]], RemovableHandle]) -> None:
        super().__init__()
        self.register = register
        self.body, self.out = block(3, 6), block(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        seen: list[Tensor] = []
        hook = self.register(self.body, seen.append)
        y = self.body(x)
        hook.remove()
        return self.out(y * sum(z.mean() for z in seen) if float(y.abs().sum()) > 0 and seen else y)


HOOKS: dict[str, Callable[[Any, Callable[[Tensor], None]], RemovableHandle]] = {
    "forward": lambda body, see: body[2].register_forward_hook(lambda m, args, result: see(result)),
    "keywords": lambda body, see: body[1].register_forward_hook(lambda m, a, k, result: see(result), with_kwargs=True),
    "before": lambda body, see: body[3].register_forward_pre_hook(lambda m, args: see(args[0])),
    "changing": lambda body, see: body[0].register_forward_hook(lambda m, args, result: see(result) or result + 1),
    "all modules": lambda body, see: register_module_forward_hook(
        lambda m, args, result: see(result) if m is body[2] else None
    ),
}


@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_a_module_with_a_hook_is_not_inside_a_region(register: Callable[[Any, Any], RemovableHandle]) -> None:
    subject = trace(Hooked(register).double(), image())
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert "body" not in program.traced.plan.regions
    assert "out" in program.traced.plan.regions
    assert "'body' cannot be a region: 'body." in program.frontend_reason
    assert "inside of it has a hook, which may read or change" in program.frontend_reason
    assert prunable_axis(program, "body.0.weight:0") == (0, 0)
    assert prunable_axis(program, "out.0.weight:0") == (8, 8)
    agrees_on_other_images(subject)


class HookedForGradients(Branch):
    """A hook that only gradients run."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        hook = getattr(self.stem[2], self.name)(lambda *_: None)
        y = super().forward(x)
        hook.remove()
        return y


@pytest.mark.parametrize("name", ["register_full_backward_hook", "register_full_backward_pre_hook"])
def test_a_module_with_a_hook_for_gradients_is_not_inside_a_region(name: str) -> None:
    program = atofx.trace(HookedForGradients(name).double(), image())
    assert isinstance(program.traced, TracedRegions)
    assert {"stem", "left"} & set(program.traced.plan.regions) == {"left"}
    assert "'stem' cannot be a region: 'stem.2' inside of it has a hook" in program.frontend_reason


def test_a_hook_on_a_region_itself_is_run_outside() -> None:
    subject = trace(Hooked(lambda body, see: body.register_forward_hook(lambda m, a, y: see(y))).double(), image())
    program = subject.program
    assert isinstance(program.traced, TracedRegions)
    assert program.traced.plan.regions == ("body", "out")
    assert prunable_axis(program, "body.0.weight:0") == (8, 8)
    agrees_on_other_images(subject)
