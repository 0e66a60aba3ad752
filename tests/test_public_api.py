"""The public names, and what a bare `import atofx` must not load."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import atofx

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ("torchvision", "matplotlib", "accelerate", "typer", "rich", "pydantic", "sklearn", "tensorboard", "onnx")


def test_all_is_frozen():
    assert sorted(atofx.__all__) == [
        "Group",
        "Limits",
        "Mask",
        "Member",
        "Program",
        "errors",
        "load",
        "methods",
        "register_op",
        "save",
        "trace",
    ]


def test_every_public_name_exists_and_is_documented():
    for name in atofx.__all__:
        assert hasattr(atofx, name)
        assert getattr(atofx, name).__doc__, f"atofx.{name} has no docstring"


def test_version_is_that_of_the_distribution():
    assert re.fullmatch(r"\d+\.\d+\.\d+", atofx.__version__)


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    code = "import json, sys, atofx, atofx.methods; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(done.stdout)}


@pytest.mark.parametrize("library", HEAVY)
def test_import_is_lean(loaded, library):
    assert library not in loaded


def test_import_leaves_cuda_asleep():
    code = "import atofx, torch; raise SystemExit(torch.cuda.is_initialized())"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
