"""Two processes with different data: one controller, one mask."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional

import atofx
from atofx.methods import ATO, parallel
from tests.methods.nets import Plain, Task


def _worker(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = Plain()
    program = atofx.trace(model, torch.zeros(1, 3, 8, 8))
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    method = ATO(program, 0.5, total_steps=30, every=2, steps_per_epoch=3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    masks = []
    for step in range(30):
        inputs, labels = Task(size=8).batch(2 * step + rank)
        functional.cross_entropy(wrapped(inputs), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        method.step(lr=0.05, batch=(inputs, labels))
        masks.append(method.present_mask().to_json())
    state = {name: value for name, value in method.state_dict().items() if name.startswith(("controller", "keep"))}
    torch.save({"masks": masks, "state": state, "weights": model.state_dict()}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree(tmp_path):
    mp.spawn(_worker, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["masks"] == second["masks"]
    assert len(set(first["masks"])) > 1
    for part in ("state", "weights"):
        for name, tensor in first[part].items():
            assert torch.equal(tensor, second[part][name]), name


def test_one_process_changes_nothing():
    assert not parallel.is_parallel()
    tensors = [torch.ones(2), torch.zeros(3)]
    assert [id(t) for t in parallel.average(tensors, torch.device("cpu"))] == [id(t) for t in tensors]
    assert parallel.agree(tensors[0], torch.device("cpu")) is tensors[0]
