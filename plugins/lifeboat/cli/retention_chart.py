"""What targets hold over months as a picture: bars for a terminal, and lines in an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from xml.sax.saxutils import escape

_WIDTH, _HEIGHT = 960, 480
_LEFT, _RIGHT, _TOP, _BOTTOM = 90, 190, 60, 60
# Okabe and Ito's colours, which people who don't see red or green tell apart: https://jfly.uni-koeln.de/color/
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
_DASHES = ("", "8 4", "2 3", "12 4 2 4")
_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3), ("B", 1))
_MOST_TICKS = 6
_FEW_MONTHS = 36


def bar(kept: int, hidden: int, most: int, columns: int) -> str:
    """A bar of at most so many columns: full blocks for what is kept, shaded ones for what is hidden."""
    if most <= 0:
        return ""
    whole = round((kept + hidden) / most * columns)
    full = min(whole, round(kept / most * columns))
    return "█" * full + "▒" * (whole - full)


def svg(title: str, months: Sequence[date], lines: Mapping[str, Sequence[int]]) -> str:
    """A picture with a line of bytes for each name.

    Args:
        months: the first day of each.
        lines: as many sizes in bytes, each at its month's end.
    """
    most = max((size for line in lines.values() for size in line), default=0)
    unit, factor = next((one for one in _UNITS if most >= one[1]), _UNITS[-1])
    step = _step(most / factor)
    top = max(step, step * -(-most // (step * factor)))
    drawn = [*_frame(title, unit), *_rows(step, top), *_columns(months)]
    for number, (name, line) in enumerate(lines.items()):
        drawn += _line(number, name, [_spot(at, len(months), size / factor / top) for at, size in enumerate(line)])
    return "\n".join([*drawn, "</svg>", ""])


def _frame(title: str, unit: str) -> list[str]:
    middle = _TOP + (_HEIGHT - _TOP - _BOTTOM) / 2
    return [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" font-size="13" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="32" font-size="18">{escape(title)}</text>',
        f'<text x="24" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 24 {middle:.1f})">'
        f"stored, {unit}</text>",
        f'<text x="{_LEFT + (_WIDTH - _LEFT - _RIGHT) / 2:.1f}" y="{_HEIGHT - 14}" text-anchor="middle">'
        "at the end of the month</text>",
    ]


def _rows(step: float, top: float) -> list[str]:
    drawn = []
    for number in range(round(top / step) + 1):
        value = number * step
        y = _spot(0, 1, value / top)[1]
        drawn += [
            f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}" stroke="#dddddd"/>',
            f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>',
        ]
    return drawn


def _columns(months: Sequence[date]) -> list[str]:
    """A mark at each December, where a year ends; of a few months, at every third."""
    drawn = []
    for number, month in enumerate(months):
        if month.month == 12 or (len(months) <= _FEW_MONTHS and month.month % 3 == 0):
            x, y = _spot(number, len(months), 0)
            drawn += [
                f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{x:.1f}" y2="{y + 6:.1f}" stroke="#666666"/>',
                f'<text x="{x:.1f}" y="{y + 22:.1f}" text-anchor="middle" font-size="12">{month:%Y-%m}</text>',
            ]
    return drawn


def _line(number: int, name: str, spots: Sequence[tuple[float, float]]) -> list[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    # Targets that hold the same lie on each other: the later one is thinner, and both are seen.
    dash = _DASHES[number % len(_DASHES)]
    width = max(2.0, 4 - number)
    style = f'fill="none" stroke="{colour}" stroke-width="{width:g}"' + (f' stroke-dasharray="{dash}"' if dash else "")
    drawn = [f'<polyline {style} points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in spots)}"/>']
    if len(spots) == 1:
        drawn.append(f'<circle cx="{spots[0][0]:.1f}" cy="{spots[0][1]:.1f}" r="4" fill="{colour}"/>')
    x, y = _WIDTH - _RIGHT + 20, _TOP + 10 + 24 * number
    return [
        *drawn,
        f'<line x1="{x}" y1="{y}" x2="{x + 30}" y2="{y}" {style}/>',
        f'<text x="{x + 38}" y="{y + 4}">{escape(name)}</text>',
    ]


def _spot(number: int, count: int, share: float) -> tuple[float, float]:
    across = number / (count - 1) if count > 1 else 0.5
    return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)


def _step(most: float) -> float:
    """The least of 1, 2, 5, 10, … that needs no more rows than can be told apart."""
    steps: list[float] = [factor * 10.0**power for power in range(-1, 16) for factor in (1, 2, 5)]
    return next((step for step in steps if most / step <= _MOST_TICKS), steps[-1])
