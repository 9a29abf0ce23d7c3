/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/decommit.c over real memory: unused slices give up backing and charge and
 * are charged again (P1, P6, P7); which of them, and when their region goes
 * (P3); what the kernel refuses changes nothing (P11).  Linked with fault_os.c.
 */
#define _DEFAULT_SOURCE
#include "decommit.h"

#include <sys/mman.h>

#include "fault_os.h"

static unsigned backed(char *base)
{
	return backed_of(base, SLICES);
}

/* ------------------------------------------------------------ out and in */

static void test_backing_and_charge_go(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	while (take())
		;
	for (int i = 1; i < SLICES; i++)
		give(base + i * SLICE);
	assert_int_equal(backed(base), SLICES);
	assert_int_equal(decommit(UINT64_MAX), REGION - SLICE);
	assert_int_equal(charged(), SLICE);
	assert_int_equal(backed(base), 1);
	assert_int_equal(gauge_value(&f->pool.mapped), REGION);
	assert_equations();
	assert_null(take());
	give(base);
}

static void test_it_is_charged_again_and_zero(void **state)
{
	char *base = open_region(SLICES);
	struct taken t;

	(void)state;
	give(take());
	assert_int_equal(decommit(UINT64_MAX), REGION - SLICE);
	for (uint64_t i = 2; i <= SLICES; i++) {
		t = class_pool_take_cold(&f->pool);
		assert_non_null(t.segment);
		assert_true(t.fresh);
		assert_true(is_zero(t.segment));
		assert_int_equal(charged(), i * SLICE);
	}
	assert_null(class_pool_take_cold(&f->pool).segment);
	assert_int_equal(charged(), REGION);
	assert_equations();
	for (int i = 0; i < SLICES; i++)
		give(base + i * SLICE);
}

/* As many bytes as wanted, in whole slices. */
static void test_no_more_than_wanted(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	assert_int_equal(decommit(0), 0);
	assert_int_equal(decommit(1), SLICE);
	assert_int_equal(decommit(SLICE), SLICE);
	assert_int_equal(decommit(3 * SLICE - 1), 3 * SLICE);
	assert_int_equal(class_pool_sum(&f->pool).cold, 5);
	give(base);
}

/* A huge page can't have backed them: no system call, where one would fail. */
static void test_what_was_never_touched_needs_no_call(void **state)
{
	char *base = open_region(SLICES - 2);

	(void)state;
	fault_arm(FAULT_ADVISE, 1, UINT64_MAX);
	assert_int_equal(decommit(UINT64_MAX), (SLICES - 3) * SLICE);
	assert_int_equal(fault_disarm(), 0);
	assert_int_equal(charged(), SLICE);
	give(base);
}

/*
 * Where huge pages are to be had, touching one slice backs its neighbours: they
 * are discarded, too, and what is touched afterwards backs itself only.
 */
static void test_a_huge_page_goes(void **state)
{
	struct taken t;
	char *base;

	(void)state;
	assert_true(budget_try_limit(f->allocator.budget, 4 * REGION_ALIGN));
	assert_int_equal(class_pool_open(&f->pool, REGION_ALIGN, HUGE_SLICES,
					 &t), OPEN_DONE);
	base = t.segment;
	madvise(base, REGION_ALIGN, MADV_HUGEPAGE);
	memset(base, 1, SLICE);
	print_message("one slice was touched, %u are backed\n",
		      backed_of(base, HUGE_SLICES));
	assert_int_equal(decommit(UINT64_MAX), REGION_ALIGN - SLICE);
	assert_int_equal(backed_of(base, HUGE_SLICES), 1);
	t = class_pool_take_cold(&f->pool);
	assert_true(is_zero(t.segment));
	memset(t.segment, 1, SLICE);
	assert_int_equal(backed_of(base, HUGE_SLICES), 2);
	give(t.segment);
	assert_int_equal(decommit(UINT64_MAX), SLICE);
	assert_int_equal(backed_of(base, HUGE_SLICES), 1);
	give(base);
	class_pool_trim(&f->pool);
	keeper_flush();
	assert_true(budget_try_limit(f->allocator.budget, LIMIT));
}

/* One that is born partly cold never gets one. */
static void test_partly_cold_gets_no_huge_page(void **state)
{
	struct taken t;

	(void)state;
	assert_int_equal(class_pool_open(&f->pool, REGION_ALIGN, 2, &t),
			 OPEN_DONE);
	memset(t.segment, 1, SLICE);
	assert_int_equal(backed_of(t.segment, HUGE_SLICES), 1);
	give(t.segment);
}

