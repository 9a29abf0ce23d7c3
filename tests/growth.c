/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pools that grow ahead of their threads, with the keeper at work: threads
 * rarely map; bursts do not map and unmap all the time; what came in vain goes
 * without a call (P3); a pool may end at any moment.
 */
#define _DEFAULT_SOURCE
#include "one_node.h"
#include "pools.h"

#include <semaphore.h>
#include <sys/mman.h>

enum {
	CLASS = 0,
	SLICES = 64,
	LOW = SLICES / 4,
	MOST = 16 * SLICES,
	BURSTS = 5000,
	LIVES = 100,
	MANY = 8192,
};
static const uint64_t region_bytes = SLICES * SEG_MIN_BYTES;

static void *segment[MOST], *many[MANY];
static unsigned count;

static void grow_to(struct seg_pool *pool, unsigned wanted)
{
	while (count < wanted) {
		segment[count] = seg_alloc(pool, 1);
		assert_non_null(segment[count++]);
	}
}

static void shrink_to(struct seg_pool *pool, unsigned wanted)
{
	while (count > wanted)
		assert_int_equal(seg_release(pool, segment[--count]), 0);
}

static void ignore(void *ctx, enum seg_log_level level, const char *line)
{
	(void)ctx, (void)level, (void)line;
}

/* Where each segment is logged, threads have no caches: so each call takes
 * from a region, or gives to one. */
static struct seg_pool_options growing(struct seg_budget *b,
				       enum seg_ahead ahead)
{
	return (struct seg_pool_options){
		.budget = b, .wait_ms = SEG_NO_WAIT, .decay_ms = 600000,
		.region_bytes = region_bytes, .ahead = ahead,
		.log = ignore, .log_level = SEG_LOG_SEGMENT,
	};
}

/* But for the first region, all of them come ahead, if there is time. */
static void grow_patiently(enum seg_ahead ahead)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with(growing(b, ahead));
	struct seg_pool_stats s;

	for (unsigned n = 1; n <= MOST; n++) {
		grow_to(pool, n);
		wait_until(figures(pool, CLASS).unused >= LOW);
	}
	/* The keeper counts a region when it has shown it. */
	wait_until(figures(pool, CLASS).regions_ahead_total + 1 ==
		   figures(pool, CLASS).regions);
	s = figures(pool, CLASS);
	assert_in_range(s.regions, MOST / SLICES, MOST / SLICES + 2);
	assert_int_equal(s.regions_mapped_total, s.regions);
	assert_int_equal(s.regions_ahead_total, s.regions - 1);
	assert_int_equal(figures(pool, SEG_ALL).regions_ahead_total,
			 s.regions_ahead_total);
	shrink_to(pool, 0);
	end_both(pool, b);
}

static void test_threads_map_the_first_region_only(void **state)
{
	(void)state;
	grow_patiently(SEG_AHEAD_MAP);
	grow_patiently(SEG_AHEAD_BACK);
}

static void test_nothing_comes_ahead_by_itself(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with(growing(b, SEG_AHEAD_DEFAULT));

	(void)state;
	grow_to(pool, MOST);
	assert_int_equal(figures(pool, CLASS).regions_ahead_total, 0);
	shrink_to(pool, 0);
	end_both(pool, b);
}

/* ---- figures beside the keeper ---- */

static struct {
	struct seg_pool *pool;
	sem_t stopped, asked;
	bool answered;
} keeper;

/* Its second region: the keeper is in the middle of a move. */
static void stop_keeper(void *ctx, enum seg_log_level level, const char *line)
{
	struct seg_pool_stats s = { .size = sizeof(s) };
	static bool opened;

	(void)ctx, (void)level;
	if (!strstr(line, "Allocated new region"))
		return;
	if (opened) {
		keeper.answered = !seg_pool_stats(keeper.pool, CLASS, 0, &s);
		sem_post(&keeper.stopped);
		sem_wait(&keeper.asked);
	}
	opened = true;
}

