/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Caches of pages (P8, one owner): a page in a cache is the cache's alone, and
 * is released by it, once, after the listener was told; whatever fails leaves
 * it with who had it.  Each test ends with all segments back.
 */
#include "caches.h"
#include "one_node.h"

enum { THREADS = 4, ROUNDS = 300 };

/* A pool and a cache of its pages. */
struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box;
	struct seg_cache *cache;
	struct events events;
};

static struct box *new_box_of(struct scene *s, uint64_t max_weight,
			      const char *name)
{
	return box_begin_with((struct seg_cache_options){
		.max_weight = max_weight, .pages = s->pool,
		.budget = s->budget, .name = name });
}

static struct scene *scene_begin(uint64_t max_weight)
{
	struct scene *s = calloc(1, sizeof(*s));

	require(s);
	s->events = (struct events)EVENTS_INIT;
	s->budget = new_budget(64 * MIB);
	s->pool = make_pool_events(s->budget, &s->events, SEG_LOG_ERROR);
	s->box = new_box_of(s, max_weight, "PageCache");
	s->cache = s->box->cache;
	return s;
}

static void scene_end(struct scene *s)
{
	box_end(s->box);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	end_both(s->pool, s->budget);
	free(s);
}

static struct seg_page *page_of(struct seg_pool *pool, size_t bytes)
{
	const size_t parts[] = { bytes, 1 };
	struct seg_page *page = NULL;

	require(seg_page_create(pool, parts, 2, &page) == 0);
	memset(seg_page_part(page, 0), 'p', bytes);
	return page;
}

static struct seg_page *new_page(struct scene *s)
{
	return page_of(s->pool, 60000);
}

enum { PAGE_WEIGHT = 65536 + 4096 };

static void test_a_page_weighs_its_bytes_or_what_is_said(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_page *page = new_page(s);

	(void)state;
	assert_int_equal(seg_page_bytes(page), PAGE_WEIGHT);
	put(s->cache, 1, page, 0);
	assert_int_equal(cache_stats(s->cache).weight, PAGE_WEIGHT);
	put(s->cache, 2, new_page(s), 1000);
	assert_int_equal(cache_stats(s->cache).weight, PAGE_WEIGHT + 1000);
	scene_end(s);
}

/* The listener is told, and can read it still; then it is released. */
static void read_page(struct box *box, const struct heard_call *call)
{
	const char *part = seg_page_part(call->value, 0);

	require(part && part[0] == 'p' && part[59999] == 'p');
	require(seg_page_release(call->value) == -EBUSY);
	(void)box;
}

static void test_the_listener_sees_the_page_before_it_goes(void **state)
{
	struct scene *s = scene_begin(2 * PAGE_WEIGHT);
	struct seg_page *page = new_page(s);

	(void)state;
	s->box->also = read_page;
	put(s->cache, 1, page, 0);
	put(s->cache, 2, new_page(s), 0);
	put(s->cache, 3, new_page(s), 0);
	assert_int_equal(s->box->heard, 1);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 4);
	assert_int_equal(seg_cache_clear(s->cache), 0);
	assert_int_equal(s->box->heard, 3);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	assert_int_equal(seg_page_release(page), -ESTALE);
	scene_end(s);
}

