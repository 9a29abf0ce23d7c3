/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P11: each system call and allocation of the library's own may fail at any
 * call.  Then there is a documented error or none, nothing is lost, nothing
 * leaks, counters are exact.  Linked with fault_os.c in place of lib/os.c.
 *
 * Each documented error, and the test program that produces it:
 *   seg_budget_create     EINVAL ERANGE pool, ENOMEM faults
 *   seg_budget_destroy    EBUSY pool, cache_pages (caches)
 *   seg_budget_set_limit  EINVAL ERANGE EBUSY limit
 *   seg_budget_stats      EINVAL pool
 *   seg_pool_create       EINVAL pool, place, place_budgets, ERANGE
 *                         place_budgets, ENOMEM EAGAIN faults
 *   seg_pool_destroy      EBUSY pool (segments), page (pages), txlog (logs),
 *                         cache_pages (caches), faults (no unmapping)
 *   seg_pool_trim         EINVAL pool
 *   seg_pool_drain        EINVAL EDEADLK drain, ENOMEM faults
 *   seg_pool_stats        EINVAL pool
 *   seg_alloc, _zeroed    EINVAL pool, ENOMEM limit (limit), faults (kernel)
 *   seg_alloc_on          EINVAL pool, place, ENOMEM faults, place
 *   seg_alloc_with        EINVAL ENOMEM place
 *   seg_alloc_until       EINVAL pool, ENOMEM limit
 *   seg_release           EINVAL ESTALE handle
 *   seg_handle_of         EINVAL ESTALE handle
 *   seg_resolve           EINVAL ESTALE handle
 *   seg_release_handle    EINVAL ESTALE handle
 *   seg_region_of         EINVAL ENOENT stats
 *   seg_region_each       EINVAL stats
 *   seg_node_each         EINVAL and what fn returned: place_nodes
 *   seg_pool_placement    EINVAL ENOSYS EPERM place_nodes
 *   seg_page_create       EINVAL page, ENOMEM page (limit), faults (kernel)
 *   seg_page_grow         EINVAL ESTALE ENOMEM page, EBUSY cache_pages
 *   seg_page_release      ESTALE page, EBUSY txlog, cache_pages
 *   seg_txlog_create      EINVAL txlog, ENOMEM faults
 *   seg_txlog_put         EINVAL ESTALE EBUSY txlog, ENOMEM faults
 *   seg_txlog_get         EINVAL ENOENT txlog
 *   seg_txlog_take        EINVAL ENOENT txlog
 *   seg_txlog_commit      EINVAL and what write returned: txlog
 *   seg_txlog_abort       EINVAL txlog
 *   seg_cache_create      EINVAL cache, ENOMEM EAGAIN cache_faults
 *   seg_cache_destroy     EBUSY cache_ways_out (pins), cache_load (loads),
 *                         cache_faults (no unmapping), EDEADLK cache_peek
 *   seg_cache_put,        EINVAL E2BIG cache, EEXIST cache_ways_out, ESTALE
 *   _replace              EBUSY cache_pages, ENOMEM cache_faults
 *   seg_cache_get         EINVAL ENOENT cache
 *   seg_cache_get_or_load EINVAL cache; EAGAIN ETIMEDOUT EDEADLK E2BIG and what
 *                         load returned: cache_load; EOVERFLOW cache_pins;
 *                         ESTALE EBUSY cache_pages; ENOMEM cache_faults
 *   seg_pin_tag           EINVAL cache, pin_tags, ENOMEM cache_faults
 *   seg_unpin             EINVAL cache, ESTALE cache_pins, pin_tags
 *   seg_cache_peek        EINVAL EPERM ENOENT cache_peek
 *   seg_cache_take        EINVAL cache, ENOENT EBUSY cache_ways_out,
 *                         EDEADLK cache_peek
 *   seg_cache_remove      EINVAL cache, ENOENT cache_ways_out
 *   seg_cache_clear, _shrink, _each, _pins, _stats  EINVAL cache
 *   seg_cache_set_max_weight  EINVAL ERANGE cache
 *   seg_pool_last_refusal EINVAL ENOENT refusal
 */
