/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Nodes that come and go, and what else a pool on several nodes has: pages,
 * logs, caches, drains, forks, its walks.
 */
#include "place_scene.h"

#include <stdatomic.h>

#include "json_check.h"
#include "seg_cache.h"

enum { THREADS = 4 };

/* The keeper looks every 25 ms, and retires nothing in the time of a test. */
static int begin_watched(void **state)
{
	struct seg_pool_options o = place_options(NULL);

	(void)state;
	o.decay_ms = 100;
	return begin_with(o);
}

/* ---- a cpuset that shrinks ---- */

static void assert_nothing_from(int node)
{
	for (int i = 0; i < 6; i++)
		assert_int_not_equal(get(SEG_POLICY_INTERLEAVE, 0), node);
	machine_run_at(node);
	assert_int_not_equal(get(SEG_POLICY_LOCAL, 0), node);
	assert_int_not_equal(get(SEG_POLICY_STRICT, 0), node);
	assert_int_not_equal(get(SEG_POLICY_PREFERRED, 0), node);
	assert_null(seg_alloc_on(pool, 1, node));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	assert_int_equal(last_refusal(pool).node, node);
	assert_int_not_equal(get(SEG_POLICY_PREFERRED, node), node);
}

static void test_a_node_goes_and_comes_back(void **state)
{
	struct seg_pool_stats s;
	uint64_t calls;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
	while (count > 4)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	s = stats_on(pool, 2);
	assert_int_equal(s.cached + s.unused, s.slices - 4);
	set_allowed(pool, 2, false);
	assert_nothing_from(2);
	assert_int_equal(stats_on(pool, 2).active, 4);
	set_allowed(pool, 2, true);
	calls = machine_calls().place;
	for (int i = 0; i < 4; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
	assert_int_equal(machine_calls().place, calls + 4);
	machine_run_at(2);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 2);
}

/* What was released while its node was gone may have been moved by the kernel:
 * it is placed again before anybody has it. */
static void test_released_while_its_node_is_gone(void **state)
{
	uint64_t calls;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
	set_allowed(pool, 2, false);
	while (count > 1)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	set_allowed(pool, 2, true);
	calls = machine_calls().place;
	for (int i = 0; i < 7; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
	assert_int_equal(machine_calls().place, calls + 7);
}

/* A policy of the pool's that can't be had any more. */
static void test_the_node_of_a_pool_goes(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *strict, *soft;
	void *segment;

	(void)state;
	o.node = 2;
	o.policy = SEG_POLICY_NODE;
	strict = make_pool_with(o);
	o.policy = SEG_POLICY_PREFERRED;
	soft = make_pool_with(o);
	set_allowed(pool, 2, false);
	errno = 0;
	assert_null(seg_alloc(strict, 1));
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(last_refusal(strict).reason, SEG_REFUSED_NODE);
	segment = seg_alloc(soft, 1);
	assert_int_equal(placed_on(soft, segment), 0);
	assert_int_equal(seg_release(soft, segment), 0);
	set_allowed(pool, 2, true);
	segment = seg_alloc(strict, 1);
	assert_int_equal(placed_on(strict, segment), 2);
	assert_int_equal(seg_release(strict, segment), 0);
	require_identities(strict);
	end_pool(strict);
	end_pool(soft);
}

/* With nothing mapped nobody looks at the nodes but the allocation itself. */
static void test_back_unnoticed(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *strict;
	void *segment;

	(void)state;
	o.policy = SEG_POLICY_NODE;
	o.node = 2;
	strict = make_pool_with(o);
	set_allowed(pool, 2, false);
	assert_null(seg_alloc(strict, 1));
	machine_allow(2, true);
	segment = seg_alloc(strict, 1);
	assert_int_equal(placed_on(strict, segment), 2);
	assert_int_equal(seg_release(strict, segment), 0);
	machine_allow(9, true);
	assert_int_equal(get(SEG_POLICY_NODE, 9), 9);
	end_pool(strict);
}

static void test_a_new_node(void **state)
{
	(void)state;
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	assert_null(seg_alloc_on(pool, 1, 9));
	set_allowed(pool, 9, true);
	assert_int_equal(get(SEG_POLICY_NODE, 9), 9);
	require_identities(pool);
}

/* Asked between two tries, node 2 goes and something on it is released. */
static uint64_t take_away_and_release(void *ctx, uint64_t bytes)
{
	bool *while_waiting = ctx;

	if (*while_waiting || budget_stats(budget).waiters == 0)
		return 0;
	*while_waiting = true;
	set_allowed(pool, 2, false);
	require(seg_release(pool, held[--count]) == 0);
	return bytes;
}

/* Judged only if the deadline was not past before the wait. */
static void test_a_node_goes_while_one_waits(void **state)
{
	bool while_waiting = false;
	struct seg_reclaimer_options r = {
		.size = sizeof(r), .fn = take_away_and_release,
		.ctx = &while_waiting, .name = "a node goes",
	};
	struct timespec soon;
	struct seg_alloc_options o = { .size = sizeof(o), .deadline = &soon,
				       .policy = SEG_POLICY_NODE, .node = 2 };

	(void)state;
	while (hold(alloc_as(pool, SEG_MAX_BYTES, SEG_POLICY_NODE, 2)) == 2)
		;
	assert_int_equal(seg_budget_add_reclaimer(budget, &r), 0);
	soon = monotonic_in(0, 200);
	assert_null(seg_alloc_with(pool, SEG_MAX_BYTES, &o));
	if (while_waiting)
		assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	assert_int_equal(seg_budget_remove_reclaimer(budget, r.fn, r.ctx), 0);
}

/* The last node that is asked is full: then the first has memory again. */
static void empty_the_first(void *ctx, enum seg_log_level level,
			    const char *line)
{
	(void)ctx;
	(void)level;
	if (strstr(line, "on node 2"))
		machine_empty(0);
}

/* It rests by then, but nobody is refused before it was asked.  Judged only if
 * the deadline was not past before the wait. */
static void test_the_last_try_asks_all(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct timespec soon;
	struct seg_pool *other;
	void *segment;

	(void)state;
	o.log = empty_the_first;
	o.log_level = SEG_LOG_ERROR;
	other = make_pool_with(o);
	machine_fill(MACHINE_ALL);
	soon = monotonic_in(0, 20);
	segment = seg_alloc_until(other, 1, &soon);
	if (budget_stats(budget).waits_total)
		assert_int_equal(placed_on(other, segment), 0);
	assert_int_equal(seg_release(other, segment), 0);
	end_pool(other);
}

static int begin_alone(void **state)
{
	(void)state;
	machine_begin(places, 1);
	return begin_here(place_options(NULL));
}

/* What was handed out while nothing had to be placed may lie anywhere. */
static void test_a_second_node(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++)
		held[count++] = seg_alloc(pool, 1);
	assert_int_equal(machine_calls().place, 0);
	while (count)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	set_allowed(pool, 2, true);
	for (int i = 0; i < 4; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 0), 0);
	assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
}

