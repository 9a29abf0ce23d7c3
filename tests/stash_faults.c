/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11 for stashes: without the kernel's barrier, without memory for a stash,
 * and a pool that can't be destroyed.  Linked with fault_os.c in place of
 * lib/os.c.
 */
#include "fault_os.h"
#include "stashes.h"

enum { FOR_EVER = INT32_MAX };

static void release_two(void *unused)
{
	struct seg_pool *pool = held[2];

	(void)unused;
	require(!seg_release(pool, held[0]) && !seg_release(pool, held[1]));
}

/* There are no stashes then; all else is as ever. */
static int child_without_barrier(void *unused)
{
	struct actor other;
	struct seg_budget *b;
	struct seg_pool *pool;
	struct seg_pool_stats s;

	(void)unused;
	fault_arm(FAULT_MEMBARRIER, 1, FOR_EVER);
	b = new_budget(16 * MIB);
	pool = make_pool(b);
	require(!sections_begin());
	actor_begin(&other);
	actor_do(&other, alloc_and_release, pool);
	alloc_and_release(pool);
	require(figures(pool, 0).cached == 0 && own_stash(pool) == NULL);
	fill(pool, 0, 2);
	held[2] = pool;
	actor_do(&other, release_two, NULL);
	s = figures(pool, SEG_ALL);
	require(s.active == 0 && s.cached == 0);
	require(s.allocations_total == 42 && s.releases_total == 42);
	require(s.unused + s.decommitted == s.slices);
	require(seg_pool_trim(pool, NULL) == 0);
	s = figures(pool, SEG_ALL);
	require(s.regions == 0 && s.slices == 0 && s.charged_bytes == 0);
	require(seg_pool_is_valid(pool));
	actor_end(&other);
	require(seg_pool_destroy(pool) == 0 && seg_budget_destroy(b) == 0);
	return 0;
}

/* Before all others: it is decided once for a process. */
static void test_without_a_barrier(void **state)
{
	(void)state;
	assert_int_equal(run_in_child(child_without_barrier, NULL), 0);
}

/* It was allowed before: what others have stays there, but the end. */
static void test_a_barrier_that_goes(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	uint64_t cached;

	(void)state;
	actor_begin(&other);
	actor_do(&other, use_and_stay, pool);
	fault_arm(FAULT_MEMBARRIER, 1, FOR_EVER);
	cached = figures(pool, 0).cached;
	use_once(pool);
	assert_true(figures(pool, 0).cached > cached);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	/* One's own needs no barrier. */
	assert_int_equal(figures(pool, 0).cached, cached);
	assert_figures(pool, 0);
	assert_int_equal(seg_pool_destroy(pool), 0);
	fault_disarm();
	end_budget(b);
	actor_end(&other);
}

static void use_without_table(void *pool)
{
	fault_arm(FAULT_CALLOC, 1, FOR_EVER);
	alloc_and_release(pool);
	require(fault_disarm() > 0);
	require(own_stash(pool) == NULL);
	require(figures(pool, 0).cached == 0);
	alloc_and_release(pool);
	require(own_stash(pool) && figures(pool, 0).cached > 0);
}

static void test_without_memory_for_a_stash(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	void *segment;

	(void)state;
	/* The first mapping of a pool's is the stashes'. */
	fault_arm(FAULT_MAP, 1, 1);
	segment = seg_alloc(pool, 1);
	assert_int_equal(fault_disarm(), 1);
	assert_non_null(segment);
	assert_null(own_stash(pool));
	actor_begin(&other);
	actor_do(&other, use_without_table, pool);
	actor_end(&other);
	assert_int_equal(figures(pool, 0).cached, 0);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_figures(pool, 0);
	assert_int_equal(figures(pool, 0).allocations_total, 41);
	end_both(pool, b);
}

enum { UNMAPS = 8 };	/* more than a destroy asks for */

static int stayed;

/* The slices that were there may be gone, and others' have their numbers. */
static void assert_nothing_is_known(struct seg_pool *pool)
{
	struct stash *st = stash_at(&pool->allocator.stashes, 1);

	if (!st || ptr_load_relaxed(&st->magazine[0].pool))
		return;		/* given back, or not come to yet */
	assert_true(st->magazine[0].most_room > 0);
	for (uint32_t i = 1; i <= st->magazine[0].most_room; i++)
		assert_null(stash_place(st, 0)[i].segment);
	stayed++;
}

/* True: it is refused, and the pool is as good as before. */
static bool destroy_refused_at(struct seg_pool *pool, uint64_t call)
{
	uint64_t allocations;

	fill(pool, 0, 30);
	empty(pool, 30);
	allocations = figures(pool, 0).allocations_total;
	fault_arm(FAULT_UNMAP, call, 1);
	if (seg_pool_destroy(pool) == 0) {
		fault_disarm();
		return false;
	}
	assert_int_equal(fault_disarm(), 1);
	assert_figures(pool, 0);
	assert_int_equal(figures(pool, 0).allocations_total, allocations);
	assert_nothing_is_known(pool);
	return true;
}

/* The stashes were given back by then, or some, or none. */
static void test_a_destroy_that_the_kernel_refuses(void **state)
{
	struct seg_budget *b = new_budget(16 * MIB);
	struct seg_pool *pool = NULL;
	int refused = 0;

	(void)state;
	for (uint64_t call = 1; call <= UNMAPS; call++) {
		if (!pool)
			pool = make_pool(b);
		if (destroy_refused_at(pool, call))
			refused++;
		else
			pool = NULL;
	}
	assert_true(refused > 2 && stayed > 0);
	assert_int_equal(seg_pool_destroy(pool), 0);
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest first[] = {
		cmocka_unit_test(test_without_a_barrier),
	};
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_barrier_that_goes),
		cmocka_unit_test(test_without_memory_for_a_stash),
		cmocka_unit_test(test_a_destroy_that_the_kernel_refuses),
	};
	int failed = run_group(first);

	if (!sections_begin()) {
		print_message("no membarrier, so no stashes\n");
		return failed;
	}
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