#include "pools.h"

#include "fault_left.h"
#include "fault_os.h"
#include "section.h"

enum {
	LIMIT = 4 << 20,
	MOST = 2048,		/* segments of a run */
	PAIRS = 8,
	FOR_EVER = INT32_MAX,
};

/* One run of the scenario: whatever it got is here, to be given back. */
struct run {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_txlog *log;
	void *segment[MOST];
	unsigned segments;
	struct seg_handle handle;
};

/* The segment is the run's, or was refused as documented. */
static bool keep(struct run *r, void *segment)
{
	if (!segment) {
		require(errno == ENOMEM);
		return false;
	}
	require(r->segments < MOST);
	memset(segment, (int)r->segments, SEG_MIN_BYTES);
	r->segment[r->segments++] = segment;
	return true;
}

static bool run_create(struct run *r)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = LIMIT };
	struct seg_pool_options o = { .size = sizeof(o), .wait_ms = SEG_NO_WAIT,
				      .decay_ms = 600000,
				      .region_bytes = 256 * KIB };
	int ret = seg_budget_create(&limit, &r->budget);

	require(ret == 0 || ret == -ENOMEM);
	if (ret)
		return false;
	o.budget = r->budget;
	ret = seg_pool_create(&o, &r->pool);
	require(ret == 0 || ret == -ENOMEM || ret == -EAGAIN);
	return ret == 0;
}

static void run_segments(struct run *r)
{
	struct timespec past = { 0 };
	struct seg_region_info info = { .size = sizeof(info) };
	void *found;

	for (int c = 0; c < SEG_CLASSES; c++) {
		keep(r, seg_alloc(r->pool, slice_of(c)));
		keep(r, seg_alloc_zeroed(r->pool, slice_of(c)));
		keep(r, seg_alloc_on(r->pool, slice_of(c), 0));
		keep(r, seg_alloc_until(r->pool, slice_of(c), &past));
	}
	if (!r->segments)
		return;
	found = r->segment[0];
	require(seg_size(r->pool, found) != 0);
	require(seg_region_of(r->pool, found, &info) == 0);
	require(seg_handle_of(r->pool, found, &r->handle) == 0);
	require(seg_resolve(r->pool, &r->handle, &found) == 0);
	require(seg_release_handle(r->pool, &r->handle) == 0);
	require(seg_resolve(r->pool, &r->handle, &found) == -ESTALE);
	r->segment[0] = r->segment[--r->segments];
}

static struct seg_page *make_page(struct run *r)
{
	const size_t bytes[] = { 60000, 5000 };
	struct seg_page *page = NULL;
	int ret = seg_page_create(r->pool, bytes, 2, &page);

	require(ret == 0 || ret == -ENOMEM);
	require((ret == 0) == (page != NULL));
	return page;
}

static void grow_page(struct seg_page *page)
{
	size_t before = seg_page_part_bytes(page, 0);
	char *part = seg_page_part(page, 0);
	int ret;

	memset(part, 'g', before);
	ret = seg_page_grow(page, 0, 2 * before);
	require(ret == 0 || ret == -ENOMEM);
	require(seg_page_part_bytes(page, 0) == (ret ? before : 2 * before));
	part = seg_page_part(page, 0);
	require(part[0] == 'g' && part[before - 1] == 'g');
}

/* The page is the log's, or the error is documented and it is released. */
static bool put_page(struct run *r, uint64_t key)
{
	struct seg_page *page = make_page(r);
	int ret;

	if (!page)
		return false;
	grow_page(page);
	ret = seg_txlog_put(r->log, key, page, page);
	require(ret == 0 || ret == -ENOMEM);
	if (ret)
		require(seg_page_release(page) == 0);
	return ret == 0;
}

