/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The intent log (P8, one owner): what is put in is the log's alone, and every
 * page is released exactly once on each way out.
 */
#include "pools.h"

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_txlog *log;
};

static struct scene scene_begin(void)
{
	struct scene s = { .budget = new_budget(64 * MIB) };

	s.pool = make_pool(s.budget);
	assert_int_equal(seg_txlog_create(s.pool, NULL, &s.log), 0);
	return s;
}

/* Every page has been released, and none twice. */
static void scene_end(struct scene *s)
{
	seg_txlog_destroy(s->log);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	assert_int_equal(figures(s->pool, SEG_ALL).misuses_total, 0);
	end_both(s->pool, s->budget);
}

static struct seg_page *page_of(struct scene *s)
{
	const size_t bytes = 1;
	struct seg_page *page = NULL;

	assert_int_equal(seg_page_create(s->pool, &bytes, 1, &page), 0);
	return page;
}

static uint64_t active(struct scene *s)
{
	return figures(s->pool, SEG_ALL).active;
}

static void put(struct scene *s, uint64_t key, struct seg_page *complete,
		struct seg_page *modified)
{
	assert_int_equal(seg_txlog_put(s->log, key, complete, modified), 0);
}

/* Misuse that a test provokes; scene_end() wants none left. */
static void expect_misuses(struct scene *s, uint64_t n)
{
	assert_int_equal(figures(s->pool, SEG_ALL).misuses_total, n);
}

static void scene_end_after_misuse(struct scene *s)
{
	seg_txlog_destroy(s->log);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	end_both(s->pool, s->budget);
}

static void test_put_get_take(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s);
	struct seg_page *one = NULL, *two = NULL;

	(void)state;
	put(&s, 7, a, b);
	assert_int_equal(seg_txlog_count(s.log), 1);
	assert_int_equal(seg_txlog_get(s.log, 7, &one, &two), 0);
	assert_ptr_equal(one, a);
	assert_ptr_equal(two, b);
	assert_int_equal(seg_txlog_get(s.log, 7, NULL, NULL), 0);
	assert_int_equal(seg_txlog_get(s.log, 8, &one, &two), -ENOENT);
	assert_int_equal(seg_txlog_take(s.log, 8, &one, &two), -ENOENT);
	one = two = NULL;
	assert_int_equal(seg_txlog_take(s.log, 7, &one, &two), 0);
	assert_ptr_equal(one, a);
	assert_ptr_equal(two, b);
	assert_int_equal(seg_txlog_count(s.log), 0);
	assert_int_equal(seg_txlog_get(s.log, 7, &one, &two), -ENOENT);
	assert_int_equal(active(&s), 2);
	assert_int_equal(seg_page_release(a), 0);
	assert_int_equal(seg_page_release(b), 0);
	scene_end(&s);
}

