/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * seg_pool_drain() and drain_find(): what can be given back is given back, what
 * can't be is named; a reclaimer is asked for just what lies in sparse regions.
 */
#include "one_node.h"
#include "pools.h"

#include "budget.h"
#include "keeper.h"
#include "os.h"

enum {
	REGION = 16 * SEG_MIN_BYTES,
	SLICES = 16,
	REGIONS = 4,
	MOST = REGIONS * SLICES,
};

static struct seg_budget *budget;
static struct seg_pool *pool;
static char *segments[MOST];	/* of region i: from i * SLICES on */

static struct seg_drain drain(unsigned percent)
{
	struct seg_drain d = { .size = sizeof(d) };

	assert_int_equal(seg_pool_drain(pool, percent, &d), 0);
	assert_int_equal(d.size, sizeof(d));
	assert_int_equal(d.error, 0);
	assert_true(seg_pool_is_valid(pool));
	return d;
}

static int begin(void **state)
{
	(void)state;
	budget = new_budget(16 * MIB);
	pool = make_pool_with((struct seg_pool_options){
		.budget = budget, .region_bytes = REGION,
		.wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
	});
	for (int i = 0; i < MOST; i++)
		segments[i] = seg_alloc(pool, SEG_MIN_BYTES);
	assert_int_equal(figures(pool, 0).regions, REGIONS);
	return 0;
}

static void release(int i)
{
	assert_int_equal(seg_release(pool, segments[i]), 0);
	segments[i] = NULL;
}

/* Leaves so many of each region, the first ones. */
static void leave(const int *left)
{
	for (int i = 0; i < MOST; i++)
		if (i % SLICES >= left[i / SLICES])
			release(i);
}

static int end(void **state)
{
	(void)state;
	for (int i = 0; i < MOST; i++)
		if (segments[i])
			release(i);
	end_both(pool, budget);
	return 0;
}

static void test_errors(void **state)
{
	struct seg_drain d = { .size = 8 };

	(void)state;
	assert_int_equal(seg_pool_drain(NULL, 0, NULL), -EINVAL);
	assert_int_equal(seg_pool_drain(pool, 101, NULL), -EINVAL);
	assert_int_equal(seg_pool_drain(pool, 0, &d), -EINVAL);
	seg_read_begin();
	assert_int_equal(seg_pool_drain(pool, 0, NULL), -EDEADLK);
	seg_read_end();
	assert_int_equal(seg_pool_drain(pool, 100, NULL), 0);
}

/* Who knows less of the struct gets less. */
static void test_a_short_result(void **state)
{
	struct seg_drain d = {
		.size = offsetof(struct seg_drain, kept_regions),
		.kept_regions = 77,
	};

	(void)state;
	release(0);
	assert_int_equal(seg_pool_drain(pool, 0, &d), 0);
	assert_int_equal(d.decommitted_bytes, SEG_MIN_BYTES);
	assert_int_equal(d.kept_regions, 77);
}

/* One region is idle, one sparse, two are half full. */
static void test_what_went_and_what_stays(void **state)
{
	struct seg_drain d;

	(void)state;
	leave((int[]){ 0, 3, 8, 9 });
	d = drain(25);
	assert_int_equal(d.retired_bytes, REGION);
	assert_int_equal(d.decommitted_bytes, (13 + 8 + 7) * SEG_MIN_BYTES);
	assert_int_equal(d.evicted_bytes, 0);
	assert_int_equal(d.kept_regions, 3);
	assert_int_equal(d.active_bytes, 20 * SEG_MIN_BYTES);
	assert_int_equal(d.kept_bytes, d.active_bytes);
	assert_int_equal(charged(budget), d.active_bytes);
	assert_int_equal(d.sparse_regions, 1);
	assert_int_equal(d.sparse_bytes, 3 * SEG_MIN_BYTES);
	assert_int_equal(d.pinned_bytes, 0);
	assert_ptr_equal(d.sparsest[0].base, segments[SLICES]);
	assert_int_equal(d.sparsest[0].bytes, REGION);
	assert_int_equal(d.sparsest[0].active_bytes, 3 * SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[0].class_index, 0);
	assert_null(d.sparsest[1].base);
}

