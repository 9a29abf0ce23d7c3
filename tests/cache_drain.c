/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_drain.c, through seg_pool_drain(): of a cache's pages exactly those
 * leave that lie in sparse regions and that nobody pins, and what stays is told
 * region by region.
 */
#include "caches.h"

#include "cache_release.h"
#include "one_node.h"
#include "page.h"

enum {
	PAGE_BYTES = SEG_MIN_BYTES,
	SLICES = 16,
	REGION = SLICES * PAGE_BYTES,
	REGIONS = 4,
	PAGES = REGIONS * SLICES,
	ROOM = 64 * 1024 * 1024,
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static struct box *box;
static struct seg_page *pages[PAGES];	/* of region i: from i * SLICES on */

static struct seg_page *new_page(size_t first, size_t second)
{
	const size_t bytes[] = { first, second };
	struct seg_page *page = NULL;

	require(seg_page_create(pool, bytes, second ? 2 : 1, &page) == 0);
	return page;
}

static struct seg_region_info region_of(const void *segment)
{
	struct seg_region_info info = { .size = sizeof(info) };

	assert_int_equal(seg_region_of(pool, segment, &info), 0);
	return info;
}

static void begin_pool(struct seg_budget *of)
{
	pool = make_pool_with((struct seg_pool_options){
		.budget = of, .region_bytes = REGION,
		.wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
	});
}

static void begin_cache(uint64_t floor, unsigned short_reads)
{
	box = box_begin_with((struct seg_cache_options){
		.max_weight = ROOM, .floor_weight = floor, .pages = pool,
		.budget = budget, .short_reads = short_reads });
}

/* A budget, and a pool with four full regions of pages, which are the test's
 * own. */
static int begin(void **state)
{
	(void)state;
	budget = new_budget(ROOM);
	begin_pool(budget);
	for (int i = 0; i < PAGES; i++) {
		pages[i] = new_page(PAGE_BYTES, 0);
		assert_ptr_equal(region_of(seg_page_part(pages[i], 0)).base,
				 seg_page_part(pages[i / SLICES * SLICES], 0));
	}
	begin_cache(0, 0);
	return 0;
}

static int end(void **state)
{
	(void)state;
	for (int i = 0; i < PAGES; i++)
		if (pages[i])
			assert_int_equal(seg_page_release(pages[i]), 0);
	box_end(box);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	end_both(pool, budget);
	return 0;
}

/* Puts so many pages of each region into the cache, the key is the index, and
 * releases the others. */
static void keep(const int *left)
{
	for (uint64_t i = 0; i < PAGES; i++) {
		if ((int)(i % SLICES) < left[i / SLICES])
			put(box->cache, i, pages[i], 0);
		else
			assert_int_equal(seg_page_release(pages[i]), 0);
		pages[i] = NULL;
	}
}

static struct seg_drain drain(unsigned percent)
{
	struct seg_drain d = { .size = sizeof(d) };

