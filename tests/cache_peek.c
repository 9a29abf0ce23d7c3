/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads without a pin: what was found in a read section stays readable until
 * its end, whatever becomes of the entry; so what leaves does so after a grace
 * period.  AddressSanitizer and ThreadSanitizer see a page that goes too soon.
 */
#include "caches.h"

#include "cache.h"
#include "rcu.h"

enum {
	KEYS = 8,
	READERS = 3,
	ROUNDS = 800,
	SHORT_LIVED = 300,
	MANY = 1000,
	HITS = 200,
};

enum { PAGE_BYTES = 4096 };

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box;
	struct seg_cache *cache;
};

static struct scene scene_begin(uint64_t pages)
{
	struct scene s = { .budget = new_budget(16 * MIB) };

	s.pool = make_pool(s.budget);
	s.box = box_begin_with((struct seg_cache_options){
		.max_weight = pages * PAGE_BYTES, .pages = s.pool,
		.budget = s.budget, .short_reads = 1 });
	s.cache = s.box->cache;
	return s;
}

static void scene_end(struct scene *s)
{
	wait_until(cache_stats(s->cache).deferred_weight == 0);
	box_end(s->box);
	assert_int_equal(figures(s->pool, SEG_ALL).active, 0);
	end_both(s->pool, s->budget);
}

static struct seg_page *page_with(struct seg_pool *pool, char with)
{
	const size_t bytes = PAGE_BYTES;
	struct seg_page *page = NULL;

	require(seg_page_create(pool, &bytes, 1, &page) == 0);
	memset(seg_page_part(page, 0), with, PAGE_BYTES);
	return page;
}

static void put_page(struct scene *s, uint64_t key, char with)
{
	put(s->cache, key, page_with(s->pool, with), 0);
}

static bool is_whole(void *page, char with)
{
	const char *part = seg_page_part(page, 0);

	return part && part[0] == with && part[PAGE_BYTES - 1] == with;
}

/* ---- a thread that ends in a section ---- */

static pthread_key_t at_end;	/* made before anything is counted */

struct ending {
	struct scene *scene;
	int first, second;
};

static void peek_at_the_end(void *arg)
{
	struct ending *e = arg;
	void *page;

	e->first = seg_cache_peek(e->scene->cache, 1, &page);
	rcu_enter();	/* as the library does: it is registered again */
	rcu_leave();
	e->second = seg_cache_peek(e->scene->cache, 1, &page);
}

static void *end_inside(void *arg)
{
	struct ending *e = arg;
	struct seg_pin pin;
	void *page;

	require(!pthread_setspecific(at_end, e));
	require(!seg_cache_get(e->scene->cache, 1, &pin) && !seg_unpin(&pin));
	seg_read_begin();
	require(!seg_cache_peek(e->scene->cache, 1, &page));
	return NULL;
}

static void test_who_ended_inside_is_outside(void **state)
{
	struct scene s = scene_begin(10);
	struct ending e = { .scene = &s };
	pthread_t thread;

	(void)state;
	put_page(&s, 1, 'a');
	assert_int_equal(pthread_create(&thread, NULL, end_inside, &e), 0);
	pthread_join(thread, NULL);
	assert_int_equal(e.first, -EPERM);
	assert_int_equal(e.second, -EPERM);
	scene_end(&s);
}

static void test_where_it_is_allowed(void **state)
{
	struct scene s = scene_begin(10);
	struct box *plain = box_begin(100);
	void *page = NULL;

	(void)state;
	put_page(&s, 1, 'a');
	put(plain->cache, 1, number(1), 1);
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), -EPERM);
	seg_read_begin();
	assert_int_equal(seg_cache_peek(NULL, 1, &page), -EINVAL);
	assert_int_equal(seg_cache_peek(s.cache, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_peek(plain->cache, 1, &page), -EPERM);
	assert_int_equal(seg_cache_peek(s.cache, 2, &page), -ENOENT);
	assert_null(page);
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), 0);
	assert_true(is_whole(page, 'a'));
	seg_read_begin();
	seg_read_end();
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), 0);
	seg_read_end();
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), -EPERM);
	assert_int_equal(cache_stats(s.cache).hits_total, 2);
	assert_int_equal(cache_stats(s.cache).misses_total, 1);
	box_end(plain);
	scene_end(&s);
}

