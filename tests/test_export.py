"""The torch.export front end: the same groups as symbolic tracing, exact, trainable, and clear about what it cannot."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import atofx
from atofx.errors import ConfigError, FileError, TraceError
from atofx.passes.trace import Frontend
from tests import invariants
from tests.models import CASES, Case
from tests.models.case import Mode, conv

#: Nets whose groups differ: dead calls are gone, code that symbolic tracing cannot open prunes more, and so do writes
#: into a slice, which name no tensor of their own, and past casts and dropouts that do nothing, which are gone; numbers
#: made of the image size are fixed; recurrent layers stay whole. They must be exact all the same.
OTHERWISE = frozenset(
    {
        "unused_module", "bias_and_zero_attention", "copy_into", "partly_zeroed", "no_constant_padded_by_image_size",
        "recurrent_state", "recurrent_cell", "zeroed_channels", "no_constant_row_written_by_image_size",
        "written_in_own_type", "written_in_a_dropout", "partly_filled_with_zero", "partly_filled_with_zero_in_steps",
        *(f"{kind}{way}_after_cnn" for kind in ("rnn", "gru", "lstm") for way in ("", "_bidirectional")),
    }
)  # fmt: skip
#: Nets that are refused, in which modes, and what is said: torch.export does not record numbers read from a buffer, nor
#: pieces written to in place, and records a view that is written to like a reshape, which may be a copy.
REFUSED: dict[str, tuple[tuple[Mode, ...], str]] = {
    "norm_batch_cumulative": (("train",), "torch.export cannot record .* GuardOnDataDependentSymNode"),
    "norm_batch_cumulative_without_relu": (("train",), "torch.export cannot record .* GuardOnDataDependentSymNode"),
    "no_constant_pieces_read_after_a_change": (("eval", "train"), "torch.export cannot record .* modified inplace"),
    "in_place_on_a_flat_view": (("eval", "train"), "changes in place what another tensor shares or not"),
}
TAKEN = tuple(case for case in CASES if not case.may_refuse)
SAMPLE = TAKEN[::16]
REST = tuple(case for i, case in enumerate(TAKEN) if i % 16)


def axes(program: atofx.Program) -> list[Any]:
    """Of every prunable group: its size and the axes of the model's own tensors."""
    return sorted(
        (g.size, sorted((m.name, m.dim, m.role) for m in g.members if not m.name.startswith("_constant")))
        for g in program.prunable
    )


def assert_like_symbolic(case: Case) -> None:
    for mode in case.modes:
        torch.manual_seed(0)
        model = case.build().double().train(mode == "train")
        inputs = case.inputs(2)
        refused, why = REFUSED.get(case.name, ((), ""))
        if mode in refused:
            with pytest.raises(TraceError, match=why):
                atofx.trace(model, inputs, frontend="export")
            continue
        program = atofx.trace(model, inputs, frontend="export")
        assert program.frontend == "export"
        if case.name not in OTHERWISE:
            assert axes(program) == axes(atofx.trace(model, inputs, frontend="symbolic"))
        invariants.randomise(model, 1)
        report = program.verify(program.random_mask(0.5, seed=1))
        assert report.ok, report


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("case", SAMPLE, ids=lambda case: case.name)
def test_small_net(case: Case) -> None:
    assert_like_symbolic(case)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("case", REST, ids=lambda case: case.name)
def test_other_small_net(case: Case) -> None:
    assert_like_symbolic(case)


