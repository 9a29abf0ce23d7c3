/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * P6 and P11: the limit where the kernel refuses.  Linked with fault_os.c in
 * place of lib/os.c.
 */
#include "one_node.h"
#include "pools.h"

#include "fault_os.h"

enum { FOR_EVER = INT32_MAX, MOST = 256 };

static void *held[MOST];

static void fill(struct seg_pool *pool, int c, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		held[i] = alloc_patiently(pool, slice_of(c));
		assert_non_null(held[i]);
	}
}

static void empty(struct seg_pool *pool, unsigned n)
{
	while (n)
		assert_int_equal(seg_release(pool, held[--n]), 0);
}

static struct seg_refusal last_refusal(struct seg_pool *pool)
{
	struct seg_refusal r = { .size = sizeof(r) };

	assert_int_equal(seg_pool_last_refusal(pool, &r), 0);
	return r;
}

/* As locked memory: idle regions are unmapped, and waited for. */
static void test_nothing_can_be_discarded(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	fault_arm(FAULT_ADVISE, 1, FOR_EVER);
	for (int c = 0; c < SEG_CLASSES; c++) {
		unsigned n = (unsigned)(MIB / slice_of(c));

		fill(pool, c, n);
		assert_int_equal(charged(b), MIB);
		empty(pool, n);
	}
	assert_true(fault_disarm() > 0);
	assert_int_equal(figures(pool, SEG_ALL).decommitted, 0);
	assert_true(figures(pool, SEG_ALL).regions_retired_total > 0);
	end_both(pool, b);
}

/* Unused slices of partly used regions can't be had then. */
static void test_what_can_not_be_discarded_stays(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_refusal r;

	(void)state;
	fill(pool, 0, MOST);
	for (unsigned i = 1; i < MOST; i += 2)
		assert_int_equal(seg_release(pool, held[i]), 0);
	fault_arm(FAULT_ADVISE, 1, FOR_EVER);
	assert_null(alloc_without_wait(pool, slice_of(6)));
	assert_true(fault_disarm() > 0);
	r = last_refusal(pool);
	assert_int_equal(r.unused_bytes, MIB / 2);
	assert_int_equal(r.decommitted_bytes, 0);
	assert_int_equal(r.error, ENOMEM);
	held[1] = alloc_patiently(pool, slice_of(6));
	assert_non_null(held[1]);
	for (unsigned i = 0; i < MOST; i += 2)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_int_equal(seg_release(pool, held[1]), 0);
	end_both(pool, b);
}

static void test_the_kernel_gives_nothing(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	struct timespec soon;
	struct seg_refusal r;

	(void)state;
	fault_arm(FAULT_MAP, 1, FOR_EVER);
	assert_null(alloc_without_wait(pool, 1));
	r = last_refusal(pool);
	assert_int_equal(r.reason, SEG_REFUSED_SYSTEM);
	assert_int_equal(r.error, ENOMEM);
	assert_int_equal(r.charged_bytes, 0);
	soon = monotonic_in(0, 10);
	assert_null(seg_alloc_until(pool, 1, &soon));
	assert_true(monotonic_is_past(&soon));
	assert_true(fault_disarm() > 0);
	held[0] = alloc_without_wait(pool, 1);
	assert_non_null(held[0]);
	empty(pool, 1);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_can_be_discarded),
		cmocka_unit_test(test_what_can_not_be_discarded_stays),
		cmocka_unit_test(test_the_kernel_gives_nothing),
	};

	return run_group(tests);
}
