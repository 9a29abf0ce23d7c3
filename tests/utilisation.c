/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P1 and P6 by the cases of bench/limit under small budgets: whatever classes
 * the memory was in before, an allocation is refused only when less than one
 * such segment is not in the callers' hands, and then at once as after a wait.
 */
#include "../bench/limit.h"
#include "one_node.h"
#include "pools.h"

enum {
	SEEDS = 2,
	LEAST_PERCENT = 98,
	PERCENT_FROM = 50 * SEG_MAX_BYTES,	/* one segment is 2 % of it */
};

static void check(const struct refused *r, uint64_t limit)
{
	assert_true(r->count > 0);
	assert_int_equal(r->needless, 0);
	assert_int_equal(r->unnamed, 0);
	assert_true(limit - r->active < r->slice);
	if (limit >= PERCENT_FROM)
		assert_true(r->active * 100 >= limit * LEAST_PERCENT);
}

static void run(const struct limit_case *one, uint64_t limit)
{
	for (uint64_t i = 1; i <= SEEDS; i++) {
		struct trial trial;

		trial_open(&trial, limit, i, TOUCH_FIRST);
		trial.wait_ms = 1;
		one->run(&trial);
		check(&trial.at_once, limit);
		check(&trial.waited, limit);
		assert_true(trial.most_charged <= limit);
		assert_true(trial_close(&trial));
	}
}

static void run_all(uint64_t limit)
{
	print_message("%llu KiB, seeds 1 to %d\n",
		      (unsigned long long)(limit / KIB), SEEDS);
	for (size_t i = 0; i < limit_case_count; i++)
		run(&limit_cases[i], limit);
}

/* As few regions as there are classes, and fewer. */
static void test_a_few_segments(void **state)
{
	(void)state;
	run_all(512 * KIB);
	run_all(1 * MIB);
}

static void test_a_few_regions(void **state)
{
	(void)state;
	run_all(4 * MIB);
	run_all(16 * MIB);
}

/* What no region's size divides. */
static void test_odd_limits(void **state)
{
	(void)state;
	run_all(3 * MIB + 284 * KIB);
	run_all(13 * MIB - 4 * KIB);
}

/* Whoever waits is served: the cache can always give. */
static void test_threads_with_a_cache_above(void **state)
{
	struct cache_trial trial;

	(void)state;
	cache_trial_run(&trial, 16 * MIB, PATIENCE_S * 1000, random_seed(1));
	assert_int_equal(trial.refusals, 0);
	assert_int_equal(trial.wrong, 0);
	assert_true(trial.reclaimed > 0);
	assert_true(trial.most_charged <= 16 * MIB);
	check(&trial.at_once, 16 * MIB);
	times_free(&trial.times);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_few_segments),
		cmocka_unit_test(test_a_few_regions),
		cmocka_unit_test(test_odd_limits),
		cmocka_unit_test(test_threads_with_a_cache_above),
	};

	return run_group(tests);
}
