/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the tests of placement share: a pool on a machine with nodes 0, 2 and 5,
 * and where its segments are.
 */
#ifndef SEG_TESTS_PLACES_H
#define SEG_TESTS_PLACES_H

#include "pools.h"

#include "keeper.h"
#include "machine.h"
#include "topology.h"

enum { PLACES_LIMIT = 16 << 20, PLACES_REGION = 64 << 10 };

static const int places[] = { 0, 2, 5 };

/* From 0, node 5 is nearer than 2. */
static inline int begin_machine(void **state)
{
	(void)state;
	machine_begin(places, 3);
	machine_set_distance(0, 5, 15);
	return 0;
}

static inline int end_machine(void **state)
{
	(void)state;
	machine_end();
	return 0;
}

/* Small regions, that stay until they are trimmed. */
static inline struct seg_pool_options place_options(struct seg_budget *budget)
{
	return (struct seg_pool_options){
		.budget = budget,
		.region_bytes = PLACES_REGION,
		.wait_ms = SEG_NO_WAIT,
		.decay_ms = 600000,
	};
}

static inline int node_of(struct seg_pool *pool, const void *segment)
{
	struct seg_region_info info = { .size = sizeof(info) };

	require(seg_region_of(pool, segment, &info) == 0);
	return info.node;
}

/* The segment, placed as a whole where its region is; MACHINE_NOWHERE: NULL. */
static inline int placed_on(struct seg_pool *pool, const void *segment)
{
	int node = segment ? node_of(pool, segment) : MACHINE_NOWHERE;

	require(!segment ||
		machine_has_placed(segment, seg_size(pool, segment), node));
	return node;
}

static inline void *alloc_as(struct seg_pool *pool, size_t bytes,
			     enum seg_policy policy, int node)
{
	struct timespec past = { 0 };
	struct seg_alloc_options o = { .size = sizeof(o), .policy = policy,
				       .node = node, .deadline = &past };

	return seg_alloc_with(pool, bytes, &o);
}

static inline struct seg_pool_stats stats_on(struct seg_pool *pool, int node)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	require(seg_pool_stats(pool, node, SEG_ALL, &s) == 0);
	return s;
}

struct sum_of_nodes {
	int ids[TOPOLOGY_NODES];
	unsigned count;
	struct seg_pool_stats s;
};

static inline int add_id(void *ctx, const struct seg_node_info *info)
{
	struct sum_of_nodes *sum = ctx;

	sum->ids[sum->count++] = info->node;
	return 0;
}

static inline void add_node(struct sum_of_nodes *sum, struct seg_pool_stats s)
{
	sum->s.regions += s.regions;
	sum->s.slices += s.slices;
	sum->s.unused += s.unused;
	sum->s.active += s.active;
	sum->s.cached += s.cached;
	sum->s.decommitted += s.decommitted;
	sum->s.charged_bytes += s.charged_bytes;
	sum->s.mapped_bytes += s.mapped_bytes;
	sum->s.allocations_total += s.allocations_total;
	sum->s.releases_total += s.releases_total;
	sum->s.refusals_total += s.refusals_total;
	sum->s.remote_allocations_total += s.remote_allocations_total;
	sum->s.remote_releases_total += s.remote_releases_total;
	sum->s.fallbacks_total += s.fallbacks_total;
	sum->s.foreign_total += s.foreign_total;
}

/* The keeper, which unmaps, stands still between the two. */
static inline void sum_nodes(struct seg_pool *pool, struct sum_of_nodes *sum,
			     struct seg_pool_stats *ret_all)
{
	require(seg_node_each(pool, add_id, sum) == 0);
	keeper_hold();
	*ret_all = figures(pool, SEG_ALL);
	for (unsigned i = 0; i < sum->count; i++)
		add_node(sum, stats_on(pool, sum->ids[i]));
	keeper_let_go();
}

/* What holds while nothing is going on. */
static inline void require_identities(struct seg_pool *pool)
{
	struct sum_of_nodes sum = { .count = 0 };
	struct seg_pool_stats all;

	sum_nodes(pool, &sum, &all);
	require(sum.s.regions == all.regions && sum.s.slices == all.slices);
	require(sum.s.unused == all.unused && sum.s.active == all.active);
	require(sum.s.decommitted == all.decommitted);
	require(sum.s.cached == all.cached);
	require(sum.s.charged_bytes == all.charged_bytes);
	require(sum.s.mapped_bytes == all.mapped_bytes);
	require(sum.s.allocations_total == all.allocations_total);
	require(sum.s.releases_total == all.releases_total);
	require(sum.s.refusals_total == all.refusals_total);
	require(sum.s.remote_allocations_total == all.remote_allocations_total);
	require(sum.s.remote_releases_total == all.remote_releases_total);
	require(sum.s.fallbacks_total == all.fallbacks_total);
	require(sum.s.foreign_total == all.foreign_total);
	require(all.fallbacks_total == all.foreign_total);
	require(all.allocations_total - all.releases_total == all.active);
	require(all.slices == all.active + all.cached + all.unused +
				      all.decommitted);
	require(seg_pool_is_valid(pool));
}

struct usable_node {
	int node;
	bool usable;
};

static inline int find_usable(void *ctx, const struct seg_node_info *info)
{
	struct usable_node *wanted = ctx;

	if (info->node == wanted->node)
		wanted->usable = info->usable;
	return 0;
}

static inline bool is_usable(struct seg_pool *pool, int node)
{
	struct usable_node wanted = { .node = node };

	require(seg_node_each(pool, find_usable, &wanted) == 0);
	return wanted.usable;
}

/* Until it is noticed: another thread may have looked just before. */
static inline void set_allowed(struct seg_pool *pool, int node, bool allowed)
{
	machine_allow(node, allowed);
	wait_until(is_usable(pool, node) == allowed);
}

static inline struct seg_refusal last_refusal(struct seg_pool *pool)
{
	struct seg_refusal r = { .size = sizeof(r) };

	require(seg_pool_last_refusal(pool, &r) == 0);
	return r;
}

#endif