static int load_and_peek(void *ctx, uint64_t key, void **ret_value,
			 uint64_t *ret_weight)
{
	struct scene *s = ctx;
	void *page;

	seg_read_begin();
	require(seg_cache_peek(s->cache, key, &page) == -ENOENT);
	seg_read_end();
	*ret_value = page_with(s->pool, 'l');
	*ret_weight = 0;
	return 0;
}

static void test_what_is_being_loaded_is_not_there(void **state)
{
	struct scene s = scene_begin(10);
	struct seg_pin pin;
	void *page;

	(void)state;
	assert_int_equal(seg_cache_get_or_load(s.cache, 1, load_and_peek, &s,
					       0, &pin), 0);
	seg_read_begin();
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), 0);
	assert_true(is_whole(page, 'l'));
	seg_read_end();
	unpin(&pin);
	scene_end(&s);
}

/* What ends the entry while its value is looked at. */
static void evict_it(struct scene *s)
{
	for (uint64_t key = 10; key < 30; key++)
		put_page(s, key, 'b');
}

static void remove_it(struct scene *s)
{
	require(seg_cache_remove(s->cache, 1, NULL) == 0);
}

static void replace_it(struct scene *s)
{
	require(seg_cache_replace(s->cache, 1, page_with(s->pool, 'c'), 0,
				  NULL) == 0);
}

static void clear_it(struct scene *s)
{
	require(seg_cache_clear(s->cache) == 0);
}

static void shrink_it(struct scene *s)
{
	require(seg_cache_shrink(s->cache, 0, NULL) == 0);
}

static void unpin_removed(struct scene *s)
{
	struct seg_pin pin = get(s->cache, 1);

	remove_it(s);
	unpin(&pin);
}

struct ender {
	struct scene *scene;
	void (*end)(struct scene *s);
};

static void *run_ender(void *arg)
{
	struct ender *e = arg;

	e->end(e->scene);
	return NULL;
}

/* None of these waits for the reader; the page does. */
static void test_readable_until_the_end_of_the_section(void **state)
{
	void (*const ends[])(struct scene *s) = {
		evict_it, remove_it, replace_it, clear_it, shrink_it,
		unpin_removed,
	};

	(void)state;
	for (int i = 0; i < 6; i++) {
		struct scene s = scene_begin(4);
		struct ender e = { &s, ends[i] };
		struct threads threads;
		struct seg_page *page;
		void *found;

		put_page(&s, 1, 'a');
		seg_read_begin();
		assert_int_equal(seg_cache_peek(s.cache, 1, &found), 0);
		page = found;
		threads_start(&threads, 1, run_ender, &e, 0);
		assert_int_equal(threads_join(&threads), 0);
		assert_true(seg_cache_peek(s.cache, 1, &found) == -ENOENT ||
			    found != page);
		assert_true(is_whole(page, 'a'));
		assert_int_equal(box_times(s.box, page), 0);
		assert_true(cache_stats(s.cache).deferred_weight > 0);
		assert_true(is_whole(page, 'a'));
		seg_read_end();
		wait_until(box_times(s.box, page) == 1);
		wait_until(cache_stats(s.cache).deferred_weight == 0);
		assert_false(pthread_equal(s.box->call[0].thread,
					   pthread_self()));
		scene_end(&s);
	}
}

/* A reader that ends an entry itself does not wait for itself. */
static void test_changes_inside_a_section(void **state)
{
	struct scene s = scene_begin(4);
	struct seg_pin pin;
	void *page;

	(void)state;
	put_page(&s, 1, 'a');
	seg_read_begin();
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), 0);
	replace_it(&s);
	evict_it(&s);
	pin = get(s.cache, 29);
	assert_int_equal(seg_cache_remove(s.cache, 29, NULL), 0);
	unpin(&pin);
	assert_int_equal(seg_cache_clear(s.cache), 0);
	assert_true(is_whole(page, 'a'));
	assert_int_equal(seg_cache_take(s.cache, 1, &page), -EDEADLK);
	assert_int_equal(seg_cache_destroy(s.cache), -EDEADLK);
	assert_int_equal(box_heard(s.box), 0);
	seg_read_end();
	wait_until(box_heard(s.box) == 22);
	scene_end(&s);
}