static int write_pair(void *ctx, uint64_t key, const struct seg_page *complete,
		      const struct seg_page *modified)
{
	(void)ctx;
	require(key < PAIRS && complete == modified);
	return seg_page_parts(complete) == 2 ? 0 : -EIO;
}

static void run_log(struct run *r)
{
	struct seg_txlog_options o = { .size = sizeof(o), .capacity = 1 };
	int ret = seg_txlog_create(r->pool, &o, &r->log);
	struct seg_page *one, *two;
	size_t pairs = 0;

	require(ret == 0 || ret == -ENOMEM);
	if (ret)
		return;
	for (uint64_t key = 0; key < PAIRS; key++)
		pairs += put_page(r, key);
	require(seg_txlog_count(r->log) == pairs);
	require(seg_txlog_commit(r->log, write_pair, NULL) == 0);
	require(seg_txlog_count(r->log) == 0);
	if (put_page(r, 1)) {
		require(seg_txlog_get(r->log, 1, &one, &two) == 0);
		require(seg_txlog_take(r->log, 1, &one, &two) == 0);
		require(seg_page_release(one) == 0);
	}
	put_page(r, 2);
	require(seg_txlog_abort(r->log) == 0);
}

/* What it charges. */
static int count_region(void *ctx, const struct seg_region_info *info)
{
	*(uint64_t *)ctx += (info->slices - info->decommitted) *
			    slice_of(info->class_index);
	return 0;
}

/* Up to the limit, and with another limit. */
static void run_limit(struct run *r)
{
	uint64_t bytes = 0;
	int ret;

	while (keep(r, seg_alloc(r->pool, slice_of(2))))
		;
	require(charged(r->budget) <= LIMIT);
	require(seg_region_each(r->pool, count_region, &bytes) == 0);
	require(bytes <= charged(r->budget));
	require(seg_budget_set_limit(r->budget, 2 * LIMIT) == 0);
	keep(r, seg_alloc(r->pool, SEG_MAX_BYTES));
	ret = seg_budget_set_limit(r->budget, LIMIT);
	require(ret == 0 || ret == -EBUSY);
}

static void run_release(struct run *r)
{
	struct seg_pool_stats s;
	int ret = seg_pool_drain(r->pool, 0, NULL);

	require(ret == 0 || ret == -ENOMEM);
	s = figures(r->pool, SEG_ALL);
	require(s.active == r->segments);
	while (r->segments)
		require(!seg_release(r->pool, r->segment[--r->segments]));
	s = figures(r->pool, SEG_ALL);
	require(s.active == 0 && s.allocations_total == s.releases_total);
	require(seg_pool_trim(r->pool, NULL) == 0);
	require(figures(r->pool, SEG_ALL).regions == 0);
	require(seg_pool_is_valid(r->pool));
}

/* What was refused under the fault must do without it. */
static uint64_t run_again(struct run *r)
{
	uint64_t failed = fault_disarm();

	require(failed);
	require(seg_pool_is_valid(r->pool));
	require(keep(r, alloc_patiently(r->pool, 1)));
	require(seg_release(r->pool, r->segment[0]) == 0);
	require(seg_pool_is_valid(r->pool));
	require(seg_pool_destroy(r->pool) == 0);
	require(charged(r->budget) == 0);
	require(seg_budget_destroy(r->budget) == 0);
	return failed;
}

/* With the fault still armed. */
static uint64_t run_destroy(struct run *r)
{
	int ret;

	seg_txlog_destroy(r->log);
	ret = seg_pool_destroy(r->pool);
	require(ret == 0 || ret == -EBUSY);
	if (ret) {
		require(seg_budget_destroy(r->budget) == -EBUSY);
		return run_again(r);
	}
	if (r->budget)
		require(charged(r->budget) == 0);
	require(seg_budget_destroy(r->budget) == 0);
	return fault_disarm();
}

