"""Write `timm_models.json`: of every architecture module of timm the model with the fewest parameters.

    python -m benchmarks._coverage.smallest

Models are built on the meta device. Those named ``test_…``, which timm keeps for its own tests, are left out.
"""

from __future__ import annotations

import json
import warnings

import timm
import torch

from benchmarks._coverage.models import TIMM_LIST


def parameters(name: str) -> int:
    """Number of parameters, without their memory."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("ignore")
        return sum(p.numel() for p in timm.create_model(name).parameters())


def main() -> None:
    chosen = {}
    for module in timm.list_modules():
        names = [name for name in timm.list_models(module=module) if not name.startswith("test_")]
        if names:
            count, name = min((parameters(name), name) for name in names)
            chosen[module] = {"name": name, "parameters": count}
            print(module, name, count, flush=True)
    TIMM_LIST.write_text(json.dumps({"timm": timm.__version__, "models": chosen}, indent=1) + "\n")


if __name__ == "__main__":
    main()
