/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What happens at the limit: P1 (bounded), P6 (usable to the last byte), and
 * who is woken by what.  Deadlines are a minute away where somebody is to be
 * served, so that a slow machine changes nothing.
 */
#include "budget.h"
#include "one_node.h"
#include "pools.h"
#include "rcu.h"

enum { MOST = 1024 };

static void *held[MOST];

/* P6: all whole slices that the limit has room for, and not one more. */
static unsigned fill(struct seg_pool *pool, size_t bytes, uint64_t limit)
{
	unsigned n = (unsigned)(limit / bytes);

	require(n <= MOST);
	for (unsigned i = 0; i < n; i++) {
		held[i] = alloc_patiently(pool, bytes);
		assert_non_null(held[i]);
	}
	errno = 0;
	assert_null(alloc_without_wait(pool, bytes));
	assert_int_equal(errno, ENOMEM);
	return n;
}

static void empty(struct seg_pool *pool, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
}

/* P6: idle regions of one class serve the next, in either direction. */
static void test_each_class_in_turn_fills_the_budget(void **state)
{
	const int order[] = { 0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0, 6, 0 };
	struct seg_budget *b = new_budget(2 * MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	for (size_t i = 0; i < sizeof(order) / sizeof(*order); i++) {
		size_t bytes = slice_of(order[i]);
		unsigned n = fill(pool, bytes, 2 * MIB);

		assert_int_equal(figures(pool, SEG_ALL).active_bytes, 2 * MIB);
		assert_int_equal(charged(b), 2 * MIB);
		empty(pool, n);
	}
	end_both(pool, b);
}

/* P6: the rest of a limit that is no power of two. */
static void test_the_remainder_of_the_limit_is_used(void **state)
{
	const uint64_t limits[] = { 8, 12, 20, 100, 260, 1020, 1028, 1092,
				    1244, 2044, 4092 };

	(void)state;
	for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
		for (int c = 0; c < SEG_CLASSES; c++) {
			struct seg_budget *b = new_budget(limits[i] * KIB);
			struct seg_pool *pool = make_pool(b);
			unsigned n = fill(pool, slice_of(c), limits[i] * KIB);

			assert_int_equal(figures(pool, c).active, n);
			assert_int_equal(charged(b), n * slice_of(c));
			empty(pool, n);
			end_both(pool, b);
		}
}

/* P6: regions are those of the limit of now, not of the one at creation. */
static void test_a_raised_limit_has_large_regions(void **state)
{
	struct seg_budget *b = new_budget(64 * KIB);
	struct seg_pool *pool = make_pool(b);
	unsigned n;

	(void)state;
	assert_int_equal(seg_budget_set_limit(b, 16 * MIB), 0);
	n = fill(pool, slice_of(4), 16 * MIB);
	assert_int_equal(figures(pool, 4).regions, 8);
	empty(pool, n);
	end_both(pool, b);
}

/* P6: a deadline that comes soon is no reason to refuse what is there. */
static void test_a_short_deadline_is_served(void **state)
{
	struct seg_budget *b = new_budget(64 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct timespec now;
	void *segment;

	(void)state;
	budget_defer(b, 64 * KIB);	/* as if that were on its way */
	assert_true(budget_charge(b, 56 * KIB));
	clock_gettime(CLOCK_MONOTONIC, &now);
	now.tv_nsec += 1000000;
	if (now.tv_nsec >= 1000000000) {
		now.tv_sec++;
		now.tv_nsec -= 1000000000;
	}
	segment = seg_alloc_until(pool, 1, &now);
	assert_non_null(segment);
	assert_int_equal(seg_release(pool, segment), 0);
	budget_uncharge(b, 56 * KIB);
	u64_sub_relaxed(&b->deferred_bytes, 64 * KIB);
	end_both(pool, b);
}

/* A stalled grace period: idle memory of another class serves all the same,
 * and no more is taken from it than a batch beyond what is needed. */
static void test_a_grace_period_is_not_waited_for(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);
	struct seg_pool *pool = make_pool(b);
	unsigned n = fill(pool, slice_of(6), 4 * MIB);
	uint64_t batch = 4 * MIB / 256 > slice_of(6) ? 4 * MIB / 256 :
						       slice_of(6);

	(void)state;
	empty(pool, n);
	rcu_enter();			/* nothing is unmapped meanwhile */
	for (unsigned i = 0; i < MOST; i++) {
		uint64_t used = (i + 1) * slice_of(0);

		held[i] = alloc_without_wait(pool, 1);
		require(held[i]);
		require(charged(b) <= 4 * MIB);
		require(figures(pool, 6).unused * slice_of(6) + used + batch >=
			4 * MIB);
	}
	require(!alloc_without_wait(pool, 1));
	rcu_leave();
	assert_int_equal(budget_stats(b).waits_total, 0);
	empty(pool, MOST);
	end_both(pool, b);
}

/* P6: unused slices here and there, of small classes, serve a large one. */
static void test_scattered_slices_serve_a_large_class(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);
	struct seg_pool *pool = make_pool(b);
	void *large[8];
	uint64_t active;

	(void)state;
	require(fill(pool, slice_of(0), 4 * MIB) == MOST);
	for (unsigned i = 0; i < MOST; i += 2)
		assert_int_equal(seg_release(pool, held[i]), 0);
	for (int i = 0; i < 8; i++) {
		large[i] = alloc_without_wait(pool, slice_of(6));
		assert_non_null(large[i]);
		memset(large[i], 'l', slice_of(6));
	}
	active = figures(pool, SEG_ALL).active_bytes;
	assert_int_equal(active, 4 * MIB);
	assert_int_equal(charged(b), 4 * MIB);
	assert_int_equal(figures(pool, 0).decommitted, MOST / 2);
	assert_null(alloc_without_wait(pool, 1));
	for (int i = 0; i < 8; i++)
		assert_int_equal(seg_release(pool, large[i]), 0);
	for (unsigned i = 0; i < MOST; i += 2) {
		held[i] = alloc_without_wait(pool, slice_of(0));
		assert_non_null(held[i]);
		assert_int_equal(*(char *)held[i], 0);
	}
	empty(pool, MOST);
	end_both(pool, b);
}

