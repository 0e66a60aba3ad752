"""Loaded once by the server from which every model's process is forked: libraries, and what tracing warms up."""

from __future__ import annotations

import timm  # noqa: F401
import torch
import torchvision  # noqa: F401
from torch import nn

import atofx
from atofx.cost import count_flops
from benchmarks._coverage import ours, peers  # noqa: F401

torch.set_num_threads(1)
_net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
_image = torch.zeros(1, 3, 8, 8)
atofx.trace(_net, _image)
count_flops(_net, _image)
if peers.installed("torch_pruning"):
    import torch_pruning

    list(torch_pruning.DependencyGraph().build_dependency(_net, example_inputs=_image).get_all_groups())
