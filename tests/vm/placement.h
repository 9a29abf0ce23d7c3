/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The machine as its kernel sees it: which nodes there are, where pages lie, a
 * process that fills a node up.  Nothing here asks the library.
 */
#ifndef SEG_TESTS_PLACEMENT_H
#define SEG_TESTS_PLACEMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MACHINE_NODES = 64 };

struct machine {
	int count;			/* nodes with memory, in order */
	int id[MACHINE_NODES];
	int busy;			/* those of them that have CPUs */
	int cpu_node[MACHINE_NODES];
	int bare;			/* one that has none, or -1 */
};

void machine_look(struct machine *m);
bool machine_has(const struct machine *m, int node);

/* The node nearest to a node, of the others; the lowest of several. */
int machine_nearest(const struct machine *m, int node);

/* The calling thread's CPUs from now on: the node's, or all for -1. */
void machine_run_on(int node);

/* The node that has all pages of the range; -1: not one node, or not backed. */
int pages_node(void *base, size_t bytes);

/* How many pages of the range are on the node, on others, not backed. */
struct pages {
	uint64_t there, elsewhere, absent;
};

void pages_count(void *base, size_t bytes, int node, struct pages *sum);

/* Moves what is backed; false: not all of it. */
bool pages_move(void *base, size_t bytes, int node);

/*
 * A process that fills a node until the kernel has no page of it left to give,
 * and again each time it is told to.  The kernel keeps pages back, in lists of
 * each CPU and below a watermark that it raises for a while: those come free
 * whenever it likes.
 */
void hog_start(int node);
void hog_eat(void);
/* False: it did not end by itself, but was ended by the kernel. */
bool hog_end(void);

/* Processes that the kernel ended for want of memory since it was booted. */
uint64_t oom_kills(void);

/* The nodes that this process may use; false: nobody lets us say. */
bool cpuset_allow(const struct machine *m, int only_node);

#endif