static void test_a_budget_of_one_slice(void **state)
{
	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_budget *b = new_budget(slice_of(c));
		struct seg_pool *pool = make_pool(b);

		for (int other = c; other >= 0; other--) {
			held[0] = alloc_patiently(pool, slice_of(other));
			assert_non_null(held[0]);
			assert_int_equal(seg_release(pool, held[0]), 0);
		}
		empty(pool, fill(pool, slice_of(c), slice_of(c)));
		if (c + 1 < SEG_CLASSES)
			assert_null(alloc_without_wait(pool, slice_of(c + 1)));
		end_both(pool, b);
	}
}

/* P6: what one pool does not use serves the other. */
static void test_pools_shed_for_each_other(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pools[2] = { make_pool(b), make_pool(b) };

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct seg_pool *pool = pools[i % 2];

		empty(pool, fill(pool, slice_of(i), MIB));
		assert_int_equal(figures(pools[(i + 1) % 2], SEG_ALL).unused,
				 0);
	}
	end_pool(pools[0]);
	end_both(pools[1], b);
}

/* A wait would show in the budget's figures. */
static void test_no_wait_refuses_at_once(void **state)
{
	const struct timespec past[] = {
		{ .tv_sec = 0 }, { .tv_sec = -1 }, { .tv_nsec = 1 },
		monotonic_in(0, 0),
	};
	struct seg_budget *b = new_budget(256 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_pool *waiting = make_pool_with((struct seg_pool_options){
		.budget = b, .wait_ms = 1000000 });
	unsigned n = fill(pool, slice_of(3), 256 * KIB);
	uint64_t refusals = figures(pool, 3).refusals_total;

	(void)state;
	errno = 0;
	assert_null(seg_alloc(pool, slice_of(3)));
	assert_int_equal(errno, ENOMEM);
	assert_null(seg_alloc_zeroed(pool, slice_of(3)));
	for (int i = 0; i < 4; i++) {
		errno = 0;
		assert_null(seg_alloc_until(waiting, slice_of(3), &past[i]));
		assert_int_equal(errno, ENOMEM);
	}
	assert_int_equal(budget_stats(b).waits_total, 0);
	assert_int_equal(figures(pool, 3).refusals_total, refusals + 2);
	assert_int_equal(figures(waiting, SEG_ALL).refusals_total, 4);
	empty(pool, n);
	end_pool(waiting);
	end_both(pool, b);
}

static void test_not_refused_before_the_deadline(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .wait_ms = 20 });
	struct timespec deadline;

	(void)state;
	held[0] = seg_alloc(pool, 1);
	/* A slow machine may be past it before the call looks at the clock. */
	while (!budget_stats(b).waits_total) {
		deadline = monotonic_in(0, 30);
		errno = 0;
		assert_null(seg_alloc_until(pool, 1, &deadline));
		assert_int_equal(errno, ENOMEM);
		assert_true(monotonic_is_past(&deadline));
	}
	assert_int_equal(budget_stats(b).waits_total, 1);
	while (budget_stats(b).waits_total == 1) {
		deadline = monotonic_in(0, 20);
		assert_null(seg_alloc(pool, 1));
		assert_true(monotonic_is_past(&deadline));
	}
	assert_int_equal(budget_stats(b).waits_total, 2);
	assert_int_equal(budget_stats(b).waiters, 0);
	empty(pool, 1);
	end_both(pool, b);
}

