/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The region manager of one memory node: a pool for each class.
 *
 * Regions are 64 MiB, and smaller where the budget is small, so that all
 * classes find room: about a 16th of the limit, but at least 32 slices as long
 * as that is at most a quarter of it, and at least one slice.
 */
#ifndef SEG_NODE_H
#define SEG_NODE_H

#include "class_pool.h"

enum { NODE_REGION_BYTES = 64 << 20, NODE_MIN_SLICES = 32 };

struct node {
	/* written before publication */
	int id;				/* the system's number */
	unsigned index;			/* topology.h's, as in its pools */
	struct seg_pool *pool;		/* that it belongs to */
	struct seg_budget *budget;	/* the pool's, or its own */
	bool owns_budget;
	struct budget_member member;	/* how its own budget reaches it */
	/* place.c: until then nothing new is tried here; 0: no failure */
	struct atomic_u64 rest_until_ns;
	struct atomic_u32 rest_changes;	/* ... or until the nodes change */
	/* written by calls that cross nodes, striped */
	struct counter remote_allocations;	/* by threads elsewhere */
	struct counter remote_releases;
	struct counter fallbacks;	/* another node was wanted */
	struct counter foreign;		/* wanted, and had elsewhere */
	struct class_pool pools[SEG_CLASSES];
};

/* The class of a request of 1 to SEG_MAX_BYTES. */
static inline int class_of(size_t bytes)
{
	return 52 - __builtin_clzll((unsigned long long)(bytes - 1) |
				    (SEG_MIN_BYTES - 1));
}

/* The size of a region of the class under that limit, at most `most`.  Asked
 * for each region anew, since limits change. */
size_t node_region_bytes(int class_index, uint64_t limit, size_t most);

/* Its budget is the allocator's. */
void node_init(struct node *node, struct allocator *a, int id, size_t most);
/* Regions are charged to that one instead, from the first on. */
void node_use_budget(struct node *node, struct seg_budget *budget);
/* As class_pool_clear(). */
bool node_clear(struct node *node);

/* As the functions of class_pool.h, for all classes. */
uint64_t node_shed(struct node *node, uint64_t bytes);
/* The sparsest regions of all classes first. */
uint64_t node_decommit(struct node *node, uint64_t bytes);
uint64_t node_trim(struct node *node);

/* True: there is something left to look at. */
bool node_decay(struct node *node, uint64_t now_ns, uint64_t idle_ns);

/* The keeper's look, too: regions that are wanted soon.  True: it has more to
 * do at once. */
bool node_open_ahead(struct node *node, uint64_t now_ns);

/* Adds what it has charged, and what of that is handed out. */
void node_report(struct node *node, struct seg_holder *holder);

bool node_is_valid(struct node *node);

#endif