static atomic_bool over;

static void *work(void *arg)
{
	uint64_t state = (uintptr_t)arg;
	void *mine[16] = { NULL };

	while (!over) {
		unsigned i = (unsigned)random_below(&state, 16);

		machine_run_on((unsigned)random_below(&state, 3));
		require(seg_release(pool, mine[i]) == 0);
		mine[i] = alloc_as(pool, slice_of((int)i % 3),
				   (enum seg_policy)random_below(&state, 5), 0);
		require(mine[i]);
		placed_on(pool, mine[i]);
	}
	for (int i = 0; i < 16; i++)
		require(seg_release(pool, mine[i]) == 0);
	return NULL;
}

/* Node 0 stays; there is always room for all. */
static void test_nodes_go_under_load(void **state)
{
	struct threads t;

	(void)state;
	over = false;
	threads_start(&t, THREADS, work, pool, 64);
	for (int i = 0; i < 60; i++) {
		machine_allow(places[1 + i % 2], i / 2 % 2);
		nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
	}
	over = true;
	assert_int_equal(threads_join(&t), 0);
	set_allowed(pool, 2, false);
	set_allowed(pool, 5, true);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	require_identities(pool);
}

/* ---- what is on top of segments, and beside them ---- */

static void test_pages_on_several_nodes(void **state)
{
	const size_t bytes[] = { 60000, 5000 };
	struct seg_page *page;

	(void)state;
	for (int i = 0; i < 3; i++) {
		machine_run_at(places[i]);
		assert_int_equal(seg_page_create(pool, bytes, 2, &page), 0);
		for (unsigned part = 0; part < 2; part++)
			assert_int_equal(placed_on(pool,
						   seg_page_part(page, part)),
					 places[i]);
		machine_run_at(places[(i + 1) % 3]);
		assert_int_equal(seg_page_grow(page, 0, 120000), 0);
		assert_int_equal(placed_on(pool, seg_page_part(page, 0)),
				 places[(i + 1) % 3]);
		assert_int_equal(seg_page_release(page), 0);
	}
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
}

static int write_pair(void *ctx, uint64_t key, const struct seg_page *complete,
		      const struct seg_page *modified)
{
	(void)key;
	(void)complete;
	(void)modified;
	++*(unsigned *)ctx;
	return 0;
}