/* A thread that waits at the limit for one segment. */
struct waiter {
	struct seg_pool *pool;
	size_t bytes;
	struct timespec deadline;
	void *segment;
	pthread_t thread;
};

static void *waiter_main(void *arg)
{
	struct waiter *w = arg;

	w->segment = seg_alloc_until(w->pool, w->bytes, &w->deadline);
	return NULL;
}

static void waiter_start(struct waiter *w, struct seg_pool *pool, size_t bytes)
{
	w->pool = pool;
	w->bytes = bytes;
	w->deadline = monotonic_in(PATIENCE_S, 0);
	require(!pthread_create(&w->thread, NULL, waiter_main, w));
}

static void wait_for_waiters(struct seg_budget *b, uint64_t n)
{
	wait_until(budget_stats(b).waiters == n);
}

static void waiter_is_served(struct waiter *w)
{
	require(!pthread_join(w->thread, NULL));
	assert_non_null(w->segment);
	assert_int_equal(seg_size(w->pool, w->segment), w->bytes);
	assert_int_equal(seg_release(w->pool, w->segment), 0);
}

/* Beyond 64 bits of nanoseconds is far away, not long ago. */
static void test_a_deadline_far_away(void **state)
{
	const time_t far[] = { UINT32_MAX, 18446744073, 18446744074,
			       INT64_MAX / 1000, INT64_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(far) / sizeof(*far); i++) {
		struct seg_budget *b = new_budget(SEG_MIN_BYTES);
		struct seg_pool *pool = make_pool(b);
		struct waiter w = { .pool = pool, .bytes = SEG_MIN_BYTES,
				    .deadline = { .tv_sec = far[i],
						  .tv_nsec = 999999999 } };

		held[0] = seg_alloc(pool, 1);
		require(!pthread_create(&w.thread, NULL, waiter_main, &w));
		wait_until(budget_stats(b).waits_total == 1);
		empty(pool, 1);
		waiter_is_served(&w);
		end_both(pool, b);
	}
}

