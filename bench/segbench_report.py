# SPDX-License-Identifier: LGPL-2.1-or-later
"""Ratios, tables and bars from the single figures of segbench.py.

A ratio is formed within each round, then the median of the rounds is taken.
The best public peer of a cell is the one with the lowest median there.
"""
import math
import statistics

OURS = "libseg"
AFTERNOON = "magazine"
NOT_PUBLIC = (OURS, AFTERNOON, "mutex", "ckstack", "mmap", "floor",
              "libseg-small", "libseg-map", "libseg-back", "libseg-small-back")

# The bars: workload (its beginning), classes (None: all), ours / best public,
# ours / magazine.  Nothing else here knows what is wanted.
RATIO_BARS = [
    ("pair", None, 0.80, 1.20),
    ("batch64", None, 0.75, 1.20),
    ("batch1024", ["4K"], 0.9, 1.3),
    ("batch1024", ["64K", "256K", "mixed"], 0.2, 1.3),
    ("ws-untouched", None, 0.70, 1.20),
    ("ws-touched", None, 1.0, 1.05),
    ("handover", ["4K"], 1.0, 1.2),
    ("handover", ["8K", "16K", "32K", "64K", "128K", "256K", "mixed"],
     0.6, 1.2),
    ("tail-p99.9", None, 0.7, 1.5),
    ("grow-after-purge", None, 1.0, None),
    ("grow-give-back", None, 1.0, None),
]
# Ours alone: in ms, and as a part of what is filled (a refusal is a failure).
ABSOLUTE_BARS = [
    ("grow-again", 9), ("grow-give-back", 9), ("resident-ms", 1000),
    ("convert-charged", 1.02),
]
# Figures to explain others: no ratios.
REMARKS = ("tail-clock", "tail-slow", "tail-max", "grow-touches", "grow-left",
           "grow-release", "grow-purge", "pace-faults", "resident-start",
           "resident-left")
# A purge that leaves more than this part of the memory is no purge.
GAVE_BACK = 0.1

TITLES = {
    "pair": "Allocate, write a byte, release: core-ns per pair",
    "batch64": "64 out, then 64 back: core-ns per pair",
    "batch1024": "1024 out, then 1024 back: core-ns per pair",
    "ws": "A working set, one replaced by chance: core-ns per replacement",
    "handover": "Released by another thread: core-ns per segment",
    "tail": "One allocate, 2 threads, all classes by chance: ns, and counts",
    "grow": "Memory filled, given back, filled again: ms; left: MiB",
    "pace": "Memory filled step by step: slowest, us; kernel: ms; page faults",
    "convert": "The most that was resident, of what is filled",
    "resident": "After everything is released, no call: ms, MiB",
}


def show(value):
    if value is None:
        return "-"
    if math.isinf(value):
        return "never"
    if value and abs(value) < 0.995:
        return f"{value:.2g}"
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def table(head, rows):
    return "\n".join(["| " + " | ".join(row) + " |" for row in
                      [head, ["---"] * len(head), *rows]])


class Cell:
    """One workload, class and number of threads, all peers and rounds."""

    def __init__(self, key, peers):
        self.workload, self.kind, threads = key.split()
        self.threads = int(threads)
        self.rounds = {p: [v for v in values if v is not None]
                       for p, values in peers.items()}
        self.raw = peers
        self.usable = None      # the public peers that may be the best

    def median(self, peer):
        values = self.rounds.get(peer)
        return statistics.median(values) if values else None

    def best(self):
        public = [p for p in self.rounds if p not in NOT_PUBLIC and
                  self.rounds[p] and (self.usable is None or
                                      p in self.usable)]
        return min(public, key=self.median, default=None)

    def ratios(self, peer):
        """Ours to the peer's, of each round in which both were measured."""
        pairs = zip(self.raw.get(OURS, []), self.raw.get(peer, []))
        return [a / b for a, b in pairs if a is not None and b]

    def ratio(self, peer):
        ratios = self.ratios(peer) if peer else []
        return statistics.median(ratios) if ratios else None

    def where(self):
        return f"{self.kind}, {self.threads}" \
               f"{' threads' if self.threads > 1 else ' thread'}"