static void test_a_log_of_several_nodes(void **state)
{
	const size_t bytes = 8192;
	struct seg_txlog *log;
	unsigned written = 0;

	(void)state;
	assert_int_equal(seg_txlog_create(pool, NULL, &log), 0);
	for (int i = 0; i < 9; i++) {
		struct seg_page *page[2];

		for (int j = 0; j < 2; j++) {
			machine_run_at(places[(i + j) % 3]);
			assert_int_equal(seg_page_create(pool, &bytes, 1,
							 &page[j]), 0);
		}
		assert_int_equal(seg_txlog_put(log, (uint64_t)i, page[0],
					       page[1]), 0);
	}
	assert_int_equal(seg_txlog_commit(log, write_pair, &written), 0);
	assert_int_equal(written, 9);
	seg_txlog_destroy(log);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_int_equal(stats_on(pool, 2).allocations_total, 6);
}

/* A cache gives back pages of whatever node when one is at its limit. */
static void test_a_cache_of_several_nodes(void **state)
{
	struct seg_cache_options o = { .size = sizeof(o), .budget = budget,
				       .max_weight = PLACES_LIMIT,
				       .pages = pool };
	const size_t bytes = SEG_MAX_BYTES;
	struct seg_cache *cache;

	(void)state;
	assert_int_equal(seg_cache_create(&o, &cache), 0);
	for (int i = 0; i < 3 * PLACES_LIMIT / SEG_MAX_BYTES; i++) {
		struct seg_page *page;

		machine_run_at(places[i % 3]);
		assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
		placed_on(pool, seg_page_part(page, 0));
		assert_int_equal(seg_cache_put(cache, (uint64_t)i, page, 0,
					       NULL), 0);
	}
	assert_true(charged(budget) <= PLACES_LIMIT);
	for (int i = 0; i < 3; i++)
		assert_true(stats_on(pool, places[i]).active > 0);
	assert_int_equal(seg_cache_destroy(cache), 0);
}

static void test_trim_and_drain_all_nodes(void **state)
{
	struct seg_drain d = { .size = sizeof(d) };
	uint64_t bytes = 0;

	(void)state;
	for (int i = 0; i < 6; i++)
		assert_int_equal(get(SEG_POLICY_NODE, places[i % 3]),
				 places[i % 3]);
	while (count > 3)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	assert_int_equal(seg_pool_drain(pool, 0, &d), 0);
	assert_int_equal(figures(pool, SEG_ALL).unused, 0);
	assert_int_equal(charged(budget), 3 * SEG_MIN_BYTES);
	empty();
	assert_int_equal(seg_pool_trim(pool, &bytes), 0);
	assert_int_equal(bytes, 3 * SEG_MIN_BYTES);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
}

static void test_a_refusal_has_all_nodes(void **state)
{
	uint64_t active = 0;
	struct seg_refusal r;

	(void)state;
	while (hold(alloc_as(pool, SEG_MAX_BYTES, SEG_POLICY_INTERLEAVE, 0)) >=
	       0)
		active += SEG_MAX_BYTES;
	r = last_refusal(pool);
	assert_int_equal(r.reason, SEG_REFUSED_IN_USE);
	assert_int_equal(r.charged_bytes, active);
	assert_int_equal(r.active_bytes, active);
	assert_int_equal(r.holders, 1);
	assert_int_equal(r.holder[0].active_bytes, active);
	assert_int_equal(r.holder[0].charged_bytes, active);
}

static int tally_region(void *ctx, const struct seg_region_info *info)
{
	((unsigned *)ctx)[info->node]++;
	return 0;
}

static int stop_at(void *ctx, const struct seg_node_info *info)
{
	return info->node == *(int *)ctx ? 17 : 0;
}

static void test_walks(void **state)
{
	unsigned regions[8] = { 0 };
	struct node_list b;
	int two = 2;

	(void)state;
	for (int i = 0; i < 3; i++)
		for (int c = 0; c <= i; c++)
			assert_int_equal(hold(seg_alloc_on(pool, slice_of(c),
							   places[i])),
					 places[i]);
	assert_int_equal(seg_region_each(pool, tally_region, regions), 0);
	assert_true(regions[0] == 1 && regions[2] == 2 && regions[5] == 3);
	b = list_nodes();
	assert_int_equal(b.nodes, 3);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(b.node[i], places[i]);
		assert_int_equal(b.usable[i], 1);
		assert_null(b.budget[i]);
	}
	assert_int_equal(seg_node_each(pool, stop_at, &two), 17);
	assert_int_equal(seg_node_each(NULL, stop_at, &two), -EINVAL);
	assert_int_equal(seg_node_each(pool, NULL, NULL), -EINVAL);
}

static struct seg_placement placement(int node)
{
	struct seg_placement s = { .size = sizeof(s) };

	assert_int_equal(seg_pool_placement(pool, node, &s), 0);
	return s;
}