	assert_int_equal(seg_pool_drain(pool, percent, &d), 0);
	assert_int_equal(d.error, 0);
	assert_int_equal(d.kept_bytes, charged(budget));
	assert_true(seg_pool_is_valid(pool));
	box_settle(box);
	assert_true(seg_cache_is_valid(box->cache));
	return d;
}

static unsigned times(uint64_t key, enum seg_cause cause)
{
	unsigned found = 0;

	pthread_mutex_lock(&box->lock);
	for (uint64_t i = 0; i < box->heard; i++)
		found += box->call[i].key == key && box->call[i].cause == cause;
	pthread_mutex_unlock(&box->lock);
	return found;
}

/* Those that were put by keep(): who left a drain, and who stayed. */
static void assert_left(const int *left, const int *gone)
{
	uint64_t heard = 0;

	for (uint64_t i = 0; i < PAGES; i++) {
		int nth = (int)(i % SLICES), region = (int)(i / SLICES);
		bool leaves = nth < left[region] && gone[region];

		heard += leaves;
		assert_int_equal(times(i, SEG_CAUSE_RECLAIMED), leaves);
		assert_int_equal(has(box->cache, i),
				 nth < left[region] && !leaves);
	}
	assert_int_equal(box_heard(box), heard);
	assert_int_equal(cache_stats(box->cache).reclaims_total, heard);
}

/* A seg_region_fn. */
static int count_region(void *ctx, const struct seg_region_info *info)
{
	unsigned *regions = ctx;

	(void)info;
	++*regions;
	return 0;
}

static unsigned regions(void)
{
	unsigned found = 0;

	assert_int_equal(seg_region_each(pool, count_region, &found), 0);
	return found;
}

/* ---- who leaves ---- */

static void test_sparse_regions_are_left(void **state)
{
	const int left[] = { 3, 16, 8, 4 };
	struct seg_drain d;

	(void)state;
	keep(left);
	d = drain(25);
	assert_left(left, (int[]){ 1, 0, 0, 1 });
	assert_int_equal(d.evicted_bytes, 7 * PAGE_BYTES);
	assert_int_equal(d.retired_bytes, 2 * REGION);
	assert_int_equal(d.kept_regions, 2);
	assert_int_equal(regions(), 2);
	assert_int_equal(d.sparse_regions, 0);
	assert_int_equal(d.pinned_bytes + d.cached_bytes, 0);
	assert_int_equal(d.active_bytes, 24 * PAGE_BYTES);
}

static void test_no_region_is_sparse(void **state)
{
	const int left[] = { 5, 16, 8, 16 };

	(void)state;
	keep(left);
	assert_int_equal(drain(25).evicted_bytes, 0);
	assert_int_equal(drain(0).evicted_bytes, 0);
	assert_left(left, (int[]){ 0, 0, 0, 0 });
	assert_int_equal(regions(), REGIONS);
}

static void test_all_can_go(void **state)
{
	const int left[] = { 16, 1, 9, 16 };

	(void)state;
	keep(left);
	assert_int_equal(drain(100).evicted_bytes, 42 * PAGE_BYTES);
	assert_left(left, (int[]){ 1, 1, 1, 1 });
	assert_int_equal(regions(), 0);
	assert_int_equal(charged(budget), 0);
}

/* Values wait for a grace period; the drain for them. */
static void test_with_short_reads(void **state)
{
	const int left[] = { 3, 16, 8, 4 };

	(void)state;
	box_end(box);
	begin_cache(0, 1);
	keep(left);
	assert_int_equal(drain(25).retired_bytes, 2 * REGION);
	assert_left(left, (int[]){ 1, 0, 0, 1 });
	assert_int_equal(regions(), 2);
}

/* All of them in one bucket, and more than one hold of the gate takes. */
static void test_many_of_one_bucket(void **state)
{
	enum { MANY = 3 * FAREWELL_MOST + 1 };
	uint64_t key = 0, keys[MANY];
	struct seg_pin pin[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		while (index_hash(++key) & 0x3ff)
			;
		keys[i] = key;
		pin[i] = put_pinned(box->cache, key, pages[i], 0);
		pages[i] = NULL;
	}
	assert_int_equal(drain(100).pinned_bytes, MANY * PAGE_BYTES);
	assert_int_equal(box_heard(box), 0);
	for (int i = 0; i < MANY; i++)
		unpin(&pin[i]);
	assert_int_equal(drain(100).evicted_bytes, MANY * PAGE_BYTES);
	for (int i = 0; i < MANY; i++)
		assert_int_equal(times(keys[i], SEG_CAUSE_RECLAIMED), 1);
	assert_int_equal(box_heard(box), MANY);
}

/* ---- who stays ---- */

static void test_pinned_pages_stay(void **state)
{
	void *base[] = { seg_page_part(pages[0], 0),
			 seg_page_part(pages[SLICES], 0) };
	struct seg_pin pin[3];
	struct seg_drain d;

	(void)state;
	keep((int[]){ 4, 3, 16, 16 });
	pin[0] = get(box->cache, 2);
	pin[1] = get(box->cache, SLICES);
	pin[2] = get(box->cache, SLICES + 1);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 4 * PAGE_BYTES);
	assert_int_equal(d.retired_bytes, 0);
	assert_int_equal(d.sparse_regions, 2);
	assert_int_equal(d.sparse_bytes, 3 * PAGE_BYTES);
	assert_int_equal(d.pinned_bytes, 3 * PAGE_BYTES);
	assert_int_equal(d.cached_bytes, 0);
	for (int i = 0; i < 2; i++) {
		assert_ptr_equal(d.sparsest[i].base, base[i]);
		assert_int_equal(d.sparsest[i].pinned_bytes,
				 (i + 1) * PAGE_BYTES);
		assert_int_equal(d.sparsest[i].cached_bytes, 0);
	}
	assert_true(has(box->cache, 2));
	for (int i = 0; i < 3; i++)
		unpin(&pin[i]);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 3 * PAGE_BYTES);
	assert_int_equal(d.retired_bytes, 3 * PAGE_BYTES);
	assert_int_equal(regions(), 2);
	assert_int_equal(box_heard(box), 7);
}

