"""Write the report of a run, or of several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atofx.errors import ConfigError
from atofx.ir.files import write_whole
from atofx.report.run_data import run_data
from atofx.report.run_html import comparison_html, run_html

#: The report in a run's own folder.
REPORT = "report.html"


def write_run_report(folder: Path, file: Path | None = None) -> Path:
    """The page of a finished run, which needs no network; ``report.html`` in its folder if ``file`` is None.

    Raises:
        FileError: the folder holds no finished run, a file in it cannot be read, or the report cannot be written.
    """
    return write_whole(file or folder / REPORT, run_html(run_data(folder)).encode())


def write_comparison(folders: Sequence[Path], file: Path) -> Path:
    """A page with several finished runs side by side, named by their folders.

    Raises:
        FileError: as :func:`write_run_report`.
        ConfigError: runs of different tasks.
    """
    runs = [run_data(folder) for folder in folders]
    titles = [" and ".join(score["title"] for score in run["result"]["scores"]) for run in runs]
    for folder, title in zip(folders, titles, strict=True):
        if title != titles[0]:
            raise ConfigError(
                f"runs of different tasks cannot be compared: {str(folders[0])!r} has {titles[0]}, "
                f"{str(folder)!r} {title}"
            )
    names = [run["name"] for run in runs]
    if len(set(names)) < len(names):
        runs = [{**run, "name": str(folder)} for run, folder in zip(runs, folders, strict=True)]
    return write_whole(file, comparison_html(runs).encode())