/* P1: no room, no slice; the charge is not kept either. */
static void test_no_room_no_slice(void **state)
{
	char *base = open_region(SLICES);
	uint64_t rest = LIMIT - REGION + SLICE;

	(void)state;
	assert_int_equal(decommit(SLICE), SLICE);
	assert_true(budget_charge(f->allocator.budget, rest));
	assert_null(class_pool_take_cold(&f->pool).segment);
	assert_null(class_pool_take_any_cold(&f->pool).segment);
	assert_int_equal(charged(), LIMIT);
	budget_uncharge(f->allocator.budget, rest);
	assert_int_equal(charged(), REGION - SLICE);
	give(base);
}

static void test_nothing_cold_charges_nothing(void **state)
{
	uint64_t refused = budget_stats(f->allocator.budget)
				   .charge_refusals_total;
	char *base = open_region(SLICES);

	(void)state;
	assert_true(budget_charge(f->allocator.budget, LIMIT - REGION));
	assert_null(class_pool_take_cold(&f->pool).segment);
	assert_null(class_pool_take_any_cold(&f->pool).segment);
	assert_int_equal(budget_stats(f->allocator.budget)
				 .charge_refusals_total, refused);
	budget_uncharge(f->allocator.budget, LIMIT - REGION);
	give(base);
}

/* P6: less than a region's charge is room for one all the same. */
static void test_a_region_is_born_partly_cold(void **state)
{
	char *base;
	struct taken t;

	(void)state;
	assert_true(budget_charge(f->allocator.budget, LIMIT - 3 * SLICE));
	assert_int_equal(class_pool_open(&f->pool, REGION, SLICES, &t),
			 OPEN_NO_BUDGET);
	base = open_region(2);
	assert_int_equal(charged(), LIMIT - SLICE);
	assert_int_equal(class_pool_sum(&f->pool).cold, SLICES - 2);
	assert_ptr_equal(take(), base + SLICE);
	assert_null(take());
	t = class_pool_take_cold(&f->pool);
	assert_ptr_equal(t.segment, base + 2 * SLICE);
	assert_int_equal(charged(), LIMIT);
	assert_null(class_pool_take_cold(&f->pool).segment);
	assert_true(class_pool_is_valid(&f->pool));
	budget_uncharge(f->allocator.budget, LIMIT - 3 * SLICE);
	for (int i = 0; i < 3; i++)
		give(base + i * SLICE);
}

/* Hints lost: the last resort finds it. */
static void test_take_any_finds_the_cold(void **state)
{
	char *base = open_region(1);
	void *segment;

	(void)state;
	memset(f->pool.bands.top[BAND_COLD], 0,
	       sizeof(f->pool.bands.top[BAND_COLD]));
	assert_null(class_pool_take_cold(&f->pool).segment);
	segment = class_pool_take_any(&f->pool).segment;
	assert_ptr_equal(segment, base + SLICE);
	f->pool.bands.top[BAND_COLD][0] = (struct atomic_u64){ 1 };
	give(segment);
	give(base);
}

/* P7 */
static void test_a_cold_slice_is_not_released(void **state)
{
	char *base = open_region(SLICES);
	char *other = take();

	(void)state;
	give(other);
	assert_int_equal(decommit(UINT64_MAX), REGION - SLICE);
	assert_false(try_give(other));
	assert_equations();
	give(base);
}

/* ------------------------------------------------------- which, and whole */

/* Region 0 has few slices out, region 1 many. */
static void test_the_sparse_one_gives_first(void **state)
{
	char *sparse = open_region(SLICES), *full = open_region(SLICES);
	char *out[2 * SLICES];
	int n = 0;

	(void)state;
	while ((out[n] = take()))
		n++;
	for (int i = 0; i < n; i++)
		if (region_of(out[i]) == region_of(sparse) ||
		    out[i] == full + SLICE)
			give(out[i]);
	assert_int_equal(decommit(4 * SLICE), 4 * SLICE);
	assert_int_equal(region_cold(region_of(sparse)), 4);
	assert_int_equal(region_cold(region_of(full)), 0);
	assert_int_equal(decommit(UINT64_MAX), SLICES * SLICE - 4 * SLICE);
	for (int i = 0; i < n; i++)
		if (region_of(out[i]) == region_of(full) &&
		    out[i] != full + SLICE)
			give(out[i]);
	give(full);
	give(sparse);
}

/* Draining: charged again in the fuller region, so that the sparse empties. */
static void test_the_sparse_one_is_not_filled_again(void **state)
{
	char *sparse = open_region(1), *full = open_region(SLICES - 1);
	void *segment;
	int n = 0;

	(void)state;
	while (take())
		n++;
	assert_int_equal(n, SLICES - 2);
	segment = class_pool_take_cold(&f->pool).segment;
	assert_ptr_equal(region_of(segment), region_of(full));
	segment = class_pool_take_cold(&f->pool).segment;
	assert_ptr_equal(region_of(segment), region_of(sparse));
	give(segment);
	for (int i = 0; i < SLICES; i++)
		give(full + i * SLICE);
	give(sparse);
}