/* They can't be found any more, and hold their regions all the same. */
static void test_what_was_removed_but_is_pinned(void **state)
{
	struct seg_pin pin[2];
	struct seg_drain d;

	(void)state;
	keep((int[]){ 4, 0, 16, 16 });
	pin[0] = get(box->cache, 0);
	pin[1] = get(box->cache, 1);
	assert_int_equal(seg_cache_remove(box->cache, 0, NULL), 0);
	assert_int_equal(seg_cache_replace(box->cache, 1,
					   new_page(PAGE_BYTES, 0), 0, NULL),
			 0);
	/* The new one went into a sparse region, whichever. */
	d = drain(50);
	assert_int_equal(d.evicted_bytes, 3 * PAGE_BYTES);
	assert_int_equal(times(1, SEG_CAUSE_RECLAIMED), 1);
	assert_int_equal(d.pinned_bytes, 2 * PAGE_BYTES);
	assert_int_equal(d.cached_bytes, 0);
	assert_int_equal(d.sparsest[0].pinned_bytes, 2 * PAGE_BYTES);
	assert_int_equal(times(0, SEG_CAUSE_REMOVED), 0);
	unpin(&pin[0]);
	assert_int_equal(times(0, SEG_CAUSE_REMOVED), 1);
	unpin(&pin[1]);
	assert_int_equal(times(1, SEG_CAUSE_REPLACED), 1);
	assert_int_equal(drain(25).pinned_bytes, 0);
	assert_int_equal(regions(), 2);
}

static void test_the_floor_is_kept(void **state)
{
	struct seg_pin pin;
	struct seg_drain d;

	(void)state;
	box_end(box);
	begin_cache(33 * PAGE_BYTES, 0);
	keep((int[]){ 4, 0, 16, 16 });
	/* Weighs nothing, so one less is above the floor. */
	pin = get(box->cache, 3);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 2 * PAGE_BYTES);
	assert_int_equal(d.cached_bytes, PAGE_BYTES);
	assert_int_equal(d.pinned_bytes, PAGE_BYTES);
	assert_int_equal(d.sparsest[0].cached_bytes, PAGE_BYTES);
	assert_int_equal(d.sparsest[0].pinned_bytes, PAGE_BYTES);
	assert_int_equal(cache_stats(box->cache).weight, 33 * PAGE_BYTES);
	unpin(&pin);
	assert_int_equal(drain(25).evicted_bytes, PAGE_BYTES);
}

/* ---- pages with parts in two regions ---- */

/* Only what lies in sparse regions counts. */
static void test_one_part_is_in_a_sparse_region(void **state)
{
	struct seg_page *page = new_page(PAGE_BYTES, 2 * PAGE_BYTES);
	struct seg_pin pin = put_pinned(box->cache, 1000, page, 0);
	void *large[7];
	struct seg_drain d;

	(void)state;
	/* The region of the second part is full enough, that of the first
	 * holds nothing else. */
	for (int i = 0; i < 7; i++)
		large[i] = seg_alloc(pool, 2 * PAGE_BYTES);
	assert_int_equal(region_of(seg_page_part(page, 1)).active, 8);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 0);
	assert_int_equal(d.sparse_regions, 1);
	assert_ptr_equal(d.sparsest[0].base, seg_page_part(page, 0));
	assert_int_equal(d.sparsest[0].pinned_bytes, PAGE_BYTES);
	assert_int_equal(d.pinned_bytes, PAGE_BYTES);
	unpin(&pin);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, PAGE_BYTES);
	assert_int_equal(d.sparse_regions, 0);
	assert_int_equal(times(1000, SEG_CAUSE_RECLAIMED), 1);
	for (int i = 0; i < 7; i++)
		assert_int_equal(seg_release(pool, large[i]), 0);
}