/* Nothing more to be had: nothing changes. */
static void test_a_second_drain_finds_nothing(void **state)
{
	struct seg_drain d;

	(void)state;
	leave((int[]){ 0, 3, 8, 9 });
	drain(25);
	d = drain(25);
	assert_int_equal(d.retired_bytes + d.decommitted_bytes, 0);
	assert_int_equal(d.active_bytes, 20 * SEG_MIN_BYTES);
}

static void test_the_sparsest_come_first(void **state)
{
	struct seg_drain d;

	(void)state;
	leave((int[]){ 4, 1, 16, 2 });
	d = drain(100);
	assert_int_equal(d.sparse_regions, 4);
	assert_int_equal(d.sparsest[0].active_bytes, 1 * SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[1].active_bytes, 2 * SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[2].active_bytes, 4 * SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[3].active_bytes, 16 * SEG_MIN_BYTES);
}

/* More than fit into the list: the sparsest of them do. */
static void test_the_list_is_cut(void **state)
{
	void *more[SEG_CLASSES];
	struct seg_drain d;

	(void)state;
	for (int c = 1; c < SEG_CLASSES; c++) {
		more[c] = seg_alloc(pool, slice_of(c));
		assert_non_null(more[c]);
	}
	d = drain(100);
	assert_int_equal(d.sparse_regions, REGIONS + SEG_CLASSES - 1);
	for (int i = 1; i < SEG_SPARSE_MOST; i++)
		assert_true(d.sparsest[i - 1].active_bytes <=
			    d.sparsest[i].active_bytes);
	assert_int_equal(d.sparsest[0].active_bytes, slice_of(1));
	for (int c = 1; c < SEG_CLASSES; c++)
		assert_int_equal(seg_release(pool, more[c]), 0);
}

/* ----------------------------------------------------- a cache, as it were */

/* Holds some segments; of those in the spans it gives back what it can. */
static struct holder {
	struct reclaimer reclaimer;
	bool held[MOST], pinned[MOST], busy[MOST];
	unsigned asked, spans;
} holder;

static void holder_drain(struct reclaimer *r, struct drain *d)
{
	(void)r;
	holder.asked++;
	holder.spans = d->count;
	for (int i = 0; i < MOST; i++) {
		struct drain_span *span = drain_find(d, segments[i]);

		if (!holder.held[i] || !span)
			continue;
		if (holder.pinned[i]) {
			span->pinned_bytes += SEG_MIN_BYTES;
			d->pinned_bytes += SEG_MIN_BYTES;
		} else if (holder.busy[i]) {
			span->cached_bytes += SEG_MIN_BYTES;
			d->cached_bytes += SEG_MIN_BYTES;
		} else {
			release(i);
			holder.held[i] = false;
			d->evicted_bytes += SEG_MIN_BYTES;
		}
	}
}

static uint64_t holder_give(struct reclaimer *r, uint64_t bytes)
{
	(void)r, (void)bytes;
	return 0;
}

static void hold(int first, int count)
{
	for (int i = first; i < first + count; i++)
		holder.held[i] = true;
}

static void begin_holder(void)
{
	memset(&holder, 0, sizeof(holder));
	holder.reclaimer.give = holder_give;
	holder.reclaimer.drain = holder_drain;
	reclaim_join(&budget->reclaimers, &holder.reclaimer);
}

static void end_holder(void)
{
	reclaim_leave(&budget->reclaimers, &holder.reclaimer);
}

/* Just what lies in the sparse ones: the fuller regions keep their pages. */
static void test_the_cached_leave_sparse_regions(void **state)
{
	struct seg_drain d;

	(void)state;
	leave((int[]){ 2, 3, 8, 16 });
	begin_holder();
	hold(0, MOST);
	d = drain(20);
	assert_int_equal(holder.asked, 1);
	assert_int_equal(holder.spans, 2);
	assert_int_equal(d.evicted_bytes, 5 * SEG_MIN_BYTES);
	assert_int_equal(d.retired_bytes, 2 * REGION);
	assert_int_equal(d.kept_regions, 2);
	assert_int_equal(d.sparse_regions, 0);
	assert_int_equal(d.active_bytes, 24 * SEG_MIN_BYTES);
	end_holder();
}

