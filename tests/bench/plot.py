"""A line plot as SVG: a few named lines over a logarithmic axis, readable on a light and a dark page."""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 50, 270, 44, 46
GREY = "#888"


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    values: list[float]
    """By size; a line may end before the others do."""

    colour: str


def plot(title: str, sizes: list[int], lines: list[Line]) -> str:
    """`sizes` stand on the x axis, by their logarithm; the y axis starts at 0."""
    top = max(max(line.values) for line in lines) * 1.1
    step = 10 ** math.floor(math.log10(top))
    if top / step < 3:
        step /= 2
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])

    def x(size: int) -> float:
        return LEFT + (math.log10(size) - first) / (last - first) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM)

    def text(at_x: float, at_y: float, words: str, anchor: str = "middle", colour: str = GREY) -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
            'font-family="sans-serif" font-size="13" role="img">'
        ),
        f"<title>{escape(title)}</title>",
        text(LEFT, 22, title, "start"),
    ]
    for tick in range(int(top / step) + 1):
        height = y(tick * step)
        parts += [
            f'<path d="M{LEFT} {height:.1f}H{WIDTH - RIGHT}" stroke="{GREY}" stroke-opacity="0.3"/>',
            text(LEFT - 8, height + 4, f"{tick * step:g}", "end"),
        ]
    parts += [text(x(size), HEIGHT - BOTTOM + 20, f"{size:,}") for size in sizes]
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, "nodes"))
    label_y = -math.inf
    for line in sorted(lines, key=lambda line: -line.values[-1]):
        points = [(x(size), y(value)) for size, value in zip(sizes, line.values, strict=False)]
        parts.append(
            f'<polyline points="{" ".join(f"{px:.1f},{py:.1f}" for px, py in points)}" '
            f'fill="none" stroke="{line.colour}" stroke-width="2"/>'
        )
        parts += [f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5" fill="{line.colour}"/>' for px, py in points]
        label_y = max(points[-1][1] + 4, label_y + 16)
        parts.append(text(points[-1][0] + 10, label_y, line.name, "start", line.colour))
    return "\n".join([*parts, "</svg>"]) + "\n"
