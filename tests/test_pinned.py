"""Every reason for a pin tells what helps, and the docs say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import atofx
from atofx.errors import TraceError
from atofx.passes.advice import ADVICE, advice
from tests.models import CASES, Case

DOCS = Path(__file__).parent.parent / "docs/pinned.md"


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_reason_has_advice(case: Case) -> None:
    torch.manual_seed(0)
    try:
        program = atofx.trace(case.build().double(), case.inputs(2))
    except TraceError:
        assert case.may_refuse
        return
    reasons = {group.reason for group in program.groups if not group.prunable}
    assert not {reason for reason in reasons if not advice(reason)}


def test_the_docs_list_all_advice() -> None:
    rows = [line.strip("|").split(" | ") for line in DOCS.read_text().splitlines() if line.startswith("| …")]
    assert [(phrase.strip().strip("…").strip(), text.strip()) for phrase, text in rows] == list(ADVICE)
