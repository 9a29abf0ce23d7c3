/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Which node a segment comes from: the policies, nodes that are full, what the
 * system refuses, and the figures that tell.  The machine is tests/machine.c.
 */
#include "place_scene.h"

enum {
	MANY = 64,
	THREADS = 4,
	TURNS = 30,
	REST_MS = 100,	/* of a node that had nothing left */
};

static uint64_t place_calls(void)
{
	return machine_calls().place;
}

/* ---- policies ---- */

static void test_local(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		machine_run_at(places[i]);
		for (int c = 0; c < SEG_CLASSES; c++)
			assert_int_equal(hold(seg_alloc(pool, slice_of(c))),
					 places[i]);
		assert_int_equal(get(SEG_POLICY_LOCAL, 99), places[i]);
		assert_int_equal(get(SEG_POLICY_STRICT, 99), places[i]);
		assert_int_equal(hold(seg_alloc_zeroed(pool, 1)), places[i]);
	}
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).fallbacks_total, 0);
	assert_true(machine_calls().bind >= 3 * SEG_CLASSES);
}

static void test_named(void **state)
{
	struct seg_pool_stats s;

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(get(SEG_POLICY_PREFERRED, places[i]),
				 places[i]);
		assert_int_equal(get(SEG_POLICY_NODE, places[i]), places[i]);
		assert_int_equal(hold(seg_alloc_on(pool, 1, places[i])),
				 places[i]);
	}
	s = figures(pool, SEG_ALL);
	assert_int_equal(s.remote_allocations_total, 6);
	assert_int_equal(s.fallbacks_total, 0);
	assert_int_equal(stats_on(pool, 0).remote_allocations_total, 0);
	assert_int_equal(stats_on(pool, 2).remote_allocations_total, 3);
}

/* All of them in turn. */
static void test_interleave(void **state)
{
	unsigned on[8] = { 0 };

	(void)state;
	for (int i = 0; i < 30; i++)
		on[get(SEG_POLICY_INTERLEAVE, -1)]++;
	for (int i = 0; i < 3; i++)
		assert_int_equal(on[places[i]], 10);
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 20);
}

static void try_pool(enum seg_policy policy, int node, int expected)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *other;
	void *segment;

	o.policy = policy;
	o.node = node;
	other = make_pool_with(o);
	machine_run_at(2);
	segment = seg_alloc(other, 1);
	assert_int_equal(placed_on(other, segment), expected);
	assert_int_equal(seg_release(other, segment), 0);
	/* A call's policy goes before the pool's. */
	segment = alloc_as(other, 1, SEG_POLICY_STRICT, 0);
	assert_int_equal(placed_on(other, segment), 2);
	assert_int_equal(seg_release(other, segment), 0);
	end_pool(other);
}

static void test_policies_of_pools(void **state)
{
	(void)state;
	try_pool(SEG_POLICY_DEFAULT, 77, 2);
	try_pool(SEG_POLICY_LOCAL, 77, 2);
	try_pool(SEG_POLICY_STRICT, 77, 2);
	try_pool(SEG_POLICY_PREFERRED, 5, 5);
	try_pool(SEG_POLICY_NODE, 5, 5);
}

struct interleaver {
	unsigned on[SEG_CLASSES][8];
	struct seg_pool *pool;
};

static void *interleave(void *arg)
{
	struct interleaver *t = arg;

	for (int i = 0; i < TURNS; i++)
		for (int c = 0; c < 3; c++) {
			void *segment = seg_alloc(t->pool, slice_of(c));

			require(segment);
			t->on[c][placed_on(t->pool, segment)]++;
			require(seg_release(t->pool, segment) == 0);
		}
	return NULL;
}