/* A keeper that is stopped stops nobody who asks for figures, nor itself. */
static void test_figures_beside_a_stopped_keeper(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool_options o = growing(b, SEG_AHEAD_MAP);

	(void)state;
	sem_init(&keeper.stopped, 0, 0);
	sem_init(&keeper.asked, 0, 0);
	o.log = stop_keeper;
	keeper.pool = make_pool_with(o);
	grow_to(keeper.pool, SLICES - LOW + 1);
	sem_wait(&keeper.stopped);
	assert_int_equal(figures(keeper.pool, CLASS).active, count);
	assert_int_equal(figures(keeper.pool, CLASS).regions, 2);
	sem_post(&keeper.asked);
	shrink_to(keeper.pool, 0);
	end_both(keeper.pool, b);
	assert_true(keeper.answered);
}

/* Over the mark of a region: one region comes ahead, goes unused in its time,
 * and no other ever comes. */
static void burst(struct seg_pool *pool)
{
	for (unsigned i = 0; i < BURSTS; i++) {
		shrink_to(pool, LOW);
		grow_to(pool, SLICES - LOW + 1);
	}
}

static void test_bursts_do_not_map_and_unmap(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool_options o = growing(b, SEG_AHEAD_MAP);
	struct seg_pool *pool;
	struct seg_pool_stats s;

	(void)state;
	o.decay_ms = 10;
	pool = make_pool_with(o);
	grow_to(pool, SLICES - LOW + 1);
	wait_until(figures(pool, CLASS).regions_ahead_total == 1);
	burst(pool);
	wait_until(figures(pool, CLASS).regions_unmapped_total == 1);
	burst(pool);
	s = figures(pool, CLASS);
	assert_int_equal(s.regions_mapped_total, 2);
	assert_int_equal(s.regions_unmapped_total, 1);
	assert_int_equal(s.regions, 1);
	shrink_to(pool, 0);
	wait_until(figures(pool, CLASS).mapped_bytes == 0);
	end_both(pool, b);
}

/* In the middle of opening, and of backing. */
static void end_at_once(enum seg_ahead ahead, uint64_t node_limit)
{
	for (unsigned i = 0; i < testing_rounds(LIVES); i++) {
		struct seg_budget *b = new_budget(64 * MIB);
		struct seg_pool_options o = growing(b, ahead);
		struct seg_pool *pool;

		o.node_limit_bytes = node_limit;
		o.region_bytes = 4 * MIB;
		pool = make_pool_with(o);
		segment[0] = seg_alloc(pool, SEG_MAX_BYTES);
		for (count = 1; count < 13; count++)
			segment[count] = seg_alloc(pool, SEG_MAX_BYTES);
		shrink_to(pool, 0);
		end_both(pool, b);
	}
}

static void test_a_pool_may_end_at_any_moment(void **state)
{
	(void)state;
	end_at_once(SEG_AHEAD_MAP, 0);
	end_at_once(SEG_AHEAD_BACK, 0);
	end_at_once(SEG_AHEAD_BACK, 32 * MIB);
}

/* P1: what came ahead is no reason to refuse.  The keeper may be backing it,
 * with an eighth in hand (A3): who finds nothing else waits for that. */
static void test_what_came_ahead_is_for_all(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);
	struct seg_pool *pool = make_pool_with(growing(b, SEG_AHEAD_BACK));
	void *other[16];

	(void)state;
	grow_to(pool, SLICES - LOW + 1);
	wait_until(figures(pool, CLASS).regions_ahead_total == 1);
	for (unsigned i = 0; i < 15; i++) {
		other[i] = seg_alloc(pool, SEG_MAX_BYTES);
		assert_non_null(other[i]);
		memset(other[i], 1, SEG_MAX_BYTES);
	}
	assert_null(seg_alloc(pool, SEG_MAX_BYTES));
	while (count < SLICES) {
		segment[count] = alloc_patiently(pool, 1);
		assert_non_null(segment[count++]);
	}
	for (unsigned i = 0; i < 15; i++)
		assert_int_equal(seg_release(pool, other[i]), 0);
	shrink_to(pool, 0);
	end_both(pool, b);
}

