/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A machine of eight nodes with numbers that have holes, all of it invented
 * (tests/machine.c): threads that allocate with every policy, move between
 * CPUs and release what others allocated; nodes that fill up and empty; nodes
 * that the process may use or not; and a budget for each node.
 *
 * What is promised, and measured all the time: charged <= limit, per node and
 * in all; each segment lies on its region's node, as a whole, as the machine
 * wrote it down; a strict policy gets its node or nothing.  At the end the
 * books balance, per node and in all.
 */
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

#include "stress.h"
#include "../tests/machine.h"

enum {
	NODES = 8,
	LIMIT = 8 << 20,
	NODE_LIMIT = 2 << 20,
	REGION_BYTES = 256 << 10,
	WORKERS_MOST = 6,
	BOX = 256,		/* segments that wait to be released */
	CLASSES = 4,
	FILL_PAGES = 64,
};

static const int nodes[NODES] = { 0, 1, 4, 7, 63, 64, 200, 1023 };

/* Who allocates puts it here; who finds it releases it. */
struct box {
	_Atomic(void *) segment;
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct seg_budget *node_budget[NODES];
static struct box box[BOX];
static stress_count served, refused, strict_served, strict_refused;
static stress_count samples, fills, changes;

/* The policies, with a node for those that name one. */
static struct seg_alloc_options any_options(struct stress_random *random)
{
	return (struct seg_alloc_options){
		.size = sizeof(struct seg_alloc_options),
		.policy = (enum seg_policy)stress_below(random, 6),
		.node = nodes[stress_below(random, NODES)],
		.effort = (enum seg_effort)stress_below(random, 2),
	};
}

static bool is_strict(const struct seg_alloc_options *o)
{
	return o->policy == SEG_POLICY_NODE;
}

/* Its region's node is where all of it was placed, and is the one wanted. */
static void check_place(const struct seg_alloc_options *o, const void *segment,
			size_t bytes)
{
	struct seg_region_info info = { .size = sizeof(info) };
	int ret = seg_region_of(pool, segment, &info);

	stress_check(!ret, "seg_region_of: %s", strerror(-ret));
	stress_check(machine_has_placed(segment, bytes, info.node),
		     "a segment of node %d is on node %d", info.node,
		     machine_node_of(segment));
	stress_check(!is_strict(o) || info.node == o->node,
		     "node %d instead of %d", info.node, o->node);
}

static void put(void *segment, struct stress_random *random)
{
	void *old = atomic_exchange(&box[stress_below(random, BOX)].segment,
				    segment);
	int ret;

	if (!old)
		return;
	stress_verify(old, seg_size(pool, old), 1);
	ret = seg_release(pool, old);
	stress_check(!ret, "seg_release: %s", strerror(-ret));
}

static void allocate(struct stress_random *random)
{
	struct seg_alloc_options o = any_options(random);
	size_t bytes = (size_t)SEG_MIN_BYTES << stress_below(random, CLASSES);
	void *segment;

	errno = 0;
	segment = seg_alloc_with(pool, bytes, &o);
	stress_add(segment ? &served : &refused, 1);
	if (is_strict(&o))
		stress_add(segment ? &strict_served : &strict_refused, 1);
	if (!segment) {
		stress_check(errno == ENOMEM || errno == EINVAL,
			     "seg_alloc_with: %s", strerror(errno));
		return;
	}
	check_place(&o, segment, bytes);
	stress_fill(segment, bytes, 1);
	put(segment, random);
}

static void *work(void *arg)
{
	struct stress_random random = stress_random_of((uintptr_t)arg);

	while (!stress_over()) {
		if (stress_below(&random, 16) == 0)
			machine_run_on(stress_below(&random, MACHINE_CPUS));
		if (stress_below(&random, 4) == 0)
			put(NULL, &random);
		else
			allocate(&random);
	}
	return NULL;
}

/* Some nodes have so much left and no more; then they have room again. */
static void *fill(void *arg)
{
	struct stress_random random = stress_random_of(100);

	(void)arg;
	while (!stress_over()) {
		int node = nodes[stress_below(&random, NODES)];

		if (stress_below(&random, 2))
			machine_give(node, stress_below(&random, FILL_PAGES));
		else
			machine_empty(node);
		stress_add(&fills, 1);
		stress_sleep_ns(300 * 1000);
	}
	return NULL;
}

static int nothing(void *ctx, const struct seg_node_info *info)
{
	(void)ctx;
	(void)info;
	return 0;
}

/* The first node always stays. */
static void *shrink_and_grow(void *arg)
{
	struct stress_random random = stress_random_of(101);

	(void)arg;
	while (!stress_over()) {
		machine_allow(nodes[1 + stress_below(&random, NODES - 1)],
			      stress_below(&random, 3) != 0);
		seg_node_each(pool, nothing, NULL);
		stress_add(&changes, 1);
		stress_sleep_ns(1000 * 1000);
	}
	return NULL;
}

static void *sample(void *arg)
{
	struct stress_random random = stress_random_of(102);

	(void)arg;
	while (!stress_over()) {
		unsigned i = stress_below(&random, NODES);

		stress_check_budget(budget);
		stress_check_budget(node_budget[i]);
		stress_add(&samples, 1);
		if (stress_below(&random, 64) == 0)
			seg_pool_drain(pool, 50, NULL);
		sched_yield();
	}
	return NULL;
}

static int find_budget(void *ctx, const struct seg_node_info *info)
{
	unsigned *found = ctx;

	stress_check(info->budget && info->node == nodes[*found],
		     "node %d has no budget", info->node);
	node_budget[(*found)++] = info->budget;
	return 0;
}

static struct seg_pool_stats stats_on(int node)
{
	struct seg_pool_stats s = { .size = sizeof(s) };
	int ret = seg_pool_stats(pool, node, SEG_ALL, &s);

