/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/refusal.c (P12): the failure record says who held the memory when an
 * allocation was refused, at that moment.
 */
#include "caches.h"

enum { PAGE_BYTES = 4096, PAGES = 64, THREADS = 4 };

static struct seg_refusal last_refusal(struct seg_pool *pool)
{
	struct seg_refusal r = { .size = sizeof(r) };

	assert_int_equal(seg_pool_last_refusal(pool, &r), 0);
	return r;
}

static void test_there_was_none(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_refusal r = { .size = sizeof(r), .bytes = 4711 };

	(void)state;
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	assert_int_equal(r.bytes, 4711);
	assert_int_equal(seg_pool_last_refusal(NULL, &r), -EINVAL);
	assert_int_equal(seg_pool_last_refusal(pool, NULL), -EINVAL);
	r.size = 8;
	assert_int_equal(seg_pool_last_refusal(pool, &r), -EINVAL);
	/* What is no want of memory is no refusal. */
	assert_null(seg_alloc(pool, SEG_MAX_BYTES + 1));
	r.size = sizeof(r);
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	end_both(pool, b);
}

static void test_segments_alone(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	void *large = seg_alloc(pool, SEG_MAX_BYTES), *small;
	struct seg_refusal r;

	(void)state;
	small = seg_alloc(pool, 1);
	while (small && seg_budget_set_limit(b, charged(b)))
		;
	assert_non_null(large);
	assert_null(seg_alloc_until(pool, SEG_MAX_BYTES - 1,
				    &(struct timespec){ 0 }));
	r = last_refusal(pool);
	assert_int_equal(r.size, sizeof(r));
	assert_int_equal(r.bytes, SEG_MAX_BYTES - 1);
	assert_int_equal(r.refusals_total, 1);
	assert_int_equal(r.limit_bytes, charged(b));
	assert_int_equal(r.charged_bytes, charged(b));
	assert_int_equal(r.deferred_bytes, 0);
	assert_int_equal(r.active_bytes, SEG_MAX_BYTES + SEG_MIN_BYTES);
	assert_int_equal(r.active_bytes + r.unused_bytes, charged(b));
	assert_int_equal(r.cache_weight, 0);
	assert_int_equal(r.pinned_weight, 0);
	assert_int_equal(r.tagged_pins, 0);
	assert_int_equal(r.longest[0].tag, 0);
	assert_int_equal(seg_release(pool, large), 0);
	assert_int_equal(seg_release(pool, small), 0);
	/* It stays what it was. */
	assert_int_equal(last_refusal(pool).active_bytes, r.active_bytes);
	end_both(pool, b);
}

static void test_the_wait_is_in_it(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct timespec until = monotonic_in(0, 20);

	(void)state;
	assert_null(seg_alloc_until(pool, 1, &until));
	assert_true(last_refusal(pool).waited_ns > 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

static void test_pools_have_records_of_their_own(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b), *other = make_pool(b);
	struct seg_refusal r = { .size = sizeof(r) };
	void *held = seg_alloc(pool, 1);

	(void)state;
	assert_null(seg_alloc(other, 1));
	assert_int_equal(seg_pool_last_refusal(pool, &r), -ENOENT);
	r = last_refusal(other);
	assert_int_equal(r.charged_bytes, SEG_MIN_BYTES);
	assert_int_equal(r.active_bytes, 0);
	assert_int_equal(seg_release(pool, held), 0);
	end_pool(other);
	end_both(pool, b);
}

/* ---- with caches ---- */

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box[2];
};

static struct scene scene_begin(uint64_t floor)
{
	struct scene s = { .budget = new_budget(PAGES * PAGE_BYTES) };

	s.pool = make_pool(s.budget);
	for (int i = 0; i < 2; i++)
		s.box[i] = box_begin_with((struct seg_cache_options){
			.max_weight = 1 << 30, .floor_weight = floor,
			.pages = s.pool, .budget = s.budget });
	for (uint64_t key = 0; key < PAGES; key++) {
		const size_t bytes = PAGE_BYTES;
		struct seg_page *page = NULL;

		require(seg_page_create(s.pool, &bytes, 1, &page) == 0);
		put(s.box[key % 2]->cache, key, page, 0);
	}
	return s;
}

