/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Among several nodes, too, allocate and release mostly end in the thread's
 * stash: of which node that is, what is counted, and what goes the long way.
 */
#include "pool.h"

#include "place_scene.h"

enum { PAIRS = 100, SOME = 10 };

static struct magazine *magazine(struct seg_pool *of)
{
	return &stash_of(&of->allocator.stashes)->magazine[0];
}

/* What was parked by the fast path; no other counts there. */
static uint64_t parked_at_once(void)
{
	return u64_load_relaxed(&magazine(pool)->releases);
}

static uint32_t parked(void)
{
	return stash_count(stash_of(&pool->allocator.stashes), 0);
}

static int hold_one(void)
{
	return hold(seg_alloc(pool, 1));
}

static void release_last(void)
{
	require(seg_release(pool, held[--count]) == 0);
}

/* From now on its slices were handed out before, and are in the stash. */
static void warm_up(int node)
{
	machine_run_at(node);
	for (int i = 0; i < SOME; i++)
		require(hold_one() == node);
	while (count)
		release_last();
}

/* The slices of other nodes leave it by being handed out. */
static void use_up_stash(void)
{
	while (parked())
		hold_one();
}

static void test_pairs_stay_in_the_stash(void **state)
{
	uint64_t before, placed;

	(void)state;
	warm_up(2);
	before = parked_at_once();
	placed = machine_calls().place;
	for (int i = 0; i < PAIRS; i++) {
		assert_int_equal(hold_one(), 2);
		release_last();
	}
	assert_int_equal(parked_at_once(), before + PAIRS);
	assert_int_equal(machine_calls().place, placed);
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).remote_releases_total, 0);
}

static void test_each_is_placed_once(void **state)
{
	uint64_t placed = machine_calls().place;

	(void)state;
	machine_run_at(5);
	for (int i = 0; i < SOME; i++)
		assert_int_equal(hold_one(), 5);
	assert_int_equal(machine_calls().place, placed + SOME);
	for (int i = 0; i < SOME; i++)
		release_last();
	for (int i = 0; i < SOME; i++)
		assert_int_equal(hold_one(), 5);
	assert_int_equal(machine_calls().place, placed + SOME);
}

/* Both are the same stash's; it knows where its slices are. */
static void test_a_thread_that_moved(void **state)
{
	uint64_t before;

	(void)state;
	warm_up(0);
	hold_one();
	before = parked_at_once();
	machine_run_at(2);
	release_last();
	assert_int_equal(parked_at_once(), before + 1);
	assert_int_equal(stats_on(pool, 0).remote_releases_total, 1);
	assert_int_equal(hold_one(), 2);
	assert_int_equal(figures(pool, SEG_ALL).remote_allocations_total, 0);
	machine_run_at(0);
	assert_int_equal(hold_one(), 0);
	assert_int_equal(stats_on(pool, 0).remote_releases_total, 1);
}

/* What the stash handed out when it was of another node is not parked among
 * those of this one. */
static void test_others_go_home(void **state)
{
	uint64_t unused, cached;
	uint32_t here;

	(void)state;
	warm_up(2);
	use_up_stash();
	machine_run_at(0);
	hold_one();	/* the first one of a region */
	hold_one();
	require(count > 2 && parked() > 0);
	here = parked();
	unused = stats_on(pool, 2).unused;
	cached = stats_on(pool, 0).cached;
	assert_int_equal(node_of(pool, held[0]), 2);
	assert_int_equal(seg_release(pool, held[0]), 0);
	held[0] = held[--count];
	assert_int_equal(parked(), here);
	assert_int_equal(stats_on(pool, 0).cached, cached);
	assert_int_equal(stats_on(pool, 2).unused, unused + 1);
	assert_int_equal(stats_on(pool, 2).remote_releases_total, 1);
}

/* What is parked may be elsewhere afterwards. */
static void test_its_node_was_away(void **state)
{
	uint64_t placed;

	(void)state;
	warm_up(2);
	set_allowed(pool, 2, false);
	assert_int_not_equal(hold_one(), 2);
	set_allowed(pool, 2, true);
	require(parked() > 0);
	placed = machine_calls().place;
	assert_int_equal(hold_one(), 2);
	assert_int_equal(machine_calls().place, placed + 1);
}

static struct seg_pool *other_pool(enum seg_policy policy)
{
	struct seg_pool_options o = place_options(budget);

	o.policy = policy;
	o.node = 5;
	return make_pool_with(o);
}

/* Its nodes are not the thread's: nothing is near. */
static void test_other_policies(void **state)
{
	static const enum seg_policy policies[] = {
		SEG_POLICY_PREFERRED, SEG_POLICY_NODE, SEG_POLICY_INTERLEAVE };

	(void)state;
	machine_run_at(0);
	for (int i = 0; i < 3; i++) {
		struct seg_pool *other = other_pool(policies[i]);
		unsigned at_home = 0;

		for (int k = 0; k < 30; k++) {
			void *segment = seg_alloc(other, 1);

			at_home += placed_on(other, segment) == 0;
			assert_int_equal(seg_release(other, segment), 0);
		}
		assert_int_equal(at_home, i == 2 ? 10 : 0);
		end_pool(other);
	}
}

static void test_strict_ones_are_near(void **state)
{
	struct seg_pool *strict = other_pool(SEG_POLICY_STRICT);
	uint64_t before = 0;

	(void)state;
	machine_run_at(2);
	for (int i = 0; i < PAIRS; i++) {
		void *segment = seg_alloc(strict, 1);

		assert_int_equal(placed_on(strict, segment), 2);
		assert_int_equal(seg_release(strict, segment), 0);
		if (i < SOME)
			before = u64_load_relaxed(&magazine(strict)->releases);
	}
	assert_int_equal(u64_load_relaxed(&magazine(strict)->releases),
			 before + PAIRS - SOME);
	end_pool(strict);
}

static int begin_alone(void **state)
{
	(void)state;
	machine_begin(places, 1);
	return begin_here(place_options(NULL));
}

static struct stash *stash_as_if_alone(void)
{
	return stash_of_one_node(&pool->allocator.stashes);
}

/* While there is one node nothing is. */
static void hold_unplaced(void)
{
	require((held[count++] = seg_alloc(pool, 1)) != NULL);
}

/* A thread that took what lies on another node asks where its own do, too. */
static void test_a_second_node_comes(void **state)
{
	uint32_t here;

	(void)state;
	for (int i = 0; i < SOME; i++)
		hold_unplaced();
	require(stash_as_if_alone() && parked() > 0);
	while (parked())
		hold_unplaced();
	set_allowed(pool, 2, true);
	machine_put_cpu(1, 2);
	machine_run_at(2);
	hold_unplaced();
	assert_int_equal(node_of(pool, held[count - 1]), 2);
	assert_null(stash_as_if_alone());
	hold_one();
	here = parked();
	require(here > 0);
	assert_int_equal(node_of(pool, held[0]), 0);
	assert_int_equal(seg_release(pool, held[0]), 0);
	held[0] = held[--count];
	assert_int_equal(parked(), here);
	release_last();
	assert_int_equal(parked(), here + 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_pairs_stay_in_the_stash),
		TEST(test_each_is_placed_once),
		TEST(test_a_thread_that_moved),
		TEST(test_others_go_home),
		TEST(test_its_node_was_away),
		TEST(test_other_policies),
		TEST(test_strict_ones_are_near),
		cmocka_unit_test_setup_teardown(test_a_second_node_comes,
						begin_alone, end),
	};

	return run_group(tests);
}
