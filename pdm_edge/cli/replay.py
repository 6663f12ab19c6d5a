"""pdm-edge replay: run a recording through the pipeline that runs live."""

from __future__ import annotations

import re
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode

import click

from pdm_edge.cli.show import echo_advisory, json_line, number
from pdm_edge.errors import ConfigError, ModelError
from pdm_edge.records import Advisory, FeatureVector, Gap, Record, Score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pdm_edge.config import MachineConfig
    from pdm_edge.machine import Machine

_SENSOR = "vibration"
"""What the sensor is called in the features, unless the model was learned from one of another name."""


@click.command()
@click.argument("recording")
@click.option("--learn", multiple=True, metavar="FILE", help="Healthy recording to learn from first.")
@click.option("--model", help="Judge by this bundle (path, or name of a shipped one).")
@click.option("--sensor", help="Id of the sensor that the recording is of; else the one that --model knows.")
@click.option("--sample-rate-hz", type=float, help="Where the file does not state it.")
@click.option("--unit", help="g, m_s2 or mm_s, where the file does not state it.")
@click.option("--variable", help="Which array of the file; a pattern such as '*DE_time' will do.")
@click.option("--scale", type=float, help="Factor from the numbers in the file to the unit.")
@click.option("--resample-hz", type=float, help="Rate to resample to: model and file need the same.")
@click.option("--window-s", type=float, default=1.0, show_default=True, help="Length of a window.")
@click.option("--speed-rpm", type=float, help="Speed of the shaft, for the bearing lines.")
@click.option("--bearing", help="Designation from the catalogue, such as 6205.")
@click.option("--group", type=click.IntRange(1, 2), help="Machine group of ISO 20816-3.")
@click.option("--support", type=click.Choice(["rigid", "flexible"]), help="Support of ISO 20816-3.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def replay(recording: str, learn: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Run RECORDING (.npz, .csv, .wav, .mat) through the same pipeline that runs live.

    It is judged by what --learn shows as healthy, by --model, by the limits of ISO 20816-3
    (--group and --support), or by all of them. A file that differs from the others carries its own
    options: healthy.mat?sample_rate_hz=48000. Ends with exit status 1 if an alert or alarm came.
    """
    config = _config(recording, options, learning=bool(learn))
    with tempfile.TemporaryDirectory() as folder:
        machine, learned = _prepared(config, Path(folder), learn, options)
        seen = _play(machine, _url(recording, options), as_json=as_json)
    # Not judged is not healthy: it must not end like a recording that was.
    note = machine.status.note
    if note:
        raise ModelError(note, where=recording, mend=_mend(note, machine))
    needed = config.alarm.n
    judged = seen.running if config.iso20816 is not None else len([s for s in seen.scores if s == s])
    if seen.worst == "normal" and judged < needed:
        raise ModelError(
            f"not judged: {judged} of {needed} windows needed of steady running",
            where=recording,
            mend="Give a longer recording, or shorter windows (--window-s)",
        )
    _summary(recording, machine, seen, learned, as_json=as_json)
    sys.exit(1 if seen.worst in ("alert", "alarm") else 0)


@dataclass(slots=True)
class _Seen:
    """What came out of a recording. It is a sink of the monitor."""

    scores: list[float] = field(default_factory=list)
    advisories: list[Advisory] = field(default_factory=list)
    running: int = 0
    lost_samples: int = 0

    def write(self, records: Sequence[Record]) -> None:
        for record in records:
            if isinstance(record, Score):
                self.scores.append(record.value)
            elif isinstance(record, Advisory):
                self.advisories.append(record)
            elif isinstance(record, FeatureVector):
                self.running += record.state.startswith("running") and record.quality.level != "bad"
            elif isinstance(record, Gap) and record.what == "samples":
                self.lost_samples += record.lost

    def close(self) -> None:
        return None

    @property
    def worst(self) -> str:
        states = {advisory.state for advisory in self.advisories}
        return next((s for s in ("alarm", "alert", "normal") if s in states), "normal")


def _config(recording: str, options: dict[str, Any], *, learning: bool) -> MachineConfig:
    """The machine that the options describe, checked like one from a file."""
    from pdm_edge.config_file import parse_machine

    if (options["group"] is None) != (options["support"] is None):
        raise ConfigError("ISO 20816-3 needs --group and --support", mend="Give both; neither is guessed")
    if learning and options["model"]:
        raise ConfigError("--learn and --model exclude each other", mend="Give one of them")
    name = re.sub(r"[^A-Za-z0-9._-]", "-", Path(recording.partition("?")[0]).stem).lstrip("._-")
    sensor: dict[str, Any] = {"id": _sensor(options), "source": _url(recording, options)}
    if options["bearing"]:
        sensor["bearing"] = {"designation": options["bearing"]}
    machine: dict[str, Any] = {
        "id": name[:64] or "recording",
        "sensor": [sensor],
        "window_s": options["window_s"],
        "detect": {"model": options["model"], "learn_windows": sys.maxsize if learning else 0},
        "rated_speed_rpm": options["speed_rpm"],
    }
    if options["group"] is not None:
        machine["iso20816"] = {"group": options["group"], "support": options["support"]}
    elif not learning and not options["model"]:
        raise ConfigError(
            "there is nothing to judge the recording by",
            where=recording,
            mend="Give --learn HEALTHY_FILE, --model BUNDLE, or --group and --support of ISO 20816-3",
        )
    return parse_machine(machine, where="replay")


def _sensor(options: dict[str, Any]) -> str:
    """The sensor that is named, or the only one that the features of the model are of."""
    from pdm_edge.detect.bundle import load_bundle

    if options["sensor"]:
        return str(options["sensor"])
    if not options["model"]:
        return _SENSOR
    manifest = load_bundle(options["model"]).manifest
    named = {name.partition("/")[0] for name in manifest.feature_names if "/" in name}
    if manifest.input.sensor:
        return manifest.input.sensor
    if len(named) > 1:
        raise ConfigError(
            f"the model judges {len(named)} sensors together: {', '.join(sorted(named))}",
            where=str(options["model"]),
            mend="A recording is of one sensor; judge it live, or by --learn",
        )
    return named.pop() if named else _SENSOR


def _mend(note: str, machine: Machine) -> str:
    if note.startswith("model "):
        return (
            "Feed it as when it learned: sensor (--sensor), rate (--resample-hz), window (--window-s), "
            "speed (--speed-rpm), bearing (--bearing)"
        )
    sensor = machine.config.sensor[0].id
    return "Look at the sensor, its cable and its mount" if note.startswith(f"sensor {sensor!r}: ") else ""


def _prepared(
    config: MachineConfig, folder: Path, healthy: Sequence[str], options: dict[str, Any]
) -> tuple[Machine, int]:
    """The machine, having learned from the healthy recordings; and from how many windows."""
    from pdm_edge.clock import FixedClock
    from pdm_edge.machine import Machine

    machine = Machine(config, models=folder)
    for name in healthy:
        _play(machine, _url(name, options), as_json=False, quiet=True)
    learned = machine.status.learned
    if healthy:
        try:
            machine.finish_learning(FixedClock().stamp(), anyway=True)
        except ModelError as error:
            raise ModelError(
                error.what,
                where=", ".join(healthy),
                mend=f"{error.mend}. Shorter windows (--window-s) or more recordings give more".lstrip(". "),
            ) from error
    return machine, learned


def _play(machine: Machine, url: str, *, as_json: bool, quiet: bool = False) -> _Seen:
    from pdm_edge.acquire import open_source
    from pdm_edge.clock import FixedClock
    from pdm_edge.monitor import Monitor

    seen = _Seen()
    source = open_source(url, clock=FixedClock(), sensor=machine.config.sensor[0].id)
    with Monitor([machine], patient=[source], sinks=[seen]) as monitor:
        for advisory in monitor:
            if not quiet:
                echo_advisory(advisory, as_json=as_json, elapsed=True)
    return seen


def _summary(recording: str, machine: Machine, seen: _Seen, learned: int, *, as_json: bool) -> None:
    status, scores = machine.status, sorted(score for score in seen.scores if score == score)
    median = scores[len(scores) // 2] if scores else float("nan")
    row = {
        "record": "replay",
        "recording": recording,
        "learned_windows": learned,
        "windows": status.windows - learned,
        "worst_state": seen.worst,
        "score_median": median,
        "score_highest": scores[-1] if scores else float("nan"),
        "velocity_mm_s": status.velocity_mm_s,
        "zone": status.zone,
        "samples_not_in_a_window": seen.lost_samples,
    }
    if as_json:
        click.echo(json_line(row))
        return
    words = [f"{row['windows']} windows of {machine.config.window_s:g} s, worst state: {seen.worst}"]
    if scores:
        words.append(f"score median {number(median)}, highest {number(scores[-1])} (1 is the threshold)")
    if status.zone:
        words.append(f"last velocity {number(status.velocity_mm_s)} mm/s RMS, ISO zone {status.zone}")
    click.echo(f"{recording}: {'; '.join(words)}")
    if learned:
        click.echo(f"learned from {learned} healthy windows", err=True)


def _url(name: str, options: dict[str, Any]) -> str:
    """A file, with options of its own behind a question mark, as a replay:// source."""
    path, _, own = name.partition("?")
    keys = ("sample_rate_hz", "unit", "variable", "scale", "resample_hz")
    query = {key: str(options[key]) for key in keys if options[key] is not None}
    query.update(parse_qsl(own, keep_blank_values=True))
    url = f"replay://{quote(str(Path(path).resolve()))}"
    return f"{url}?{urlencode(query)}" if query else url
