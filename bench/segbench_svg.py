# SPDX-License-Identifier: LGPL-2.1-or-later
"""The chart of segbench.py: per workload the worst cell, as one SVG file.

The worst cell is that in which libseg is the slowest beside the best public
peer.  The line on libseg's own bar says how far it may reach.
"""
import math
from xml.sax.saxutils import escape

from segbench_report import AFTERNOON, OURS, RATIO_BARS, show

WIDTH, LEFT, RIGHT, BAR, GROUP = 1000, 330, 90, 13, 56
COLOURS = {"ours": "#1c4fa8", "public": "#f5a623", "afternoon": "#999"}


def worst_cells(report):
    """(bars, cell): the cell of each bar in which libseg looks worst."""
    for workload, kinds, public, afternoon in RATIO_BARS:
        cells = [c for c in report.find(workload, kinds)
                 if c.median(OURS) and c.best() and c.ratio(c.best())]
        if cells:
            yield (public, afternoon), max(
                cells, key=lambda c: c.ratio(c.best()))


def groups(report, in_ms):
    for (public, afternoon), cell in worst_cells(report):
        if cell.workload.startswith("grow") != in_ms:
            continue
        allowed = [public * cell.median(cell.best())]
        if afternoon and cell.median(AFTERNOON):
            allowed.append(afternoon * cell.median(AFTERNOON))
        bars = [("ours", OURS), ("public", cell.best())]
        if cell.median(AFTERNOON) and afternoon:
            bars.append(("afternoon", AFTERNOON))
        yield (f"{cell.workload}, {cell.where()}", min(allowed),
               [(kind, name, cell.median(name)) for kind, name in bars])


class Panel:
    """Bars over a logarithmic axis of their own."""

    def __init__(self, title, rows, top):
        self.title, self.rows, self.top = title, list(rows), top
        values = [v for _, allowed, bars in self.rows
                  for v in [allowed] + [b[2] for b in bars] if v > 0]
        self.least = 10 ** math.floor(math.log10(min(values, default=1)))
        self.most = 10 ** math.ceil(math.log10(max(values, default=10) + 1e-9))
        self.most = max(self.most, self.least * 10)
        self.bottom = top + 40 + GROUP * len(self.rows)

    def x(self, value):
        part = math.log(max(value, self.least) / self.least) / \
            math.log(self.most / self.least)
        return LEFT + part * (WIDTH - LEFT - RIGHT)

    def axis(self):
        tick = self.least
        while tick <= self.most * 1.001:
            x = self.x(tick)
            yield (f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{self.top + 30}' "
                   f"y2='{self.bottom - 8}' stroke='#ddd'/>")
            yield (f"<text x='{x:.1f}' y='{self.top + 24}' fill='#666' "
                   f"text-anchor='middle'>{show(tick)}</text>")
            tick *= 10

    def group(self, at, label, allowed, bars):
        yield (f"<text x='{LEFT - 10}' y='{at + 24}' text-anchor='end'>"
               f"{escape(label)}</text>")
        for i, (kind, name, value) in enumerate(bars):
            y = at + i * (BAR + 2)
            yield (f"<rect x='{LEFT}' y='{y}' height='{BAR}' "
                   f"width='{max(self.x(value) - LEFT, 1):.1f}' "
                   f"fill='{COLOURS[kind]}'/>")
            yield (f"<text x='{self.x(value) + 5:.1f}' y='{y + BAR - 2}' "
                   f"font-size='11'>{escape(name)} {show(value)}</text>")
        x = self.x(allowed)
        yield (f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{at - 4}' "
               f"y2='{at + BAR + 4}' stroke='#d03030' stroke-width='3'/>")

    def draw(self):
        yield (f"<text x='{LEFT}' y='{self.top + 6}' font-weight='bold'>"
               f"{escape(self.title)}</text>")
        yield from self.axis()
        for i, row in enumerate(self.rows):
            yield from self.group(self.top + 40 + i * GROUP, *row)


def chart(report):
    speed = Panel("core-ns of an operation (the tail: ns)",
                  groups(report, False), 90)
    memory = Panel("ms for all of the memory", groups(report, True),
                   speed.bottom + 30)
    height = memory.bottom + 20
    lines = [f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} "
             f"{height}' font-family='sans-serif' font-size='13'>",
             "<rect width='100%' height='100%' fill='white'/>",
             "<text x='20' y='30' font-size='18'>libseg, the best public "
             "allocator, and an afternoon's magazine</text>",
             "<text x='20' y='52'>Medians; of each workload the cell in which "
             "libseg is the slowest beside the best public one. Red: how far "
             "libseg may reach.</text>"]
    if report.result["quick"]:
        lines.append("<text x='20' y='72' fill='#d03030'>A quick run: the "
                     "figures say nothing.</text>")
    return "\n".join([*lines, *speed.draw(), *memory.draw(), "</svg>", ""])
