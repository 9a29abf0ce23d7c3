/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An allocator (the public "pool"): nodes over classes over regions, one
 * budget, one table.  pool.c has creation and end, allocate.c and release.c the
 * two calls that it is all about; limit.c what happens at the limit; refusal.c
 * who held the memory then; handle.c identity and misuse; stats.c what can be
 * asked.
 */
#ifndef SEG_POOL_H
#define SEG_POOL_H

#include "fill.h"
#include "gate.h"
#include "gather.h"
#include "keeper.h"
#include "node.h"
#include "place.h"
#include "slab.h"
#include "topology.h"

/* What the slab of pages is made for; page.c checks it. */
enum { PAGE_OBJECT_BYTES = 192 };

struct seg_pool {
	struct allocator allocator;
	/* written at creation */
	struct seg_pool_options options;
	uint64_t wait_ns;		/* 0: never */
	const struct atomic_u32 *waiters;	/* the root budget's */
	struct budget_member member;	/* how the budget reaches the pool */
	struct keeper_duty duty;	/* how the keeper does */
	uint64_t gathered_ns;		/* the keeper's: its last look */
	struct publish_item published;	/* how segstat does */
	/* written by pages, logs, misuse */
	struct slab pages;
	struct atomic_u64 logs;		/* intent logs that exist */
	struct atomic_u64 caches;	/* caches of its pages that exist */
	struct atomic_u64 misuses;
	struct atomic_u32 waiting;	/* calls at the limit */
	/* refusal.c: the last one that was recorded */
	struct gate refusal_gate;
	uint64_t refused_ns;		/* under the gate, both; 0: none */
	struct seg_refusal refusal;
	struct atomic_ptr nodes[TOPOLOGY_NODES];	/* by index; or NULL */
	struct node node;		/* the first of them */
};

/* nodes.c.  All of them are made when they are asked for; NULL: no memory. */
struct node *pool_node(struct seg_pool *p, unsigned index);
/* Those that were made: NULL before the first and after the last. */
struct node *pool_next_node(struct seg_pool *p, struct node *after);
int pool_begin_nodes(struct seg_pool *p);
void pool_end_nodes(struct seg_pool *p);
/* Of the nodes that have one of their own. */
void pool_join_budgets(struct seg_pool *p);
void pool_leave_budgets(struct seg_pool *p);
/* Ends them, once left; false: one is used by somebody else. */
bool pool_end_budgets(struct seg_pool *p);
uint64_t pool_trim_nodes(struct seg_pool *p);

/* What was done for one allocation at the limit. */
struct limit_report {
	uint64_t retired_bytes, discarded_bytes;
	uint64_t asks, given_bytes;
	uint64_t waited_ns;	/* 0: it might not wait */
	bool easy;		/* it was not to ask nor to wait */
	bool inside;		/* neither asked nor waited: see limit.c */
	bool refused;		/* by the kernel, in the last try */
	bool node_full;		/* no node had memory that it may have */
	struct class_pool *cp;	/* that served, or was wanted */
};

/* What an allocation may do there. */
struct limit_want {
	uint64_t deadline_ns;	/* past: never wait */
	bool easy;		/* neither ask nor wait */
	const struct place *place;	/* which nodes; NULL: there is one */
};

/* limit.c: the steps at the limit; a segment of NULL when all failed. */
struct taken limit_allocate(struct class_pool *cp,
			    const struct limit_want *want,
			    struct limit_report *ret_report);

/* refusal.c: counts it, logs it, and writes down who held the memory. */
void pool_refused(struct seg_pool *p, struct class_pool *cp, size_t bytes,
		  const struct limit_report *report);
/* In the child of a fork: another thread may have been in the middle. */
void pool_refusal_forked(struct seg_pool *p);

/* stats.c: for pool->published. */
bool pool_publish(struct publish_item *item, void *to);

/* handle.c: counts and reports; returns the error for it. */
int pool_misuse(struct seg_pool *p, enum seg_misuse what, const void *address);

/* handle.c: the region of a segment's first byte, and its slice; else what is
 * wrong with the address.  0 is right.  In a read section. */
enum seg_misuse pool_find(struct seg_pool *p, const void *segment,
			  struct region **ret_region, uint32_t *ret_slice);

/* A hand-out. */
struct found {
	struct region *region;
	uint32_t slice;
	uint64_t generation;
};

/* handle.c: the hand-out that a segment is, without a read section; else what
 * is wrong with the address. */
enum seg_misuse pool_find_out(struct seg_pool *p, const void *segment,
			      struct found *ret_found);

#endif
