"""pdm-edge bench: latency, throughput, energy, accuracy, size and memory of a model."""

from __future__ import annotations

import click

from pdm_edge.cli.show import json_line


@click.command()
@click.argument("model", default="simulated-pump")
@click.option("--runtime", default="auto", show_default=True)
@click.option("--watts", type=click.FloatRange(min=0, min_open=True), default=5.0, show_default=True)
@click.option("--calls", type=click.IntRange(min=100), default=5000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def bench(model: str, runtime: str, watts: float, calls: int, as_json: bool) -> None:
    """Measure MODEL: a bundle (path, or name of a shipped one) or any .tflite.

    Energy is read from the counter of the processor (RAPL) where there is one; else it is CPU time
    times --watts, and marked as estimated. Accuracy is that of the named data of a bundle.
    """
    from pdm_edge.detect.measure import measure_model

    found = measure_model(model, runtime=runtime, watts=watts, calls=calls)
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


def _batch(per_s: object) -> str:
    return f"{per_s:,.0f} in batches of 64" if isinstance(per_s, float) else "no batches"
