"""Boxes, arrows, bars and text as SVG that is readable on a light and on a dark page."""
# ruff: noqa: INP001 - beside the documents that show the pictures

from collections.abc import Sequence
from html import escape
from math import hypot

Point = tuple[float, float]
Area = tuple[float, float, float, float]  # x, y, width, height
_LIGHT = {
    "page": ("#ffffff", ""),
    "plain": ("#f4f6f8", "#5b6b7b"),
    "blue": ("#e8f1fb", "#2b6cb0"),
    "green": ("#eaf6ec", "#2f855a"),
    "amber": ("#fdf3e7", "#b7791f"),
    "area": ("none", "#8795a5"),
    "line": ("none", "#4a5560"),
    "grid": ("none", "#d5dbe1"),
    "head": ("#4a5560", ""),
    "cli": ("#b0bac5", ""),
    "ours": ("#2b6cb0", ""),
    "text": ("#1a202c", ""),
    "muted": ("#4a5568", ""),
}
_DARK = {
    "page": ("#0d1117", ""),
    "plain": ("#1c2128", "#8b98a5"),
    "blue": ("#10263f", "#58a6ff"),
    "green": ("#11271a", "#3fb950"),
    "amber": ("#2d2210", "#d29922"),
    "area": ("none", "#6e7a87"),
    "line": ("none", "#b1bac4"),
    "grid": ("none", "#30363d"),
    "head": ("#b1bac4", ""),
    "cli": ("#6b7683", ""),
    "ours": ("#58a6ff", ""),
    "text": ("#e6edf3", ""),
    "muted": ("#a9b3bd", ""),
}
_LINE_PX = 18
_HEAD_PX = 9


def _rules(colours: dict[str, tuple[str, str]]) -> str:
    return " ".join(
        f".{name}{{fill:{fill}{f';stroke:{stroke}' if stroke else ''}}}"
        for name, (fill, stroke) in colours.items()
    )


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


class Picture:
    """One SVG: what is drawn later lies on top."""

    def __init__(self, width: float, height: float, *, title: str, description: str) -> None:
        """Start with an empty page; title and description are read to people who do not see it."""
        self._width, self._height = width, height
        self._title, self._description = title, description
        self._parts: list[str] = []

    def box(self, area: Area, *lines: str, kind: str = "plain", size: int = 15) -> None:
        """Draw a box; its first line is bold, all are centred."""
        x, y, width, height = area
        self.rectangle(area, kind=kind, radius=8)
        first = y + height / 2 - _LINE_PX * (len(lines) - 1) / 2 + 5
        for number, line in enumerate(lines):
            self.text(
                (x + width / 2, first + number * _LINE_PX), line,
                size=13 if number else size, bold=not number, anchor="middle",
            )  # fmt: skip

    def rectangle(self, area: Area, *, kind: str, radius: float = 0) -> None:
        """Draw a rectangle."""
        x, y, width, height = map(_n, area)
        rounded = f' rx="{_n(radius)}"' if radius else ""
        dashes = ' stroke-dasharray="5 4"' if kind == "area" else ""
        self._parts.append(
            f'<rect class="{kind}" x="{x}" y="{y}" width="{width}" height="{height}"'
            f'{rounded}{dashes} stroke-width="1.5"/>'
        )

    def circle(self, at: Point, radius: float, *, kind: str) -> None:
        """Draw a disc."""
        self._parts.append(
            f'<circle class="{kind}" cx="{_n(at[0])}" cy="{_n(at[1])}" r="{_n(radius)}"/>'
        )

    def line(self, *points: Point, kind: str = "line", dashed: bool = False) -> None:
        """Draw a line through points."""
        path = " L".join(f"{_n(x)} {_n(y)}" for x, y in points)
        dashes = ' stroke-dasharray="5 4"' if dashed else ""
        width = "1" if kind == "grid" else "1.8"
        self._parts.append(f'<path class="{kind}" d="M{path}"{dashes} stroke-width="{width}"/>')

    def arrow(self, *points: Point, dashed: bool = False) -> None:
        """Draw a line through points with a head at the last one."""
        (x0, y0), (x1, y1) = points[-2:]
        length = hypot(x1 - x0, y1 - y0)
        dx, dy = (x1 - x0) / length * _HEAD_PX, (y1 - y0) / length * _HEAD_PX
        self.line(*points[:-1], (x1 - dx, y1 - dy), dashed=dashed)
        left, right = (x1 - dx - dy / 2, y1 - dy + dx / 2), (x1 - dx + dy / 2, y1 - dy - dx / 2)
        corners = " ".join(f"{_n(x)},{_n(y)}" for x, y in ((x1, y1), left, right))
        self._parts.append(f'<polygon class="head" points="{corners}"/>')

    def text(
        self, at: Point, words: str, *, size: float = 13, bold: bool = False, anchor: str = "start",
        kind: str = "text",
    ) -> None:  # fmt: skip
        """Write words: `anchor` is what of them is at the point, start, middle or end."""
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text class="{kind}" x="{_n(at[0])}" y="{_n(at[1])}" font-size="{_n(size)}"'
            f' text-anchor="{anchor}"{weight}>{escape(words, quote=False)}</text>'
        )

    def words(
        self, at: Point, lines: Sequence[str], *, anchor: str = "start", kind: str = "muted"
    ) -> None:
        """Write lines of small text below each other."""
        for number, line in enumerate(lines):
            self.text((at[0], at[1] + number * (_LINE_PX - 1)), line, anchor=anchor, kind=kind)

    def svg(self) -> str:
        """Return the file."""
        width, height = _n(self._width), _n(self._height)
        body = "\n".join(f"  {part}" for part in self._parts)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
            f' width="{width}" height="{height}" role="img" aria-labelledby="title description"'
            ' font-family="Helvetica, Arial, DejaVu Sans, sans-serif">\n'
            f'  <title id="title">{escape(self._title, quote=False)}</title>\n'
            f'  <desc id="description">{escape(self._description, quote=False)}</desc>\n'
            f"  <style>\n    {_rules(_LIGHT)}\n"
            f"    @media (prefers-color-scheme: dark) {{ {_rules(_DARK)} }}\n  </style>\n"
            f'  <rect class="page" width="{width}" height="{height}"/>\n'
            f"{body}\n</svg>\n"
        )
