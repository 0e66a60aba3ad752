"""Which widths a back end likes: measured once, remembered, and refused with one clear error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from atofx.bench import Rounds, Setting, preferred_multiple
from atofx.bench.preferred import TOLERANCE, WIDTHS, named_backend, round_to_number
from atofx.errors import ConfigError

ONCE = Rounds(warm_up=0, least=1, most=1)


def test_widths_are_multiples_of_no_larger_candidate() -> None:
    for multiple, widths in WIDTHS.items():
        larger = [other for other in WIDTHS if other > multiple]
        assert all(width % multiple == 0 and all(width % other for other in larger) for width in widths)
        assert sum(widths) / len(widths) == 96


def test_the_smallest_multiple_that_is_nearly_as_fast_as_the_best(tmp_path: Path) -> None:
    found = preferred_multiple(Setting(), ONCE, tmp_path / "deep" / "widths.json")
    assert set(found.slowness) == set(WIDTHS)
    assert min(found.slowness.values()) == 1.0
    good = [multiple for multiple, slowness in found.slowness.items() if slowness <= 1 + TOLERANCE]
    assert found.multiple == min(good)


def test_a_machine_is_measured_once_for_each_setting(tmp_path: Path) -> None:
    file = tmp_path / "widths.json"
    preferred_multiple(Setting(), ONCE, file)
    content = json.loads(file.read_text(encoding="utf-8"))
    (key,) = content["measured"]
    content["measured"][key] = {"1": 2.0, "2": 1.5, "4": 1.2, "8": 1.04, "16": 1.0, "32": 1.0}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert preferred_multiple(Setting(), ONCE, file).multiple == 8
    preferred_multiple(Setting(batch=2), ONCE, file)
    assert len(json.loads(file.read_text(encoding="utf-8"))["measured"]) == 2
    assert preferred_multiple(Setting(), ONCE, file).multiple == 8


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "other", "measured": {}}', '{"format": "atofx-widths/1"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "widths.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"widths\.json.*delete it"):
        preferred_multiple(Setting(), ONCE, file)
    assert file.read_text(encoding="utf-8") == text


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        preferred_multiple(Setting(), ONCE, tmp_path / "file" / "widths.json")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "automatic", "auto:", "auto:none", "8:eager"])
def test_what_is_neither_a_number_nor_auto_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="auto:BACKEND with one of eager"):
        round_to_number(text, Setting())


def test_numbers_stand_for_themselves() -> None:
    assert round_to_number("16", Setting()) == round_to_number(16, Setting()) == 16


@pytest.mark.parametrize(
    ("text", "backend"), [("auto:onnxruntime", "onnxruntime"), ("auto", None), ("8", None), (8, None)]
)
def test_named_backend(text, backend):
    assert named_backend(text) == backend