static void test_a_release_serves_a_waiter(void **state)
{
	struct seg_budget *b = new_budget(256 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct waiter w;

	(void)state;
	for (int c = 0; c < SEG_CLASSES; c++) {
		unsigned n = fill(pool, slice_of(c), 256 * KIB);

		waiter_start(&w, pool, slice_of(c));
		wait_for_waiters(b, 1);
		assert_int_equal(seg_release(pool, held[n - 1]), 0);
		waiter_is_served(&w);
		empty(pool, n - 1);
	}
	end_both(pool, b);
}

static void test_a_raise_serves_a_waiter(void **state)
{
	struct seg_budget *b = new_budget(256 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct waiter w;
	unsigned n = fill(pool, slice_of(4), 256 * KIB);

	(void)state;
	waiter_start(&w, pool, slice_of(6));
	wait_for_waiters(b, 1);
	assert_int_equal(seg_budget_set_limit(b, 512 * KIB), 0);
	waiter_is_served(&w);
	empty(pool, n);
	end_both(pool, b);
}

static void test_another_class_serves_a_waiter(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct waiter w;
	unsigned n = fill(pool, slice_of(0), MIB);

	(void)state;
	waiter_start(&w, pool, slice_of(6));
	wait_for_waiters(b, 1);
	empty(pool, n);
	waiter_is_served(&w);
	assert_true(figures(pool, 0).decommitted > 0);
	end_both(pool, b);
}

static void test_another_pool_serves_a_waiter(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_pool *other = make_pool(b);
	struct waiter w;
	unsigned n = fill(other, slice_of(2), MIB);

	(void)state;
	waiter_start(&w, pool, slice_of(2));
	wait_for_waiters(b, 1);
	empty(other, n);
	waiter_is_served(&w);
	end_pool(other);
	end_both(pool, b);
}

/* One waiter's large request never blocks a smaller one. */
static void test_a_large_request_blocks_no_small_one(void **state)
{
	struct seg_budget *b = new_budget(256 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct waiter large, small;
	unsigned n = fill(pool, slice_of(0), 256 * KIB);

	(void)state;
	waiter_start(&large, pool, slice_of(6));
	wait_for_waiters(b, 1);
	waiter_start(&small, pool, slice_of(0));
	wait_for_waiters(b, 2);
	assert_int_equal(seg_release(pool, held[n - 1]), 0);
	waiter_is_served(&small);
	wait_for_waiters(b, 1);
	empty(pool, n - 1);
	waiter_is_served(&large);
	end_both(pool, b);
}

enum { CROWD = 4, TURNS = 200 };

/* P1: one owner at a time, whatever the threads do. */
struct turns {
	struct seg_pool *pool;
	pthread_mutex_t *owner;
	size_t bytes;
};

static void *take_turns(void *arg)
{
	struct turns *t = arg;

	for (int i = 0; i < TURNS; i++) {
		void *segment = alloc_patiently(t->pool, t->bytes);

		require(segment && pthread_mutex_trylock(t->owner) == 0);
		memset(segment, i, 64);
		require(pthread_mutex_unlock(t->owner) == 0);
		require(seg_release(t->pool, segment) == 0);
	}
	return NULL;
}

/* Different classes: each turn unmaps the one before. */
static void test_all_waiters_are_served(void **state)
{
	struct seg_budget *b = new_budget(SEG_MAX_BYTES);
	struct seg_pool *pool = make_pool(b);
	pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER;
	struct turns turns[CROWD];
	struct threads threads;

	(void)state;
	for (int i = 0; i < CROWD; i++)
		turns[i] = (struct turns){ pool, &owner, SEG_MAX_BYTES };
	threads_start(&threads, CROWD, take_turns, turns, sizeof(*turns));
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(figures(pool, 6).allocations_total, CROWD * TURNS);
	assert_int_equal(budget_stats(b).peak_charged_bytes, SEG_MAX_BYTES);
	end_both(pool, b);
}

static void test_a_refusal_is_counted_and_logged(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(64 * KIB);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	unsigned long long waited;
	char line[RECORDER_WIDTH];

	(void)state;
	held[0] = seg_alloc(pool, 64 * KIB);
	assert_int_equal(recorder_count(&e.lines), 0);
	assert_null(seg_alloc(pool, 5000));
	assert_int_equal(recorder_count(&e.lines), 2);
	assert_int_equal(strncmp(e.lines.line[1], "Refusal record: {", 17), 0);
	assert_int_equal(e.lines.level[0], SEG_LOG_ERROR);
	assert_int_equal(sscanf(e.lines.line[0], "Allocation refused: size=5000"
				", pool 1, waited %llu ms", &waited), 1);
	snprintf(line, sizeof(line), "Allocation refused: size=5000, pool 1, "
		 "waited %llu ms (charged 64 KB of 64 KB, deferred 0 KB)",
		 waited);
	assert_string_equal(e.lines.line[0], line);
	assert_int_equal(figures(pool, 1).refusals_total, 1);
	assert_int_equal(figures(pool, 4).refusals_total, 0);
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, 1);
	assert_int_equal(figures(pool, SEG_ALL).allocations_total, 1);
	empty(pool, 1);
	end_both(pool, b);
}

static void test_limits_that_are_none(void **state)
{
	struct seg_budget *b = new_budget(MIB);

	(void)state;
	assert_int_equal(seg_budget_set_limit(NULL, MIB), -EINVAL);
	assert_int_equal(seg_budget_set_limit(b, 4095), -ERANGE);
	assert_int_equal(seg_budget_set_limit(b, 16 * MIB * MIB - 4095),
			 -ERANGE);
	assert_int_equal(budget_stats(b).limit_bytes, MIB);
	assert_int_equal(seg_budget_set_limit(b, 16 * MIB * MIB - 4096), 0);
	assert_int_equal(seg_budget_set_limit(b, 8191), 0);
	assert_int_equal(budget_stats(b).limit_bytes, 4096);
	end_budget(b);
}

/* P1: lowering succeeds or leaves the old limit. */
static void test_lowering_the_limit(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	unsigned n = fill(pool, slice_of(3), MIB);

	(void)state;
	assert_int_equal(seg_budget_set_limit(b, 512 * KIB), -EBUSY);
	assert_int_equal(budget_stats(b).limit_bytes, MIB);
	assert_int_equal(seg_budget_set_limit(b, MIB - 1), -EBUSY);
	empty(pool, n);
	wait_until(seg_budget_set_limit(b, 512 * KIB) == 0);
	assert_true(charged(b) <= 512 * KIB);
	n = fill(pool, slice_of(2), 512 * KIB);
	empty(pool, n);
	wait_until(seg_budget_set_limit(b, SEG_MIN_BYTES) == 0);
	n = fill(pool, slice_of(0), SEG_MIN_BYTES);
	empty(pool, n);
	end_both(pool, b);
}

/* Takes all there is in the largest class, until it is told to stop. */
struct taker {
	struct seg_pool *pool;
	struct atomic_u32 stop;
};

static void *take_and_empty(void *arg)
{
	struct taker *t = arg;
	void *taken[16 * MIB / SEG_MAX_BYTES];
	unsigned n = 0;

	while (!u32_load_acquire(&t->stop)) {
		while ((taken[n] = alloc_without_wait(t->pool, SEG_MAX_BYTES)))
			n++;
		while (n)
			require(seg_release(t->pool, taken[--n]) == 0);
	}
	return NULL;
}

/* What others at the limit have in hand of an empty pool does not keep it from
 * being destroyed. */
static void test_an_empty_pool_is_destroyed_at_the_limit(void **state)
{
	enum { PAGES = 2000 };
	static void *taken[PAGES];
	struct seg_budget *b = new_budget(8 * MIB);
	struct taker t = { .pool = make_pool(b) };
	unsigned rounds = testing_rounds(1000);
	struct threads thread;

	(void)state;
	threads_start(&thread, 1, take_and_empty, &t, 0);
	for (unsigned i = 0; i < rounds; i++) {
		struct seg_pool *pool = make_pool(b);
		unsigned n = 0;

		while (n < PAGES && (taken[n] = alloc_without_wait(pool, 1)))
			n++;
		while (n)
			assert_int_equal(seg_release(pool, taken[--n]), 0);
		assert_int_equal(seg_pool_destroy(pool), 0);
	}
	/* release -> take_and_empty() */
	u32_store_release(&t.stop, 1);
	assert_int_equal(threads_join(&thread), 0);
	end_both(t.pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_class_in_turn_fills_the_budget),
		cmocka_unit_test(test_the_remainder_of_the_limit_is_used),
		cmocka_unit_test(test_a_raised_limit_has_large_regions),
		cmocka_unit_test(test_a_short_deadline_is_served),
		cmocka_unit_test(test_a_grace_period_is_not_waited_for),
		cmocka_unit_test(test_scattered_slices_serve_a_large_class),
		cmocka_unit_test(test_a_budget_of_one_slice),
		cmocka_unit_test(test_pools_shed_for_each_other),
		cmocka_unit_test(test_no_wait_refuses_at_once),
		cmocka_unit_test(test_not_refused_before_the_deadline),
		cmocka_unit_test(test_a_deadline_far_away),
		cmocka_unit_test(test_a_release_serves_a_waiter),
		cmocka_unit_test(test_a_raise_serves_a_waiter),
		cmocka_unit_test(test_another_class_serves_a_waiter),
		cmocka_unit_test(test_another_pool_serves_a_waiter),
		cmocka_unit_test(test_a_large_request_blocks_no_small_one),
		cmocka_unit_test(test_all_waiters_are_served),
		cmocka_unit_test(test_a_refusal_is_counted_and_logged),
		cmocka_unit_test(test_limits_that_are_none),
		cmocka_unit_test(test_lowering_the_limit),
		cmocka_unit_test(test_an_empty_pool_is_destroyed_at_the_limit),
	};

	return run_group(tests);
}
