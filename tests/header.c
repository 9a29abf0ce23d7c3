/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The public header as an application sees it: built as C99, C11 and C++11
 * with the header first, linked to the real library.  Holds the layout of the
 * structs (the ABI of LP64) and what each function says to NULL.
 */
#include <seg.h>

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

static void test_constants(void **state)
{
	(void)state;
	assert_int_equal(SEG_MIN_BYTES << (SEG_CLASSES - 1), SEG_MAX_BYTES);
	assert_int_equal(SEG_MISUSE_DOUBLE, 1);
	assert_int_equal(SEG_MISUSE_OWNER, 6);
	assert_int_equal(SEG_LOG_DEFAULT, 0);
	assert_int_equal(SEG_LOG_EVICT, 4);
	assert_int_equal(SEG_LOG_SEGMENT, 5);
	assert_int_equal(SEG_CAUSE_EVICTED, 1);
	assert_int_equal(SEG_CAUSE_DESTROYED, 7);
	assert_int_equal(SEG_PINS_MOST, 8);
	assert_int_equal(SEG_REFUSED_LIMIT, 1);
	assert_int_equal(SEG_REFUSED_IN_USE, 8);
	assert_int_equal(SEG_REFUSED_NODE, 9);
	assert_int_equal(SEG_POLICY_NODE, 5);
	assert_int_equal(SEG_EFFORT_EASY, 1);
	assert_int_equal(SEG_HUGE_PAGES_NEVER, 3);
	assert_int_equal(SEG_AHEAD_BACK, 3);
	assert_int_equal(SEG_HOLDER_BUDGET, 2);
	assert_int_equal(SEG_PRIORITY_CACHE, 0);
	assert_string_equal(seg_version(), PACKAGE_VERSION);
}

static void test_layout(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct seg_budget_options, size), 0);
	assert_int_equal(offsetof(struct seg_budget_stats, size), 0);
	assert_int_equal(offsetof(struct seg_pool_options, size), 0);
	assert_int_equal(offsetof(struct seg_pool_stats, size), 0);
	assert_int_equal(offsetof(struct seg_region_info, size), 0);
	assert_int_equal(offsetof(struct seg_txlog_options, size), 0);
	if (sizeof(void *) != 8)
		return;
	assert_int_equal(sizeof(struct seg_budget_options), 48);
	assert_int_equal(sizeof(struct seg_budget_stats), 152);
	assert_int_equal(sizeof(struct seg_pool_options), 120);
	assert_int_equal(sizeof(struct seg_pool_stats), 224);
	assert_int_equal(sizeof(struct seg_alloc_options), 32);
	assert_int_equal(sizeof(struct seg_node_info), 24);
	assert_int_equal(sizeof(struct seg_placement), 40);
	assert_int_equal(sizeof(struct seg_handle), 24);
	assert_int_equal(sizeof(struct seg_region_info), 64);
	assert_int_equal(sizeof(struct seg_sparse_region), 56);
	assert_int_equal(sizeof(struct seg_drain), 544);
	assert_int_equal(sizeof(struct seg_txlog_options), 16);
}

static void test_layout_of_caches(void **state)
{
	(void)state;
	assert_int_equal(offsetof(struct seg_cache_options, size), 0);
	assert_int_equal(offsetof(struct seg_cache_stats, size), 0);
	assert_int_equal(offsetof(struct seg_cache_entry_info, size), 0);
	assert_int_equal(offsetof(struct seg_pin_report, size), 0);
	assert_int_equal(offsetof(struct seg_refusal, size), 0);
	if (sizeof(void *) != 8)
		return;
	assert_int_equal(sizeof(struct seg_cache_options), 96);
	assert_int_equal(sizeof(struct seg_cache_stats), 192);
	assert_int_equal(sizeof(struct seg_pin), 32);
	assert_int_equal(sizeof(struct seg_cache_entry_info), 48);
	assert_int_equal(sizeof(struct seg_pin_info), 32);
	assert_int_equal(sizeof(struct seg_tag_sum), 32);
	assert_int_equal(sizeof(struct seg_pin_report), 792);
	assert_int_equal(sizeof(struct seg_refusal_class), 40);
	assert_int_equal(sizeof(struct seg_holder), 40);
	assert_int_equal(sizeof(struct seg_reclaimer_info), 56);
	assert_int_equal(sizeof(struct seg_reclaimer_options), 40);
	assert_int_equal(sizeof(struct seg_refusal), 2024);
}