static void scene_end(struct scene *s)
{
	box_end(s->box[0]);
	box_end(s->box[1]);
	end_both(s->pool, s->budget);
}

static void test_what_caches_hold_back(void **state)
{
	struct scene s = scene_begin(1 << 30);
	struct seg_refusal r;

	(void)state;
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	r = last_refusal(s.pool);
	assert_int_equal(r.cache_weight, PAGES * PAGE_BYTES);
	assert_int_equal(r.pinned_weight, 0);
	assert_int_equal(r.active_bytes, PAGES * PAGE_BYTES);
	scene_end(&s);
}

/* The pages of both caches are pinned, some of them by name. */
static void test_who_pins(void **state)
{
	struct scene s = scene_begin(0);
	struct seg_pin pin[PAGES];
	struct seg_refusal r;

	(void)state;
	for (uint64_t i = 0; i < PAGES; i++) {
		pin[i] = get(s.box[i % 2]->cache, i);
		if (i < 12)
			assert_int_equal(seg_pin_tag(&pin[i], 100 + i), 0);
	}
	assert_null(seg_alloc(s.pool, PAGE_BYTES));
	r = last_refusal(s.pool);
	assert_int_equal(r.cache_weight, 0);
	assert_int_equal(r.pinned_weight, PAGES * PAGE_BYTES);
	assert_int_equal(r.tagged_pins, 12);
	for (unsigned i = 0; i < SEG_PINS_MOST; i++) {
		assert_true(r.longest[i].tag >= 100 && r.longest[i].tag < 112);
		assert_int_equal(r.longest[i].key, r.longest[i].tag - 100);
		assert_int_equal(r.longest[i].weight, PAGE_BYTES);
		assert_int_equal(r.biggest[i].weight, PAGE_BYTES);
		assert_true(i == 0 || r.longest[i].held_ns <=
				      r.longest[i - 1].held_ns);
	}
	for (int i = 0; i < PAGES; i++)
		unpin(&pin[i]);
	scene_end(&s);
}

static void test_records_of_other_versions(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct seg_refusal r = { .size = offsetof(struct seg_refusal,
						  deferred_bytes) };

	(void)state;
	assert_null(seg_alloc(pool, 1));
	r.deferred_bytes = 4711;
	assert_int_equal(seg_pool_last_refusal(pool, &r), 0);
	assert_int_equal(r.charged_bytes, SEG_MIN_BYTES);
	assert_int_equal(r.deferred_bytes, 4711);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

/* Whatever is written while it is read, a record is one of them. */
struct refused {
	struct seg_pool *pool;
};

static void *be_refused(void *arg)
{
	struct refused *x = arg;

	for (int i = 0; i < 300; i++)
		require(!alloc_without_wait(x->pool, 1));
	return NULL;
}

static void *read_records(void *arg)
{
	struct refused *x = arg;

	for (int i = 0; i < 1000; i++) {
		struct seg_refusal r = { .size = sizeof(r) };
		int ret = seg_pool_last_refusal(x->pool, &r);

		require(ret == 0 || ret == -ENOENT);
		require(ret || (r.bytes == 1 && r.active_bytes == 4096));
	}
	return NULL;
}

static void test_threads_are_refused(void **state)
{
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool(b);
	void *held = seg_alloc(pool, 1);
	struct refused x = { pool };
	struct threads refused, readers;

	(void)state;
	threads_start(&refused, THREADS, be_refused, &x, 0);
	threads_start(&readers, 2, read_records, &x, 0);
	assert_int_equal(threads_join(&refused), 0);
	assert_int_equal(threads_join(&readers), 0);
	assert_int_equal(figures(pool, SEG_ALL).refusals_total, THREADS * 300);
	assert_true(last_refusal(pool).refusals_total <= THREADS * 300);
	assert_int_equal(seg_release(pool, held), 0);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_was_none),
		cmocka_unit_test(test_segments_alone),
		cmocka_unit_test(test_the_wait_is_in_it),
		cmocka_unit_test(test_pools_have_records_of_their_own),
		cmocka_unit_test(test_what_caches_hold_back),
		cmocka_unit_test(test_who_pins),
		cmocka_unit_test(test_records_of_other_versions),
		cmocka_unit_test(test_threads_are_refused),
	};

	return run_group(tests);
}