static void test_placement(void **state)
{
	struct seg_placement s = { .size = sizeof(s) };

	(void)state;
	assert_int_equal(get(SEG_POLICY_NODE, 2), 2);
	assert_int_equal(hold(seg_alloc_on(pool, 8192, 0)), 0);
	s = placement(2);
	assert_int_equal(s.placed_pages, 1);
	assert_int_equal(s.absent_pages, PLACES_REGION / 4096 - 1);
	s = placement(SEG_ALL);
	assert_int_equal(s.placed_pages, 3);
	assert_int_equal(s.resident_pages, 3);
	assert_int_equal(s.misplaced_pages, 0);
	/* There is such a node, and nothing is on it. */
	s = placement(5);
	assert_int_equal(s.resident_pages + s.absent_pages, 0);
	assert_int_equal(seg_pool_placement(pool, 1, &s), -EINVAL);
	assert_int_equal(seg_pool_placement(NULL, 2, &s), -EINVAL);
	assert_int_equal(seg_pool_placement(pool, 2, NULL), -EINVAL);
	s.size = 4;
	assert_int_equal(seg_pool_placement(pool, 2, &s), -EINVAL);
	s.size = sizeof(s);
	machine_fail_where(-ENOSYS);
	assert_int_equal(seg_pool_placement(pool, 2, &s), -ENOSYS);
	machine_fail_where(-EPERM);
	assert_int_equal(seg_pool_placement(pool, SEG_ALL, &s), -EPERM);
}

static int child(void *ctx)
{
	(void)ctx;
	for (int i = 0; i < 3; i++)
		require(get(SEG_POLICY_NODE, places[i]) == places[i]);
	set_allowed(pool, 5, false);
	require(get(SEG_POLICY_PREFERRED, 2) == 2);
	empty();
	require_identities(pool);
	require(seg_pool_destroy(pool) == 0);
	return seg_budget_destroy(budget);
}

static void test_fork(void **state)
{
	(void)state;
#ifdef SEG_TSAN
	skip();
#endif
	if (emulated("a child of several threads can start none"))
		skip();
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(SEG_POLICY_NODE, places[i]), places[i]);
	assert_int_equal(run_in_child(child, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(SEG_POLICY_NODE, places[i]), places[i]);
}

/* ---- figures as text ---- */

static void test_figures_of_each_node(void **state)
{
	static char text[65536];
	const char *nodes, *last;

	(void)state;
	machine_run_at(0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(get(SEG_POLICY_NODE, 5), 5);
	assert_int_equal(get(SEG_POLICY_NODE, 0), 0);
	assert_true(seg_pool_stats_json(pool, text, sizeof(text)) > 0);
	assert_true(json_is_valid(text));
	assert_int_equal(json_find(text, "active"), 4);
	nodes = strstr(text, "\"nodes\":[");
	assert_non_null(nodes);
	assert_int_equal(json_find(nodes, "node"), 0);
	assert_int_equal(json_find(nodes, "active"), 1);
	last = strstr(nodes, "\"node\":5,");
	assert_non_null(last);
	assert_int_equal(json_find(last, "active"), 3);
	assert_int_equal(json_find(last, "remote_allocations_total"), 3);
	assert_true(seg_pool_stats_prometheus(pool, "p", text, sizeof(text)) >
		    0);
	assert_non_null(strstr(text, "\nseg_remote_allocations_total"
			       "{pool=\"p\",node=\"0\"} 0\n"));
	assert_non_null(strstr(text, "\nseg_remote_allocations_total"
			       "{pool=\"p\",node=\"5\"} 3\n"));
	assert_null(strstr(text, "seg_foreign_total{pool=\"p\"}"));
	assert_non_null(strstr(text, "seg_misuses_total{pool=\"p\"} 0\n"));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define TEST(name, how) cmocka_unit_test_setup_teardown(name, how, end)
		TEST(test_a_node_goes_and_comes_back, begin_watched),
		TEST(test_released_while_its_node_is_gone, begin_watched),
		TEST(test_the_node_of_a_pool_goes, begin),
		TEST(test_a_new_node, begin),
		TEST(test_back_unnoticed, begin),
		TEST(test_a_node_goes_while_one_waits, begin),
		TEST(test_the_last_try_asks_all, begin),
		TEST(test_a_second_node, begin_alone),
		TEST(test_nodes_go_under_load, begin_watched),
		TEST(test_pages_on_several_nodes, begin),
		TEST(test_a_log_of_several_nodes, begin),
		TEST(test_a_cache_of_several_nodes, begin),
		TEST(test_trim_and_drain_all_nodes, begin),
		TEST(test_a_refusal_has_all_nodes, begin),
		TEST(test_walks, begin),
		TEST(test_figures_of_each_node, begin),
		TEST(test_placement, begin),
		TEST(test_fork, begin),
	};

	return run_group(tests);
}
