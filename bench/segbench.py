#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Figures of libseg beside every allocator that is found: see README.md.

Starts bench/segbench_work (in the build directory, where this is to be run)
once for each workload, peer and round, a malloc replacement preloaded; peers
take turns, so that a disturbance hits all of them.  Prints Markdown.
"""
import argparse
import glob
import json
import os
import platform
import subprocess
import sys
import time

import segbench_report
import segbench_svg

# The file to preload (the first that is there), and Debian 12's package of it.
LIBRARIES = {
    "mimalloc": (["libmimalloc.so.2"], "libmimalloc2.0"),
    "jemalloc": (["libjemalloc.so.2"], "libjemalloc2"),
    "tcmalloc": (["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"],
                 "libtcmalloc-minimal4"),
    "tbbmalloc": (["libtbbmalloc_proxy.so.2"], "libtbbmalloc2"),
}
# libseg with other options, where these matter: when memory comes and goes.
VARIANTS = ["libseg-small", "libseg-map", "libseg-back", "libseg-small-back"]
BUILT_IN = ["libseg", "glibc", "magazine", "mutex", "ckstack", "mmap", "floor",
            *VARIANTS]
NAIVE = ["mutex", "ckstack", "mmap", "floor"]
FOLDERS = ["/usr/lib/*-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"]

# A system call for each: the other workloads say the same, in minutes.
FEW = {"mmap": ["pair", "batch64", "handover"]}

# Each is measured in processes of its own.  The last ones fill memory, which
# says nothing new about the naive ones.
SPEED = ["pair", "batch64", "batch1024", "ws", "handover", "tail"]
MEMORY = ["grow", "pace", "convert"]
WAITING = ["resident"]
ONCE = ["aligned"]
WORKLOADS = SPEED + MEMORY + WAITING + ONCE


def library(name):
    for file in LIBRARIES[name][0]:
        for folder in FOLDERS:
            for found in sorted(glob.glob(f"{folder}/{file}")):
                return found
    return None


def parse():
    p = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    p.add_argument("--work", default="bench/segbench_work")
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--only", help="workloads: " + ",".join(WORKLOADS))
    p.add_argument("--peers", help="default: all that are found")
    p.add_argument("--preload", action="append", default=[],
                   metavar="NAME=FILE", help="one more malloc replacement")
    p.add_argument("--ms", type=float, default=1, help="one run of a loop")
    p.add_argument("--cpu", action="store_true",
                   help="by CPU time: for a machine that does other work")
    p.add_argument("--mib", type=int, default=1024, help="memory to fill")
    p.add_argument("--quick", action="store_true",
                   help="to see that it works: the figures say nothing")
    p.add_argument("--svg", default="segbench.svg", help="the chart")
    p.add_argument("--json", help="write all single figures")
    p.add_argument("--from", dest="source", help="report on such a file")
    return p.parse_args()


class Bench:
    def __init__(self, options):
        self.options = options
        self.preload = {name: library(name) for name in LIBRARIES}
        for extra in options.preload:
            name, _, file = extra.partition("=")
            self.preload[name] = file if os.path.exists(file) else None
        self.peers = [BUILT_IN[0], BUILT_IN[1], *self.preload, *BUILT_IN[2:]]
        if options.peers:
            asked = options.peers.split(",")
            for name in asked:
                if name not in self.peers:
                    sys.exit(f"segbench: no peer '{name}'")
            self.peers = [name for name in self.peers if name in asked]
        self.missing = [name for name in self.peers
                        if name in self.preload and not self.preload[name]]
        self.peers = [p for p in self.peers if p not in self.missing]
        self.samples = {}       # "workload class threads" -> peer -> rounds
        self.failures = []

    def command(self, workload, peer):
        o = self.options
        kind = peer if peer in BUILT_IN or peer in LIBRARIES else "other"
        more = (["--ms", "0.02", "--mib", "16", "--patience-ms", "1500"]
                if o.quick else ["--ms", str(o.ms), "--mib", str(o.mib)])
        more += ["--cpu"] if o.cpu else []
        if o.quick and workload in SPEED and workload != "handover":
            more += ["--threads", "2"]
        return [o.work, "--peer", kind, *more, workload]

    def start(self, workload, peer):
        env = {k: v for k, v in os.environ.items()
               if k not in ("LD_PRELOAD", "SEG_CONF", "MALLOC_CONF")}
        if self.preload.get(peer):
            env["LD_PRELOAD"] = self.preload[peer]
        return subprocess.Popen(self.command(workload, peer), env=env,
                                text=True, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE)

    def fail(self, workload, peer, why):
        self.failures.append(f"{peer}, {workload}: {why}")

    def collect(self, process, workload, peer, number):
        """Takes what was printed; a round that is cut short has no figures."""
        try:
            text, error = process.communicate(timeout=300)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return self.fail(workload, peer, "not done after 300 s")
        if process.returncode:
            lines = error.strip().splitlines() or ["no message"]
            return self.fail(workload, peer, f"status {process.returncode}: "
                             f"{lines[-1]}")
        for line in text.splitlines():
            key, value = line.rsplit(" ", 1)
            rounds = self.samples.setdefault(key, {}).setdefault(peer, [])
            rounds += [None] * (number - len(rounds)) + [float(value)]

    def round_of(self, workload, number, peers):
        turn = number % len(peers) if peers else 0
        for peer in peers[turn:] + peers[:turn]:
            self.collect(self.start(workload, peer), workload, peer, number)

    def wait_for(self, workload, number, peers):
        """All peers at once: they sleep."""
        started = [(self.start(workload, p), p) for p in peers]
        for process, peer in started:
            self.collect(process, workload, peer, number)

    def came_back(self, peer):
        times = self.samples.get("resident-ms 64K 1", {}).get(peer, [])
        return not times or times[-1] < 3000

    def run(self):
        o = self.options
        asked = o.only.split(",") if o.only else WORKLOADS
        for name in asked:
            if name not in WORKLOADS:
                sys.exit(f"segbench: no workload '{name}'")
        holders = [p for p in self.peers if p not in NAIVE]
        for number in range(o.rounds):
            began = time.monotonic()
            for workload in asked:
                if workload in SPEED:
                    self.round_of(workload, number, [
                        p for p in self.peers
                        if workload in FEW.get(p, SPEED) and
                        p not in VARIANTS])
                elif workload in MEMORY:
                    self.round_of(workload, number, holders)
                elif workload in WAITING:
                    self.wait_for(workload, number, [
                        p for p in holders if self.came_back(p)])
                elif number == 0:
                    self.round_of(workload, number, holders)
            print(f"round {number + 1} of {o.rounds}: "
                  f"{time.monotonic() - began:.0f} s", file=sys.stderr)

    def result(self):
        return {
            "machine": f"{os.cpu_count()} cores, {platform.machine()}, "
                       f"Linux {platform.release()}",
            "rounds": self.options.rounds,
            "ms": self.options.ms,
            "cpu": self.options.cpu,
            "mib": 16 if self.options.quick else self.options.mib,
            "quick": self.options.quick,
            "peers": {p: self.preload.get(p) or "" for p in self.peers},
            "missing": {p: LIBRARIES[p][1] if p in LIBRARIES else "no file"
                        for p in self.missing},
            "failures": self.failures,
            "samples": self.samples,
        }


def main():
    options = parse()
    if options.source:
        with open(options.source, encoding="utf-8") as file:
            result = json.load(file)
    else:
        bench = Bench(options)
        bench.run()
        result = bench.result()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=1)
    report = segbench_report.Report(result)
    print(report.markdown())
    with open(options.svg, "w", encoding="utf-8") as file:
        file.write(segbench_svg.chart(report))
    return 1 if any(f.startswith("libseg,") for f in result["failures"]) else 0


if __name__ == "__main__":
    sys.exit(main())