static void test_arguments_that_are_none(void **state)
{
	struct scene s = scene_begin();
	struct seg_pool *other = make_pool(s.budget);
	struct seg_txlog_options o = { .size = 4 };
	const size_t bytes = 1;
	struct seg_page *page = page_of(&s), *theirs, *out;
	struct seg_txlog *log = NULL;

	(void)state;
	assert_int_equal(seg_page_create(other, &bytes, 1, &theirs), 0);
	assert_int_equal(seg_txlog_create(NULL, NULL, &log), -EINVAL);
	assert_int_equal(seg_txlog_create(s.pool, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_create(s.pool, &o, &log), -EINVAL);
	o.size = sizeof(o);
	o.capacity = SIZE_MAX / 2;
	assert_int_equal(seg_txlog_create(s.pool, &o, &log), -ENOMEM);
	assert_null(log);
	assert_int_equal(seg_txlog_put(NULL, 1, page, NULL), -EINVAL);
	assert_int_equal(seg_txlog_put(s.log, 1, NULL, page), -EINVAL);
	assert_int_equal(seg_txlog_put(s.log, 1, theirs, NULL), -EINVAL);
	assert_int_equal(seg_txlog_put(s.log, 1, page, theirs), -EINVAL);
	assert_int_equal(seg_txlog_get(NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_take(NULL, 1, &out, &out), -EINVAL);
	assert_int_equal(seg_txlog_take(s.log, 1, NULL, &out), -EINVAL);
	assert_int_equal(seg_txlog_take(s.log, 1, &out, NULL), -EINVAL);
	assert_int_equal(seg_txlog_commit(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_abort(NULL), -EINVAL);
	assert_int_equal(seg_txlog_count(NULL), 0);
	assert_int_equal(seg_txlog_count(s.log), 0);
	seg_txlog_destroy(NULL);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(seg_page_release(theirs), 0);
	end_pool(other);
	scene_end(&s);
}

static void test_abort_and_destroy_release_all(void **state)
{
	struct scene s = scene_begin();

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (uint64_t key = 0; key < 200; key++)
			put(&s, key, page_of(&s), key % 2 ? page_of(&s) : NULL);
		assert_int_equal(active(&s), 300);
		assert_int_equal(seg_txlog_abort(s.log), 0);
		assert_int_equal(seg_txlog_count(s.log), 0);
		assert_int_equal(active(&s), 0);
	}
	put(&s, 1, page_of(&s), page_of(&s));
	assert_int_equal(seg_pool_destroy(s.pool), -EBUSY);
	scene_end(&s);
}

static void test_a_pool_with_an_empty_log_is_busy(void **state)
{
	struct scene s = scene_begin();

	(void)state;
	assert_int_equal(seg_pool_destroy(s.pool), -EBUSY);
	scene_end(&s);
}

/* The root of a tree is its own modified page: released once. */
static void test_the_same_page_twice_in_a_pair(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *one, *two;

	(void)state;
	put(&s, 1, a, a);
	assert_int_equal(seg_txlog_take(s.log, 1, &one, &two), 0);
	assert_ptr_equal(one, a);
	assert_ptr_equal(two, a);
	put(&s, 1, a, a);
	put(&s, 1, a, a);
	put(&s, 1, a, NULL);
	put(&s, 1, a, a);
	assert_int_equal(active(&s), 1);
	assert_int_equal(seg_txlog_commit(s.log, NULL, NULL), 0);
	assert_int_equal(figures(s.pool, SEG_ALL).releases_total, 1);
	scene_end(&s);
}

static void test_replacing_a_pair_keeps_what_stays(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s), *c = page_of(&s);
	struct seg_page *d = page_of(&s), *one, *two;

	(void)state;
	put(&s, 1, a, b);
	put(&s, 1, a, c);
	assert_int_equal(active(&s), 3);
	put(&s, 1, c, a);
	assert_int_equal(active(&s), 3);
	put(&s, 1, d, c);
	assert_int_equal(active(&s), 2);
	put(&s, 1, c, NULL);
	assert_int_equal(active(&s), 1);
	assert_int_equal(seg_txlog_count(s.log), 1);
	assert_int_equal(seg_txlog_get(s.log, 1, &one, &two), 0);
	assert_ptr_equal(one, c);
	assert_null(two);
	scene_end(&s);
}

static void test_a_page_has_one_owner(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s), *c = page_of(&s);
	struct seg_txlog *other;

	(void)state;
	assert_int_equal(seg_txlog_create(s.pool, NULL, &other), 0);
	put(&s, 1, a, b);
	assert_int_equal(seg_txlog_put(other, 1, a, NULL), -EBUSY);
	assert_int_equal(seg_txlog_put(other, 1, c, b), -EBUSY);
	assert_int_equal(seg_txlog_put(other, 1, b, c), -EBUSY);
	assert_int_equal(seg_txlog_put(s.log, 2, a, NULL), -EBUSY);
	assert_int_equal(seg_txlog_put(s.log, 2, c, a), -EBUSY);
	assert_int_equal(seg_page_release(a), -EBUSY);
	expect_misuses(&s, 6);
	assert_int_equal(seg_txlog_count(s.log), 1);
	assert_int_equal(seg_txlog_count(other), 0);
	assert_int_equal(active(&s), 3);
	/* c is still the caller's, though it came first in a pair. */
	assert_int_equal(seg_page_release(c), 0);
	seg_txlog_destroy(other);
	scene_end_after_misuse(&s);
}

static void test_a_replacement_that_fails_changes_nothing(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s), *c = page_of(&s);
	struct seg_page *one, *two;

	(void)state;
	put(&s, 1, a, NULL);
	put(&s, 2, b, NULL);
	assert_int_equal(seg_txlog_put(s.log, 1, c, b), -EBUSY);
	assert_int_equal(seg_txlog_put(s.log, 1, a, b), -EBUSY);
	assert_int_equal(seg_txlog_get(s.log, 1, &one, &two), 0);
	assert_ptr_equal(one, a);
	assert_null(two);
	assert_int_equal(active(&s), 3);
	assert_int_equal(seg_page_release(c), 0);
	scene_end_after_misuse(&s);
}

static void test_a_released_page_is_stale(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s);

	(void)state;
	assert_int_equal(seg_page_release(a), 0);
	assert_int_equal(seg_txlog_put(s.log, 1, a, NULL), -ESTALE);
	assert_int_equal(seg_txlog_put(s.log, 1, b, a), -ESTALE);
	assert_int_equal(seg_txlog_count(s.log), 0);
	expect_misuses(&s, 2);
	assert_int_equal(seg_page_release(b), 0);
	scene_end_after_misuse(&s);
}

/* ------------------------------------------------------------------ commit */

struct writes {
	unsigned count;
	unsigned fail_at;	/* which call fails; 0: none */
	uint64_t last;
	const struct seg_page *page[2];
};

static int count_write(void *ctx, uint64_t key, const struct seg_page *complete,
		       const struct seg_page *modified)
{
	struct writes *w = ctx;

	require(w->count == 0 || key > w->last);
	require(seg_page_parts(complete) == 1 && seg_page_part(complete, 0));
	w->last = key;
	w->page[0] = complete;
	w->page[1] = modified;
	return ++w->count == w->fail_at ? -EIO : 0;
}