static void test_without_a_listener(void **state)
{
	struct scene *s = scene_begin(PAGE_WEIGHT);
	struct seg_cache_options o = { .size = sizeof(o), .pages = s->pool,
				       .max_weight = PAGE_WEIGHT };
	struct seg_cache *c;

	(void)state;
	assert_int_equal(seg_cache_create(&o, &c), 0);
	for (uint64_t i = 0; i < 20; i++)
		put(c, i, new_page(s), 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 2);
	assert_int_equal(cache_stats(c).released_total, 19);
	assert_true(seg_cache_is_valid(c));
	assert_int_equal(seg_cache_destroy(c), 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	scene_end(s);
}

/* Log and cache owned the same page, and both closed it. */
static void test_a_cached_page_is_nobody_elses(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct box *other = new_box_of(s, 10 * PAGE_WEIGHT, "Other");
	struct seg_page *page = new_page(s);
	struct seg_txlog *log;

	(void)state;
	assert_int_equal(seg_txlog_create(s->pool, NULL, &log), 0);
	put(s->cache, 1, page, 0);
	assert_int_equal(seg_page_release(page), -EBUSY);
	assert_int_equal(seg_page_grow(page, 0, SEG_MAX_BYTES), -EBUSY);
	assert_int_equal(seg_txlog_put(log, 1, page, NULL), -EBUSY);
	assert_int_equal(seg_cache_put(other->cache, 1, page, 0, NULL),
			 -EBUSY);
	assert_int_equal(seg_cache_put(s->cache, 2, page, 0, NULL), -EBUSY);
	assert_int_equal(seg_cache_replace(s->cache, 1, page, 0, NULL),
			 -EBUSY);
	assert_int_equal(s->events.what, SEG_MISUSE_OWNER);
	assert_ptr_equal(s->events.address, page);
	assert_true(has(s->cache, 1));
	assert_int_equal(cache_stats(s->cache).weight, PAGE_WEIGHT);
	assert_int_equal(cache_stats(other->cache).inserts_total, 0);
	assert_int_equal(s->box->heard, 0);
	seg_txlog_destroy(log);
	box_end(other);
	scene_end(s);
}

static void test_a_page_that_a_log_owns(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_page *page = new_page(s);
	struct seg_txlog *log;

	(void)state;
	assert_int_equal(seg_txlog_create(s->pool, NULL, &log), 0);
	assert_int_equal(seg_txlog_put(log, 1, page, NULL), 0);
	assert_int_equal(seg_cache_put(s->cache, 1, page, 0, NULL), -EBUSY);
	assert_int_equal(seg_cache_put(s->cache, 1, page, 5, NULL), -EBUSY);
	assert_int_equal(cache_stats(s->cache).entries, 0);
	assert_int_equal(seg_txlog_commit(log, NULL, NULL), 0);
	seg_txlog_destroy(log);
	scene_end(s);
}

/* Out of both caches and into the log, each in one step; then nobody else's
 * page can be between. */
static void test_a_log_takes_pages_out_of_two_caches(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct box *other = new_box_of(s, 10 * PAGE_WEIGHT, "RecordPageCache");
	struct seg_txlog *log;
	void *complete, *modified;

	(void)state;
	assert_int_equal(seg_txlog_create(s->pool, NULL, &log), 0);
	for (uint64_t key = 0; key < 5; key++) {
		put(s->cache, key, new_page(s), 0);
		put(other->cache, key, new_page(s), 0);
	}
	for (uint64_t key = 0; key < 5; key++) {
		assert_int_equal(seg_cache_take(s->cache, key, &complete), 0);
		assert_int_equal(seg_cache_take(other->cache, key, &modified),
				 0);
		assert_int_equal(seg_txlog_put(log, key, complete, modified),
				 0);
	}
	assert_int_equal(cache_stats(s->cache).weight, 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 20);
	assert_int_equal(seg_txlog_commit(log, NULL, NULL), 0);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	assert_int_equal(s->box->heard + other->heard, 0);
	seg_txlog_destroy(log);
	box_end(other);
	scene_end(s);
}

/* "Not in the cache" meant evicted, or never in: the loser leaked, or both
 * closed it. */
static void test_the_loser_of_an_insertion_owns_its_page(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_page *page = new_page(s);

	(void)state;
	put(s->cache, 1, new_page(s), 0);
	assert_int_equal(seg_cache_put(s->cache, 1, page, 0, NULL), -EEXIST);
	assert_int_equal(seg_page_grow(page, 0, SEG_MAX_BYTES), 0);
	assert_int_equal(seg_cache_put(s->cache, 2, page, 100 * PAGE_WEIGHT,
				       NULL), -E2BIG);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(s->events.misuses, 0);
	scene_end(s);
}

/* Released pages with weight and without: neither becomes an entry. */
static void test_pages_that_are_none_of_the_cache(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_pool *other = make_pool(s->budget);
	struct seg_page *foreign = page_of(other, 60000);
	struct seg_page *gone = new_page(s);

	(void)state;
	assert_int_equal(seg_cache_put(s->cache, 1, foreign, 0, NULL), -EINVAL);
	assert_int_equal(seg_page_release(foreign), 0);
	assert_int_equal(seg_page_release(gone), 0);
	assert_int_equal(seg_cache_put(s->cache, 1, gone, 5, NULL), -ESTALE);
	assert_int_equal(s->events.what, SEG_MISUSE_DOUBLE);
	assert_int_equal(seg_cache_put(s->cache, 1, gone, 0, NULL), -ESTALE);
	assert_int_equal(s->events.misuses, 2);
	assert_int_equal(cache_stats(s->cache).entries, 0);
	end_pool(other);
	scene_end(s);
}

/* A part released behind the cache's back: reported when the page goes, and
 * whoever has that segment by then keeps it. */
static void test_a_listener_whose_page_is_broken(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_page *page = new_page(s);
	void *part = seg_page_part(page, 0), *next;

	(void)state;
	put(s->cache, 1, page, 0);
	assert_int_equal(seg_release(s->pool, part), 0);
	next = seg_alloc(s->pool, 60000);
	assert_ptr_equal(next, part);
	assert_int_equal(cache_stats(s->cache).weight, PAGE_WEIGHT);
	assert_int_equal(seg_cache_remove(s->cache, 1, NULL), 0);
	assert_int_equal(s->events.what, SEG_MISUSE_STALE);
	assert_int_equal(s->events.misuses, 1);
	assert_int_equal(cache_stats(s->cache).weight, 0);
	assert_int_equal(s->box->heard, 1);
	assert_int_equal(seg_release(s->pool, next), 0);
	scene_end(s);
}

/* Weights were asked for again when a page left, grown or closed by then. */
static void test_a_page_that_grew_is_weighed_anew(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	void *page;

	(void)state;
	put(s->cache, 1, new_page(s), 0);
	assert_int_equal(seg_cache_take(s->cache, 1, &page), 0);
	assert_int_equal(cache_stats(s->cache).weight, 0);
	assert_int_equal(seg_page_grow(page, 0, SEG_MAX_BYTES), 0);
	put(s->cache, 1, page, 0);
	assert_int_equal(cache_stats(s->cache).weight, SEG_MAX_BYTES + 4096);
	assert_int_equal(seg_cache_remove(s->cache, 1, page), 0);
	assert_int_equal(cache_stats(s->cache).weight, 0);
	assert_int_equal(s->box->call[0].weight, SEG_MAX_BYTES + 4096);
	scene_end(s);
}

/* Shutting one resource down freed its sibling's pages. */
static void test_caches_of_a_pool_are_apart(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct box *other = new_box_of(s, 10 * PAGE_WEIGHT, "Other");

	(void)state;
	put(s->cache, 1, new_page(s), 0);
	put(other->cache, 1, new_page(s), 0);
	assert_int_equal(seg_cache_clear(s->cache), 0);
	assert_int_equal(other->heard, 0);
	assert_true(has(other->cache, 1));
	box_end(other);
	scene_end(s);
}

static void test_pool_and_budget_outlive_their_caches(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct box *plain = box_begin_with((struct seg_cache_options){
		.max_weight = 10, .budget = s->budget });

	(void)state;
	assert_int_equal(budget_stats(s->budget).caches, 2);
	assert_int_equal(seg_pool_destroy(s->pool), -EBUSY);
	assert_string_equal(events_pop(&s->events), "Pool not destroyed: "
			    "0 intent logs, 1 caches");
	box_end(s->box);
	end_pool(s->pool);
	assert_int_equal(seg_budget_destroy(s->budget), -EBUSY);
	box_end(plain);
	assert_int_equal(budget_stats(s->budget).caches, 0);
	end_budget(s->budget);
	free(s);
}

/* ---- loads ---- */

struct bringer {
	struct scene *scene;
	struct seg_page *page;		/* NULL: a new one */
};

static int bring(void *ctx, uint64_t key, void **ret_value,
		 uint64_t *ret_weight)
{
	struct bringer *b = ctx;

	(void)key;
	*ret_value = b->page ? b->page : new_page(b->scene);
	*ret_weight = 0;
	return 0;
}

/* Pages of the compute path weighed nothing: they were never evicted. */
static void test_a_loaded_page_weighs_and_goes_as_others_do(void **state)
{
	struct scene *s = scene_begin(2 * PAGE_WEIGHT);
	struct bringer b = { .scene = s };
	struct seg_pin pin;

	(void)state;
	for (uint64_t key = 0; key < 50; key++) {
		assert_int_equal(seg_cache_get_or_load(s->cache, key, bring,
						       &b, 0, &pin), 0);
		assert_true(cache_stats(s->cache).pinned_weight ==
			    PAGE_WEIGHT);
		unpin(&pin);
		assert_true(cache_stats(s->cache).weight <= 2 * PAGE_WEIGHT);
	}
	assert_int_equal(figures(s->pool, SEG_ALL).active, 4);
	assert_int_equal(s->box->heard, 48);
	scene_end(s);
}

static void test_a_loaded_page_that_is_not_the_loaders(void **state)
{
	struct scene *s = scene_begin(10 * PAGE_WEIGHT);
	struct seg_pool *other = make_pool(s->budget);
	struct bringer b = { .scene = s, .page = page_of(other, 1) };
	struct seg_pin pin;

	(void)state;
	assert_int_equal(seg_cache_get_or_load(s->cache, 1, bring, &b, 0,
					       &pin), -EINVAL);
	assert_int_equal(seg_page_release(b.page), 0);
	b.page = new_page(s);
	put(s->cache, 2, b.page, 0);
	assert_int_equal(seg_cache_get_or_load(s->cache, 1, bring, &b, 0,
					       &pin), -EBUSY);
	assert_int_equal(seg_cache_remove(s->cache, 2, NULL), 0);
	assert_int_equal(seg_cache_get_or_load(s->cache, 1, bring, &b, 0,
					       &pin), -ESTALE);
	assert_int_equal(cache_stats(s->cache).load_failures_total, 3);
	assert_int_equal(cache_stats(s->cache).entries, 0);
	b.page = NULL;
	assert_int_equal(seg_cache_get_or_load(s->cache, 1, bring, &b, 0,
					       &pin), 0);
	unpin(&pin);
	end_pool(other);
	scene_end(s);
}

/* ---- at the same time ---- */

struct racer {
	struct scene *scene;
	pthread_barrier_t *barrier;
	struct seg_page **page;
	unsigned me;
	uint64_t won;
};

/* One page, put by all under keys of their own: one of them has it. */
static void *put_one_page(void *arg)
{
	struct racer *r = arg;

	for (uint64_t round = 0; round < ROUNDS; round++) {
		int ret;

		if (r->me == 0)
			*r->page = new_page(r->scene);
		pthread_barrier_wait(r->barrier);
		ret = seg_cache_put(r->scene->cache, round * THREADS + r->me,
				    *r->page, PAGE_WEIGHT, NULL);
		require(ret == 0 || ret == -EBUSY);
		r->won += ret == 0;
		pthread_barrier_wait(r->barrier);
	}
	return NULL;
}

/* One key, a page each: the losers release theirs. */
static void *put_one_key(void *arg)
{
	struct racer *r = arg;

	for (uint64_t round = 0; round < ROUNDS; round++) {
		struct seg_page *own = new_page(r->scene);
		int ret;

		pthread_barrier_wait(r->barrier);
		ret = seg_cache_put(r->scene->cache, round, own, 0, NULL);
		require(ret == 0 || ret == -EEXIST);
		r->won += ret == 0;
		if (ret)
			require(seg_page_release(own) == 0);
	}
	return NULL;
}

static void race(void *(*main)(void *))
{
	struct scene *s = scene_begin(5 * PAGE_WEIGHT);
	struct racer racers[THREADS];
	struct seg_page *page = NULL;
	pthread_barrier_t barrier;
	struct threads threads;
	uint64_t won = 0;

	pthread_barrier_init(&barrier, NULL, THREADS);
	for (unsigned i = 0; i < THREADS; i++)
		racers[i] = (struct racer){ s, &barrier, &page, i, 0 };
	threads_start(&threads, THREADS, main, racers, sizeof(*racers));
	assert_int_equal(threads_join(&threads), 0);
	for (unsigned i = 0; i < THREADS; i++)
		won += racers[i].won;
	assert_int_equal(won, ROUNDS);
	assert_int_equal(s->box->heard + cache_stats(s->cache).entries, ROUNDS);
	assert_int_equal(figures(s->pool, SEG_ALL).active,
			 2 * cache_stats(s->cache).entries);
	pthread_barrier_destroy(&barrier);
	scene_end(s);
}

static void test_one_of_the_puts_of_a_page_wins(void **state)
{
	(void)state;
	race(put_one_page);
}

static void test_one_of_the_puts_of_a_key_wins(void **state)
{
	(void)state;
	race(put_one_key);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_page_weighs_its_bytes_or_what_is_said),
		cmocka_unit_test(
			test_the_listener_sees_the_page_before_it_goes),
		cmocka_unit_test(test_without_a_listener),
		cmocka_unit_test(test_a_cached_page_is_nobody_elses),
		cmocka_unit_test(test_a_page_that_a_log_owns),
		cmocka_unit_test(test_a_log_takes_pages_out_of_two_caches),
		cmocka_unit_test(test_the_loser_of_an_insertion_owns_its_page),
		cmocka_unit_test(test_pages_that_are_none_of_the_cache),
		cmocka_unit_test(test_a_listener_whose_page_is_broken),
		cmocka_unit_test(test_a_page_that_grew_is_weighed_anew),
		cmocka_unit_test(test_caches_of_a_pool_are_apart),
		cmocka_unit_test(test_pool_and_budget_outlive_their_caches),
		cmocka_unit_test(
			test_a_loaded_page_weighs_and_goes_as_others_do),
		cmocka_unit_test(test_a_loaded_page_that_is_not_the_loaders),
		cmocka_unit_test(test_one_of_the_puts_of_a_page_wins),
		cmocka_unit_test(test_one_of_the_puts_of_a_key_wins),
	};

	return run_group(tests);
}
