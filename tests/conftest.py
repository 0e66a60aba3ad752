"""Settings of the whole test run: fixed seeds, one thread a worker, no deadlines on a busy machine."""

import os

WORKER = "PYTEST_XDIST_WORKER" in os.environ
if WORKER:  # before torch starts its thread pool; processes started by a test inherit it
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

hypothesis.settings.register_profile("atofx", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("atofx")

if WORKER:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