class Chosen(nn.Module):
    """Checks the type of its input: symbolic tracing has no tensor to show, torch.export has."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm, self.conv2 = conv(3, 8), nn.BatchNorm2d(8), conv(8, 6)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 4)
        self.unused = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError("needs a tensor")
        n, _, h, w = x.shape
        x = F.relu(self.norm(self.conv1(x)))
        x = self.conv2(x).reshape(n, 6, h * w).mean(-1)
        x = F.dropout(self.drop(x), 0.25, self.training)
        return self.head(x)


def chosen() -> tuple[Chosen, Tensor]:
    torch.manual_seed(0)
    return Chosen().eval(), torch.randn(2, 3, 6, 6)


def test_auto_falls_back_and_says_why() -> None:
    model, x = chosen()
    program = atofx.trace(model, x)
    assert program.frontend == "export"
    assert "needs a tensor" in program.frontend_reason
    assert "torch.export" in program.summary()
    assert [g.size for g in program.prunable] == [8, 6]
    assert program.verify(program.random_mask()).ok
    assert torch.equal(program.module(x), model(x))


def test_auto_prefers_symbolic_tracing() -> None:
    program = atofx.trace(nn.Linear(3, 4), torch.randn(2, 3))
    assert program.frontend == "symbolic"
    assert "symbolic tracing" in program.summary()


def test_symbolic_only_refuses() -> None:
    model, x = chosen()
    with pytest.raises(TraceError, match="needs a tensor") as caught:
        atofx.trace(model, x, frontend="symbolic")
    assert "Nor can" not in str(caught.value)


def test_unknown_front_end() -> None:
    with pytest.raises(ConfigError, match=r"'dynamo'.*auto, symbolic, export"):
        atofx.trace(nn.Linear(3, 4), torch.randn(2, 3), frontend="dynamo")  # type: ignore[arg-type]


class BranchesOnValues(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_errors_name_the_line_and_both_reasons() -> None:
    with pytest.raises(TraceError, match=r"^torch\.export cannot record BranchesOnValues.*test_export\.py:\d+"):
        atofx.trace(BranchesOnValues(), torch.randn(2, 3), frontend="export")
    with pytest.raises(TraceError, match=r"(?s)branches on a tensor's value.*Nor can torch\.export"):
        atofx.trace(BranchesOnValues(), torch.randn(2, 3))


def test_the_model_stays_as_it_was() -> None:
    model, x = chosen()
    calls: list[int] = []
    handle = model.conv1.register_forward_hook(lambda *_: calls.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()
    program = atofx.trace(model.train(), x, frontend="export")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert len(model.conv1._forward_hooks) == 1
    handle.remove()
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    own = dict(model.named_parameters())
    shared = dict(program.module.named_parameters())
    assert shared
    assert all(parameter is own[name] for name, parameter in shared.items())
    assert set(program.traced.unused) == {"unused.weight", "unused.bias"}


@pytest.mark.parametrize("training", [False, True])
def test_modes_follow_the_module(training: bool) -> None:
    model, x = chosen()
    program = atofx.trace(model.train(training), x, frontend="export")
    for make in (lambda: program.module, lambda: program.compact(program.full_mask()), program.gated):
        module = make().eval()
        with torch.no_grad():
            assert torch.equal(module(x), model.eval()(x))
            module.train()
            torch.manual_seed(3)
            got = module(x)
            torch.manual_seed(3)
            assert torch.equal(got, model.train()(x))
            assert not torch.equal(got, module(x)), "dropout is off in training mode"


class FunctionalLayers(nn.Module):
    """Batch norm and dropout without modules: their modes are arguments of the exported calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv(3, 8), conv(8, 4)
        self.register_buffer("mean", torch.zeros(8))
        self.register_buffer("var", torch.ones(8))
        self.weight, self.bias = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(8))
        self.mean: Tensor
        self.var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        x = F.batch_norm(self.conv1(x), self.mean, self.var, self.weight, self.bias, self.training)
        x = F.dropout(F.relu(x), 0.5, self.training)
        q = self.conv2(x).flatten(2)
        return F.scaled_dot_product_attention(q, q, q, dropout_p=0.5 if self.training else 0.0)


@pytest.mark.parametrize("training", [False, True])
def test_modes_of_functions_follow_the_module(training: bool) -> None:
    x = torch.randn(2, 3, 6, 6)
    module = atofx.trace(FunctionalLayers().train(training), x, frontend="export").module
    before = module.mean.clone()
    module.eval()
    assert torch.equal(module(x), module(x))
    assert torch.equal(module.mean, before)
    module.train()
    assert not torch.equal(module(x), module(x))
    assert not torch.equal(module.mean, before)


def test_training_reaches_the_users_parameters() -> None:
    model, x = chosen()
    program = atofx.trace(model, x, frontend="export")
    compact = program.compact(program.random_mask())
    optimizer = torch.optim.SGD(compact.parameters(), lr=0.1)
    before = compact.head.weight.clone()
    compact.train()(x).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, compact.head.weight)
    assert isinstance(compact.norm, nn.BatchNorm2d)
    assert compact.norm.num_batches_tracked == 1
    program.gated(program.random_mask()).train()(x).sum().backward()
    assert model.conv1.weight.grad is not None


