"""The package list, the folder mapping of `passes/`, and what ends up in a wheel and an sdist."""

import configparser
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def options() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def project() -> dict:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or newer")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def tracked(*arguments: str) -> list[str]:
    """Words of `git ls-files`; skips the test outside of a git checkout."""
    done = subprocess.run(["git", "ls-files", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout")
    return done.stdout.split()


def folders_with_code(top: Path) -> set[Path]:
    """Folders under `top` that hold .py files, without following links."""
    files = [file for file in top.rglob("*.py") if "__pycache__" not in file.parts]
    return {file.parent for file in files if not any(parent.is_symlink() for parent in file.parents)}


def package_of(folder: Path) -> str:
    parts = folder.relative_to(ROOT).parts
    return ".".join(("atofx", *parts) if parts[0] == "passes" else parts)


def test_setup_cfg_lists_every_package_and_no_other(options):
    listed = options["options"]["packages"].split()
    found = {package_of(folder) for top in ("atofx", "passes") for folder in folders_with_code(ROOT / top)}
    assert listed == sorted(found)


def test_every_listed_package_has_an_init(options):
    for package in options["options"]["packages"].split():
        folder = ROOT / package.replace("atofx.passes", "passes").replace(".", "/")
        assert (folder / "__init__.py").is_file(), package


def test_every_data_file_is_package_data(options):
    listed = set()
    for package, patterns in options["options.package_data"].items():
        folder = ROOT / package.replace(".", "/")
        for pattern in patterns.split():
            files = list(folder.glob(pattern))
            assert files, f"{package}: {pattern} matches nothing"
            listed.update(files)
    names = [name for name in tracked("atofx", "passes") if not name.endswith(".py") and name != "atofx/passes"]
    assert {ROOT / name for name in names if not name.endswith(".md")} == listed


def test_passes_refuses_a_second_name():
    code = "import passes"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode
    assert "ImportError: import `atofx.passes`, not `passes`" in done.stderr


def test_the_link_is_tracked_and_points_at_passes():
    assert tracked("-s", "atofx/passes")[0] == "120000", "atofx/passes must be a tracked link"
    if (ROOT / "atofx/passes").is_symlink():
        assert (ROOT / "atofx/passes").readlink() == Path("../passes")


def test_ci_runs_the_second_readme_command_verbatim():
    commands = re.findall(r"^pip install .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(commands) >= 2, "README.md gives two set-up commands, each on one line"
    assert "atofx train" in commands[0]
    assert "pytest" in commands[1]
    assert commands[1] in (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()


def test_versions_and_dependencies_are_declared(project):
    meta = project["project"]
    assert meta["requires-python"] == ">=3.10"
    assert "torch>=2.6" in meta["dependencies"]
    assert {"train", "squad", "export", "draw", "test"} == set(meta["optional-dependencies"])


def copy_tree(target: Path) -> Path:
    """What a build needs, copied so that the checkout stays clean."""
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for name in ("atofx", "passes"):
        shutil.copytree(ROOT / name, target / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, target)
    return target


def build(source: Path, out: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "build", "--no-isolation", *options, "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """An sdist, and a wheel from that sdist: what pip does with a source release."""
    return build(copy_tree(tmp_path_factory.mktemp("tree")), tmp_path_factory.mktemp("dist"))


def expected_files() -> set[str]:
    names = {"atofx/py.typed"} | {
        f"atofx/train/recipes/{file.name}" for file in (ROOT / "atofx/train/recipes").glob("*.yaml")
    }
    for name in ("page", "run_page", "vendor"):
        names |= {f"atofx/report/{name}/{file.name}" for file in (ROOT / "atofx/report" / name).iterdir()}
    for top, prefix in (("atofx", ""), ("passes", "atofx/")):
        for folder in folders_with_code(ROOT / top):
            names |= {prefix + file.relative_to(ROOT).as_posix() for file in folder.glob("*.py")}
    return names


def test_wheel_holds_every_file_once(built):
    (wheel,) = built.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(expected_files())
    assert "atofx/passes/__init__.py" in names


def test_sdist_holds_passes_and_can_be_built_again(built):
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"passes/__init__.py", "atofx/py.typed", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"} <= names


def test_wheel_holds_passes_where_the_link_is_checked_out_as_text(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    link = copy_tree(tree) / "atofx/passes"
    link.unlink()
    link.write_text("../passes", encoding="utf-8")
    (wheel,) = build(tree, tmp_path / "dist", "--wheel").glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert sorted(names) == sorted(expected_files())


def test_license_and_entry_point_are_in_the_wheel(built):
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    names = archive.namelist()
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry,) = [name for name in names if name.endswith("entry_points.txt")]
    assert "atofx = atofx.cli:main" in archive.read(entry).decode()