/* Takes go to what is full of owners, not to what is full of cold slices. */
static void test_cold_slices_do_not_make_it_full(void **state)
{
	char *full = open_region(SLICES), *sparse;

	(void)state;
	for (int i = 1; i < 5; i++)
		take();
	sparse = open_region(2);
	for (int i = 5; i < SLICES; i++)
		assert_ptr_equal(region_of(take()), region_of(full));
	assert_ptr_equal(take(), sparse + SLICE);
	for (int i = 0; i < SLICES; i++)
		give(full + i * SLICE);
	give(sparse);
	give(sparse + SLICE);
}

static uint64_t retired(void)
{
	return u64_load_relaxed(&f->pool.regions_retired);
}

/* It is there for the class's next need, or until it was idle for long. */
static void test_an_all_cold_region_stays(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	give(base);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(decommit(UINT64_MAX), i ? SLICE : REGION);
		assert_int_equal(charged(), 0);
		assert_equations();
		give(class_pool_take_cold(&f->pool).segment);
	}
	assert_int_equal(decommit(UINT64_MAX), SLICE);
	assert_int_equal(u64_load_relaxed(&f->pool.regions_mapped), 1);
	assert_int_equal(retired(), 0);
	assert_true(class_pool_decay(&f->pool, 1000, 10));
	assert_false(class_pool_decay(&f->pool, 1010, 10));
	assert_int_equal(retired(), 1);
	assert_int_equal(budget_deferred(f->allocator.budget), 0);
	keeper_flush();
	assert_int_equal(gauge_value(&f->pool.mapped), 0);
}

/* Where address space is missing; those who ask can't run ahead of the keeper.
 */
static void test_all_cold_regions_are_shed_one_by_one(void **state)
{
	char *base[3];

	(void)state;
	for (int i = 0; i < 3; i++)
		base[i] = open_region(SLICES);
	while (take())
		;
	for (int i = 0; i < 3; i++)
		for (int k = 0; k < SLICES; k++)
			give(base[i] + k * SLICE);
	assert_int_equal(decommit(UINT64_MAX), 3 * REGION);
	for (uint64_t i = 1; i <= 3; i++) {
		assert_int_equal(class_pool_shed(&f->pool, REGION), 0);
		assert_int_equal(class_pool_shed(&f->pool, REGION), 0);
		assert_int_equal(retired(), i);
		keeper_flush();
	}
	assert_int_equal(gauge_value(&f->pool.mapped), 0);
}

/* R2, P3: idle with cold slices retires by each way. */
static void idle_with_cold(void)
{
	char *base = open_region(SLICES);

	assert_int_equal(decommit(5 * SLICE), 5 * SLICE);
	give(base);
	assert_int_equal(class_pool_sum(&f->pool).spares, 1);
}

static void test_idle_regions_with_cold_slices_retire(void **state)
{
	(void)state;
	idle_with_cold();
	assert_int_equal(class_pool_shed(&f->pool, 1), REGION - 5 * SLICE);
	assert_int_equal(budget_deferred(f->allocator.budget),
			 REGION - 5 * SLICE);
	assert_equations();
	keeper_flush();
	assert_int_equal(charged(), 0);
	idle_with_cold();
	assert_int_equal(class_pool_trim(&f->pool), REGION - 5 * SLICE);
	keeper_flush();
	idle_with_cold();
	assert_true(class_pool_decay(&f->pool, 1000, 10));
	assert_false(class_pool_decay(&f->pool, 1010, 10));
	keeper_flush();
	assert_int_equal(charged(), 0);
	assert_int_equal(u64_load_relaxed(&f->pool.regions_unmapped), 3);
}

/* ------------------------------------------------------- what is refused */

static void assert_nothing_was_lost(char *base)
{
	assert_int_equal(charged(), REGION);
	assert_int_equal(class_pool_sum(&f->pool).cold, 0);
	assert_int_equal(class_pool_sum(&f->pool).unused, SLICES - 1);
	assert_equations();
	assert_int_equal(recorder_has(&recorder, "Cannot discard unused "
				      "slices of pool 0: "), 1);
	assert_int_equal(u32_load_relaxed(&f->allocator.error), ENOMEM);
	for (int i = 1; i < SLICES; i++)
		assert_non_null(take());
	for (int i = 0; i < SLICES; i++)
		give(base + i * SLICE);
}

static void test_refused_from_the_first_call(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	fault_arm(FAULT_ADVISE, 1, UINT64_MAX);
	assert_int_equal(decommit(UINT64_MAX), 0);
	assert_int_equal(fault_disarm(), 1);
	assert_nothing_was_lost(base);
}