static void test_no_destroy_in_a_section(void **state)
{
	struct box *box = box_begin(100);

	(void)state;
	put(box->cache, 1, number(1), 1);
	seg_read_begin();
	assert_int_equal(seg_cache_destroy(box->cache), -EDEADLK);
	seg_read_end();
	assert_true(has(box->cache, 1));
	box_end(box);
}

/* ---- what waits for a grace period ---- */

static uint64_t waiting(struct seg_cache *c)
{
	uint64_t count = c->slots.retired_count;

	for (struct cache_record *r = c->slots.sent; r; r = r->next)
		count++;
	return count;
}

static int fail_to_load(void *ctx, uint64_t key, void **ret_value,
			uint64_t *ret_weight)
{
	(void)ctx;
	(void)key;
	(void)ret_value;
	(void)ret_weight;
	return -EIO;
}

static void load_and_fail(struct seg_cache *c)
{
	struct seg_pin pin;

	require(seg_cache_get_or_load(c, 1, fail_to_load, NULL, 0, &pin) ==
		-EIO);
}

/* Nobody reads: entries and records are used again at once. */
static void test_without_short_reads_nothing_waits(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;
	void *value;
	uint64_t bytes;

	(void)state;
	keeper_hold();
	put(box->cache, 1, number(1), 10);
	bytes = cache_stats(box->cache).metadata_bytes;
	for (uint64_t i = 0; i < MANY; i++) {
		pin = get(box->cache, 1);
		require(seg_cache_replace(box->cache, 1, number(i), 10,
					  NULL) == 0);
		unpin(&pin);
		require(seg_cache_take(box->cache, 1, &value) == 0);
		load_and_fail(box->cache);
		put(box->cache, 1, number(1), 10);
	}
	assert_int_equal(waiting(box->cache), 0);
	assert_int_equal(cache_stats(box->cache).metadata_bytes, bytes);
	assert_int_equal(box_heard(box), MANY);
	keeper_let_go();
	box_end(box);
}

/* A record with each value that waits, and with no other. */
static void test_with_short_reads_only_values_wait(void **state)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 100, .short_reads = 1 });
	struct seg_pin pin;
	void *value;
	uint64_t bytes;

	(void)state;
	keeper_hold();
	put(box->cache, 1, number(1), 10);
	bytes = cache_stats(box->cache).metadata_bytes;
	for (uint64_t i = 0; i < MANY; i++) {
		require(seg_cache_take(box->cache, 1, &value) == 0);
		load_and_fail(box->cache);
		put(box->cache, 1, number(1), 10);
	}
	assert_int_equal(waiting(box->cache), 0);
	assert_int_equal(cache_stats(box->cache).metadata_bytes, bytes);
	for (uint64_t i = 1; i <= MANY; i++) {
		pin = get(box->cache, 1);
		if (i % 2)
			unpin(&pin);
		require(seg_cache_replace(box->cache, 1, number(i), 10,
					  NULL) == 0);
		unpin(&pin);
		/* The unpin's is drained by the next who holds the gate. */
		require(seg_cache_remove(box->cache, 0, NULL) == -ENOENT);
		assert_int_equal(waiting(box->cache), i);
	}
	assert_int_equal(cache_stats(box->cache).deferred_weight, 10 * MANY);
	assert_true(cache_stats(box->cache).metadata_bytes > bytes);
	assert_int_equal(box_heard(box), 0);
	keeper_let_go();
	wait_until(cache_stats(box->cache).deferred_weight == 0);
	assert_int_equal(box_heard(box), MANY);
	box_end(box);
}

/* ---- take waits for who reads ---- */

struct taker {
	struct scene *scene;
	sem_t taken;
	void *page;
};

static void *take_it(void *arg)
{
	struct taker *t = arg;

	require(seg_cache_take(t->scene->cache, 1, &t->page) == 0);
	/* It is ours alone: a reader would see this. */
	memset(seg_page_part(t->page, 0), 'x', PAGE_BYTES);
	sem_post(&t->taken);
	return NULL;
}

