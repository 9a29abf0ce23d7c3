/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine with as many memory nodes as a test wants: a numa_system for
 * topology_use(), whose answers are set here and which writes down what was
 * placed where.  All of it may be changed at any time, by any thread.
 *
 * A node has all CPUs whose number leaves its rank as remainder; a thread runs
 * on the CPU that it said, else on the next one in turn, main() on the first.
 */
#ifndef SEG_TESTS_MACHINE_H
#define SEG_TESTS_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "os_numa.h"

enum {
	MACHINE_CPUS = 16384,
	MACHINE_ALL = -1,	/* all nodes */
	MACHINE_NOWHERE = -1,
};

/* Another machine from now on, with those nodes; while there is no pool. */
void machine_begin(const int *nodes, unsigned count);
/* The real one again. */
void machine_end(void);

/* ---- nodes, CPUs, distances ---- */

void machine_allow(int node, bool allowed);
/* The system says that it has no nodes, or the truth again. */
void machine_hide(bool hidden);
void machine_put_cpu(unsigned cpu, int node);
/* The calling thread: on that CPU; on the first CPU of that node. */
void machine_run_on(unsigned cpu);
void machine_run_at(int node);
/* Else 10 for a node itself and 20 to the others. */
void machine_set_distance(int from, int to, unsigned distance);

/* ---- memory ---- */

/* So many pages can be placed there from now on.  0: it is full. */
void machine_give(int node, uint64_t pages);
void machine_fill(int node);
void machine_empty(int node);

/* Negative errnos, from now on; 0: it works again. */
void machine_fail_bind(int error);
void machine_fail_place(int node, int error);
void machine_fail_where(int error);

/* Where the page of that address was placed last, or MACHINE_NOWHERE. */
int machine_node_of(const void *address);

/* Whether all of the range was placed on that node. */
bool machine_has_placed(const void *base, size_t bytes, int node);

/* ---- what was asked ---- */

struct machine_calls {
	uint64_t allowed, cpu_and_node, distance, bind, place, where;
};

struct machine_calls machine_calls(void);

#endif