static void test_null_budget_and_pool(void **state)
{
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_budget_stats budget_stats;
	struct seg_pool_stats pool_stats;

	(void)state;
	assert_int_equal(seg_budget_create(NULL, &budget), -EINVAL);
	assert_int_equal(seg_budget_destroy(NULL), 0);
	assert_int_equal(seg_budget_set_limit(NULL, SEG_MIN_BYTES), -EINVAL);
	assert_int_equal(seg_budget_stats(NULL, &budget_stats), -EINVAL);
	assert_int_equal(seg_pool_create(NULL, &pool), -EINVAL);
	assert_int_equal(seg_pool_destroy(NULL), 0);
	assert_int_equal(seg_pool_trim(NULL, NULL), -EINVAL);
	assert_int_equal(seg_pool_stats(NULL, SEG_ALL, SEG_ALL, &pool_stats),
			 -EINVAL);
}

static uint64_t never_give(void *ctx, uint64_t bytes)
{
	(void)ctx;
	(void)bytes;
	return 0;
}

static void test_null_at_the_limit(void **state)
{
	struct seg_reclaimer_options options;
	char text[2] = "x";

	(void)state;
	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	options.fn = never_give;
	assert_int_equal(seg_budget_add_reclaimer(NULL, &options), -EINVAL);
	assert_int_equal(seg_budget_remove_reclaimer(NULL, never_give, NULL),
			 -EINVAL);
	assert_int_equal(seg_pool_stats_json(NULL, text, 1), -EINVAL);
	assert_int_equal(seg_pool_stats_prometheus(NULL, "", text, 1),
			 -EINVAL);
	assert_int_equal(seg_refusal_json(NULL, text, 1), -EINVAL);
	assert_string_equal(text, "x");
}