/* The kernel has no more in memory of a region than mincore(2) says. */
static int add_resident(void *ctx, const struct seg_region_info *info)
{
	enum { PAGES = 512 };
	unsigned char present[PAGES];

	for (size_t at = 0; at < info->bytes; at += PAGES * SEG_MIN_BYTES) {
		require(!mincore((char *)info->base + at,
				 PAGES * SEG_MIN_BYTES, present));
		for (unsigned i = 0; i < PAGES; i++)
			*(uint64_t *)ctx += (present[i] & 1) * SEG_MIN_BYTES;
	}
	return 0;
}

/* Nothing is retired meanwhile. */
static void assert_backed_is_charged(struct seg_pool *pool,
				     struct seg_budget *b)
{
	uint64_t resident = 0;

	assert_int_equal(seg_region_each(pool, add_resident, &resident), 0);
	assert_true(resident <= charged(b));
	print_message("%llu KiB resident, %llu charged\n",
		      (unsigned long long)resident / KIB,
		      (unsigned long long)charged(b) / KIB);
}

/* P1 with huge pages, that cool slice by slice when another class wants room,
 * and with what is backed ahead. */
static void test_what_is_backed_is_charged(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool_options o = growing(b, SEG_AHEAD_BACK);
	uint64_t random = random_seed(20240229);
	struct seg_pool *pool;
	void *large[256];
	unsigned n = 0;

	(void)state;
	o.huge_pages = SEG_HUGE_PAGES_ASK;
	o.region_bytes = 4 * MIB;
	pool = make_pool_with(o);
	for (count = 0; count < MANY; count++) {
		many[count] = seg_alloc(pool, 1);
		assert_non_null(many[count]);
		memset(many[count], 1, 1);
	}
	assert_backed_is_charged(pool, b);
	while (count > MANY / 10) {
		unsigned at = (unsigned)random_below(&random, count);

		assert_int_equal(seg_release(pool, many[at]), 0);
		many[at] = many[--count];
	}
	while ((large[n] = seg_alloc(pool, SEG_MAX_BYTES)) != NULL) {
		memset(large[n++], 1, SEG_MAX_BYTES);
		if (n % 16 == 0)
			assert_backed_is_charged(pool, b);
	}
	assert_true(n > 100);
	assert_backed_is_charged(pool, b);
	while (n)
		assert_int_equal(seg_release(pool, large[--n]), 0);
	while (count)
		assert_int_equal(seg_release(pool, many[--count]), 0);
	assert_backed_is_charged(pool, b);
	end_both(pool, b);
}

static int create_with(struct seg_budget *b, enum seg_huge_pages huge_pages,
		       enum seg_ahead ahead)
{
	struct seg_pool_options o = { .size = sizeof(o), .budget = b,
				      .huge_pages = huge_pages,
				      .ahead = ahead };
	struct seg_pool *pool = NULL;
	int ret = seg_pool_create(&o, &pool);

	if (ret)
		assert_null(pool);
	else
		end_pool(pool);
	return ret;
}

static void test_options_out_of_range(void **state)
{
	struct seg_budget *b = new_budget(MIB);

	(void)state;
	for (int i = 0; i <= 3; i++)
		assert_int_equal(create_with(b, (enum seg_huge_pages)i,
					     (enum seg_ahead)i), 0);
	assert_int_equal(create_with(b, (enum seg_huge_pages)4, 0), -EINVAL);
	assert_int_equal(create_with(b, (enum seg_huge_pages)-1, 0), -EINVAL);
	assert_int_equal(create_with(b, 0, (enum seg_ahead)4), -EINVAL);
	assert_int_equal(create_with(b, 0, (enum seg_ahead)-1), -EINVAL);
	end_budget(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_threads_map_the_first_region_only),
		cmocka_unit_test(test_nothing_comes_ahead_by_itself),
		cmocka_unit_test(test_figures_beside_a_stopped_keeper),
		cmocka_unit_test(test_bursts_do_not_map_and_unmap),
		cmocka_unit_test(test_a_pool_may_end_at_any_moment),
		cmocka_unit_test(test_what_came_ahead_is_for_all),
		cmocka_unit_test(test_what_is_backed_is_charged),
		cmocka_unit_test(test_options_out_of_range),
	};

	return run_group(tests);
}