static void test_who_keeps_a_sparse_region(void **state)
{
	struct seg_drain d;

	(void)state;
	leave((int[]){ 4, 16, 16, 16 });
	begin_holder();
	hold(0, 3);
	holder.pinned[0] = holder.busy[1] = true;
	d = drain(25);
	assert_int_equal(d.evicted_bytes, SEG_MIN_BYTES);
	assert_int_equal(d.sparse_regions, 1);
	assert_int_equal(d.sparse_bytes, 3 * SEG_MIN_BYTES);
	assert_int_equal(d.pinned_bytes, SEG_MIN_BYTES);
	assert_int_equal(d.cached_bytes, SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[0].pinned_bytes, SEG_MIN_BYTES);
	assert_int_equal(d.sparsest[0].cached_bytes, SEG_MIN_BYTES);
	end_holder();
}

static void test_nobody_is_asked_for_nothing(void **state)
{
	(void)state;
	begin_holder();
	hold(0, MOST);
	drain(99);
	assert_int_equal(holder.asked, 0);
	leave((int[]){ 1, 16, 16, 16 });
	drain(0);
	assert_int_equal(holder.asked, 0);
	holder.reclaimer.drain = NULL;
	drain(100);
	end_holder();
}

static void test_spans_are_found(void **state)
{
	struct drain_span spans[] = {
		{ .first = 8, .end = 16 }, { .first = 16, .end = 20 },
		{ .first = 32, .end = 48 },
	};
	struct drain d = { .spans = spans };

	(void)state;
	assert_null(drain_find(&d, (void *)8));
	d.count = 3;
	for (int i = 0; i < 64; i++) {
		int expected = i < 8 ? -1 : i < 16 ? 0 : i < 20 ? 1 :
			       i < 32 ? -1 : i < 48 ? 2 : -1;

		assert_ptr_equal(drain_find(&d, (void *)(uintptr_t)i),
				 expected < 0 ? NULL : &spans[expected]);
	}
}

/* ------------------------------------------------------- several threads */

static struct atomic_u32 working;

static void *allocate_and_release(void *arg)
{
	uint64_t seed = 1;
	char *mine[8] = { NULL };

	for (int i = 0; i < 20000; i++) {
		unsigned k = (unsigned)random_below(&seed, 8);

		if (mine[k])
			require(mine[k][0] == (char)k &&
				seg_release(pool, mine[k]) == 0);
		mine[k] = seg_alloc(pool, slice_of((int)k % 3));
		require(mine[k]);
		mine[k][0] = (char)k;
	}
	for (int k = 0; k < 8; k++)
		seg_release(pool, mine[k]);
	u32_sub_seq_cst(&working, 1);
	return arg;
}

static void test_others_go_on_meanwhile(void **state)
{
	struct threads t;

	(void)state;
	u32_store_relaxed(&working, 2);
	threads_start(&t, 2, allocate_and_release, NULL, 0);
	while (u32_load_acquire(&working))
		assert_int_equal(seg_pool_drain(pool, 50, NULL), 0);
	assert_int_equal(threads_join(&t), 0);
	assert_true(seg_pool_is_valid(pool));
}

#define pool_test(t) cmocka_unit_test_setup_teardown(t, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(test_errors),
		pool_test(test_a_short_result),
		pool_test(test_what_went_and_what_stays),
		pool_test(test_a_second_drain_finds_nothing),
		pool_test(test_the_sparsest_come_first),
		pool_test(test_the_list_is_cut),
		pool_test(test_the_cached_leave_sparse_regions),
		pool_test(test_who_keeps_a_sparse_region),
		pool_test(test_nobody_is_asked_for_nothing),
		cmocka_unit_test(test_spans_are_found),
		pool_test(test_others_go_on_meanwhile),
	};

	return run_group(tests);
}