class Report:
    def __init__(self, result):
        self.result = result
        self.peers = list(result["peers"])
        self.cells = [Cell(key, peers)
                      for key, peers in result["samples"].items()]
        self.leave_out_who_kept()

    def find(self, workload, kinds=None):
        return [c for c in self.cells if c.workload.startswith(workload) and
                (kinds is None or c.kind in kinds)]

    def leave_out_who_kept(self):
        most = GAVE_BACK * self.result["mib"]
        for left in self.find("grow-left"):
            gave = [p for p in left.rounds
                    if left.rounds[p] and left.median(p) <= most]
            for cell in self.find("grow-give-back") + \
                    self.find("grow-after-purge") + self.find("grow-purge"):
                cell.usable = gave

    # ------------------------------------------------------------- tables

    def row(self, cell):
        ours = cell.rounds.get(OURS)
        best = cell.best()
        row = [cell.workload, cell.kind, str(cell.threads),
               f"{show(min(ours))} to {show(max(ours))}" if ours else "-"]
        row += [show(cell.median(p)) for p in self.peers]
        remark = cell.workload.startswith(REMARKS)
        for peer in (None, None) if remark else (best, AFTERNOON):
            ratios = cell.ratios(peer) if peer else []
            row.append(f"{show(cell.ratio(peer))} ({show(min(ratios))} to "
                       f"{show(max(ratios))})" if ratios else "-")
        return row + [best if best and not remark else "-"]

    def section(self, name):
        cells = [c for c in self.cells if c.workload.split("-")[0] == name]
        if not cells:
            return []
        head = ["workload", "class", "threads", "libseg's range", *self.peers,
                "to best public", "to magazine", "best public"]
        return [f"### {TITLES[name]}", table(head, map(self.row, cells))]

    def peer_table(self):
        rows = []
        for peer in self.peers:
            row = [peer, self.result["peers"][peer] or "built in"]
            for kind in ("4K", "64K", "256K"):
                cells = self.find("aligned", [kind])
                row.append(show(cells[0].median(peer) if cells else None))
            rows.append(row)
        for peer, package in self.result["missing"].items():
            rows.append([peer, f"**missing**: not measured ({package})",
                         "-", "-", "-"])
        return table(["peer", "library", "page aligned at 4K, %", "64K",
                      "256K"], rows)

    # --------------------------------------------------------------- bars

    def ratio_bars(self):
        """Of each bar: texts, worst cell, its ratio, how many missed."""
        for workload, kinds, public, afternoon in RATIO_BARS:
            for versus, bar in (("best public", public),
                                (AFTERNOON, afternoon)):
                if bar is None:
                    continue
                found = []
                for cell in self.find(workload, kinds):
                    peer = cell.best() if versus != AFTERNOON else AFTERNOON
                    ratio = cell.ratio(peer)
                    if ratio is not None:
                        found.append((ratio, cell, peer))
                yield workload, kinds, versus, bar, found

    def bar_rows(self):
        for workload, kinds, versus, bar, found in self.ratio_bars():
            what = workload + (f" ({', '.join(kinds)})" if kinds else "")
            if not found:
                yield [what, f"ours / {versus}", f"<= {bar}", "-", "-", "-",
                       "not measured"]
                continue
            ratio, cell, peer = max(found, key=lambda f: f[0])
            missed = sum(f[0] > bar for f in found)
            middle = statistics.median(f[0] for f in found)
            yield [what, f"ours / {versus}", f"<= {bar}", show(middle),
                   show(ratio),
                   f"{cell.workload}, {cell.where()}, {peer}",
                   f"**missed** in {missed} of {len(found)}" if missed
                   else f"met in all {len(found)}"]
        for workload, bar in ABSOLUTE_BARS:
            cells = [c for c in self.find(workload) if c.rounds.get(OURS)]
            for cell in cells:
                value = cell.median(OURS)
                rounds = sum(v > bar for v in cell.rounds[OURS])
                yield [workload, "ours", f"<= {bar}", show(value),
                       show(max(cell.rounds[OURS])), "the worst round",
                       f"{'met' if value <= bar else '**missed**'}"
                       + (f", **missed** in {rounds} rounds of "
                          f"{len(cell.rounds[OURS])}" if rounds else "")]
            if not cells:
                yield [workload, "ours", f"<= {bar}", "-", "-", "-",
                       "not measured"]

    # ---------------------------------------------------------------- all

    def markdown(self):
        r = self.result
        parts = [f"## Allocators beside libseg: {r['machine']}, "
                 f"{r['rounds']} rounds, runs of {show(r['ms'])} ms by "
                 f"{'CPU time' if r['cpu'] else 'the clock'}, "
                 f"{r['mib']} MiB"]
        if r["quick"]:
            parts.append("**A quick run: the figures say nothing.**")
        parts.append(self.peer_table())
        if r["failures"]:
            parts.append("**Failed**, and not in the figures:\n\n" +
                         "\n".join(f"- {f}" for f in r["failures"]))
        for name in TITLES:
            parts += self.section(name)
        parts.append("### The bars\n\nRatios: the median of the rounds, of "
                     "the middle cell and of the worst.")
        parts.append(table(["workload", "what", "bar", "middle", "worst",
                            "where the worst is", ""], self.bar_rows()))
        return "\n\n".join(parts)