@pytest.mark.parametrize("batch", [1, 2])
def test_later_inputs_may_have_other_sizes(batch: int) -> None:
    model, _ = chosen()
    program = atofx.trace(model, torch.randn(batch, 3, 6, 6), frontend="export")
    mask = program.random_mask()
    compact, zeroed = program.compact(mask).double(), program.zeroed(mask).double()
    for shape in ((1, 3, 6, 6), (2, 3, 6, 6), (5, 3, 6, 6), (3, 3, 8, 10)):
        x = torch.randn(shape, dtype=torch.float64)
        assert torch.allclose(compact(x), zeroed(x), rtol=1e-9, atol=1e-12)


def test_compacting_twice() -> None:
    model, x = chosen()
    program = atofx.trace(model, x, frontend="export")
    first = program.compact(program.random_mask(0.5))
    for frontend in ("symbolic", "export"):
        again = atofx.trace(first, x, frontend=frontend)  # type: ignore[arg-type]
        assert [g.size for g in again.prunable] == [4, 3]
        assert again.verify(again.random_mask(0.5)).ok


def test_save_and_load(tmp_path: Path) -> None:
    model, x = chosen()
    for frontend in ("auto", "export"):
        program = atofx.trace(model, x, frontend=frontend)  # type: ignore[arg-type]
        mask = program.random_mask()
        atofx.save(program, mask, tmp_path / "net.safetensors")
        loaded = atofx.load(tmp_path / "net.safetensors", Chosen)
        assert torch.equal(loaded(x), program.compact(mask)(x))


class Answers(OrderedDict[str, Any]):
    """An output of its own class, as Hugging Face's are."""


torch.utils._pytree.register_pytree_node(
    Answers,
    lambda d: (list(d.values()), list(d.keys())),
    lambda values, keys: Answers(zip(keys, values, strict=True)),
    serialized_type_name="tests.Answers",
)


class Containers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, a: Tensor, pair: tuple[Tensor, Tensor], *, scale: Tensor | None = None) -> Any:
        hidden = F.relu(self.wide(a + pair[0] * pair[1]))
        out = self.out(hidden if scale is None else hidden * scale)
        return Answers(first=out, rest=[out + 1, {"two": out * 2}])


def test_containers_in_and_out() -> None:
    model = Containers()
    x = torch.randn(3, 4)
    for inputs in ((x, (x, x)), {"a": x, "pair": (x, x)}, {"a": x, "pair": (x, x), "scale": torch.rand(3, 1)}):
        program = atofx.trace(model, inputs, frontend="export")
        assert program.verify(program.random_mask()).ok
        assert [g.size for g in program.prunable] == [8]
        result = program.module(**inputs) if isinstance(inputs, dict) else program.module(*inputs)
        assert type(result) is Answers
        assert list(result) == ["first", "rest"]
        assert torch.equal(result["rest"][1]["two"], result["first"] * 2)


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


Result = namedtuple("Result", "out inner")  # noqa: PYI024