	stress_check(!ret, "seg_pool_stats: %s", strerror(-ret));
	return s;
}

/* Nothing leaks from one node's books into another's. */
static void check_node(unsigned i, struct seg_pool_stats *sum)
{
	struct seg_pool_stats s = stats_on(nodes[i]);
	uint64_t charged = stress_budget_stats(node_budget[i]).charged_bytes;

	stress_check(s.active == 0, "node %d: %" PRIu64 " active", nodes[i],
		     s.active);
	stress_check(s.allocations_total == s.releases_total, "node %d: %"
		     PRIu64 " allocations, %" PRIu64 " releases", nodes[i],
		     s.allocations_total, s.releases_total);
	stress_check(s.charged_bytes == charged, "node %d: %" PRIu64
		     " bytes charged of %" PRIu64, nodes[i], s.charged_bytes,
		     charged);
	sum->allocations_total += s.allocations_total;
	sum->fallbacks_total += s.fallbacks_total;
	sum->foreign_total += s.foreign_total;
	sum->charged_bytes += s.charged_bytes;
	printf("  node %4d  %9" PRIu64 " allocated  %8" PRIu64
	       " fallbacks  %8" PRIu64 " foreign\n", nodes[i],
	       s.allocations_total, s.fallbacks_total, s.foreign_total);
}

static void check_all(void)
{
	struct seg_pool_stats sum = { 0 }, all = stats_on(SEG_ALL);

	for (unsigned i = 0; i < NODES; i++)
		check_node(i, &sum);
	stress_check(sum.allocations_total == all.allocations_total,
		     "the nodes have another sum of allocations");
	stress_check(all.allocations_total >= stress_value(&served),
		     "allocations were not counted");
	stress_check(sum.fallbacks_total == all.fallbacks_total &&
		     sum.foreign_total == all.foreign_total &&
		     all.fallbacks_total == all.foreign_total,
		     "%" PRIu64 " fallbacks, %" PRIu64 " foreign",
		     all.fallbacks_total, all.foreign_total);
	stress_check(sum.charged_bytes ==
		     stress_budget_stats(budget).charged_bytes,
		     "the nodes have another sum of charges");
	stress_check(all.fallbacks_total > 0, "no node was ever full");
	printf("  served %" PRIu64 " (strict %" PRIu64 "), refused %" PRIu64
	       " (strict %" PRIu64 "); all placed right\n",
	       stress_value(&served), stress_value(&strict_served),
	       stress_value(&refused), stress_value(&strict_refused));
	printf("  %" PRIu64 " samples, %" PRIu64 " fills, %" PRIu64
	       " changes of what is allowed\n", stress_value(&samples),
	       stress_value(&fills), stress_value(&changes));
}

/* While nothing is decommitted or unmapped any more. */
static void end(void)
{
	struct stress_random random = stress_random_of(103);

	for (unsigned i = 0; i < BOX; i++) {
		void *segment = atomic_exchange(&box[i].segment, NULL);

		stress_check(!seg_release(pool, segment), "seg_release");
	}
	put(NULL, &random);
	stress_check(!seg_pool_trim(pool, NULL), "seg_pool_trim");
	check_all();
	stress_pool_end(pool);
	stress_budget_end(budget);
	machine_end();
}

static void begin(void)
{
	unsigned found = 0;

	machine_begin(nodes, NODES);
	for (unsigned i = 0; i < NODES * NODES; i++)
		if (i / NODES != i % NODES)
			machine_set_distance(nodes[i / NODES], nodes[i % NODES],
					     11 + (i * 7 % 5));
	budget = stress_budget(LIMIT);
	pool = stress_pool((struct seg_pool_options){
		.budget = budget,
		.region_bytes = REGION_BYTES,
		.decay_ms = 5,
		.wait_ms = 1,
		.node_limit_bytes = NODE_LIMIT,
	});
	stress_check(!seg_node_each(pool, find_budget, &found) &&
		     found == NODES, "%u nodes", found);
}

int main(void)
{
	unsigned workers = stress_scale(WORKERS_MOST, 3);
	void *(*const others[])(void *) = { fill, shrink_and_grow, sample };
	pthread_t worker[WORKERS_MOST], other[3];

	stress_begin("stress/numa");
	begin();
	for (unsigned i = 0; i < workers; i++)
		worker[i] = stress_start(work, (void *)(uintptr_t)(i + 1));
	for (unsigned i = 0; i < 3; i++)
		other[i] = stress_start(others[i], NULL);
	stress_run_for(stress_seconds());
	for (unsigned i = 0; i < workers; i++)
		stress_join(worker[i]);
	for (unsigned i = 0; i < 3; i++)
		stress_join(other[i]);
	end();
	return stress_end();
}