static void test_null_segment(void **state)
{
	struct timespec deadline;
	struct seg_handle handle;
	void *segment;

	(void)state;
	memset(&deadline, 0, sizeof(deadline));
	memset(&handle, 0, sizeof(handle));
	errno = 0;
	assert_null(seg_alloc(NULL, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(seg_alloc_zeroed(NULL, 1));
	assert_null(seg_alloc_on(NULL, 1, 0));
	assert_null(seg_alloc_until(NULL, 1, &deadline));
	assert_int_equal(seg_release(NULL, &handle), -EINVAL);
	assert_int_equal(seg_handle_of(NULL, &handle, &handle), -EINVAL);
	assert_int_equal(seg_resolve(NULL, &handle, &segment), -EINVAL);
	assert_int_equal(seg_release_handle(NULL, &handle), -EINVAL);
}

static int ignore_region(void *ctx, const struct seg_region_info *info)
{
	(void)ctx;
	(void)info;
	return 0;
}

static void test_null_region_and_page(void **state)
{
	struct seg_region_info info;
	struct seg_page *page;
	size_t bytes = 1;

	(void)state;
	memset(&info, 0, sizeof(info));
	info.size = sizeof(info);
	assert_int_equal(seg_region_of(NULL, &info, &info), -EINVAL);
	assert_int_equal(seg_region_each(NULL, ignore_region, NULL), -EINVAL);
	assert_int_equal(seg_page_create(NULL, &bytes, 1, &page), -EINVAL);
	assert_int_equal(seg_page_parts(NULL), 0);
	assert_null(seg_page_part(NULL, 0));
	assert_int_equal(seg_page_part_bytes(NULL, 0), 0);
	assert_int_equal(seg_page_grow(NULL, 0, 1), -EINVAL);
	assert_int_equal(seg_page_release(NULL), 0);
}

static void test_null_txlog(void **state)
{
	struct seg_txlog *log;
	struct seg_page *page;

	(void)state;
	assert_int_equal(seg_txlog_create(NULL, NULL, &log), -EINVAL);
	assert_int_equal(seg_txlog_put(NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_get(NULL, 1, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_take(NULL, 1, &page, &page), -EINVAL);
	assert_int_equal(seg_txlog_count(NULL), 0);
	assert_int_equal(seg_txlog_commit(NULL, NULL, NULL), -EINVAL);
	assert_int_equal(seg_txlog_abort(NULL), -EINVAL);
	seg_txlog_destroy(NULL);
}

static int never_load(void *ctx, uint64_t key, void **ret_value,
		      uint64_t *ret_weight)
{
	(void)ctx;
	(void)key;
	(void)ret_value;
	(void)ret_weight;
	return -ECANCELED;
}

static int never_visit(void *ctx, const struct seg_cache_entry_info *info)
{
	(void)ctx;
	(void)info;
	return -ECANCELED;
}

static void test_null_cache(void **state)
{
	struct seg_cache *cache;
	struct seg_cache_stats stats;
	struct seg_pin_report report;
	struct seg_refusal refusal;
	struct seg_pin pin;
	void *value = &pin;

	(void)state;
	stats.size = sizeof(stats);
	report.size = sizeof(report);
	refusal.size = sizeof(refusal);
	assert_int_equal(seg_cache_create(NULL, &cache), -EINVAL);
	assert_int_equal(seg_cache_destroy(NULL), 0);
	assert_int_equal(seg_cache_put(NULL, 1, value, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_replace(NULL, 1, value, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_get(NULL, 1, &pin), -EINVAL);
	assert_int_equal(seg_cache_get_or_load(NULL, 1, never_load, NULL, 0,
					       &pin), -EINVAL);
	assert_int_equal(seg_cache_peek(NULL, 1, &value), -EINVAL);
	assert_int_equal(seg_cache_take(NULL, 1, &value), -EINVAL);
	assert_int_equal(seg_cache_remove(NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_clear(NULL), -EINVAL);
	assert_int_equal(seg_cache_shrink(NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_set_max_weight(NULL, 1), -EINVAL);
	assert_int_equal(seg_cache_each(NULL, never_visit, NULL), -EINVAL);
	assert_int_equal(seg_cache_pins(NULL, &report), -EINVAL);
	assert_int_equal(seg_cache_stats(NULL, &stats), -EINVAL);
	assert_false(seg_cache_is_valid(NULL));
	assert_null(seg_pin_value(NULL));
	assert_int_equal(seg_pin_tag(NULL, 1), -EINVAL);
	assert_int_equal(seg_unpin(NULL), -EINVAL);
	assert_int_equal(seg_pool_last_refusal(NULL, &refusal), -EINVAL);
	assert_int_equal(seg_page_bytes(NULL), 0);
}

static void test_a_cache_of_pages(void **state)
{
	struct seg_budget_options limit;
	struct seg_pool_options options;
	struct seg_cache_options cache_options;
	struct seg_pool *pool = NULL;
	struct seg_cache *cache = NULL;
	struct seg_page *page;
	struct seg_pin pin;
	size_t bytes = 1;

	(void)state;
	memset(&limit, 0, sizeof(limit));
	limit.size = sizeof(limit);
	limit.limit_bytes = 16 * SEG_MAX_BYTES;
	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	assert_int_equal(seg_budget_create(&limit, &options.budget), 0);
	assert_int_equal(seg_pool_create(&options, &pool), 0);
	memset(&cache_options, 0, sizeof(cache_options));
	cache_options.size = sizeof(cache_options);
	cache_options.max_weight = SEG_MAX_BYTES;
	cache_options.pages = pool;
	cache_options.budget = options.budget;
	assert_int_equal(seg_cache_create(&cache_options, &cache), 0);
	assert_int_equal(seg_page_create(pool, &bytes, 1, &page), 0);
	assert_int_equal(seg_cache_put(cache, 1, page, 0, NULL), 0);
	assert_int_equal(seg_cache_get(cache, 1, &pin), 0);
	assert_ptr_equal(seg_pin_value(&pin), page);
	assert_int_equal(seg_unpin(&pin), 0);
	seg_read_begin();
	seg_read_end();
	assert_true(seg_cache_is_valid(cache));
	assert_int_equal(seg_cache_destroy(cache), 0);
	assert_int_equal(seg_pool_destroy(pool), 0);
	assert_int_equal(seg_budget_destroy(options.budget), 0);
}

static void test_a_whole_life(void **state)
{
	struct seg_budget_options limit;
	struct seg_pool_options options;
	struct seg_pool *pool = NULL;
	void *segment;

	(void)state;
	memset(&limit, 0, sizeof(limit));
	limit.size = sizeof(limit);
	limit.limit_bytes = 16 * SEG_MAX_BYTES;
	memset(&options, 0, sizeof(options));
	options.size = sizeof(options);
	assert_int_equal(seg_budget_create(&limit, &options.budget), 0);
	assert_int_equal(seg_pool_create(&options, &pool), 0);
	segment = seg_alloc(pool, SEG_MIN_BYTES + 1);
	assert_non_null(segment);
	assert_int_equal(seg_size(pool, segment), 2 * SEG_MIN_BYTES);
	memset(segment, 1, 2 * SEG_MIN_BYTES);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_true(seg_pool_is_valid(pool));
	assert_int_equal(seg_pool_destroy(pool), 0);
	assert_int_equal(seg_budget_destroy(options.budget), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_constants),
		cmocka_unit_test(test_layout),
		cmocka_unit_test(test_layout_of_caches),
		cmocka_unit_test(test_null_budget_and_pool),
		cmocka_unit_test(test_null_at_the_limit),
		cmocka_unit_test(test_null_segment),
		cmocka_unit_test(test_null_region_and_page),
		cmocka_unit_test(test_null_txlog),
		cmocka_unit_test(test_null_cache),
		cmocka_unit_test(test_a_cache_of_pages),
		cmocka_unit_test(test_a_whole_life),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