/* Of each thread and class, also where classes take turns. */
static void test_interleave_is_even(void **state)
{
	struct seg_pool_options o = place_options(budget);
	struct interleaver t[THREADS] = { 0 };
	struct threads threads;

	(void)state;
	o.policy = SEG_POLICY_INTERLEAVE;
	o.node = -5;
	for (int i = 0; i < THREADS; i++)
		t[i].pool = t[0].pool ? t[0].pool : make_pool_with(o);
	threads_start(&threads, THREADS, interleave, t, sizeof(*t));
	assert_int_equal(threads_join(&threads), 0);
	for (int i = 0; i < THREADS; i++)
		for (int c = 0; c < 3; c++)
			for (int n = 0; n < 3; n++)
				assert_int_equal(t[i].on[c][places[n]],
						 TURNS / 3);
	require_identities(t[0].pool);
	end_pool(t[0].pool);
}

static void test_a_thread_that_moves(void **state)
{
	(void)state;
	for (int i = 0; i < 12; i++) {
		machine_run_at(places[i % 3]);
		assert_int_equal(hold(seg_alloc(pool, 1)), places[i % 3]);
	}
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 0);
	machine_run_at(5);
	empty();
	assert_int_equal(stats_on(pool, 0).remote_releases_total, 4);
	assert_int_equal(stats_on(pool, 2).remote_releases_total, 4);
	assert_int_equal(stats_on(pool, 5).remote_releases_total, 0);
}

static void *release_all(void *arg)
{
	machine_run_at(*(int *)arg);
	empty();
	return NULL;
}

/* All taken on one node and released on another: the regions go. */
static void test_unbalanced_release(void **state)
{
	struct threads t;
	int two = 2;

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < MANY; i++)
			assert_int_equal(get(SEG_POLICY_DEFAULT, 0), 0);
		threads_start(&t, 1, release_all, &two, 0);
		assert_int_equal(threads_join(&t), 0);
		assert_int_equal(seg_pool_trim(pool, NULL), 0);
		assert_int_equal(figures(pool, SEG_ALL).regions, 0);
		assert_int_equal(charged(budget), 0);
	}
	assert_int_equal(stats_on(pool, 0).remote_releases_total, 3 * MANY);
	assert_int_equal(stats_on(pool, 0).remote_allocations_total, 0);
	assert_int_equal(stats_on(pool, 2).slices, 0);
	assert_true(stats_on(pool, 0).regions_retired_total > 0);
}

/* CPUs of a node without memory: the nearest is theirs. */
static void test_cpus_without_memory(void **state)
{
	(void)state;
	machine_put_cpu(100, 3);
	machine_set_distance(3, 5, 12);
	machine_run_on(100);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	assert_int_equal(get(SEG_POLICY_STRICT, 0), 5);
	empty();
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).remote_releases_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).fallbacks_total, 0);
	assert_null(seg_alloc_on(pool, 1, 3));
	assert_int_equal(errno, ENOMEM);
}

/* ---- nodes that are full ---- */

static unsigned lines_on(int node)
{
	char text[80];

	snprintf(text, sizeof(text), "Cannot place memory of pool 0 on node %d:"
		 " Cannot allocate memory", node);
	return recorder_has(&events.lines, text);
}

static void test_the_nearest_is_next(void **state)
{
	(void)state;
	machine_fill(0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	assert_int_equal(stats_on(pool, 0).foreign_total, 1);
	assert_int_equal(stats_on(pool, 5).fallbacks_total, 1);
	assert_int_equal(get(SEG_POLICY_PREFERRED, 0), 5);
	assert_int_equal(stats_on(pool, 5).remote_allocations_total, 2);
	machine_fill(5);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 2);
	assert_int_equal(get(SEG_POLICY_PREFERRED, 5), 2);
	assert_int_equal(stats_on(pool, 2).fallbacks_total, 2);
	assert_int_equal(stats_on(pool, 0).foreign_total, 3);
	assert_int_equal(stats_on(pool, 5).foreign_total, 1);
	assert_int_equal(stats_on(pool, 0).active, 0);
	require_identities(pool);
}