static uint64_t run_scenario(void)
{
	struct run r = { 0 };

	if (run_create(&r)) {
		run_segments(&r);
		run_log(&r);
		run_limit(&r);
		run_release(&r);
	}
	return run_destroy(&r);
}

/* Calls n to n + calls - 1 fail, for each n until the run has fewer. */
static void sweep(enum fault_kind kind, uint64_t calls)
{
	for (uint64_t n = 1; ; n++) {
		uint64_t failed;

		fault_arm(kind, n, calls);
		failed = run_scenario();
		assert_nothing_is_left();
		if (!failed) {
			assert_true(n > 1 || (kind == FAULT_MEMBARRIER &&
					      !sections_begin()));
			print_message("kind %d: %llu calls\n", (int)kind,
				      (unsigned long long)n - 1);
			return;
		}
	}
}

static void test_without_faults(void **state)
{
	(void)state;
	assert_int_equal(run_scenario(), 0);
	assert_nothing_is_left();
}

static void test_each_single_call_fails(void **state)
{
	(void)state;
	for (int kind = 0; kind < FAULT_KINDS; kind++)
		sweep((enum fault_kind)kind, 1);
}

static void test_each_few_calls_fail(void **state)
{
	(void)state;
	for (int kind = 0; kind < FAULT_KINDS; kind++)
		sweep((enum fault_kind)kind, 3);
}

static void test_all_calls_from_one_on_fail(void **state)
{
	(void)state;
	for (int kind = 0; kind < FAULT_KINDS; kind++)
		sweep((enum fault_kind)kind, FOR_EVER);
}

/* ------------------------------------------- the errors, each by its name */

static void test_creation_without_memory(void **state)
{
	struct seg_budget_options limit = { .size = sizeof(limit),
					    .limit_bytes = MIB };
	struct seg_pool_options o = { .size = sizeof(o) };
	struct seg_budget *b = NULL;
	struct seg_pool *pool = NULL;
	struct seg_txlog *log = NULL;

	(void)state;
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_int_equal(seg_budget_create(&limit, &b), -ENOMEM);
	assert_null(b);
	assert_int_equal(seg_budget_create(&limit, &b), 0);
	o.budget = b;
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_int_equal(seg_pool_create(&o, &pool), -ENOMEM);
	fault_arm(FAULT_THREAD, 1, 1);
	assert_int_equal(seg_pool_create(&o, &pool), -EAGAIN);
	assert_null(pool);
	assert_int_equal(budget_stats(b).pools, 0);
	assert_int_equal(seg_pool_create(&o, &pool), 0);
	fault_arm(FAULT_CALLOC, 1, 1);
	assert_int_equal(seg_txlog_create(pool, NULL, &log), -ENOMEM);
	fault_arm(FAULT_REALLOC, 1, 1);
	assert_int_equal(seg_txlog_create(pool, NULL, &log), -ENOMEM);
	assert_null(log);
	assert_int_equal(fault_disarm(), 1);
	end_both(pool, b);
	assert_nothing_is_left();
}

static void test_the_kernel_gives_no_region(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_REGION);
	const size_t bytes = 1;
	struct seg_page *page = NULL;
	void *segment;

	(void)state;
	fault_arm(FAULT_MAP, 1, FOR_EVER);
	errno = 0;
	assert_null(seg_alloc(pool, 1));
	assert_int_equal(errno, ENOMEM);
	assert_null(seg_alloc_on(pool, 1, 0));
	assert_int_equal(seg_page_create(pool, &bytes, 1, &page), -ENOMEM);
	assert_int_equal(charged(b), 0);
	assert_int_equal(figures(pool, 0).refusals_total, 2);
	/* Once for each allocation, however often it was tried. */
	assert_int_equal(recorder_has(&e.lines, "Cannot map region for pool 0: "
				      "Cannot allocate memory"), 2);
	assert_int_equal(recorder_has(&e.lines, "Allocation refused"), 2);
	fault_disarm();
	segment = seg_alloc(pool, 1);
	assert_non_null(segment);
	assert_int_equal(seg_release(pool, segment), 0);
	end_both(pool, b);
	assert_nothing_is_left();
}