static void test_a_write_that_fails_leaves_everything(void **state)
{
	struct scene s = scene_begin();
	enum { PAIRS = 20 };

	(void)state;
	for (uint64_t key = 0; key < PAIRS; key++)
		put(&s, key, page_of(&s), page_of(&s));
	for (unsigned n = 1; n <= PAIRS; n++) {
		struct writes w = { .fail_at = n };

		assert_int_equal(seg_txlog_commit(s.log, count_write, &w),
				 -EIO);
		assert_int_equal(w.count, n);
		assert_int_equal(seg_txlog_count(s.log), PAIRS);
		assert_int_equal(active(&s), 2 * PAIRS);
	}
	struct writes all = { 0 };
	assert_int_equal(seg_txlog_commit(s.log, count_write, &all), 0);
	assert_int_equal(all.count, PAIRS);
	assert_int_equal(seg_txlog_count(s.log), 0);
	assert_int_equal(active(&s), 0);
	assert_int_equal(seg_txlog_commit(s.log, count_write, &all), 0);
	assert_int_equal(all.count, PAIRS);
	scene_end(&s);
}

static void test_what_is_written_is_what_was_put(void **state)
{
	struct scene s = scene_begin();
	struct seg_page *a = page_of(&s), *b = page_of(&s);
	struct writes w = { 0 };

	(void)state;
	put(&s, UINT64_MAX, a, b);
	assert_int_equal(seg_txlog_commit(s.log, count_write, &w), 0);
	assert_true(w.last == UINT64_MAX);
	assert_ptr_equal(w.page[0], a);
	assert_ptr_equal(w.page[1], b);
	put(&s, 0, page_of(&s), NULL);
	w.count = 0;
	assert_int_equal(seg_txlog_commit(s.log, count_write, &w), 0);
	assert_null(w.page[1]);
	scene_end(&s);
}

static void *commit_main(void *log)
{
	struct writes w = { 0 };

	require(seg_txlog_commit(log, count_write, &w) == 0);
	return w.count == 500 ? NULL : log;
}

static void test_another_thread_commits(void **state)
{
	struct scene s = scene_begin();
	struct threads threads;

	(void)state;
	for (uint64_t key = 0; key < 500; key++)
		put(&s, key, page_of(&s), page_of(&s));
	threads_start(&threads, 1, commit_main, s.log, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(active(&s), 0);
	scene_end(&s);
}

enum { KEYS = 5000 };

/* 1 to KEYS in an order that the seed decides. */
static void shuffle(uint64_t *keys, uint64_t seed)
{
	for (unsigned i = KEYS - 1; i > 0; i--) {
		unsigned j = (unsigned)random_below(&seed, i + 1);
		uint64_t key = keys[i];

		keys[i] = keys[j];
		keys[j] = key;
	}
}

static void put_take_commit(const uint64_t *keys, size_t capacity)
{
	struct seg_txlog_options o = { .size = sizeof(o),
				       .capacity = capacity };
	struct scene s = scene_begin();
	struct seg_page *one, *two;
	struct writes w = { 0 };

	seg_txlog_destroy(s.log);
	assert_int_equal(seg_txlog_create(s.pool, &o, &s.log), 0);
	for (unsigned i = 0; i < KEYS; i++)
		put(&s, keys[i], page_of(&s), NULL);
	assert_int_equal(seg_txlog_count(s.log), KEYS);
	for (unsigned i = 0; i < KEYS; i += 10) {
		require(!seg_txlog_take(s.log, keys[i], &one, &two));
		require(!two && !seg_page_release(one));
		require(seg_txlog_get(s.log, keys[i], NULL, NULL) == -ENOENT);
	}
	assert_int_equal(seg_txlog_commit(s.log, count_write, &w), 0);
	assert_int_equal(w.count, KEYS - KEYS / 10);
	assert_int_equal(figures(s.pool, SEG_ALL).releases_total, KEYS);
	scene_end(&s);
}

static void test_keys_in_any_order(void **state)
{
	static uint64_t keys[KEYS];

	(void)state;
	for (unsigned i = 0; i < KEYS; i++)
		keys[i] = i;
	put_take_commit(keys, 0);
	for (unsigned i = 0; i < KEYS; i++)
		keys[i] = UINT64_MAX - i;
	put_take_commit(keys, 1);
	shuffle(keys, random_seed(0x10f));
	put_take_commit(keys, KEYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_get_take),
		cmocka_unit_test(test_arguments_that_are_none),
		cmocka_unit_test(test_abort_and_destroy_release_all),
		cmocka_unit_test(test_a_pool_with_an_empty_log_is_busy),
		cmocka_unit_test(test_the_same_page_twice_in_a_pair),
		cmocka_unit_test(test_replacing_a_pair_keeps_what_stays),
		cmocka_unit_test(test_a_page_has_one_owner),
		cmocka_unit_test(test_a_replacement_that_fails_changes_nothing),
		cmocka_unit_test(test_a_released_page_is_stale),
		cmocka_unit_test(test_a_write_that_fails_leaves_everything),
		cmocka_unit_test(test_what_is_written_is_what_was_put),
		cmocka_unit_test(test_another_thread_commits),
		cmocka_unit_test(test_keys_in_any_order),
	};

	return run_group(tests);
}