static void test_take_waits_for_readers(void **state)
{
	struct scene s = scene_begin(4);
	struct taker t = { .scene = &s };
	struct threads threads;
	void *page;

	(void)state;
	sem_init(&t.taken, 0, 0);
	put_page(&s, 1, 'a');
	seg_read_begin();
	assert_int_equal(seg_cache_peek(s.cache, 1, &page), 0);
	threads_start(&threads, 1, take_it, &t, 0);
	wait_until(cache_stats(s.cache).takes_total == 1);
	assert_false(happens_soon(&t.taken));
	assert_true(is_whole(page, 'a'));
	seg_read_end();
	assert_int_equal(threads_join(&threads), 0);
	assert_ptr_equal(t.page, page);
	assert_int_equal(seg_page_release(t.page), 0);
	assert_int_equal(box_heard(s.box), 0);
	sem_destroy(&t.taken);
	scene_end(&s);
}

/* ---- readers while pages come and go ---- */

struct reader {
	struct scene *scene;
	struct atomic_u32 *done;
	uint64_t seed, found, torn;
};

static void *read_all_the_time(void *arg)
{
	struct reader *r = arg;

	do {
		uint64_t key = random_below(&r->seed, KEYS);
		void *page;

		seg_read_begin();
		if (seg_cache_peek(r->scene->cache, key, &page) == 0) {
			r->found++;
			r->torn += !is_whole(page, (char)('a' + key));
		}
		seg_read_end();
	} while (!u32_load_acquire(r->done));
	return r->torn ? arg : NULL;
}

static void change_at_random(struct scene *s, uint64_t *seed)
{
	uint64_t key = random_below(seed, KEYS);
	struct seg_page *page = page_with(s->pool, (char)('a' + key));
	void *taken;

	require(seg_cache_replace(s->cache, key, page, 0, NULL) == 0);
	key = random_below(seed, KEYS);
	if (random_below(seed, 8) == 0 &&
	    seg_cache_take(s->cache, key, &taken) == 0) {
		memset(seg_page_part(taken, 0), 'x', PAGE_BYTES);
		require(seg_page_release(taken) == 0);
	}
}

/* A cache of four pages and eight keys: evicted, replaced, taken. */
static void test_nothing_torn_is_read(void **state)
{
	struct scene s = scene_begin(4);
	struct reader readers[READERS];
	struct atomic_u32 done = { 0 };
	uint64_t seed = random_seed(3), found = 0;
	struct threads threads;

	(void)state;
	put_page(&s, 0, 'a');
	for (unsigned i = 0; i < READERS; i++)
		readers[i] = (struct reader){ &s, &done, 100 + i, 0, 0 };
	threads_start(&threads, READERS, read_all_the_time, readers,
		      sizeof(*readers));
	for (unsigned i = 0; i < ROUNDS; i++)
		change_at_random(&s, &seed);
	u32_store_release(&done, 1);
	assert_int_equal(threads_join(&threads), 0);
	for (unsigned i = 0; i < READERS; i++)
		found += readers[i].found;
	assert_true(found > 0);
	scene_end(&s);
}

/* Readers took slots of a table that was full in the end. */
static void *look_and_end(void *arg)
{
	struct scene *s = arg;
	struct seg_pin pin;
	void *page;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(s->cache, 1, &page);
	seg_read_end();
	return ret || seg_cache_get(s->cache, 1, &pin) || seg_unpin(&pin) ?
		       arg : NULL;
}

static void test_readers_come_and_go(void **state)
{
	struct scene s = scene_begin(4);
	struct threads threads;

	(void)state;
	put_page(&s, 1, 'a');
	for (int i = 0; i < SHORT_LIVED; i++) {
		threads_start(&threads, 3, look_and_end, &s, 0);
		assert_int_equal(threads_join(&threads), 0);
	}
	assert_int_equal(cache_stats(s.cache).hits_total, 6 * SHORT_LIVED);
	assert_int_equal(cache_stats(s.cache).weight, PAGE_BYTES);
	scene_end(&s);
}

/* More of them at once than have a slot of their own. */
struct hitter {
	struct scene *scene;
	pthread_barrier_t *all;
};