static void test_both_parts_are(void **state)
{
	struct seg_page *page = new_page(PAGE_BYTES, 2 * PAGE_BYTES);
	struct seg_pin pin = put_pinned(box->cache, 1000, page, 0);
	struct seg_drain d = drain(25);

	(void)state;
	assert_int_equal(d.sparse_regions, 2);
	assert_int_equal(d.pinned_bytes, 3 * PAGE_BYTES);
	assert_int_equal(d.sparsest[0].pinned_bytes, PAGE_BYTES);
	assert_int_equal(d.sparsest[1].pinned_bytes, 2 * PAGE_BYTES);
	unpin(&pin);
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 3 * PAGE_BYTES);
	assert_int_equal(box_heard(box), 1);
	assert_int_equal(regions(), REGIONS);
}

/* ---- whose caches ---- */

/* Its values are no pages, whatever they look like. */
static void test_a_cache_without_pages(void **state)
{
	struct box *other = box_begin_with((struct seg_cache_options){
		.max_weight = 1000, .budget = budget });
	struct seg_page look_alike[3];
	struct seg_drain d;

	(void)state;
	for (uint64_t i = 0; i < 3; i++) {
		memcpy(&look_alike[i], pages[i], sizeof(look_alike[i]));
		put(other->cache, i, &look_alike[i], 1);
	}
	keep((int[]){ 3, 16, 16, 16 });
	d = drain(25);
	assert_int_equal(d.evicted_bytes, 3 * PAGE_BYTES);
	assert_int_equal(box_heard(other), 0);
	assert_int_equal(cache_stats(other->cache).entries, 3);
	box_end(other);
}

static void test_a_cache_of_another_pool(void **state)
{
	struct seg_pool *mine = pool;
	struct box *other;

	(void)state;
	begin_pool(budget);
	other = box_begin_with((struct seg_cache_options){
		.max_weight = ROOM, .pages = pool, .budget = budget });
	put(other->cache, 1, new_page(PAGE_BYTES, 0), 0);
	assert_int_equal(seg_pool_drain(mine, 100, NULL), 0);
	assert_int_equal(box_heard(other), 0);
	assert_int_equal(seg_pool_drain(pool, 100, NULL), 0);
	assert_int_equal(box_heard(other), 1);
	box_end(other);
	end_pool(pool);
	pool = mine;
}

/* The pool's own budget is a child of the cache's. */
static void test_a_cache_of_a_budget_above(void **state)
{
	struct seg_budget_options o = { .size = sizeof(o), .parent = budget,
					.limit_bytes = ROOM };
	struct seg_budget *child = NULL;
	struct seg_pool *mine = pool;
	struct box *above;

	(void)state;
	assert_int_equal(seg_budget_create(&o, &child), 0);
	begin_pool(child);
	above = box_begin_with((struct seg_cache_options){
		.max_weight = ROOM, .pages = pool, .budget = budget });
	put(above->cache, 1, new_page(PAGE_BYTES, 0), 0);
	assert_int_equal(seg_pool_drain(pool, 100, NULL), 0);
	assert_int_equal(box_heard(above), 1);
	assert_int_equal(charged(child), 0);
	box_end(above);
	end_both(pool, child);
	pool = mine;
}

/* ---- while others work ---- */

/* A seg_cache_load_fn: drains while its own key, removed or not, has no value
 * yet. */
static int drain_and_load(void *ctx, uint64_t key, void **ret_value,
			  uint64_t *ret_weight)
{
	int ret = key ? seg_cache_remove(box->cache, key, NULL) : 0;
	struct seg_drain d = { .size = sizeof(d) };

	(void)ctx;
	require(ret == 0 || ret == -ENOENT);
	require(seg_pool_drain(pool, 25, &d) == 0);
	require(d.pinned_bytes + d.cached_bytes == 0);
	*ret_value = pages[key];
	*ret_weight = 0;
	return 0;
}

static void test_what_is_being_loaded(void **state)
{
	struct seg_pin pin;
	struct seg_drain d;

	(void)state;
	for (int i = 2; i < PAGES; i++) {
		assert_int_equal(seg_page_release(pages[i]), 0);
		pages[i] = NULL;
	}
	for (uint64_t key = 0; key < 2; key++) {
		assert_int_equal(seg_cache_get_or_load(box->cache, key,
						       drain_and_load, NULL, 0,
						       &pin), 0);
		pages[key] = NULL;
		d = drain(25);
		assert_int_equal(d.pinned_bytes, PAGE_BYTES);
		assert_int_equal(box_heard(box), key);
		unpin(&pin);
		drain(25);
		assert_int_equal(box_heard(box), key + 1);
	}
	assert_int_equal(times(0, SEG_CAUSE_RECLAIMED), 1);
	assert_int_equal(times(1, SEG_CAUSE_REMOVED), 1);
}

