"""pdm-edge bench: latency, throughput, energy, accuracy, size and memory of a model."""

from __future__ import annotations

from pathlib import Path

import click

from pdm_edge.cli.show import json_line
from pdm_edge.errors import ConfigError


@click.command()
@click.argument("model", default="simulated-pump")
@click.option("--runtime", default="auto", show_default=True)
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--calls", type=click.IntRange(min=100), default=5000, show_default=True)
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--machine", "machine_id", help="Which machine of --config, if there are several.")
@click.option("--healthy", multiple=True, metavar="FILE", help="Healthy recording for the accuracy.")
@click.option("--faulty", multiple=True, metavar="FILE", help="Recording of a fault for the accuracy.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(
    model: str,
    runtime: str,
    watts: float,
    calls: int,
    config: Path | None,
    machine_id: str | None,
    healthy: tuple[str, ...],
    faulty: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure MODEL: a bundle (path, or name of a shipped one) or any .tflite.

    Energy is read from the counter of the processor (RAPL) where there is one; else it is CPU time
    times --watts, and marked as estimated. Accuracy is measured on the recordings that are named
    with --healthy and --faulty, run through the machine of --config; without them it is what the
    bundle knows of its own held-back data.
    """
    from pdm_edge.detect.measure import measure_model

    found = measure_model(model, runtime=runtime, watts=watts, calls=calls)
    if healthy or faulty:
        found["accuracy"] = _measured_accuracy(model, config, machine_id, healthy, faulty)
    if as_json:
        click.echo(json_line({"record": "bench", **found}))
        return
    rows = (
        ("model", f"{found['model']}, {found['bytes'] / 1000:.1f} kB, input {found['input_shape']}"),
        ("runtime", f"{found['runtime']}, one thread, on {found['processor']}"),
        ("bare invoke", f"p50 {found['invoke_p50_us']:.1f} us, p99 {found['invoke_p99_us']:.1f} us"),
        (
            "whole score",
            f"p50 {found['score_p50_us']:.1f} us, p99 {found['score_p99_us']:.1f} us "
            f"({found['score_over_invoke']:.1f} times bare invoke)",
        ),
        (
            "throughput",
            f"{found['windows_per_s']:,.0f} windows/s one by one, {_batch(found['batch_windows_per_s'])}",
        ),
        ("energy", f"{found['energy_uj']:.1f} uJ a window ({found['energy_basis']})"),
        ("memory", f"{found['memory_mb']:.1f} MB more with model and runtime than without"),
        ("accuracy", str(found["accuracy"])),
    )
    for name, text in rows:
        click.echo(f"{name:12s} {text}")


def _measured_accuracy(
    model: str, config: Path | None, machine_id: str | None, healthy: tuple[str, ...], faulty: tuple[str, ...]
) -> str:
    """AUC and rates on recordings, through the pipeline that runs live."""
    from pdm_edge.cli.learn import scores_of
    from pdm_edge.config_file import load_config
    from pdm_edge.detect.measure import accuracy_text

    if config is None or not healthy or not faulty:
        raise ConfigError(
            "accuracy needs --config, --healthy and --faulty", mend="Give all three; nothing is assumed"
        )
    loaded = load_config(config)
    good, bad = (scores_of(loaded, machine_id, model, names) for names in (healthy, faulty))
    names = f"{', '.join(Path(n).name for n in healthy)} against {', '.join(Path(n).name for n in faulty)}"
    return f"{accuracy_text(good, bad)}, on {names}"


def _batch(per_s: object) -> str:
    return f"{per_s:,.0f} in batches of 64" if isinstance(per_s, float) else "no batches"
