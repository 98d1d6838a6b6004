"""The story's report: one HTML file with tables and plots, which loads nothing from anywhere."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from modelops.cli.demo.stage import Plot, Step

_STYLE = """
:root { --ink: #1c2430; --dim: #66707d; --line: #dfe4ea; --bar: #9db4cc; --mark: #c4462f; --good: #2c7a4b }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 2.5rem auto; padding: 0 1.5rem }
h1 { font-size: 1.7rem; margin-bottom: 0 } h2 { font-size: 1.1rem; margin: 2.2rem 0 .4rem }
p, td.dim, .dim { color: var(--dim) } table { border-collapse: collapse; margin: .4rem 0 }
td, th { text-align: left; padding: .15rem 1.4rem .15rem 0; vertical-align: top; border-bottom: 1px solid var(--line) }
ul { list-style: none; padding: 0; margin: .4rem 0 } li::before { content: "✓ "; color: var(--good) }
svg text { font: 12px system-ui, sans-serif; fill: var(--ink) } a { color: inherit } figure { margin: 1rem 0 }
figcaption { font-weight: 600; margin-bottom: .3rem }
"""


def write_report(file: Path, steps: Sequence[Step], failure: str | None) -> None:
    """Write the report of the steps taken; `failure` says why the story ended early."""
    total = sum(step.seconds for step in steps)
    verdict = f"It failed: {escape(failure)}" if failure else f"Each of {len(steps)} steps was verified from outside."
    body = "".join(_step(number, step) for number, step in enumerate(steps, start=1))
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>ModelOps: the main job</title><style>{_STYLE}</style></head><body>"
        f"<h1>From real data to monitored predictions</h1><p>{verdict} {total:.0f} s in all.</p>"
        f"{_overview(steps)}{body}</body></html>"
    )
    file.write_text(page, encoding="utf-8")


def _overview(steps: Sequence[Step]) -> str:
    rows = "".join(
        f'<tr><td class="dim">{number}</td><td><a href="#s{number}">{escape(step.title)}</a></td>'
        f"<td>{len(step.checks)} verified</td><td>{step.seconds:.1f} s</td></tr>"
        for number, step in enumerate(steps, start=1)
    )
    return f"<table>{rows}</table>"


def _step(number: int, step: Step) -> str:
    facts = "".join(f'<tr><td class="dim">{escape(n)}</td><td>{escape(v)}</td></tr>' for n, v in step.facts)
    checks = "".join(f"<li>{escape(claim)}</li>" for claim in step.checks)
    links = " · ".join(f'<a href="{escape(url, quote=True)}">{escape(name)}</a>' for name, url in step.links)
    plots = "".join(_plot(plot) for plot in step.plots)
    return (
        f'<h2 id="s{number}">{number}. {escape(step.title)}</h2><table>{facts}</table><ul>{checks}</ul>'
        f'<p class="dim">{links}</p>{plots}'
    )


def _plot(plot: Plot) -> str:
    """Draw horizontal bars from a zero line; negative values go to the left of it."""
    if not plot.bars:
        return ""
    low, high = min(0.0, *(v for _, v in plot.bars)), max(0.0, *(v for _, v in plot.bars))
    span = (high - low) or 1.0
    label_width = 8 + 7 * max(len(label) for label, _ in plot.bars)
    width, row = 420, 20
    zero = label_width - low / span * width
    bars = "".join(
        _bar(plot, label, value, index * row, zero, label_width, width / span)
        for index, (label, value) in enumerate(plot.bars)
    )
    height = row * len(plot.bars) + 4
    view = f'viewBox="0 0 {label_width + width + 90} {height}" width="{label_width + width + 90}" height="{height}"'
    axis = f'<line x1="{zero:.1f}" x2="{zero:.1f}" y1="0" y2="{height}" stroke="var(--dim)"/>'
    return (
        f'<figure><figcaption>{escape(plot.title)}</figcaption><svg role="img" {view}>'
        f"<title>{escape(plot.title)}</title>{bars}{axis}</svg></figure>"
    )


def _bar(plot: Plot, label: str, value: float, y: int, zero: float, label_width: int, scale: float) -> str:
    length = abs(value) * scale
    left = zero if value >= 0 else zero - length
    colour = "var(--mark)" if label in plot.marked else "var(--bar)"
    end = max(left + length, zero) + 6
    return (
        f'<text x="{label_width - 8}" y="{y + 14}" text-anchor="end">{escape(label)}</text>'
        f'<rect x="{left:.1f}" y="{y + 3}" width="{max(length, 0.5):.1f}" height="14" fill="{colour}"/>'
        f'<text x="{end:.1f}" y="{y + 14}">{value:.3g}{escape(plot.unit)}</text>'
    )