/* Those that take turns, too; each time counts once. */
static void test_turns_with_a_full_node(void **state)
{
	unsigned on[8] = { 0 };

	(void)state;
	machine_fill(2);
	for (int i = 0; i < 30; i++)
		on[get(SEG_POLICY_INTERLEAVE, 0)]++;
	assert_int_equal(on[2], 0);
	assert_int_equal(on[0] + on[5], 30);
	assert_int_equal(stats_on(pool, 2).foreign_total, 10);
	assert_int_equal(figures(pool, SEG_ALL).fallbacks_total, 10);
}

static void assert_refused_for_the_node(void *segment)
{
	assert_null(segment);
	assert_int_equal(errno, ENOMEM);
	assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	assert_int_equal(last_refusal(pool).error, ENOMEM);
}

static void test_strict_on_a_full_node(void **state)
{
	struct timespec rested = monotonic_in(0, REST_MS);
	uint64_t before;

	(void)state;
	machine_fill(2);
	machine_run_at(2);
	assert_refused_for_the_node(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
	assert_refused_for_the_node(alloc_as(pool, 1, SEG_POLICY_NODE, 2));
	assert_refused_for_the_node(seg_alloc_on(pool, 1, 2));
	if (!monotonic_is_past(&rested))
		assert_int_equal(lines_on(2), 1);
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 3);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_int_equal(figures(pool, SEG_ALL).foreign_total, 0);
	/* One slice is all that it needs. */
	machine_give(2, 1);
	assert_int_equal(get(SEG_POLICY_STRICT, 0), 2);
	assert_refused_for_the_node(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
	before = charged(budget);
	assert_true(before <= PLACES_REGION);
	machine_empty(2);
	for (int i = 0; i < 20; i++)
		assert_int_equal(get(SEG_POLICY_STRICT, 0), 2);
	/* Nothing of what was refused is lost: the first region does. */
	assert_int_equal(stats_on(pool, 2).slices,
			 2 * PLACES_REGION / SEG_MIN_BYTES);
}

static void test_all_nodes_are_full(void **state)
{
	struct timespec rested = monotonic_in(0, REST_MS);

	(void)state;
	machine_fill(MACHINE_ALL);
	assert_refused_for_the_node(seg_alloc(pool, 1));
	assert_refused_for_the_node(alloc_as(pool, 1, SEG_POLICY_INTERLEAVE,
					     0));
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_int_equal(figures(pool, SEG_ALL).fallbacks_total, 0);
	for (int i = 0; i < 3 && !monotonic_is_past(&rested); i++)
		assert_int_equal(lines_on(places[i]), 1);
	require_identities(pool);
}

/* Judged only if the rest was not over by then. */
static void test_a_full_node_rests(void **state)
{
	struct timespec rested = monotonic_in(0, REST_MS);
	uint64_t calls;

	(void)state;
	machine_fill(0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	calls = place_calls();
	for (int i = 0; i < 10; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	calls = place_calls() - calls;
	if (!monotonic_is_past(&rested)) {
		assert_int_equal(calls, 10);
		assert_int_equal(lines_on(0), 1);
	}
	assert_int_equal(stats_on(pool, 0).foreign_total, 11);
	/* Later it is tried again. */
	machine_empty(0);
	wait_until((empty(), seg_pool_drain(pool, 0, NULL) == 0 &&
		    get(SEG_POLICY_LOCAL, 0) == 0));
}

/* Nobody is refused for that alone: one that rests may have some by now. */
static void test_those_that_rest_come_last(void **state)
{
	static const enum seg_policy policies[] = {
		SEG_POLICY_LOCAL, SEG_POLICY_PREFERRED, SEG_POLICY_INTERLEAVE,
	};

	(void)state;
	for (int i = 0; i < 3; i++) {
		machine_fill(MACHINE_ALL);
		assert_refused_for_the_node(alloc_as(pool, slice_of(i),
						     policies[i], 0));
		machine_empty(places[i]);
		assert_int_equal(hold(alloc_as(pool, slice_of(i), policies[i],
					       0)), places[i]);
	}
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 3);
}

/* Whoever may go nowhere else finds out for all. */
static void test_a_strict_one_ends_the_rest(void **state)
{
	(void)state;
	machine_fill(0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	machine_empty(0);
	assert_int_equal(get(SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
}

/* A node that is full serves what it served before; that costs no call. */
static void test_used_ones_do_on_a_full_node(void **state)
{
	uint64_t calls;

	(void)state;
	for (int i = 0; i < 8; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	machine_fill(0);
	empty();
	calls = place_calls();
	for (int i = 0; i < 8; i++)
		assert_int_equal(get(i % 2 ? SEG_POLICY_LOCAL :
					     SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(place_calls(), calls);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	assert_null(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
	/* And again after that. */
	assert_int_equal(seg_release(pool, held[0]), 0);
	held[0] = held[--count];
	assert_int_equal(get(SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 1);
}

/* Also if fresh ones stand before them, in a region that is fuller. */
static void test_used_ones_behind_fresh_ones(void **state)
{
	enum { SLICES = PLACES_REGION / SEG_MIN_BYTES };

	(void)state;
	for (int i = 0; i < SLICES + SLICES / 2; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	machine_fill(0);
	for (int i = 1; i < SLICES; i++) {
		assert_int_equal(seg_release(pool, held[i]), 0);
		held[i] = NULL;
	}
	for (int i = 1; i < SLICES; i++)
		assert_int_equal(get(i % 2 ? SEG_POLICY_LOCAL :
					     SEG_POLICY_STRICT, 0), 0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
}

/* What was discarded has to be placed again. */
static void test_discarded_is_placed_again(void **state)
{
	struct seg_drain d = { .size = sizeof(d) };
	uint64_t calls;

	(void)state;
	for (int i = 0; i < 4; i++)
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	while (count > 1)
		assert_int_equal(seg_release(pool, held[--count]), 0);
	assert_int_equal(seg_pool_drain(pool, 0, &d), 0);
	assert_true(d.decommitted_bytes > 0);
	calls = place_calls();
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 0);
	assert_int_equal(place_calls(), calls + 1);
	assert_int_equal(seg_pool_drain(pool, 0, &d), 0);
	machine_fill(0);
	assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
	assert_null(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
}

static void *fill_later(void *arg)
{
	(void)arg;
	wait_until(budget_stats(budget).waiters == 1);
	machine_empty(2);
	return NULL;
}

/* Who may wait is served when the node has memory again. */
static uint64_t unused_of(int node, int class_index)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	require(seg_pool_stats(pool, node, class_index, &s) == 0);
	return s.unused;
}

/* A policy of one node has unused slices there give their memory up; those
 * with a choice go elsewhere. */
static void test_unused_ones_on_a_full_node(void **state)
{
	(void)state;
	assert_int_equal(hold(seg_alloc_on(pool, slice_of(2), 2)), 2);
	assert_int_equal(seg_release(pool, held[--count]), 0);
	machine_fill(2);
	assert_int_equal(get(SEG_POLICY_PREFERRED, 2), 0);
	assert_true(unused_of(2, 2) > 0);
	assert_refused_for_the_node(seg_alloc_on(pool, 1, 2));
	assert_int_equal(stats_on(pool, 2).unused, 0);
	assert_true(last_refusal(pool).discarded_bytes > 0);
}

/* One node is full, but that is not why there is nothing. */
static void test_why_others_refuse(void **state)
{
	(void)state;
	machine_fill(0);
	while (hold(alloc_as(pool, SEG_MAX_BYTES, SEG_POLICY_LOCAL, 0)) >= 0)
		;
	assert_int_equal(charged(budget), PLACES_LIMIT);
	assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_IN_USE);
}

/* What goes back unplaced can be read as far as the tail of the one before. */
static void test_the_tail_before_an_unplaced_one(void **state)
{
	enum { TAIL = 64 };
	static const char zeros[TAIL];
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *tailed;
	char *segment;

	(void)state;
	o.tail_bytes = TAIL;
	tailed = make_pool_with(o);
	segment = seg_alloc_on(tailed, 1, 2);
	assert_non_null(segment);
	machine_fill(2);
	assert_null(seg_alloc_on(tailed, 1, 2));
	assert_memory_equal(segment + SEG_MIN_BYTES, zeros, TAIL);
	assert_int_equal(seg_release(tailed, segment), 0);
	end_pool(tailed);
}

static void test_waiting_for_a_node(void **state)
{
	struct timespec until = monotonic_in(PATIENCE_S, 0);
	struct seg_alloc_options o = { .size = sizeof(o), .node = 2,
				       .policy = SEG_POLICY_NODE,
				       .deadline = &until };
	struct threads t;

	(void)state;
	machine_fill(2);
	threads_start(&t, 1, fill_later, &t, 0);
	assert_int_equal(hold(seg_alloc_with(pool, 1, &o)), 2);
	assert_int_equal(threads_join(&t), 0);
}

/* ---- what the system refuses ---- */

/* A system that does not let us ask is believed. */
static void test_errors_that_are_believed(void **state)
{
	static const int error[] = { -EPERM, -ENOSYS };

	(void)state;
	for (int i = 0; i < 2; i++) {
		void *segment;

		machine_fail_place(MACHINE_ALL, error[i]);
		machine_fail_bind(error[i]);
		segment = alloc_as(pool, slice_of(i), SEG_POLICY_STRICT, 0);
		assert_non_null(segment);
		assert_int_equal(node_of(pool, segment), 0);
		assert_int_equal(seg_release(pool, segment), 0);
	}
	assert_int_equal(recorder_count(&events.lines), 0);
	assert_int_equal(figures(pool, SEG_ALL).fallbacks_total, 0);
}

static void test_other_errors(void **state)
{
	static const int error[] = { -EACCES, -ENODEV, -EINVAL, -EBUSY };

	(void)state;
	for (int i = 0; i < 4; i++) {
		machine_fail_place(0, error[i]);
		assert_int_equal(get(SEG_POLICY_LOCAL, 0), 5);
		assert_null(alloc_as(pool, 1, SEG_POLICY_STRICT, 0));
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(last_refusal(pool).reason, SEG_REFUSED_NODE);
	}
}

/* It is only advice. */
static void test_binding_may_fail(void **state)
{
	static const int error[] = { -EPERM, -ENOSYS, -EINVAL, -EACCES };

	(void)state;
	for (int i = 0; i < 4; i++) {
		machine_fail_bind(error[i]);
		assert_int_equal(hold(alloc_as(pool, slice_of(i),
					       SEG_POLICY_NODE, 2)), 2);
	}
	assert_int_equal(machine_calls().bind, 4);
}

/* ---- wrong arguments ---- */

static void assert_no_pool(enum seg_policy policy, int node)
{
	struct seg_pool_options o = place_options(budget);
	struct seg_pool *other = NULL;

	o.size = sizeof(o);
	o.policy = policy;
	o.node = node;
	assert_int_equal(seg_pool_create(&o, &other), -EINVAL);
	assert_null(other);
}

static const int no_node[] = { 1, -1, 6, 63, 64, 1023, 1024, INT32_MAX,
			       INT32_MIN };

static void test_wrong_pool_options(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		assert_no_pool(SEG_POLICY_NODE, no_node[i]);
		assert_no_pool(SEG_POLICY_PREFERRED, no_node[i]);
	}
	assert_no_pool((enum seg_policy)6, 0);
	assert_no_pool((enum seg_policy)-1, 0);
	assert_int_equal(budget_stats(budget).pools, 1);
}

static void assert_no_segment(struct seg_alloc_options o)
{
	errno = 0;
	assert_null(seg_alloc_with(pool, 1, &o));
	assert_int_equal(errno, EINVAL);
}

static void test_wrong_alloc_options(void **state)
{
	struct timespec wrong = { .tv_nsec = 1000000000 };
	struct seg_alloc_options o = { .size = sizeof(o) };

	(void)state;
	for (unsigned i = 0; i < 9; i++) {
		assert_null(seg_alloc_on(pool, 1, no_node[i]));
		assert_int_equal(errno, EINVAL);
		o.node = no_node[i];
		o.policy = SEG_POLICY_PREFERRED;
		assert_no_segment(o);
		o.policy = SEG_POLICY_NODE;
		assert_no_segment(o);
	}
	o = (struct seg_alloc_options){ .size = sizeof(o) };
	o.policy = (enum seg_policy)6;
	assert_no_segment(o);
	o.policy = SEG_POLICY_DEFAULT;
	o.effort = (enum seg_effort)2;
	assert_no_segment(o);
	o.effort = SEG_EFFORT_DEFAULT;
	o.deadline = &wrong;
	assert_no_segment(o);
	o.deadline = NULL;
	o.size = 4;
	assert_no_segment(o);
	assert_null(seg_alloc_with(pool, 1, NULL));
	assert_int_equal(errno, EINVAL);
	o.size = sizeof(o);
	assert_null(seg_alloc_with(NULL, 1, &o));
	assert_null(seg_alloc_with(pool, 0, &o));
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 0);
	o.zeroed = 1;
	assert_int_equal(hold(seg_alloc_with(pool, 1, &o)), 0);
}

static void test_zeroed_and_easy(void **state)
{
	struct seg_alloc_options o = { .size = sizeof(o), .zeroed = 1,
				       .effort = SEG_EFFORT_EASY,
				       .policy = SEG_POLICY_NODE, .node = 5 };
	static const char zero[SEG_MIN_BYTES];

	(void)state;
	for (int i = 0; i < 3; i++) {
		assert_int_equal(hold(seg_alloc_with(pool, 1, &o)), 5);
		assert_memory_equal(held[0], zero, sizeof(zero));
		memset(held[0], 'z', sizeof(zero));
		empty();
	}
	machine_fill(5);
	o.node = 2;
	machine_fill(2);
	assert_null(seg_alloc_with(pool, 1, &o));
	assert_int_equal(budget_stats(budget).waits_total, 0);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)
		TEST(test_local),
		TEST(test_named),
		TEST(test_interleave),
		TEST(test_policies_of_pools),
		TEST(test_interleave_is_even),
		TEST(test_a_thread_that_moves),
		TEST(test_unbalanced_release),
		TEST(test_cpus_without_memory),
		TEST(test_the_nearest_is_next),
		TEST(test_turns_with_a_full_node),
		TEST(test_strict_on_a_full_node),
		TEST(test_all_nodes_are_full),
		TEST(test_a_full_node_rests),
		TEST(test_those_that_rest_come_last),
		TEST(test_a_strict_one_ends_the_rest),
		TEST(test_used_ones_do_on_a_full_node),
		TEST(test_used_ones_behind_fresh_ones),
		TEST(test_discarded_is_placed_again),
		TEST(test_unused_ones_on_a_full_node),
		TEST(test_why_others_refuse),
		TEST(test_the_tail_before_an_unplaced_one),
		TEST(test_waiting_for_a_node),
		TEST(test_errors_that_are_believed),
		TEST(test_other_errors),
		TEST(test_binding_may_fail),
		TEST(test_wrong_pool_options),
		TEST(test_wrong_alloc_options),
		TEST(test_zeroed_and_easy),
	};

	return run_group(tests);
}
