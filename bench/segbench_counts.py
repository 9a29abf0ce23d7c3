#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Instructions and atomic read-modify-writes of an operation, see README.md.

segbench_counts.py counts.md [--keep]: run in the build directory.  Prints what
is counted now, and where the file says otherwise; --keep writes the file anew.
Counts do not depend on what else the machine does, so that a change is seen
which no clock shows.
"""
import os
import re
import subprocess
import sys
import tempfile

WORK, COUNT = "bench/segbench_work", "bench/segbench_count"
PEERS = ["libseg", "magazine", "floor"]
# Workload, class, function of the loop, operations of a chunk, loops (a batch
# has three orders of release: the mean is shown), chunks of the two runs.
CASES = [
    ("pair", "4K", "pair", 256, 1, (40, 80)),
    ("pair", "64K", "pair", 256, 1, (40, 80)),
    ("batch64", "64K", "batch", 64, 3, (160, 320)),
    ("release", "64K", "release", 1, 1, (1024, 3072)),
]
HEAD = ["workload", "class", "counted", *PEERS]
NOTE = """\
# What an operation costs, counted

Written by `./dev counts-keep`; README.md says what is counted. Instructions
depend on compiler and flags: these are of a plain build with gcc 12, x86-64.

"""


def run(program, peer, case, chunks):
    workload, kind = case[:2]
    done = subprocess.run(
        [*program, "--peer", peer, "--class", kind, "--threads", "1",
         "--chunks", str(chunks), workload],
        check=True, text=True, stdout=subprocess.PIPE)
    return [float(line.split()[3]) for line in done.stdout.splitlines()]


def instructions(peer, case, chunks):
    """Of all that the loops did, functions that they called included."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "callgrind")
        run(["valgrind", "-q", "--tool=callgrind",
             f"--toggle-collect={case[2]}_loop_*", "--callgrind-out-file=" + out,
             WORK], peer, case, chunks)
        with open(out, encoding="utf-8") as file:
            return int(re.search(r"^totals: (\d+)", file.read(), re.M)[1])


def atomics(peer, case, chunks):
    """What the counting build prints is of each operation."""
    return sum(run([COUNT], peer, case, chunks)) * chunks * case[3]


def of_an_operation(total, peer, case):
    """A longer run less a shorter one: what a beginning costs is in both."""
    short, long = case[5]
    return (total(peer, case, long) - total(peer, case, short)) / \
        ((long - short) * case[3] * case[4])


def count():
    rows = []
    for case in CASES:
        for what, total, digits in (("instructions", instructions, 0),
                                    ("atomic operations", atomics, 2)):
            rows.append([*case[:2], what, *(
                f"{round(of_an_operation(total, peer, case), digits) + 0.0:.{digits}f}"
                for peer in PEERS)])  # + 0.0: of -0.0 it makes 0
    return rows


def table(rows):
    return "".join("| " + " | ".join(row) + " |\n"
                   for row in [HEAD, ["---"] * len(HEAD), *rows])


def kept_rows(name):
    with open(name, encoding="utf-8") as file:
        rows = [line.strip("| \n").split(" | ") for line in file
                if line.startswith("| ")]
    return {tuple(row[:3]): row[3:] for row in rows[2:]}


def compare(old, rows):
    """Each figure as it is now, and as it was if that is another."""
    for row in rows:
        before = old.get(tuple(row[:3]), ["nothing"] * len(PEERS))
        yield row[:3] + [
            now if now == was else f"**{now}** (was {was})"
            for now, was in zip(row[3:], before)]


def main():
    name = sys.argv[1]
    old = kept_rows(name)
    rows = count()
    if "--keep" in sys.argv[2:]:
        with open(name, "w", encoding="utf-8") as file:
            file.write(NOTE + table(rows))
    print(table(compare(old, rows)), end="")


if __name__ == "__main__":
    main()
