"""Memory that a process keeps while it is timed: no page is asked for twice, and none is kept for good."""

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
import torch
from atofx.bench.allocator import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
before = faults()
with kept_memory():
    faults(), faults()
    kept = faults()
print(json.dumps([before, kept, faults()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_pages_are_asked_for_once_inside_and_each_time_outside():
    """64 MiB are 32 huge pages at least."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    before, kept, after = json.loads(done.stdout)
    assert kept < 4 < 32 <= min(before, after)
