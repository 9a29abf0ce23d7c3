/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who must not wait, and who must not be waited with: trims in a read section,
 * and caches whose memory is on its way (R4).
 */
#include "caches.h"
#include "reclaim.h"

/* They waited for their own section, with all signals blocked. */
static void test_no_trim_in_a_read_section(void **state)
{
	struct seg_budget *budget = new_budget(MIB);
	struct seg_pool *pool = make_pool(budget);

	(void)state;
	seg_read_begin();
	assert_int_equal(seg_pool_trim(pool, NULL), -EDEADLK);
	assert_int_equal(seg_pool_destroy(pool), -EDEADLK);
	seg_read_begin();
	seg_read_end();
	assert_int_equal(seg_pool_trim(pool, NULL), -EDEADLK);
	seg_read_end();
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	end_both(pool, budget);
}

/* A listener that is in the section of who removes. */
static void trim_inside(struct box *box, const struct heard_call *call)
{
	(void)call;
	require(seg_pool_trim(box->also_ctx, NULL) == -EDEADLK);
}

static void test_no_trim_in_a_section_of_the_caller(void **state)
{
	struct seg_budget *budget = new_budget(MIB);
	struct box *box = box_begin(100);

	(void)state;
	box->also = trim_inside;
	box->also_ctx = make_pool(budget);
	put(box->cache, 1, number(1), 10);
	seg_read_begin();
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	seg_read_end();
	assert_int_equal(box->heard, 1);
	end_both(box->also_ctx, budget);
	box_end(box);
}

/* ---- R4 ---- */

struct giver {
	struct reclaimer reclaimer;	/* must be first */
	uint64_t gives;
	unsigned calls;
	bool busy;
};

static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	struct giver *g = (struct giver *)r;

	(void)bytes;
	g->calls++;
	if (g->busy)
		reclaim_busy(r);
	return g->gives;
}

/* What it gave is on its way; it was left alone as if it had nothing. */
static void test_who_is_busy_is_asked_again(void **state)
{
	struct reclaimers all = { .first = { NULL } };
	struct giver other = { .reclaimer.give = give, .gives = 1 };
	struct giver busy = { .reclaimer.give = give, .busy = true };
	struct giver empty = { .reclaimer.give = give };
	unsigned left_alone = 0;

	(void)state;
	reclaim_join(&all, &other.reclaimer);
	reclaim_join(&all, &busy.reclaimer);
	reclaim_join(&all, &empty.reclaimer);
	for (unsigned i = 0; i < 100; i++) {
		assert_int_equal(reclaim_ask(&all, 100, RECLAIM_WILLING), 1);
		assert_int_equal(busy.calls, i + 1);
		left_alone += empty.calls <= i;
	}
	assert_true(left_alone > 0);
	reclaim_leave(&all, &other.reclaimer);
	reclaim_leave(&all, &busy.reclaimer);
	reclaim_leave(&all, &empty.reclaimer);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_trim_in_a_read_section),
		cmocka_unit_test(test_no_trim_in_a_section_of_the_caller),
		cmocka_unit_test(test_who_is_busy_is_asked_again),
	};

	return run_group(tests);
}
