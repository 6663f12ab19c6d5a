"""What the documents say is true: commands exist, configurations load, code runs, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pdm_edge.cli import cli
from pdm_edge.config_file import parse_config

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("models/*.md")])


def blocks(document: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_command_named_in_a_document_exists(document: Path) -> None:
    named = re.findall(r"`pdm-edge ([a-z][a-z-]*)", document.read_text())
    for text in blocks(document, "console"):
        named += re.findall(r"^(?:\$ )?pdm-edge ([a-z][a-z-]*)", text, flags=re.MULTILINE)
    for name in named:
        assert name in cli.list_commands(None), f"pdm-edge {name}"  # type: ignore[arg-type]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_file_named_in_a_document_exists(document: Path) -> None:
    for name in re.findall(r"`((?:[a-z_]+/)+[A-Za-z_.-]+\.(?:py|md|json|toml|[ch]))`", document.read_text()):
        places = (ROOT, document.parent, ROOT / "pdm_edge")
        assert any((place / name).exists() for place in places), name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda d: d.name)
def test_every_whole_configuration_in_a_document_loads(document: Path) -> None:
    for text in blocks(document, "toml"):
        if "[gateway]" in text:
            parse_config(text, where=document.name)


def test_the_readme_shows_a_whole_configuration_and_runs_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config,) = (text for text in blocks(ROOT / "README.md", "toml") if "[gateway]" in text)
    (code,) = blocks(ROOT / "README.md", "python")
    # The README's machine has sensors that are not here; a recording takes their place, so that it ends.
    (tmp_path / "r.csv").write_text("a_g\n" + "0.1\n-0.1\n" * 500)
    head, _, _ = config.partition("[[machine.sensor]]")
    sensor = (
        '[[machine.sensor]]\nid = "a"\nsource = "replay://r.csv?sample_rate_hz=1000"\n[store]\npath="p.db"\n'
    )
    (tmp_path / "machine.toml").write_text(head + sensor)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "p.db").is_file()


def test_make_targets_named_in_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
