"""What counting cut channels costs: norms of compact models beside native ones of the same width, alone and in models.

    python -m benchmarks.norms [--rounds 30] [--threads 1] [--no-compile]

Alone: forward and backward pass under ``torch.compile`` and in eager mode. In models: ConvNeXt-T and ViT-B/16 with
half of every group gone, eager inference, against the same compact model with every norm replaced by a native one
(which computes something else, equally wide). Both run in turn, the median of the ratios of neighbours is shown.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torchvision.models
from torch import Tensor, nn

import atofx
from atofx.nn import CutGroupNorm, CutLayerNorm, CutRMSNorm
from benchmarks import record

MODELS = ("convnext_tiny", "vit_b_16")
TOKENS, WIDTH, SHARE = 8 * 197, 384, 0.5


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--no-compile", action="store_true", help="eager mode only (no C++ compiler here)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    modes = ("eager",) if arguments.no_compile else ("eager", "compiled")
    rows = [
        _row(type(native).__name__, mode, *_steps(cut, native, shape, mode), arguments.rounds, 1.15)
        for cut, native, shape in _norms()
        for mode in modes
    ]
    rows += [_row(name, "eager", *_inference(name), max(8, arguments.rounds // 3), 1.05) for name in MODELS]
    cells = [(r["what"], r["mode"], f"{r['ratio']:.3f}", r["wanted"] or "") for r in rows]
    table = record.markdown(("what", "mode", "cut / native", "wanted at most"), cells)
    record.write("norms", {**record.circumstances(), "threads": arguments.threads, "rows": rows}, table)
    print(table)


def _norms() -> list[tuple[nn.Module, nn.Module, tuple[int, ...]]]:
    layer, rms, group = nn.LayerNorm(WIDTH), nn.RMSNorm(WIDTH, eps=1e-6), nn.GroupNorm(4, WIDTH)
    return [
        (CutLayerNorm.of(copy.deepcopy(layer), SHARE), layer, (TOKENS, WIDTH)),
        (CutRMSNorm.of(copy.deepcopy(rms), SHARE), rms, (TOKENS, WIDTH)),
        (CutGroupNorm.of(copy.deepcopy(group), SHARE), group, (8, WIDTH, 14, 14)),
    ]


def _steps(cut: nn.Module, native: nn.Module, shape: tuple[int, ...], mode: str) -> list[Callable[[], None]]:
    """Forward and backward pass of both."""
    x = torch.randn(shape, requires_grad=True)
    grad = torch.randn(shape)

    def step(norm: Callable[[Tensor], Tensor]) -> Callable[[], None]:
        return lambda: norm(x).backward(grad)

    return [step(torch.compile(norm) if mode == "compiled" else norm) for norm in (cut, native)]


def _inference(name: str) -> list[Callable[[], None]]:
    model = getattr(torchvision.models, name)(weights=None).eval()
    program = atofx.trace(model, torch.randn(1, 3, 224, 224))
    compact = program.compact(program.random_mask(0.5)).eval()
    native = copy.deepcopy(compact)
    for path, module in list(native.named_modules()):
        if isinstance(module, CutLayerNorm):
            parent, _, leaf = path.rpartition(".")
            setattr(native.get_submodule(parent), leaf, nn.LayerNorm(module.normalized_shape, module.eps))
    images = torch.randn(8, 3, 224, 224)

    def run(net: nn.Module) -> Callable[[], None]:
        def forward() -> None:
            with torch.inference_mode():
                net(images)

        return forward

    return [run(compact), run(native)]


def _row(
    what: str, mode: str, cut: Callable[[], None], native: Callable[[], None], rounds: int, limit: float
) -> dict[str, Any]:
    for _ in range(3):
        cut(), native()
    ratios = []
    for _ in range(rounds):
        first = _seconds(cut)
        ratios.append(first / _seconds(native))
    wanted = limit if mode == "compiled" or what in MODELS else None
    return {"what": what, "mode": mode, "ratio": statistics.median(ratios), "wanted": wanted}


def _seconds(function: Callable[[], None]) -> float:
    began = time.perf_counter()
    function()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
