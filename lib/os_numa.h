/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the library asks about memory nodes, and of them.  The system's answers
 * are os_numa; a test has a struct of its own: see topology_use().
 */
#ifndef SEG_OS_NUMA_H
#define SEG_OS_NUMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { NUMA_IDS = 1024 };	/* node numbers: Linux has no more */

struct numa_ids {
	uint64_t bits[NUMA_IDS / 64];
};

/* How many pages of a range are where. */
struct numa_pages {
	uint64_t placed, misplaced, absent;
};

struct numa_system {
	/* The nodes that this process may have memory of; false: the system
	 * has no nodes, or does not let us place anything. */
	bool (*allowed)(struct numa_ids *ret_ids);

	/* The CPU that the calling thread runs on; slower: and its node. */
	unsigned (*cpu)(void);
	unsigned (*cpu_and_node)(int *ret_node);

	/* 10 is the node itself; 0: not known. */
	unsigned (*distance)(int from, int to);

	/* Memory of the range that is touched from now on comes from that node,
	 * as long as it has some.  0 or a negative errno. */
	int (*bind)(void *base, size_t bytes, int node);

	/*
	 * Backs the range, at most 256 KiB to which nothing was written yet,
	 * with memory of that node.  0, or a negative errno: -ENOMEM, -EACCES,
	 * -ENODEV and others: it is not all there; -EPERM, -ENOSYS: the system
	 * does not tell.
	 */
	int (*place)(void *base, size_t bytes, int node);

	/* Adds the pages of the range; 0 or a negative errno. */
	int (*where)(void *base, size_t bytes, int node,
		     struct numa_pages *pages);
};

extern const struct numa_system os_numa;

#endif
