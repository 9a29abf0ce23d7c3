/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The memory nodes that this process may use, now, and which of them is near.
 *
 * Nodes have an index here, in the order in which they were met, that never
 * changes and is never used again: so whoever looks at one while it changes
 * sees an old answer or a new one, and both are nodes that there are: whatever
 * names one is released after its number, and acquired.  What is read is
 * advice; where memory comes from is decided by numa_system's place().
 * The tables are written under a gate, in place, and read without: an order of
 * nodes that is being rewritten may miss one or have one twice for a moment.
 *
 * One node, or a system that has none, is the ordinary case: then
 * topology_has_many() is false, which costs a load, and nothing else is asked.
 * Once there were many it stays true.
 *
 * All lock-free but for the first look and topology_use(); look-ups are
 * wait-free.
 */
#ifndef SEG_TOPOLOGY_H
#define SEG_TOPOLOGY_H

#include "atomic.h"
#include "os_numa.h"

enum {
	TOPOLOGY_NODES = 64,	/* more are left alone */
	TOPOLOGY_CPUS = 8192,	/* others are asked for each time */
};

struct topology {
	struct atomic_u32 count;	/* nodes that were met */
	struct atomic_u32 changes;	/* of what is usable */
	struct atomic_u64 usable;	/* by index: may be allocated from */
	struct atomic_u32 away[TOPOLOGY_NODES];	/* times that it went */
	struct atomic_u32 id[TOPOLOGY_NODES];
	struct atomic_u16 of_id[NUMA_IDS];	/* index + 1; 0: not met */
	struct atomic_u16 of_cpu[TOPOLOGY_CPUS];	/* index + 1; 0: ask */
	/* the usable ones from each, nearest first: index + 1; 0: the end */
	struct atomic_u16 near[TOPOLOGY_NODES][TOPOLOGY_NODES];
};

extern struct topology topology;

/* Whether the process has, or had, more than one node. */
static inline bool topology_has_many(void)
{
	/* relaxed: whoever sees the old one acts as before it changed */
	return u32_load_relaxed(&topology.count) > 1;
}

static inline bool topology_is_usable(unsigned index)
{
	/* acquire <- set_usable() */
	return u64_load_acquire(&topology.usable) >> index & 1;
}

/* How often it was found gone: what was placed there before may be elsewhere,
 * though it be back.  The first node is as good as gone while it is alone. */
static inline uint32_t topology_away(unsigned index)
{
	return u32_load_relaxed(&topology.away[index]); /* relaxed: advice */
}

static inline int topology_id(unsigned index)
{
	return (int)u32_load_relaxed(&topology.id[index]); /* relaxed: advice */
}

static inline unsigned topology_count(void)
{
	/* acquire <- add(): its number */
	return u32_load_acquire(&topology.count);
}

/* Another answer than the last one: something changed in between. */
static inline uint32_t topology_changes(void)
{
	/* acquire <- set_usable() */
	return u32_load_acquire(&topology.changes);
}

/* Looks at the system, in the first call, or if it may have other nodes now.
 * Cheap where there is one. */
void topology_check(void);

/* The same, but a look of another thread is waited for (not for long), and then
 * it looks anew. */
void topology_look(void);

/* The index of the node that the calling thread runs on. */
unsigned topology_here(void);

/* The usable node that is nearest to the calling thread; false: there is
 * none. */
bool topology_nearest(unsigned *ret_near);

/* The k-th nearest usable node, 0 first; false: there are no more. */
bool topology_near(unsigned index, unsigned k, unsigned *ret_near);

/* The k-th usable node of all, counted round and round. */
unsigned topology_turn(unsigned k);

/* False: no such node was met. */
bool topology_find(int id, unsigned *ret_index);

/* The system's part: see numa_system. */
const struct numa_system *topology_system(void);

/* In the child of a fork: another thread may have been looking. */
void topology_forked(void);

/* Another system, from now on, and nothing is known: for tests, while there
 * is no pool.  NULL: the real one. */
void topology_use(const struct numa_system *system);

#endif
