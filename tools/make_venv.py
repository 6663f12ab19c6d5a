"""Make a virtual environment with this project in it, on a machine that has only Python and make.

Usage: make_venv.py FOLDER [EXTRA ...]
       make_venv.py FOLDER -r FILE      this project without its dependencies, and what FILE lists

Debian's Python comes without the wheel that puts pip into a virtual environment. So pip is fetched
from the package index by its published hash, with nothing but the standard library, and the
environment is the same with and without Debian's python3-venv, as root or not.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
import venv
from pathlib import Path

INDEX = os.environ.get("PIP_INDEX_URL", "https://pypi.org/simple").rstrip("/")


def main(folder: str, extras: list[str]) -> None:
    if sys.version_info < (3, 10):  # noqa: UP036 - this file is what an old Python meets first
        sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}: set PYTHON=python3.11")
    python = Path(folder, "bin", "python")
    if not python.exists():
        print(f"Making the virtual environment {folder} ...", flush=True)
        venv.create(folder, with_pip=False)
    if not has_pip(python):
        install_pip(python)
    project = Path(__file__).resolve().parents[1]
    print("Installing pdm-edge and what it needs (a minute or two the first time) ...", flush=True)
    command = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if extras[:1] == ["-r"]:
        subprocess.run([*command, *extras], check=True)
        subprocess.run([*command, "--no-deps", "--editable", str(project)], check=True)
        return
    target = f"{project}[{','.join(extras)}]" if extras else str(project)
    subprocess.run([*command, "--editable", target], check=True)


def has_pip(python: Path) -> bool:
    return subprocess.run([str(python), "-c", "import pip"], capture_output=True, check=False).returncode == 0


def install_pip(python: Path) -> None:
    """Fetch the newest pip wheel, check its hash, and let it install itself."""
    request = urllib.request.Request(
        f"{INDEX}/pip/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        files = json.load(answer)["files"]
    wheels = [f for f in files if re.fullmatch(r"pip-[0-9.]+-py3-none-any\.whl", f["filename"])]
    newest = max(wheels, key=lambda f: [int(part) for part in f["filename"].split("-")[1].split(".")])
    url = urllib.parse.urljoin(f"{INDEX}/pip/", newest["url"])
    with urllib.request.urlopen(url, timeout=60) as answer:
        wheel = answer.read()
    if hashlib.sha256(wheel).hexdigest() != newest["hashes"]["sha256"]:
        sys.exit(f"{newest['filename']} does not have the hash that the index names; nothing was installed")
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary, newest["filename"])
        path.write_bytes(wheel)
        subprocess.run([str(python), f"{path}/pip", "install", "--quiet", str(path)], check=True)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"The virtual environment could not be made: {error}")
