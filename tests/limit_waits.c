/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The rules of the reclaim contract about who waits: the end of a pool, a limit
 * that changes, wake-ups for nothing.
 */
#include "budget.h"
#include "limits.h"
#include "pool.h"

static void test_a_pool_that_is_waited_on_stays(void **state)
{
	struct pair p;
	struct waiter w[2];

	(void)state;
	pair_begin(&p);
	for (int i = 0; i < 2; i++)
		waiter_start(&w[i], p.waits, SEG_MAX_BYTES);
	wait_until(budget_stats(p.budget).waiters == 2);
	assert_int_equal(seg_pool_destroy(p.waits), -EBUSY);
	assert_string_equal(events_pop(&p.events), "Pool not destroyed: 2 "
			    "allocations at the limit");
	assert_int_equal(seg_release(p.holds, p.held[0]), 0);
	wait_until(budget_stats(p.budget).waiters == 1);
	assert_int_equal(seg_pool_destroy(p.waits), -EBUSY);
	assert_int_equal(seg_release(p.holds, p.held[1]), 0);
	waiter_is_served(&w[0]);
	waiter_is_served(&w[1]);
	pair_end(&p);
}

/* Destroyed as soon as it may be: nobody is in it any more. */
struct quitters {
	struct seg_pool *pool;
	struct atomic_u32 gone;
};

static void *give_up(void *arg)
{
	struct quitters *q = arg;
	struct timespec soon = monotonic_in(0, 3);

	require(!seg_alloc_until(q->pool, SEG_MAX_BYTES, &soon));
	u32_add_seq_cst(&q->gone, 1);
	return NULL;
}

/* At the limit, or back from there: nobody is counted twice in this order. */
static bool all_have_come(struct quitters *q, uint32_t count)
{
	uint32_t gone = u32_load_acquire(&q->gone);

	return gone + u32_load_acquire(&q->pool->waiting) == count;
}

static void test_a_pool_whose_waiters_gave_up(void **state)
{
	(void)state;
	for (int turn = 0; turn < 20; turn++) {
		struct quitters q;
		struct threads t;
		struct pair p;

		pair_begin(&p);
		q = (struct quitters){ .pool = p.waits };
		threads_start(&t, 3, give_up, &q, 0);
		wait_until(all_have_come(&q, 3));
		while (seg_pool_destroy(p.waits) == -EBUSY)
			sched_yield();
		assert_int_equal(threads_join(&t), 0);
		for (int i = 0; i < 2; i++)
			assert_int_equal(seg_release(p.holds, p.held[i]), 0);
		end_both(p.holds, p.budget);
	}
}

/* ---------------------------------------------------- a limit that changes */

struct load {
	struct seg_pool *pool;
	uint64_t seed;
	struct atomic_u32 *end;
};

/* Holds up to 16 segments of any class, at random. */
static void *allocate_and_release(void *arg)
{
	struct load *l = arg;
	void *held[16] = { NULL };

	while (!u32_load_relaxed(l->end)) {
		void **at = &held[random_below(&l->seed, 16)];

		if (*at)
			require(seg_release(l->pool, *at) == 0);
		*at = *at ? NULL :
			    alloc_without_wait(l->pool,
					       slice_of((int)random_below(
						       &l->seed, 7)));
	}
	for (int i = 0; i < 16; i++)
		require(seg_release(l->pool, held[i]) == 0);
	return NULL;
}

static uint64_t limit_and_charge(struct seg_budget *b, uint64_t *ret_charged)
{
	struct seg_budget_stats s = { .size = sizeof(s) };

	require(seg_budget_stats(b, &s) == 0);
	*ret_charged = s.charged_bytes;
	return s.limit_bytes;
}

/* P1, at every look; lowering succeeds or leaves the old limit. */
static void change_limit(struct seg_budget *b, uint64_t bytes)
{
	uint64_t now, before = limit_and_charge(b, &now);
	int ret = seg_budget_set_limit(b, bytes);
	uint64_t after = limit_and_charge(b, &now);

	assert_true(ret == 0 || ret == -EBUSY);
	assert_true(ret == 0 || bytes < before);
	assert_int_equal(after, ret ? before : bytes);
	assert_true(now <= after);
}

static void test_lowering_under_load(void **state)
{
	struct seg_budget *b = new_budget(8 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct atomic_u32 end = { 0 };
	struct load load[3];
	struct threads t;
	uint64_t seed = random_seed(0x10ad);

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		load[i] = (struct load){ pool, i, &end };
	threads_start(&t, 3, allocate_and_release, load, sizeof(*load));
	for (int i = 0; i < 300; i++)
		change_limit(b, (1 + random_below(&seed, 2047)) * 4 * KIB);
	u32_store_relaxed(&end, 1);
	assert_int_equal(threads_join(&t), 0);
	wait_until(seg_budget_set_limit(b, SEG_MIN_BYTES) == 0);
	assert_true(charged(b) <= SEG_MIN_BYTES);
	end_both(pool, b);
}

/* ------------------------------------------------------------- for nothing */

struct noise {
	struct seg_budget *budget;
	struct atomic_u32 end;
};

static void *wake_for_nothing(void *arg)
{
	struct noise *n = arg;

	while (!u32_load_relaxed(&n->end))
		budget_notify(n->budget);
	return NULL;
}

static void test_spurious_wake_ups(void **state)
{
	struct pair p;
	struct noise n;
	struct threads t;
	struct waiter w;
	struct timespec soon = monotonic_in(0, 10);

	(void)state;
	pair_begin(&p);
	n = (struct noise){ .budget = p.budget };
	threads_start(&t, 1, wake_for_nothing, &n, 0);
	assert_null(seg_alloc_until(p.waits, 1, &soon));
	assert_true(monotonic_is_past(&soon));
	waiter_start(&w, p.waits, SEG_MAX_BYTES);
	wait_until(budget_stats(p.budget).waiters == 1);
	assert_int_equal(seg_release(p.holds, p.held[0]), 0);
	waiter_is_served(&w);
	u32_store_relaxed(&n.end, 1);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(seg_release(p.holds, p.held[1]), 0);
	pair_end(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pool_that_is_waited_on_stays),
		cmocka_unit_test(test_a_pool_whose_waiters_gave_up),
		cmocka_unit_test(test_lowering_under_load),
		cmocka_unit_test(test_spurious_wake_ups),
	};

	return run_group(tests);
}
