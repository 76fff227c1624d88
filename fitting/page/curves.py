"""curves.html: the curves of a training's metrics.csv, in one file that needs neither a network nor a program."""

import csv
import html
import math
from pathlib import Path

from fitting.export.atomic import atomic_path

PAGE = "curves.html"
WIDTH, HEIGHT, POINTS = 420, 180, 400  # of a picture in pixels; of a curve
STEEP = 20  # largest over smallest value from which the upward axis is logarithmic
COLORS = ("#1f6feb", "#d1495b", "#2a9d4a", "#8a5cd1", "#c77d0a", "#3c4858")
STYLE = "body{font:15px/1.4 system-ui,sans-serif;margin:1rem;color:#1f2933} figure{display:inline-block;margin:.6rem}"

Curve = list[tuple[int, float]]  # (step, value), steps rising


def write_curves(run: Path) -> Path | None:
    """Write RUN/curves.html about RUN/logs/*/metrics.csv; returns its path, None where nothing was logged yet."""
    curves = read_metrics(run)
    if not curves:
        return None
    with atomic_path(run / PAGE) as temporary:
        temporary.write_text(page(run.absolute().name, curves), encoding="utf-8")
    return run / PAGE


def read_metrics(run: Path) -> dict[str, Curve]:
    """Every column over `step`, finite values alone, of all starts of a run: of two that overlap the later counts."""
    found: dict[str, dict[int, float]] = {}
    files = sorted(run.glob("logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name.rpartition("_")[2]))
    for path in files:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                for name in row.keys() - {"step", "epoch"}:
                    if row[name] and math.isfinite(float(row[name])):
                        found.setdefault(name, {})[int(row["step"])] = float(row[name])
    return {name: sorted(found[name].items()) for name in sorted(found)}


def page(title: str, curves: dict[str, Curve]) -> str:
    """A picture for each last word of the names: train/loss and val/loss share one."""
    groups: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        groups.setdefault(name.rpartition("/")[2], {})[name] = curve
    pictures = "\n".join(picture(group) for group in groups.values())
    title = html.escape(title)
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
    return f"{head}\n<h2>{title}</h2>\n{pictures}\n"


def picture(curves: dict[str, Curve]) -> str:
    """Curves over one pair of axes as a figure, with the last value of each in words."""
    values = [value for curve in curves.values() for _, value in curve]
    steps = [step for curve in curves.values() for step, _ in curve]
    low, high, first, last = min(values), max(values), min(steps), max(steps)
    steep = low > 0 and high / low > STEEP
    scale = math.log if steep else float

    def place(step: int, value: float) -> str:
        across = (step - first) / max(last - first, 1)
        up = (scale(value) - scale(low)) / (scale(high) - scale(low) or 1)
        return f"{WIDTH * across:.1f},{HEIGHT * (1 - up):.1f}"

    lines, words = [], []
    for color, (name, curve) in zip(COLORS * len(curves), curves.items(), strict=False):
        drawn = " ".join(place(*point) for point in thinned(curve))
        lines.append(f'<polyline points="{drawn}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        words.append(f'<span style="color:{color}">{html.escape(name)} {curve[-1][1]:.4g}</span>')
    box = f'<svg width="{WIDTH}" height="{HEIGHT}" style="border:1px solid #d5dae1">{"".join(lines)}</svg>'
    axes = f"steps {first} to {last}; {low:.4g} to {high:.4g}{', logarithmic' if steep else ''}"
    return f"<figure>{', '.join(words)}<br>{box}<br><small>{axes}</small></figure>"


def thinned(curve: Curve) -> Curve:
    """At most POINTS points: means of neighbours."""
    size = math.ceil(len(curve) / POINTS)
    parts = [curve[i : i + size] for i in range(0, len(curve), size)]
    return [(part[-1][0], sum(value for _, value in part) / len(part)) for part in parts]
