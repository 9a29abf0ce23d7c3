/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* One budget, one pool on the machine of places.h, and what is held of it. */
#ifndef SEG_TESTS_PLACE_SCENE_H
#define SEG_TESTS_PLACE_SCENE_H

#include "places.h"

enum { KEEP = 2048 };

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct events events;
static void *held[KEEP];
static unsigned count;

/* On the machine that there is. */
static inline int begin_here(struct seg_pool_options o)
{
	budget = new_budget(PLACES_LIMIT);
	events = (struct events)EVENTS_INIT;
	o.budget = budget;
	o.log = recorder_log;
	o.log_ctx = &events.lines;
	o.log_level = SEG_LOG_ERROR;
	pool = make_pool_with(o);
	count = 0;
	return 0;
}

static inline int begin_with(struct seg_pool_options o)
{
	begin_machine(NULL);
	return begin_here(o);
}

static inline int begin(void **state)
{
	(void)state;
	return begin_with(place_options(NULL));
}

static inline void empty(void)
{
	while (count)
		require(seg_release(pool, held[--count]) == 0);
}

static inline int end(void **state)
{
	empty();
	require_identities(pool);
	end_both(pool, budget);
	return end_machine(state);
}

/* Where it was placed; it is held. */
static inline int hold(void *segment)
{
	require(count < KEEP);
	if (segment)
		held[count++] = segment;
	return placed_on(pool, segment);
}

static inline int get(enum seg_policy policy, int node)
{
	return hold(alloc_as(pool, SEG_MIN_BYTES, policy, node));
}

/* What seg_node_each() says, in its order. */
struct node_list {
	unsigned nodes;
	int node[8];
	unsigned usable[8];
	struct seg_budget *budget[8];
};

static inline int list_node(void *ctx, const struct seg_node_info *info)
{
	struct node_list *b = ctx;

	require(info->size == sizeof(*info) && b->nodes < 8);
	b->node[b->nodes] = info->node;
	b->usable[b->nodes] = info->usable;
	b->budget[b->nodes++] = info->budget;
	return 0;
}

static inline struct node_list list_nodes(void)
{
	struct node_list b = { 0 };

	assert_int_equal(seg_node_each(pool, list_node, &b), 0);
	return b;
}

#endif
