/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes with budgets of their own (node_limit_bytes): each limit holds, what is
 * full leads to the next node, limits change, and the pool ends them.
 */
#include "place_scene.h"

#include "budget.h"
#include "seg_cache.h"

enum {
	LEVELS = 8,		/* of budgets */
	NODE_LIMIT = 256 << 10,
	ON_NODE = NODE_LIMIT / SEG_MIN_BYTES,
};

static int begin_limited(void **state)
{
	struct seg_pool_options o = place_options(NULL);

	(void)state;
	o.node_limit_bytes = NODE_LIMIT;
	return begin_with(o);
}

static void assert_charged(int on_0, int on_5, int on_2)
{
	struct node_list b = list_nodes();

	assert_int_equal(b.nodes, 3);
	assert_int_equal(charged(b.budget[0]), on_0 * SEG_MIN_BYTES);
	assert_int_equal(charged(b.budget[1]), on_2 * SEG_MIN_BYTES);
	assert_int_equal(charged(b.budget[2]), on_5 * SEG_MIN_BYTES);
	assert_int_equal(charged(budget),
			 (on_0 + on_2 + on_5) * SEG_MIN_BYTES);
}

/* To the last slice, then the next node; in the end none. */
static void test_full_budgets(void **state)
{
	(void)state;
	assert_charged(0, 0, 0);
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	assert_charged(ON_NODE, 0, 0);
	assert_null(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 2);
	assert_charged(ON_NODE, ON_NODE, ON_NODE);
	assert_null(alloc_as(pool, 1, SEG_POLICY_LOCAL, 0));
	assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	assert_int_equal(stats_on(pool, 0).foreign_total, 2 * ON_NODE);
	assert_int_equal(stats_on(pool, 2).fallbacks_total, ON_NODE);
	/* Unused slices of one class make room for another, there. */
	empty();
	for (int i = 0; i < 3; i++)
		for (int j = 0; j < NODE_LIMIT / SEG_MAX_BYTES; j++)
			assert_int_equal(hold(alloc_as(pool, SEG_MAX_BYTES,
						       SEG_POLICY_NODE,
						       places[i])), places[i]);
}