static void test_a_refused_discard(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	fault_arm(FAULT_ADVISE, 2, UINT64_MAX);
	assert_int_equal(decommit(UINT64_MAX), 0);
	assert_int_equal(fault_disarm(), 1);
	assert_nothing_was_lost(base);
}

/* Who waits is woken, for it may have been overlooked, but not by each try; and
 * each is told why. */
static void test_what_is_refused_rests(void **state)
{
	enum { TRIES = 100000 };
	struct seg_budget *b = f->allocator.budget;
	char *base = open_region(SLICES);
	uint64_t began_ns = os_now_ns(), most;
	uint32_t ticket;

	(void)state;
	budget_wait_begin(b);
	ticket = budget_wait_ticket(b);
	fault_arm(FAULT_ADVISE, 1, UINT64_MAX);
	for (int i = 0; i < TRIES; i++) {
		u32_store_relaxed(&f->allocator.error, 0);
		assert_int_equal(decommit(UINT64_MAX), 0);
		assert_int_equal(u32_load_relaxed(&f->allocator.error), ENOMEM);
	}
	most = (os_now_ns() - began_ns) / 10000000 + 1;
	assert_in_range(fault_disarm(), 1, most);
	assert_in_range(budget_wait_ticket(b) - ticket, 1, most);
	budget_wait_end(b);
	assert_int_equal(recorder_has(&recorder, "Cannot discard "), 1);
	while (!decommit(UINT64_MAX))
		;
	assert_int_equal(charged(), SLICE);
	give(base);
}

/* Others are not kept from giving.  The first one rests for 10 ms, which a
 * machine that stands still may miss. */
static void test_the_next_region_gives(void **state)
{
	char *first = open_region(SLICES), *second;
	uint64_t began_ns = os_now_ns(), given;

	(void)state;
	fault_arm(FAULT_ADVISE, 1, 1);
	assert_int_equal(decommit(UINT64_MAX), 0);
	while (take())
		;
	second = open_region(SLICES);
	for (int i = 1; i < SLICES; i++)
		give(first + i * SLICE);
	given = decommit(UINT64_MAX);
	if (given != REGION - SLICE) {
		assert_int_equal(given, 2 * (REGION - SLICE));
		assert_true(os_now_ns() - began_ns >= 10 * 1000 * 1000);
	}
	assert_int_equal(fault_disarm(), 1);
	assert_equations();
	give(first);
	give(second);
}

/* Two runs; the second is refused, the first is given. */
static void test_refused_in_the_middle(void **state)
{
	char *base = open_region(SLICES);

	(void)state;
	while (take())
		;
	for (int i = 0; i < SLICES; i++)
		if (i % 8 != 5)
			give(base + i * SLICE);
	fault_arm(FAULT_ADVISE, 3, 1);
	assert_int_equal(decommit(UINT64_MAX), 5 * SLICE);
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(charged(), REGION - 5 * SLICE);
	assert_int_equal(class_pool_sum(&f->pool).unused, SLICES - 2 - 5);
	assert_equations();
	give(base + 5 * SLICE);
	give(base + 13 * SLICE);
}

/* A partly cold region that may get huge pages is none. */
static void test_refused_at_birth(void **state)
{
	struct taken t;

	(void)state;
	fault_arm(FAULT_ADVISE, 1, 1);
	assert_int_equal(class_pool_open(&f->pool, REGION, 1, &t),
			 OPEN_NO_MEMORY);
	assert_int_equal(errno, ENOMEM);
	assert_null(t.segment);
	assert_int_equal(fault_disarm(), 1);
	keeper_flush();
	assert_int_equal(charged(), 0);
	assert_equations();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		pool_test(test_backing_and_charge_go),
		pool_test(test_it_is_charged_again_and_zero),
		pool_test(test_no_more_than_wanted),
		pool_test(test_what_was_never_touched_needs_no_call),
		pool_test(test_a_huge_page_goes),
		pool_test(test_partly_cold_gets_no_huge_page),
		pool_test(test_no_room_no_slice),
		pool_test(test_nothing_cold_charges_nothing),
		pool_test(test_a_region_is_born_partly_cold),
		pool_test(test_take_any_finds_the_cold),
		pool_test(test_a_cold_slice_is_not_released),
		pool_test(test_the_sparse_one_gives_first),
		pool_test(test_the_sparse_one_is_not_filled_again),
		pool_test(test_cold_slices_do_not_make_it_full),
		pool_test(test_an_all_cold_region_stays),
		pool_test(test_all_cold_regions_are_shed_one_by_one),
		pool_test(test_idle_regions_with_cold_slices_retire),
		pool_test(test_refused_from_the_first_call),
		pool_test(test_a_refused_discard),
		pool_test(test_what_is_refused_rests),
		pool_test(test_the_next_region_gives),
		pool_test(test_refused_in_the_middle),
		pool_test(test_refused_at_birth),
	};

	return run_group(tests);
}
