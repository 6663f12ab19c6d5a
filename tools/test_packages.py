"""Provide the Debian packages that the tests use: real brokers, buses and compilers.

As root they are installed. Otherwise the line to type is printed, and the tests that need what is
missing skip, naming it. A package whose program is there already, from whatever origin, is not
wanted: Node.js from its makers cannot stand beside Debian's npm.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[1] / "tests" / "debian-packages.txt"


def main() -> None:
    wanted = [line.split("#")[0].split() for line in PACKAGES.read_text().splitlines()]
    missing = [name for name, *programs in filter(None, wanted) if not provided(name, programs)]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        print(f"NOT A DEBIAN MACHINE: tests that need {', '.join(missing)} will skip", file=sys.stderr)
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        print(
            "MISSING Debian packages; the tests that need them will skip. To run all tests, type:\n"
            f"  sudo {' '.join(command)}",
            file=sys.stderr,
        )
        return
    print(f"Installing Debian packages for the tests: {' '.join(missing)}", flush=True)
    quietly = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update", "-qq"], command):
        subprocess.run(step, check=True, stdout=subprocess.DEVNULL, env=quietly)


def provided(name: str, programs: list[str]) -> bool:
    """Whether a package is there, or else all the programs that it is wanted for."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin"))
    return installed(name) or bool(programs and all(shutil.which(p, path=path) for p in programs))


def installed(name: str) -> bool:
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${Status}", name]
    answer = subprocess.run(query, capture_output=True, text=True, check=False)
    return answer.stdout.endswith(" installed")


if __name__ == "__main__":
    main()
