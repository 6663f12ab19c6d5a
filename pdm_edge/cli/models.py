"""pdm-edge models: what a model is, whether it fits, and putting it to work."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pdm_edge.cli.show import json_line
from pdm_edge.errors import ModelError

if TYPE_CHECKING:
    from pdm_edge.detect.bundle import Manifest
    from pdm_edge.detect.guard import ModelFacts

_CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)
_FILE = click.Path(exists=True, path_type=Path)


@click.group()
def models() -> None:
    """Check, pack, try out and roll back models."""


@models.command()
@click.argument("model", type=_FILE)
@click.option("--runtime", default="auto", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(model: Path, runtime: str, as_json: bool) -> None:
    """Explain what MODEL (a bundle or any .tflite) takes and gives, and whether it can be used.

    It is opened in a child process. Ends with exit status 2 if it cannot be used.
    """
    from pdm_edge.detect.bundle import load_bundle
    from pdm_edge.detect.guard import try_model

    manifest = load_bundle(model).manifest if model.is_dir() else None
    content = load_bundle(model).model if model.is_dir() else model.read_bytes()
    facts = try_model(content, runtime=runtime)
    says, misfits = explained_facts(facts, manifest)
    if as_json:
        row = {
            "record": "model",
            "model": str(model),
            "bytes": len(content),
            "runtime": facts.runtime,
            "input_shape": facts.input_shape,
            "int8_input": facts.int8_input,
            "outputs": facts.outputs,
            "misfits": misfits,
        }
        click.echo(json_line(row))
    else:
        click.echo(f"{model}: {len(content)} bytes, runs under {facts.runtime}")
        for line in (*says, *(f"DOES NOT FIT: {misfit}" for misfit in misfits)):
            click.echo(f"  {line}")
    if misfits:
        raise ModelError(f"cannot be used as it is: {misfits[0]}", where=str(model))


def explained_facts(facts: ModelFacts, manifest: Manifest | None) -> tuple[list[str], list[str]]:
    """What there is to say of a model, and what does not fit."""
    n_inputs = _size(facts.input_shape)
    says = [f"input {facts.input_shape}{' int8' if facts.int8_input else ''}: {n_inputs} values"]
    says += [f"output {name!r} {shape}" for name, shape in facts.outputs.items()]
    misfits = []
    if facts.int8_input:
        says.append(
            "int8 input: values beyond what it was calibrated for are cut off, which is where anomalies lie"
        )
    if manifest is not None:
        threshold = manifest.threshold
        says.append(f"fed with {manifest.input.kind}: {len(manifest.feature_names)} values")
        says.append(f"threshold {threshold.value:.4g}: {threshold.derivation}")
        if n_inputs != len(manifest.feature_names):
            misfits.append(f"its manifest names {len(manifest.feature_names)} values")
        if manifest.output.name and manifest.output.name not in facts.outputs:
            misfits.append(f"it has no output {manifest.output.name!r}, which its manifest names")
        return says, misfits
    scores = [name for name, shape in facts.outputs.items() if _size(shape) == 1]
    rebuilt = [name for name, shape in facts.outputs.items() if _size(shape) == n_inputs and n_inputs > 1]
    if scores:
        says.append(f'as a score: output = {{ kind = "score", name = "{scores[0]}" }}')
    if rebuilt:
        says.append(f'as a reconstruction: output = {{ kind = "reconstruction", name = "{rebuilt[0]}" }}')
    if not scores and not rebuilt:
        misfits.append(f"no output has 1 value (a score) or {n_inputs} (a reconstruction of the input)")
    says.append("its input, scaling and threshold are yours to say: see docs/bring-your-own.md")
    return says, misfits


@models.command()
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("description", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("bundle", type=click.Path(path_type=Path))
def pack(model: Path, description: Path, bundle: Path) -> None:
    """Make a bundle of MODEL (any .tflite) and DESCRIPTION (.toml; see docs/bring-your-own.md)."""
    from pdm_edge.detect.bundle import load_bundle, write_bundle
    from pdm_edge.detect.foreign import described
    from pdm_edge.detect.guard import try_model

    content = model.read_bytes()
    facts = try_model(content)
    manifest = described(description)
    _, misfits = explained_facts(facts, manifest)
    if misfits:
        raise ModelError(misfits[0], where=str(description))
    write_bundle(bundle, content, manifest)
    load_bundle(bundle)
    click.echo(f'{bundle}: packed; judge by it with detect = {{ model = "{bundle}" }}')


@models.command()
@click.argument("config", type=_CONFIG)
@click.argument("bundle", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--machine", "machine_id", help="Which machine; needed if the configuration has several.")
def trial(config: Path, bundle: Path, machine_id: str | None) -> None:
    """Let BUNDLE score beside the model of a machine; it takes over if it is as quiet, and only then."""
    from pdm_edge.cli.learn import chosen_machine, models_folder
    from pdm_edge.config_file import load_config
    from pdm_edge.detect.bundle import load_bundle
    from pdm_edge.detect.folder import put_on_trial
    from pdm_edge.detect.guard import try_model

    loaded = load_config(config)
    machine = chosen_machine(loaded, machine_id)
    candidate = load_bundle(bundle)
    try_model(candidate.model)
    put_on_trial(models_folder(loaded), machine.id, candidate)
    click.echo(f"{machine.id}: {candidate.manifest.name} is on trial; a running monitor takes it up")


@models.command()
@click.argument("config", type=_CONFIG)
@click.option("--machine", "machine_id", help="Which machine; needed if the configuration has several.")
def rollback(config: Path, machine_id: str | None) -> None:
    """Bring back the last good model of a machine."""
    from pdm_edge.cli.learn import chosen_machine, models_folder
    from pdm_edge.config_file import load_config
    from pdm_edge.detect.folder import roll_back

    loaded = load_config(config)
    machine = chosen_machine(loaded, machine_id)
    roll_back(models_folder(loaded), machine.id)
    click.echo(f"{machine.id}: the previous model judges again")


def _size(shape: Any) -> int:
    size = 1
    for n in shape:
        size *= int(n)
    return size