static void test_limits_change(void **state)
{
	struct node_list b = list_nodes();

	(void)state;
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(seg_budget_set_limit(b.budget[0], 2 * NODE_LIMIT), 0);
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(seg_budget_set_limit(b.budget[0], NODE_LIMIT), -EBUSY);
	assert_null(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
	while (count > ON_NODE)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	/* It makes unused slices give up their charge. */
	assert_int_equal(seg_budget_set_limit(b.budget[0], NODE_LIMIT), 0);
	assert_charged(ON_NODE, 0, 0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
}

static void *release_soon(void *arg)
{
	(void)arg;
	wait_until(budget_stats(budget).waiters == 1);
	require(seg_release(pool, held[--count]) == 0);
	return NULL;
}

/* A release on the node wakes who waits for its budget. */
static void test_waiting_for_a_budget(void **state)
{
	struct timespec until = monotonic_in(PATIENCE_S, 0);
	struct seg_alloc_options o = { .size = sizeof(o), .deadline = &until,
				       .policy = SEG_POLICY_STRICT };
	struct threads t;
	void *segment;

	(void)state;
	for (int i = 0; i < ON_NODE; i++)
		assert_int_equal(get(SEG_POLICY_STRICT, 0), 0);
	threads_start(&t, 1, release_soon, &t, 0);
	segment = seg_alloc_with(pool, 1, &o);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(hold(segment), 0);
}

/* Whoever waits counts where it began to wait, whoever serves it. */
static void test_another_node_ends_the_wait(void **state)
{
	struct timespec until = monotonic_in(PATIENCE_S, 0);
	struct threads t;
	void *segment;

	(void)state;
	for (int i = 0; i < 3 * ON_NODE; i++)
		assert_true(get(SEG_POLICY_LOCAL, 0) >= 0);
	threads_start(&t, 1, release_soon, &t, 0);
	segment = seg_alloc_until(pool, 1, &until);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(hold(segment), 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(budget_stats(list_nodes().budget[i]).waiters,
				 0);
}

static uint32_t wakes(void)
{
	return u32_load_acquire(&budget->wakes);
}

/* One node has room and no memory, another memory and no room: who waits for
 * the second does not wake itself by what it tries on the first. */
static void test_waiting_beside_a_full_node(void **state)
{
	struct timespec until;
	uint32_t before;

	(void)state;
	for (int i = 0; i < 2 * ON_NODE; i++)
		assert_true(get(SEG_POLICY_NODE, places[1 + i % 2]) > 0);
	machine_fill(0);
	machine_run_at(5);
	before = wakes();
	until = monotonic_in(0, 200);
	assert_null(seg_alloc_until(pool, 1, &until));
	assert_true(wakes() - before < 100);
}

static struct seg_cache *full_cache(void)
{
	struct seg_cache_options o = { .size = sizeof(o), .budget = budget,
				       .max_weight = PLACES_LIMIT,
				       .pages = pool };
	const size_t bytes = SEG_MIN_BYTES;
	struct seg_cache *cache;

	assert_int_equal(seg_cache_create(&o, &cache), 0);
	for (int i = 0; i < 3 * ON_NODE; i++) {
		struct seg_page *page;

		machine_run_at(places[i % 3]);
		assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
		assert_int_equal(seg_cache_put(cache, (uint64_t)i, page, 0,
					       NULL), 0);
	}
	return cache;
}

/* It belongs to the pool's budget, which has room, and its pages to nodes,
 * which have none. */
static void test_a_cache_holds_full_nodes(void **state)
{
	struct seg_cache *cache = full_cache();

	(void)state;
	assert_charged(ON_NODE, ON_NODE, ON_NODE);
	for (int i = 0; i < 3; i++) {
		machine_run_at(places[i]);
		assert_int_equal(get(SEG_POLICY_STRICT, 0), places[i]);
		assert_true(get(SEG_POLICY_LOCAL, 0) >= 0);
	}
	assert_int_equal(seg_cache_destroy(cache), 0);
}

/* The pool's budget is less than those of its nodes together. */
static void test_the_whole_is_full_first(void **state)
{
	unsigned most = 2 * ON_NODE + ON_NODE / 2, n = 0;

	(void)state;
	assert_int_equal(seg_budget_set_limit(budget, most * SEG_MIN_BYTES),
			 0);
	while (get(SEG_POLICY_INTERLEAVE, 0) >= 0)
		n++;
	assert_int_equal(n, most);
	for (int i = 0; i < 3; i++)
		assert_true(charged(list_nodes().budget[i]) <= NODE_LIMIT);
	assert_int_equal(charged(budget), most * SEG_MIN_BYTES);
}

static void test_a_node_with_a_budget_comes_later(void **state)
{
	struct node_list b;

	(void)state;
	set_allowed(pool, 7, true);
	set_allowed(pool, 2, false);
	assert_int_equal(get(SEG_POLICY_NODE, 7), 7);
	b = list_nodes();
	assert_int_equal(b.nodes, 4);
	assert_int_equal(b.node[3], 7);
	assert_true(b.usable[3] && b.usable[0] && !b.usable[1]);
	assert_non_null(b.budget[3]);
	assert_true(charged(b.budget[3]) <= NODE_LIMIT);
	assert_true(charged(b.budget[3]) >= SEG_MIN_BYTES);
	assert_int_equal(budget_stats(budget).children, 4);
}

/* Budgets are eight levels deep at most. */
static void test_no_level_is_left(void **state)
{
	struct seg_pool_options o = place_options(NULL);
	struct seg_budget *chain[LEVELS] = { NULL };
	struct seg_pool *other = NULL;

	(void)state;
	for (int i = 0; i < LEVELS; i++) {
		struct seg_budget_options c = {
			.size = sizeof(c),
			.limit_bytes = PLACES_LIMIT,
			.parent = i ? chain[i - 1] : NULL,
		};

		assert_int_equal(seg_budget_create(&c, &chain[i]), 0);
	}
	o.size = sizeof(o);
	o.budget = chain[LEVELS - 1];
	o.node_limit_bytes = NODE_LIMIT;
	assert_int_equal(seg_pool_create(&o, &other), -EINVAL);
	assert_null(other);
	assert_int_equal(budget_stats(o.budget).pools, 0);
	o.budget = chain[LEVELS - 2];
	other = new_pool_with(&o);
	assert_int_equal(budget_stats(o.budget).children, 4);
	end_pool(other);
	assert_int_equal(budget_stats(o.budget).children, 1);
	for (int i = LEVELS; i-- > 0;)
		end_budget(chain[i]);
}

static void test_a_limit_that_is_none(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *other = NULL;

	(void)state;
	o.size = sizeof(o);
	o.node_limit_bytes = UINT64_MAX;
	assert_int_equal(seg_pool_create(&o, &other), -ERANGE);
	assert_null(other);
	assert_int_equal(budget_stats(budget).children, 0);
	assert_int_equal(budget_stats(budget).pools, 1);
}

/* A budget of the caller's below a node's keeps the pool. */
static void test_somebody_uses_the_budget_of_a_node(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_budget_options c = { .size = sizeof(c),
					.limit_bytes = NODE_LIMIT };
	struct seg_budget *child = NULL;
	void *segment;

	(void)state;
	o.node_limit_bytes = NODE_LIMIT;
	end_pool(pool);
	pool = make_pool_with(o);
	c.parent = list_nodes().budget[1];
	assert_int_equal(seg_budget_create(&c, &child), 0);
	assert_int_equal(seg_pool_destroy(pool), -EBUSY);
	/* It still works. */
	for (int i = 0; i < 3; i++) {
		segment = seg_alloc_on(pool, 1, places[i]);
		assert_int_equal(placed_on(pool, segment), places[i]);
		assert_int_equal(seg_release(pool, segment), 0);
	}
	require_identities(pool);
	assert_int_equal(seg_pool_destroy(pool), -EBUSY);
	assert_int_equal(seg_budget_destroy(child), 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define TEST(name, how) cmocka_unit_test_setup_teardown(name, how, end)
		TEST(test_full_budgets, begin_limited),
		TEST(test_limits_change, begin_limited),
		TEST(test_limits_change, begin_limited),
		TEST(test_waiting_for_a_budget, begin_limited),
		TEST(test_another_node_ends_the_wait, begin_limited),
		TEST(test_waiting_beside_a_full_node, begin_limited),
		TEST(test_a_cache_holds_full_nodes, begin_limited),
		TEST(test_the_whole_is_full_first, begin_limited),
		TEST(test_a_node_with_a_budget_comes_later, begin_limited),
		TEST(test_no_level_is_left, begin),
		TEST(test_a_limit_that_is_none, begin),
		TEST(test_somebody_uses_the_budget_of_a_node, begin),
	};

	return run_group(tests);
}
