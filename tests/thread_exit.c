/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11: threads end, by returning, by pthread_exit() and by cancellation, with
 * segments alive that others use and release.
 */
#include "pools.h"

enum { SHORT_LIVED = 200, TOGETHER = 4, EACH = 5 };

struct life {
	struct seg_pool *pool;
	unsigned number;
	void *segment[EACH];
};

static void live(struct life *life)
{
	for (unsigned i = 0; i < EACH; i++) {
		life->segment[i] = seg_alloc(life->pool,
					     slice_of((int)(i + 1) % 4));
		require(life->segment[i]);
		memset(life->segment[i], (int)life->number, SEG_MIN_BYTES);
	}
	/* One goes before its thread. */
	require(seg_release(life->pool, life->segment[0]) == 0);
	life->segment[0] = NULL;
}

static void *return_early(void *arg)
{
	live(arg);
	return NULL;
}

static void *exit_early(void *arg)
{
	live(arg);
	pthread_exit(NULL);
}

static void release_what_is_left(struct life *life)
{
	for (unsigned i = 1; i < EACH; i++) {
		char *segment = life->segment[i];

		assert_int_equal(segment[0], (char)life->number);
		assert_int_equal(segment[SEG_MIN_BYTES - 1],
				 (char)life->number);
		assert_int_equal(seg_release(life->pool, segment), 0);
	}
}

static void short_lives(void *(*main)(void *))
{
	static struct life lives[SHORT_LIVED];
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct threads threads;

	for (unsigned i = 0; i < SHORT_LIVED; i++)
		lives[i] = (struct life){ .pool = pool, .number = i };
	for (unsigned i = 0; i < SHORT_LIVED; i += TOGETHER) {
		threads_start(&threads, TOGETHER, main, &lives[i],
			      sizeof(*lives));
		assert_int_equal(threads_join(&threads), 0);
	}
	assert_int_equal(figures(pool, SEG_ALL).active,
			 SHORT_LIVED * (EACH - 1));
	assert_true(seg_pool_is_valid(pool));
	for (unsigned i = 0; i < SHORT_LIVED; i++)
		release_what_is_left(&lives[i]);
	assert_int_equal(figures(pool, SEG_ALL).allocations_total,
			 SHORT_LIVED * EACH);
	end_both(pool, b);
}

static void test_threads_that_return(void **state)
{
	(void)state;
	short_lives(return_early);
}

static void test_threads_that_exit(void **state)
{
	(void)state;
	short_lives(exit_early);
}

/* Cancelled between two calls, and nowhere else. */
struct cancelled {
	struct seg_pool *pool;
	sem_t *began;
	void *segment;
	struct timespec deadline;
};

static void *until_cancelled(void *arg)
{
	struct cancelled *c = arg;

	c->segment = seg_alloc(c->pool, 1);
	require(c->segment);
	sem_post(c->began);
	for (;;) {
		void *other = seg_alloc(c->pool, SEG_MAX_BYTES);

		require(other && seg_release(c->pool, other) == 0);
		pthread_testcancel();
	}
	return NULL;
}

static void test_threads_that_are_cancelled(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct cancelled c[TOGETHER];
	pthread_t thread[TOGETHER];
	void *result;
	sem_t began;

	(void)state;
	sem_init(&began, 0, 0);
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < TOGETHER; i++) {
			c[i] = (struct cancelled){ .pool = pool,
						   .began = &began };
			require(!pthread_create(&thread[i], NULL,
						until_cancelled, &c[i]));
		}
		for (int i = 0; i < TOGETHER; i++)
			wait_for(&began);
		for (int i = 0; i < TOGETHER; i++)
			require(!pthread_cancel(thread[i]));
		for (int i = 0; i < TOGETHER; i++) {
			require(!pthread_join(thread[i], &result));
			assert_ptr_equal(result, PTHREAD_CANCELED);
		}
		assert_int_equal(figures(pool, SEG_ALL).active, TOGETHER);
		assert_true(seg_pool_is_valid(pool));
		for (int i = 0; i < TOGETHER; i++)
			assert_int_equal(seg_release(pool, c[i].segment), 0);
	}
	sem_destroy(&began);
	end_both(pool, b);
}

/* seg(7): no call is a cancellation point, the wait at the limit included. */
static void *wait_at_the_limit(void *arg)
{
	struct cancelled *c = arg;

	c->segment = seg_alloc_until(c->pool, 1, &c->deadline);
	require(c->segment);
	pthread_testcancel();
	return NULL;
}

static void test_a_cancel_does_not_end_a_wait(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1), *result;
	struct cancelled c = { .pool = pool,
			       .deadline = monotonic_in(PATIENCE_S, 0) };
	pthread_t thread;

	(void)state;
	require(!pthread_create(&thread, NULL, wait_at_the_limit, &c));
	wait_until(budget_stats(b).waiters == 1);
	require(!pthread_cancel(thread));
	assert_int_equal(seg_release(pool, held), 0);
	require(!pthread_join(thread, &result));
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_non_null(c.segment);
	assert_int_equal(seg_release(pool, c.segment), 0);
	end_both(pool, b);
}

/*
 * Nor are the calls that block, though they join the library's thread.  Not
 * inlined, since AddressSanitizer does not clear the frame that is cancelled.
 */
static __attribute__((noinline)) void create_and_destroy(void)
{
	struct seg_budget_options limit = { sizeof(limit), MIB };
	struct seg_pool_options o = { .size = sizeof(o) };
	struct seg_pool *pool;
	void *segment;

	require(seg_budget_create(&limit, &o.budget) == 0);
	require(seg_pool_create(&o, &pool) == 0);
	segment = seg_alloc(pool, 1);
	require(segment && seg_release(pool, segment) == 0);
	require(seg_pool_trim(pool, NULL) == 0);
	require(seg_pool_destroy(pool) == 0);
	require(seg_budget_destroy(o.budget) == 0);
}

static void *while_cancelled(void *done)
{
	/* Pending from here on: the next cancellation point would end it. */
	require(!pthread_cancel(pthread_self()));
	create_and_destroy();
	*(bool *)done = true;
	pthread_testcancel();
	return NULL;
}

static void test_no_call_is_a_cancellation_point(void **state)
{
	bool done = false;
	pthread_t thread;
	void *result;

	(void)state;
	require(!pthread_create(&thread, NULL, while_cancelled, &done));
	require(!pthread_join(thread, &result));
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_true(done);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_that_return),
		cmocka_unit_test(test_threads_that_exit),
		cmocka_unit_test(test_threads_that_are_cancelled),
		cmocka_unit_test(test_a_cancel_does_not_end_a_wait),
		cmocka_unit_test(test_no_call_is_a_cancellation_point),
	};

	return run_group(tests);
}
