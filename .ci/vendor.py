"""Fetch the drawing libraries of the pages from the npm registry, check them, and write them to atofx/report/vendor/.

    python .ci/vendor.py            # write
    python .ci/vendor.py --check    # compare only; exit code 1 where a file differs

Needs npm. Another version: change it and the checksum of its package here, run, and look at the page.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).resolve().parents[1] / "atofx/report/vendor"


@dataclass(frozen=True)
class Package:
    """One package of the registry.

    Attributes:
        name: with its scope.
        version: exactly.
        sha256: of the package as npm packs it.
        license: the file of its licence.
        script: the file to take, None for the licence only (its code is inside another package's file).
    """

    name: str
    version: str
    sha256: str
    license: str = "LICENSE"
    script: str | None = None


#: The written file -> the package of the script, then those whose code is bundled in it.
FILES = {
    "cytoscape": (
        Package(
            "cytoscape",
            "3.34.4",
            "0d02363d99d805ce8d91fdecab7b2a8cb91ee280d67f309ce44c161d117b4679",
            script="dist/cytoscape.min.js",
        ),
    ),
    "dagre": (
        Package(
            "@dagrejs/dagre",
            "3.1.3",
            "12441833c8af49e5a241d94bfd53159875965876b3f4f3214abafe1ed6a9ee4c",
            script="dist/dagre.min.js",
        ),
        Package("@dagrejs/graphlib", "4.0.6", "ffea28fbf556c79015bb310297e89c59dd4d7c32bf4c2360200eb6d8b08d6344"),
    ),
    "d3": (
        Package(
            "d3",
            "7.9.0",
            "7e36605710a2ba54846797c8c6d888911341b215ae53257dc32a49a0b824355e",
            script="dist/d3.min.js",
        ),
        Package("delaunator", "5.0.1", "6b30e6cf0aa49bf7882a3fb6dd2b5d3c33478d3693356d8a74a88f65df411f55"),
        Package("internmap", "2.0.3", "39d1936831a4d3f2bd6e088db28a10de4458d823f652c36b2c808bf5b978c48d"),
        Package("robust-predicates", "3.0.2", "962cacbec5dc58976307fa534c335331c11a1f8f315fc698776c4e1fc931e17e"),
    ),
    "plot": (
        Package(
            "@observablehq/plot",
            "0.6.17",
            "4dcc9f7afd10caee8b2283c0075a5765610cfbbf6d7d93cdb153b3b5d3501afc",
            script="dist/plot.umd.min.js",
        ),
        Package("interval-tree-1d", "1.0.4", "0cb92166b1ad4cb223ed17685eb46eca40fad0917fbdd7e7d0aeb101b0cd784e"),
        Package("binary-search-bounds", "2.0.5", "39e279fd32dc8dcabcfc53a347bc1243ebabe11f83df156eaf6a73edadec16c3"),
        Package("isoformat", "0.2.1", "f5c2830fec6161e97ddcabeb4d9091fe7b1ff334cd60c790c1bfe49c7ab3c2de"),
    ),
}


def fetch(package: Package, folder: Path) -> tarfile.TarFile:
    """The package, if it is the one that is named here."""
    done = subprocess.run(
        ["npm", "pack", "--silent", f"{package.name}@{package.version}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    file = folder / done.stdout.split()[-1]
    found = hashlib.sha256(file.read_bytes()).hexdigest()
    if found != package.sha256:
        raise SystemExit(f"{package.name}@{package.version}: sha256 is {found}, expected {package.sha256}")
    return tarfile.open(file)


def member(archive: tarfile.TarFile, name: str) -> bytes:
    """A file of a package."""
    stream = archive.extractfile(f"package/{name}")
    assert stream is not None
    return stream.read()


def contents() -> dict[str, bytes]:
    """Every file of the folder."""
    files = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, packages in FILES.items():
            licenses = []
            for package in packages:
                with fetch(package, Path(folder)) as archive:
                    if package.script is not None:
                        files[f"{name}.min.js"] = member(archive, package.script)
                    text = member(archive, package.license).decode().strip()
                licenses.append(f"{package.name} {package.version}\n\n{text}\n")
            files[f"{name}.LICENSE.txt"] = "\n".join(licenses).encode()
    return files


def main() -> int:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare only")
    check = parser.parse_args().check
    differing = 0
    for name, content in contents().items():
        file = TARGET / name
        same = file.is_file() and file.read_bytes() == content
        differing += not same
        if not check:
            TARGET.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        sys.stdout.write(f"{name}: {'as fetched' if same else 'differs' if check else 'written'}\n")
    return int(check and differing > 0)


if __name__ == "__main__":
    raise SystemExit(main())
