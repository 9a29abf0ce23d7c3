/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11: threads end, by returning, by pthread_exit() and by cancellation, with
 * segments alive that others use and release.
 */
#include "caches.h"

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
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = MIB };
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

/* ---- caches ---- */

/* A pin is nobody's thread's: it stays when its thread ends. */
struct holder {
	struct box *box;
	uint64_t key;
	struct seg_pin pin;
};

static void *pin_and_end(void *arg)
{
	struct holder *h = arg;

	h->pin = get(h->box->cache, h->key);
	require(seg_pin_tag(&h->pin, h->key + 1) == 0);
	return NULL;
}

static void test_pins_outlive_their_threads(void **state)
{
	struct holder holders[TOGETHER];
	struct box *box = box_begin(TOGETHER);
	struct threads threads;

	(void)state;
	for (uint64_t i = 0; i < TOGETHER; i++) {
		put(box->cache, i, number(i), 1);
		holders[i] = (struct holder){ .box = box, .key = i };
	}
	threads_start(&threads, TOGETHER, pin_and_end, holders,
		      sizeof(*holders));
	assert_int_equal(threads_join(&threads), 0);
	assert_weights(box, 0, TOGETHER);
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	for (uint64_t i = 0; i < TOGETHER; i++) {
		assert_ptr_equal(seg_pin_value(&holders[i].pin), number(i));
		unpin(&holders[i].pin);
	}
	assert_weights(box, TOGETHER, 0);
	box_end(box);
}

/* What threads counted is not lost with them, whichever slots they had. */
static void test_figures_outlive_their_threads(void **state)
{
	struct box *box = box_begin(10);
	struct threads threads;

	(void)state;
	put(box->cache, 0, number(0), 7);
	for (unsigned i = 0; i < SHORT_LIVED / TOGETHER; i++) {
		struct holder holders[TOGETHER];

		for (unsigned k = 0; k < TOGETHER; k++)
			holders[k] = (struct holder){ .box = box };
		threads_start(&threads, TOGETHER, pin_and_end, holders,
			      sizeof(*holders));
		assert_int_equal(threads_join(&threads), 0);
		for (unsigned k = 0; k < TOGETHER; k++)
			unpin(&holders[k].pin);
		assert_weights(box, 7, 0);
	}
	assert_int_equal(cache_stats(box->cache).hits_total, SHORT_LIVED);
	box_end(box);
}

/* Neither in a loader nor in a listener: others wait for what they do. */
static int load_cancelled(void *ctx, uint64_t key, void **ret_value,
			  uint64_t *ret_weight)
{
	(void)ctx;
	pthread_testcancel();
	*ret_value = number(key);
	*ret_weight = 6;
	return 0;
}

static void listen_cancelled(struct box *box, const struct heard_call *call)
{
	(void)box;
	(void)call;
	pthread_testcancel();
}

/* Not inlined, as create_and_destroy(). */
static __attribute__((noinline)) void load_and_remove(struct box *box)
{
	struct seg_pin pin;

	require(seg_cache_get_or_load(box->cache, 1, load_cancelled, NULL, 0,
				      &pin) == 0);
	unpin(&pin);
	put(box->cache, 2, number(2), 6);
	require(seg_cache_remove(box->cache, 2, NULL) == 0);
}

static void *use_cache_while_cancelled(void *box)
{
	require(!pthread_cancel(pthread_self()));
	load_and_remove(box);
	pthread_testcancel();
	return NULL;
}

static void test_callbacks_are_not_cancelled(void **state)
{
	struct box *box = box_begin(10);
	pthread_t thread;
	void *result;

	(void)state;
	box->also = listen_cancelled;
	require(!pthread_create(&thread, NULL, use_cache_while_cancelled, box));
	require(!pthread_join(thread, &result));
	assert_ptr_equal(result, PTHREAD_CANCELED);
	assert_int_equal(box->heard, 2);
	assert_int_equal(cache_stats(box->cache).loads_total, 1);
	box_end(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_that_return),
		cmocka_unit_test(test_threads_that_exit),
		cmocka_unit_test(test_threads_that_are_cancelled),
		cmocka_unit_test(test_a_cancel_does_not_end_a_wait),
		cmocka_unit_test(test_no_call_is_a_cancellation_point),
		cmocka_unit_test(test_pins_outlive_their_threads),
		cmocka_unit_test(test_figures_outlive_their_threads),
		cmocka_unit_test(test_callbacks_are_not_cancelled),
	};

	return run_group(tests);
}
