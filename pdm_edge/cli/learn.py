"""pdm-edge learn, recalibrate and note: the baseline of a machine, made, moved and reopened."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from pdm_edge.cli.options import positive
from pdm_edge.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from pdm_edge.config import Config, MachineConfig
    from pdm_edge.detect.bundle import Manifest

_CONFIG = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("config", type=_CONFIG)
@click.option("--machine", "machine_id", help="Which machine; needed if the configuration has several.")
@click.option("--from", "recordings", multiple=True, metavar="FILE", help="Healthy recording to learn from.")
@click.option("--anyway", is_flag=True, help="Learn although the data look faulty or unsettled.")
@click.option(
    "--false-alarms-per-month", type=float, callback=positive, help="The rate to set the threshold for."
)
@click.option(
    "--family",
    type=click.Choice(["linear", "dense", "pruned", "mobilenet", "squeezenet"]),
    help="Kind of model; else the one that CONFIG names.",
)
@click.option("--hears", metavar="SENSOR[/AXIS]", help="Which sensor a model of the spectrum is fed with.")
@click.option("--float32", is_flag=True, help="Do not quantize the weights to int8.")
@click.option("--for", "for_s", type=float, callback=positive, help="Give up after so many s.")
def learn(
    config: Path,
    machine_id: str | None,
    recordings: tuple[str, ...],
    anyway: bool,
    false_alarms_per_month: float | None,
    family: str | None,
    hears: str | None,
    float32: bool,
    for_s: float | None,
) -> None:
    """Learn what healthy looks like for the machines of CONFIG.

    Without --from, live: windows are collected until they are enough and the machine has settled, and
    kept on disk, so that it can be stopped and started again. What was collected so far is used at
    once with --anyway. With --from, from recordings (with their own options behind a question mark:
    healthy.mat?sample_rate_hz=48000&unit=g). Of a machine with several vibration sensors each needs one
    that was taken at the same time: --from de=drive_end.npz --from nde=other_end.npz.
    """
    from pdm_edge.config_file import load_config

    loaded = load_config(config)
    changes: dict[str, Any] = {"family": family, "false_alarms_per_month": false_alarms_per_month}
    changes |= {"hears": hears, "quantize": False if float32 else None}
    loaded = _with_detect(loaded, machine_id, changes)
    if recordings:
        _report(_from_recordings(loaded, machine_id, recordings, anyway))
    elif anyway:
        _report(_from_collected(loaded, machine_id))
    else:
        _live(loaded if machine_id is None else _only(loaded, machine_id), for_s)


@click.command()
@click.argument("config", type=_CONFIG)
@click.option("--machine", "machine_id", help="Which machine; needed if the configuration has several.")
@click.option("--false-alarms-per-month", type=float, callback=positive, help="The rate to set it for.")
@click.option("--from", "recordings", multiple=True, metavar="FILE", help="Healthy recording to score.")
def recalibrate(
    config: Path, machine_id: str | None, false_alarms_per_month: float | None, recordings: tuple[str, ...]
) -> None:
    """Set a new threshold for the model of a machine, without training it again.

    For another rate of false alarms the scores that the model keeps are asked again; with --from,
    healthy recordings are scored. A running monitor takes it up within seconds.
    """
    import numpy as np

    from pdm_edge.config_file import load_config
    from pdm_edge.detect.bundle import load_bundle, write_bundle
    from pdm_edge.detect.commission import recalibrated
    from pdm_edge.detect.folder import keep_previous

    loaded = load_config(config)
    machine = chosen_machine(loaded, machine_id)
    path = models_folder(loaded) / machine.id
    bundle = load_bundle(path)
    old = bundle.manifest.threshold
    scores = None
    if recordings:
        # By path: the folder itself is a running monitor's, with its trials.
        scores = np.array(scores_of(loaded, machine.id, str(path), recordings)) * old.value
    rate = false_alarms_per_month or old.false_alarms_per_month or 1.0
    manifest = recalibrated(bundle.manifest, false_alarms_per_month=rate, scores=scores)
    keep_previous(path)
    write_bundle(path, bundle.model, manifest)
    click.echo(f"{machine.id}: threshold {old.value:.4g} -> {manifest.threshold.value:.4g}")
    click.echo(f"  {manifest.threshold.derivation}")


@click.command()
@click.argument("config", type=_CONFIG)
@click.argument("text")
@click.option("--machine", "machine_id", help="Which machine; needed if the configuration has several.")
@click.option("--keep-baseline", is_flag=True, help="Only write it down; nothing has changed in the machine.")
def note(config: Path, text: str, machine_id: str | None, keep_baseline: bool) -> None:
    """Write down what was done to a machine, such as "bearing replaced".

    The baseline is reopened: the machine learns anew, and the old model is kept as the previous one
    (`pdm-edge models rollback` brings it back).
    """
    from pdm_edge.config_file import load_config
    from pdm_edge.detect.folder import add_note

    loaded = load_config(config)
    machine = chosen_machine(loaded, machine_id)
    add_note(models_folder(loaded), machine.id, text, reopen=not keep_baseline)
    click.echo(f"{machine.id}: noted{'' if keep_baseline else '; it learns its baseline anew'}")


def _with_detect(config: Config, machine_id: str | None, changes: dict[str, Any]) -> Config:
    """The configuration with these settings of `detect` for the machines that are meant; None changes
    nothing."""
    import msgspec

    from pdm_edge.hearing import heard

    replace = msgspec.structs.replace
    given = {key: value for key, value in changes.items() if value is not None}
    machines = []
    for machine in config.machine:
        if machine_id in (None, machine.id):
            machine = replace(machine, detect=replace(machine.detect, **given))
            heard(machine, f"machine {machine.id!r}")
        machines.append(machine)
    return replace(config, machine=tuple(machines))


def _only(config: Config, machine_id: str) -> Config:
    import msgspec

    return msgspec.structs.replace(config, machine=(chosen_machine(config, machine_id),))


def models_folder(config: Config) -> Path:
    """Where the learned models of a configuration are kept."""
    return config.path(config.store.path).parent / "models"


def chosen_machine(config: Config, machine_id: str | None) -> MachineConfig:
    """The machine that is meant; it need not be named if there is only one."""
    ids = [machine.id for machine in config.machine]
    if machine_id is None and len(ids) > 1:
        raise ConfigError(f"there are {len(ids)} machines", mend=f"Say which: --machine {' or '.join(ids)}")
    for machine in config.machine:
        if machine_id in (None, machine.id):
            return machine
    raise ConfigError(f"there is no machine {machine_id!r}", mend=f"One of {', '.join(ids)}")


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _from_recordings(
    config: Config, machine_id: str | None, names: tuple[str, ...], anyway: bool
) -> Manifest:
    import msgspec

    from pdm_edge.detect.bundle import load_bundle, write_bundle
    from pdm_edge.detect.folder import keep_previous
    from pdm_edge.machine import Machine

    machine_config = chosen_machine(config, machine_id)
    detect = msgspec.structs.replace(machine_config.detect, model=None, learn_windows=sys.maxsize)
    with tempfile.TemporaryDirectory() as folder, _bar() as bar:
        machine = Machine(msgspec.structs.replace(machine_config, detect=detect), models=Path(folder))
        together = _by_sensor(machine_config, names)
        reading = bar.add_task("reading", total=len(together))
        for files in together:
            _play(machine, files)
            bar.advance(reading)
        if not machine.model.collected and machine.status.note:
            raise ModelError(machine.status.note)
        training = bar.add_task("training", total=1.0)
        manifest = machine.model.finish(
            anyway=anyway, progress=lambda share: bar.update(training, completed=share)
        )
        made = load_bundle(Path(folder) / machine.id)
        path = models_folder(config) / machine.id
        keep_previous(path)
        write_bundle(path, made.model, made.manifest)
    return manifest


def _from_collected(config: Config, machine_id: str | None) -> Manifest:
    """Use what a live run has collected so far, however doubtful it looks."""
    from pdm_edge.detect.life import ModelLife

    machine = chosen_machine(config, machine_id)
    life = ModelLife(
        machine.id,
        models_folder(config),
        given=None,
        learn_windows=machine.detect.learn_windows,
        alarm_n=machine.alarm.n,
        alarm_m=machine.alarm.m,
        false_alarms_per_month=machine.detect.false_alarms_per_month,
        family=machine.detect.family,
        quantize=machine.detect.quantize,
    )
    life.take_up()
    with _bar() as bar:
        training = bar.add_task("training", total=1.0)
        return life.finish(anyway=True, progress=lambda share: bar.update(training, completed=share))


def _live(config: Config, for_s: float | None) -> None:
    from pdm_edge.monitor import Monitor

    deadline = None if for_s is None else time.monotonic() + for_s
    with Monitor.from_config(config) as monitor, _bar() as bar:
        tasks = {m.id: bar.add_task(m.id, total=m.config.detect.learn_windows) for m in monitor.machines}
        while any(m.status.to_learn for m in monitor.machines) and not monitor.ended:
            if deadline is not None and time.monotonic() > deadline:
                raise ModelError(
                    "; ".join(f"{m.id}: {m.model.missing or 'no window yet'}" for m in monitor.machines),
                    mend="What was collected is kept: start it again, or use it with --anyway",
                )
            monitor.step()
            for machine in monitor.machines:
                words = f"{machine.id}: {machine.model.missing or 'done'}"
                bar.update(tasks[machine.id], completed=machine.status.learned, description=words)
        for machine in monitor.machines:
            if machine.model.manifest is None:
                why = machine.status.note or machine.model.missing or "nothing came"
                raise ModelError(f"machine {machine.id!r} has no model: {why}")
            _report(machine.model.manifest)


def _by_sensor(config: MachineConfig, names: tuple[str, ...]) -> list[dict[str, str]]:
    """Recordings that were taken together, by sensor: the first that is named for each, the second, ..."""
    sensors = [sensor.id for sensor in config.sensor if sensor.is_waveform]
    found: dict[str, list[str]] = {sensor: [] for sensor in sensors}
    for name in names:
        sensor, mark, file = name.partition("=")
        if not mark or sensor not in found:
            if len(sensors) != 1:
                raise ConfigError(
                    f"machine {config.id!r} has {len(sensors)} vibration sensors, and {name!r} is of none",
                    mend=f"Say whose it is: {' or '.join(f'{sensor}=FILE' for sensor in sensors)}"
                    if sensors
                    else "Learn it live",
                )
            sensor, file = sensors[0], name
        found[sensor].append(file)
    counts = {sensor: len(files) for sensor, files in found.items()}
    if len(set(counts.values())) != 1:
        told = ", ".join(f"{count} of {sensor!r}" for sensor, count in counts.items())
        raise ConfigError(
            f"recordings that belong together are missing: there are {told}",
            mend="Each sensor needs one for each time that was recorded",
        )
    return [dict(zip(found, files, strict=True)) for files in zip(*found.values(), strict=True)]


def _play(machine: Any, files: dict[str, str]) -> list[float]:
    """Run recordings that were taken together through the machine; return the scores that came of it."""
    from pdm_edge.acquire import open_source
    from pdm_edge.clock import FixedClock
    from pdm_edge.monitor import Monitor
    from pdm_edge.records import Score

    scores: list[float] = []

    class Keep:
        def write(self, records: Any) -> None:
            scores.extend(record.value for record in records if isinstance(record, Score))

        def close(self) -> None:
            return None

    sources = []
    for sensor, name in files.items():
        path, mark, query = name.partition("?")
        url = f"replay://{quote(str(Path(path).resolve()))}{mark}{query}"
        sources.append(open_source(url, clock=FixedClock(), sensor=sensor))
    with Monitor([machine], patient=sources, sinks=[Keep()]) as monitor:
        for _ in monitor:
            pass
    return scores


def scores_of(config: Config, machine_id: str | None, model: str, names: tuple[str, ...]) -> list[float]:
    """Scores of recordings by a bundle, through the pipeline of a machine; what is not scored is left out."""
    import msgspec

    from pdm_edge.machine import Machine

    machine_config = chosen_machine(config, machine_id)
    detect = msgspec.structs.replace(machine_config.detect, model=model, learn_windows=0)
    machine_config = msgspec.structs.replace(machine_config, detect=detect)
    found: list[float] = []
    for files in _by_sensor(machine_config, names):
        machine = Machine(machine_config, models=models_folder(config))
        found += _play(machine, files)
        if machine.status.note:
            raise ModelError(machine.status.note, where=", ".join(files.values()))
    return [score for score in found if score == score]


def _report(manifest: Manifest) -> None:
    threshold, training = manifest.threshold, manifest.training
    click.echo(f"{manifest.name}: learned from {training.windows} windows ({training.left_out} left out)")
    for name, state in manifest.states.items():
        click.echo(f"  {name}: {state.windows} windows")
    fed = f"{len(manifest.feature_names)} features"
    if manifest.input.kind != "features":
        fed = f"{manifest.input.kind} of sensor {manifest.input.sensor!r}, axis {manifest.input.axis + 1}"
    click.echo(f"  model: {training.family}, {manifest.quantization}, {fed}")
    for lines in manifest.speeds:
        click.echo(f"  speed: told by {len(lines.lines_hz)} lines of the spectrum")
    if not manifest.speeds and not any("rpm" in name for name in manifest.states):
        click.echo("  speed: neither measured nor told by lines; another speed looks like a change")
    click.echo(f"  threshold {threshold.value:.4g}: {threshold.derivation}")
    for warning in training.warnings:
        click.echo(f"  overruled: {warning}")
