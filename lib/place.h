/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which node an allocation comes from, on a machine with several: the policy's
 * node first, then, unless it is a strict policy, the others by distance.
 *
 * Guarantee (N1): A segment that the caller gets for the first time since its
 * memory was mapped or discarded lies on its region's node when it is handed
 * out: it is backed then, and moved there if the kernel put it elsewhere.  What
 * can't be moved is not handed out, but made cold again, and the next node is
 * tried.  (Only a system that does not let us ask is believed.)  Later
 * hand-outs of a slice cost nothing: its memory stays where it is, unless the
 * node was away meanwhile: then it is looked at each time.
 * (N2) Each allocation that the wanted node did not serve counts as a fallback
 * there where it was served, and as foreign where it was wanted.
 *
 * A node that had nothing left rests for 100 ms: who may go elsewhere does not
 * try to get new memory of it meanwhile, but takes what is there.  Where nobody
 * else has any, it is asked all the same before an allocation is refused.
 */
#ifndef SEG_PLACE_H
#define SEG_PLACE_H

#include "node.h"
#include "topology.h"

/* Of one allocation. */
struct place {
	struct seg_pool *pool;
	int class_index;
	unsigned local;		/* the node of the thread: the nearest usable */
	unsigned wanted;	/* the first one to try */
	bool strict;		/* ... and the only one */
};

/* False: there is no such policy, or never was such a node. */
bool place_is_valid(enum seg_policy policy, int node);

/* False: a strict policy wants a node that can't be had any more. */
bool place_choose(struct seg_pool *p, int class_index, enum seg_policy policy,
		  int node, struct place *ret_place);

/* The same where the pool's policy leaves nothing to choose: of the thread's
 * node, if that was used before; NULL: it is not so. */
struct class_pool *place_near(struct seg_pool *p, int class_index);
/* ... which had the place: */
struct place place_of_near(struct seg_pool *p, const struct class_pool *near);

/* The k-th pool to try, 0 the wanted one; NULL: no more, or no memory for it.
 * *ret_more: there may be others behind. */
struct class_pool *place_pool(const struct place *place, unsigned k,
			      bool *ret_more);

/* Whether new memory of that pool's node is not to be tried now. */
bool place_rests(const struct place *place, const struct class_pool *cp);

/* What unused slices on a full node gave up, for who has no other. */
uint64_t place_make_room(const struct place *place, struct class_pool *cp,
			 uint64_t bytes);

enum placed {
	PLACED,			/* it is where it shall be */
	PLACED_NOT,		/* it was given back, cold */
	PLACED_KEPT,		/* ... as it is: the next take may find it */
};

/* Whether a slice just taken lies right: it was handed out before, and its node
 * never was away, nor does class_pool_cool() say otherwise. */
static inline bool place_is_sure(const struct class_pool *cp, bool fresh)
{
	/* relaxed: acquired with the slice, of those that it is about */
	return !fresh && !u32_load_relaxed(&cp->unplaced) &&
	       !topology_away(cp->node_index);
}

/* Of a slice just taken; without a try if the node is known to be full. */
enum placed place_settle(struct class_pool *cp, struct taken *t, bool full);

/* An allocation was served from there; a release of the calling thread went
 * there. */
void place_count_take(const struct place *place, struct class_pool *cp);
void place_count_give(struct class_pool *cp);

#endif