class NamedResults(nn.Module):
    """Takes a named tuple and gives another one, made by the function, with one more inside."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, pair: tuple[Tensor, Tensor]) -> Any:
        total = pair.first + pair.second if isinstance(pair, Pair) else pair[0] + pair[1]
        out = self.out(F.relu(self.wide(total)))
        return Result(out, {"pair": Pair(out * 2, out + 1)})


@pytest.mark.parametrize("frontend", ["symbolic", "export"])
def test_named_tuples_in_and_out(frontend: Frontend, tmp_path: Path) -> None:
    pair = Pair(torch.randn(3, 4), torch.randn(3, 4))
    program = atofx.trace(NamedResults(), (pair,), frontend=frontend)
    mask = program.random_mask()
    assert program.verify(mask).ok
    assert program.flops() == 3 * (4 * 8 + 8 * 2)
    with pytest.raises(FileError, match="named tuple"):
        atofx.save(program, mask, tmp_path / "net.safetensors")
    atofx.save(atofx.trace(NamedResults(), (tuple(pair),), frontend=frontend), mask, tmp_path / "net.safetensors")
    loaded = atofx.load(tmp_path / "net.safetensors", NamedResults)
    for module in (program.module, program.compact(mask), program.gated(mask), program.zeroed(mask), loaded):
        result = module(pair)
        assert type(result) is Result
        assert type(result.inner["pair"]) is Pair
        assert torch.equal(result.inner["pair"].first, result.out * 2)


class NoGradAndCast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            angle = torch.arange(x.shape[0], device=x.device, dtype=torch.float32)[:, None].cos()
        with torch.autocast(device_type="cpu", enabled=False):
            x = self.wide(x)
        return self.out(x * angle.to(x.dtype))


def test_blocks_are_part_of_the_graph() -> None:
    program = atofx.trace(NoGradAndCast(), torch.randn(3, 4), frontend="export")
    assert [g.size for g in program.prunable] == [8]
    assert program.verify(program.random_mask()).ok
    assert program.module(torch.randn(5, 4)).shape == (5, 2)


class WritesInPlace(nn.Module):
    """In-place operations without a record must stay in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        x.t().fill_diagonal_(0.0)
        return self.out(x)


def test_operations_in_place_stay() -> None:
    model, x = WritesInPlace(), torch.randn(3, 4)
    program = atofx.trace(model, x, frontend="export")
    assert torch.equal(program.module(x), model(x))
    assert not program.prunable


class TakesOneSeparately(nn.Module):
    """Python decides by the batch size: what holds for two images does not hold for one."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        return self.out(x if x.shape[0] == 1 else x.relu())


def test_a_batch_of_one_is_recorded_as_it_runs() -> None:
    for batch in (1, 2):
        model, x = TakesOneSeparately(), torch.randn(batch, 4)
        program = atofx.trace(model, x, frontend="export")
        assert torch.equal(program.module(x), model(x))


class NormByLiteral(nn.Module):
    """A functional batch norm whose mode is the model's, or a literal."""

    def __init__(self, literal: bool | None) -> None:
        super().__init__()
        self.wide, self.out, self.literal = nn.Linear(3, 8), nn.Linear(8, 2), literal
        self.register_buffer("mean", torch.rand(8))
        self.register_buffer("var", torch.rand(8) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mode = self.training if self.literal is None else self.literal
        y = torch.nn.functional.batch_norm(self.wide(x), self.mean.clone(), self.var.clone(), training=mode)
        return self.out(torch.relu(y))


@pytest.mark.parametrize("traced_in_training", [True, False])
@pytest.mark.parametrize("literal", [True, False, None])
def test_a_literal_that_equals_the_mode_is_a_literal(literal: bool | None, traced_in_training: bool) -> None:
    torch.manual_seed(0)
    model, x = NormByLiteral(literal).double().train(traced_in_training), torch.randn(16, 3, dtype=torch.float64)
    program = atofx.trace(model, x, frontend="export")
    compact = program.compact(program.full_mask())
    for training in (True, False):
        assert torch.equal(compact.train(training)(x), model.train(training)(x))


class PerSample(nn.Module):
    """A layer mapped over the batch with torch.func, for which neither front end has a graph that runs again."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(3, 6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        return self.out(torch.func.vmap(lambda row: torch.relu(self.b(row)))(y))


def test_transforms_of_torch_func_are_refused() -> None:
    with pytest.raises(TraceError, match=r"a transform of torch.func.*write the call for a whole batch"):
        atofx.trace(PerSample(), torch.randn(4, 3), frontend="export")
    with pytest.raises(TraceError, match=r"Nor can torch.export take the model: .*a transform of torch.func"):
        atofx.trace(PerSample(), torch.randn(4, 3))


def test_results_that_nobody_reads_may_differ_from_the_recorded() -> None:
    """An embedding bag has four, of which torch.export records other shapes for three than it gives."""
    model = nn.Sequential(nn.EmbeddingBag(10, 8), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)).double()
    x = torch.randint(10, (3, 4))
    program = atofx.trace(model, x, frontend="export")
    assert torch.equal(program.module(x), model(x))
    assert 6 in [group.size for group in program.prunable]
    assert program.verify(program.random_mask()).ok