/* P1, P2: it stays charged as long as it stays mapped. */
static void test_the_kernel_takes_no_region(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	void *segment = seg_alloc(pool, 1);
	uint64_t bytes = charged(b);
	struct seg_pool_stats s;

	(void)state;
	fault_arm(FAULT_UNMAP, 1, FOR_EVER);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	s = figures(pool, 0);
	assert_int_equal(s.regions, 0);
	assert_int_equal(s.deferred_regions, 1);
	assert_int_equal(s.deferred_bytes, bytes);
	assert_int_equal(s.mapped_bytes, bytes);
	assert_int_equal(charged(b), bytes);
	assert_string_equal(e.lines.line[0], "Cannot unmap region of pool 0: "
			    "Cannot allocate memory; kept charged, will be "
			    "tried again");
	assert_int_equal(seg_pool_destroy(pool), -EBUSY);
	assert_int_equal(seg_budget_destroy(b), -EBUSY);
	assert_int_equal(charged(b), bytes);
	fault_disarm();
	/* Nobody has to ask for it. */
	wait_until(charged(b) == 0);
	end_both(pool, b);
	assert_nothing_is_left();
}

static void test_a_log_that_cannot_grow(void **state)
{
	struct seg_txlog_options o = { .size = sizeof(o), .capacity = 1 };
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	const size_t bytes = 1;
	struct seg_page *page[2];
	struct seg_txlog *log;

	(void)state;
	assert_int_equal(seg_txlog_create(pool, &o, &log), 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(seg_page_create(pool, &bytes, 1, &page[i]), 0);
	assert_int_equal(seg_txlog_put(log, 1, page[0], NULL), 0);
	fault_arm(FAULT_REALLOC, 1, 1);
	assert_int_equal(seg_txlog_put(log, 2, page[1], NULL), -ENOMEM);
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(seg_txlog_count(log), 1);
	assert_int_equal(seg_page_release(page[1]), 0);
	seg_txlog_destroy(log);
	end_both(pool, b);
	assert_nothing_is_left();
}

/* The child has no thread of the library: what it defers waits for a trim. */
static int child_without_keeper(void *ctx)
{
	struct seg_pool *pool = ctx;
	void *segment = seg_alloc(pool, 1);

	require(fault_disarm() == 1);
	require(segment && seg_release(pool, segment) == 0);
	require(seg_pool_trim(pool, NULL) == 0);
	require(figures(pool, SEG_ALL).mapped_bytes == 0);
	require(seg_pool_is_valid(pool));
	require(seg_pool_destroy(pool) == 0);
	return 0;
}

static void test_a_child_that_gets_no_thread(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
#ifdef SEG_TSAN
	skip();
#endif
	fault_arm(FAULT_THREAD, 1, 1);
	assert_int_equal(run_in_child(child_without_keeper, pool), 0);
	assert_int_equal(fault_disarm(), 0);
	end_both(pool, b);
	assert_nothing_is_left();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_without_faults, begin),
		cmocka_unit_test_setup(test_each_single_call_fails, begin),
		cmocka_unit_test_setup(test_each_few_calls_fail, begin),
		cmocka_unit_test_setup(test_all_calls_from_one_on_fail, begin),
		cmocka_unit_test_setup(test_creation_without_memory, begin),
		cmocka_unit_test_setup(test_the_kernel_gives_no_region, begin),
		cmocka_unit_test_setup(test_the_kernel_takes_no_region, begin),
		cmocka_unit_test_setup(test_a_log_that_cannot_grow, begin),
		cmocka_unit_test_setup(test_a_child_that_gets_no_thread, begin),
	};

	return run_group(tests);
}
