"""Memory that a process keeps: no page is asked for twice."""

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, resource
import torch
from atofx.bench.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
given_back = faults()
keeps = keep_freed_memory()
faults(), faults()
print(json.dumps([given_back, keeps, faults()]))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_pages_are_asked_for_once():
    """64 MiB are 32 huge pages at least."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    given_back, keeps, kept = json.loads(done.stdout)
    assert keeps
    assert given_back >= 32
    assert kept < 4
