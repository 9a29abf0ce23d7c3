/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A memory node of a pool is made by two threads at once: both have the same
 * one, whole, and the other is gone, with the budget that it had.
 */
#include "explore.h"

#include <string.h>

#include "os.h"
#include "pool.h"

enum { NODES = 2, WANTED = 1 };

static struct seg_pool pool;
static struct seg_budget budget;
static struct node *seen[EXPLORE_THREADS];
static struct atomic_u64 budgets;

/* ---- what is not here ---- */

int seg_budget_create(const struct seg_budget_options *options,
		      struct seg_budget **ret_budget)
{
	struct seg_budget *b = os_calloc(1, sizeof(*b));

	b->parent = options->parent;
	u64_add_relaxed(&budgets, 1);
	*ret_budget = b;
	return 0;
}

int seg_budget_destroy(struct seg_budget *b)
{
	os_free(b);
	u64_sub_relaxed(&budgets, 1);
	return 0;
}

void topology_check(void)
{
}

void topology_look(void)
{
}

unsigned topology_turn(unsigned k)
{
	return k;
}

bool topology_find(int id, unsigned *ret_index)
{
	*ret_index = (unsigned)id;
	return true;
}

/* ---- the scenario ---- */

static void begin_pool(uint64_t node_limit_bytes)
{
	explore_counter(&budgets.word);
	memset(&pool.nodes, 0, sizeof(pool.nodes));
	memset(&budget, 0, sizeof(budget));
	memset(seen, 0, sizeof(seen));
	u64_store_relaxed(&budgets, 0);
	u32_store_relaxed(&topology.count, NODES);
	u32_store_relaxed(&topology.id[WANTED], 7);
	pool.allocator.budget = &budget;
	pool.options.node_limit_bytes = node_limit_bytes;
}

static void without_budgets(void)
{
	begin_pool(0);
}

static void with_budgets(void)
{
	begin_pool(SEG_MIN_BYTES);
}

static void ask(unsigned thread)
{
	struct node *node = pool_node(&pool, WANTED);
	struct seg_holder holder = { 0 };

	node_report(node, &holder);
	explore_check(node && node->id == 7 && node->index == WANTED);
	explore_check(node->pool == &pool);
	explore_check(node->owns_budget == (node->budget != &budget));
	explore_check(node->pools[0].budget == node->budget);
	seen[thread] = node;
}

/* Or walks over what there is. */
static void ask_or_walk(unsigned thread)
{
	struct seg_holder holder = { 0 };
	struct node *node = NULL;

	if (thread < 2) {
		ask(thread);
		return;
	}
	while ((node = pool_next_node(&pool, node))) {
		node_report(node, &holder);
		explore_check(node->id == 7 && node->pool == &pool);
	}
}

static void there_is_one(void)
{
	explore_check(seen[0] == seen[1]);
	explore_check(u64_load_relaxed(&budgets) == seen[0]->owns_budget);
	explore_check(u64_load_relaxed(&seen[0]->budget->member_count) ==
		      seen[0]->owns_budget);
}

static const struct explore_twin twins[] = {
	EXPLORE_TWIN("blind publication", BLIND, "make", "cas"),
	EXPLORE_TWIN("published in two steps", SPLIT, "make", "cas"),
	EXPLORE_TWIN("relaxed publication", RELAX, "make", "cas"),
	EXPLORE_TWIN("relaxed look", RELAX, "pool_node", "load"),
	{ .name = NULL },
};

static const struct explore_twin walk_twins[] = {
	EXPLORE_TWIN("relaxed publication", RELAX, "make", "cas"),
	EXPLORE_TWIN("relaxed walk", RELAX, "pool_next_node", "load"),
	{ .name = NULL },
};

static const struct explore_twin budget_twins[] = {
	EXPLORE_TWIN("blind publication", BLIND, "make", "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_nodes[] = {
	{ .name = "nodes: two make one", .threads = 2,
	  .setup = without_budgets, .body = ask, .post = there_is_one,
	  .twins = twins },
	{ .name = "nodes: two make one, a third walks", .threads = 3,
	  .setup = without_budgets, .body = ask_or_walk,
	  .post = there_is_one, .twins = walk_twins },
	{ .name = "nodes: two make one with a budget", .threads = 2,
	  .setup = with_budgets, .body = ask, .post = there_is_one,
	  .twins = budget_twins },
	{ .name = NULL },
};