static void *hit_in_each_way(void *arg)
{
	struct hitter *h = arg;
	struct seg_cache *c = h->scene->cache;
	struct seg_pin pin, again;
	void *page;
	int ret = 0;

	counter_slot();
	pthread_barrier_wait(h->all);
	for (int i = 0; i < HITS; i++) {
		seg_read_begin();
		ret |= seg_cache_peek(c, 1, &page) ||
		       !is_whole(page, 'a');
		seg_read_end();
		ret |= seg_cache_peek(c, 1, &page) != -EPERM;
		ret |= seg_cache_get(c, 1, &pin);
		again = pin;
		ret |= seg_unpin(&pin) || seg_pin_again(&again, &again) ||
		       seg_unpin(&again);
	}
	pthread_barrier_wait(h->all);
	return ret ? arg : NULL;
}

static void test_many_threads_hit(void **state)
{
	struct scene s = scene_begin(4);
	struct threads threads;
	pthread_barrier_t all;
	struct hitter h = { &s, &all };

	(void)state;
	pthread_barrier_init(&all, NULL, TESTING_MAX_THREADS);
	put_page(&s, 1, 'a');
	threads_start(&threads, TESTING_MAX_THREADS, hit_in_each_way, &h, 0);
	assert_int_equal(threads_join(&threads), 0);
	assert_int_equal(cache_stats(s.cache).hits_total,
			 3 * HITS * TESTING_MAX_THREADS);
	assert_int_equal(cache_stats(s.cache).misses_total, 0);
	assert_int_equal(cache_stats(s.cache).pinned_weight, 0);
	assert_int_equal(cache_stats(s.cache).weight, PAGE_BYTES);
	pthread_barrier_destroy(&all);
	scene_end(&s);
}

/* ---- what is used stays ---- */

static bool peek_hits(struct seg_cache *c, uint64_t key)
{
	void *value;
	int ret;

	seg_read_begin();
	ret = seg_cache_peek(c, key, &value);
	seg_read_end();
	return !ret;
}

static int load_nothing(void *ctx, uint64_t key, void **ret_value,
			uint64_t *ret_weight)
{
	(void)ctx;
	(void)key;
	(void)ret_value;
	(void)ret_weight;
	return -ENOENT;
}

static bool load_hits(struct seg_cache *c, uint64_t key)
{
	struct seg_pin pin;

	if (seg_cache_get_or_load(c, key, load_nothing, NULL, 0, &pin))
		return false;
	unpin(&pin);
	return true;
}

static void put_once(struct seg_cache *c, uint64_t *key, unsigned count)
{
	while (count--) {
		put(c, *key, number(*key), 1);
		++*key;
	}
}

/* Whether a key is there after many others, if it was used in between. */
static bool stays(bool (*use)(struct seg_cache *c, uint64_t key), bool evicts)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = 100, .short_reads = 1 });
	uint64_t key = 1;
	bool is_there;

	if (evicts)
		put_once(box->cache, &key, 300);
	put(box->cache, 0, number(0), 1);
	put_once(box->cache, &key, 5);
	assert_int_equal(cache_stats(box->cache).evictions_total > 0, evicts);
	if (use)
		assert_true(use(box->cache, 0));
	put_once(box->cache, &key, 300);
	is_there = peek_hits(box->cache, 0);
	box_end(box);
	return is_there;
}

static void test_a_hit_of_any_kind_lets_it_stay(void **state)
{
	(void)state;
	for (int evicts = 0; evicts < 2; evicts++) {
		assert_false(stays(NULL, evicts));
		assert_true(stays(peek_hits, evicts));
		assert_true(stays(has, evicts));
		assert_true(stays(load_hits, evicts));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_where_it_is_allowed),
		cmocka_unit_test(test_who_ended_inside_is_outside),
		cmocka_unit_test(test_what_is_being_loaded_is_not_there),
		cmocka_unit_test(test_readable_until_the_end_of_the_section),
		cmocka_unit_test(test_changes_inside_a_section),
		cmocka_unit_test(test_no_destroy_in_a_section),
		cmocka_unit_test(test_without_short_reads_nothing_waits),
		cmocka_unit_test(test_with_short_reads_only_values_wait),
		cmocka_unit_test(test_take_waits_for_readers),
		cmocka_unit_test(test_nothing_torn_is_read),
		cmocka_unit_test(test_readers_come_and_go),
		cmocka_unit_test(test_many_threads_hit),
		cmocka_unit_test(test_a_hit_of_any_kind_lets_it_stay),
	};

	require(!pthread_key_create(&at_end, peek_at_the_end));
	return run_group(tests);
}