/* It may use the cache and the pool, and gives pins back. */
static struct seg_pin held;

static void put_and_unpin(struct box *b, const struct heard_call *call)
{
	if (call->cause == SEG_CAUSE_RECLAIMED && call->key < SLICES) {
		put(b->cache, call->key + 1000, new_page(PAGE_BYTES, 0), 0);
		unpin(&held);
	}
}

static void test_the_listener_goes_on(void **state)
{
	(void)state;
	keep((int[]){ 3, 16, 16, 16 });
	held = get(box->cache, SLICES);
	assert_int_equal(seg_cache_remove(box->cache, SLICES, NULL), 0);
	box->also = put_and_unpin;
	assert_int_equal(drain(25).pinned_bytes, 0);
	assert_int_equal(times(SLICES, SEG_CAUSE_REMOVED), 1);
	for (uint64_t key = 0; key < 3; key++)
		assert_int_equal(times(key, SEG_CAUSE_RECLAIMED), 1);
}

enum { WORKERS = 2, TURNS = 20000, KEYS = 200, HELD = 6 };

static struct atomic_u32 working;

/* A pinned page is its key's, whatever is drained meanwhile. */
static void get_or_put(struct seg_pin *pin, uint64_t key)
{
	if (seg_cache_get(box->cache, key, pin)) {
		struct seg_page *page = new_page(PAGE_BYTES, 0);

		*(uint64_t *)seg_page_part(page, 0) = key;
		if (seg_cache_put(box->cache, key, page, 0, pin)) {
			require(seg_page_release(page) == 0);
			return;
		}
	}
	require(*(uint64_t *)seg_page_part(seg_pin_value(pin), 0) == key);
}

static void *work(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;
	struct seg_pin pin[HELD] = { { .cache = NULL } };

	for (int i = 0; i < TURNS; i++) {
		struct seg_pin *mine = &pin[i % HELD];
		uint64_t key = random_below(&seed, KEYS);

		unpin(mine);
		get_or_put(mine, key);
		if (random_below(&seed, 4) == 0)
			seg_cache_remove(box->cache, key, NULL);
	}
	for (int i = 0; i < HELD; i++)
		unpin(&pin[i]);
	u32_sub_seq_cst(&working, 1);
	return NULL;
}

static void drain_while_others_work(unsigned short_reads)
{
	uint64_t seeds[WORKERS] = { random_seed(5), random_seed(6) };
	struct threads t;

	box_end(box);
	box = box_begin_with((struct seg_cache_options){
		.max_weight = KEYS / 2 * PAGE_BYTES, .pages = pool,
		.budget = budget, .short_reads = short_reads });
	keep((int[]){ 0, 0, 0, 0 });
	u32_store_relaxed(&working, WORKERS);
	threads_start(&t, WORKERS, work, seeds, sizeof(*seeds));
	while (u32_load_acquire(&working))
		assert_int_equal(seg_pool_drain(pool, 80, NULL), 0);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 0);
	assert_int_equal(cache_stats(box->cache).misuses_total, 0);
	assert_int_equal(drain(100).active_bytes, 0);
	assert_int_equal(regions(), 0);
}

static void test_others_work_meanwhile(void **state)
{
	(void)state;
	drain_while_others_work(0);
}

static void test_others_work_with_short_reads(void **state)
{
	(void)state;
	drain_while_others_work(1);
}

#define drain_test(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		drain_test(test_sparse_regions_are_left),
		drain_test(test_no_region_is_sparse),
		drain_test(test_all_can_go),
		drain_test(test_with_short_reads),
		drain_test(test_many_of_one_bucket),
		drain_test(test_pinned_pages_stay),
		drain_test(test_what_was_removed_but_is_pinned),
		drain_test(test_the_floor_is_kept),
		drain_test(test_one_part_is_in_a_sparse_region),
		drain_test(test_both_parts_are),
		drain_test(test_a_cache_without_pages),
		drain_test(test_a_cache_of_another_pool),
		drain_test(test_a_cache_of_a_budget_above),
		drain_test(test_what_is_being_loaded),
		drain_test(test_the_listener_goes_on),
		drain_test(test_others_work_meanwhile),
		drain_test(test_others_work_with_short_reads),
	};

	return run_group(tests);
}
