/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/gather.h: what backs the places of a stash goes when nothing was done
 * with them from one of the keeper's looks to the next.  Linked with fault_os.c
 * in place of lib/os.c.
 */
#include <sys/mman.h>
#include <unistd.h>

#include "fault_os.h"
#include "stashes.h"

enum { CLASS = 1, PAGES = sizeof(struct places) / STASH_PAGE, LITTLE = 100 };

static unsigned backed_pages(struct stash *st)
{
	unsigned char present[PAGES];
	unsigned n = 0;

	require(!mincore(&st->places[CLASS], sizeof(struct places), present));
	for (unsigned i = 0; i < PAGES; i++)
		n += present[i] & 1;
	return n;
}

static uint64_t bytes_of(struct seg_pool *pool)
{
	return stashes_bytes(&pool->allocator.stashes);
}

static void use(void *pool)
{
	fill(pool, CLASS, MOST);
	empty(pool, MOST);
}

/* No place is left that looks like a hand-out. */
static void assert_no_place_is_known(struct stash *st)
{
	uint32_t most = st->magazine[CLASS].most_room;

	for (uint32_t i = 0; i < STASH_MOST + 2; i++)
		assert_null(st->places[CLASS].place[i].segment);
	assert_int_equal(most, 0);
}

/* Two looks: the first one sees that it was used. */
static void test_it_goes_when_idle(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint64_t bytes;

	(void)state;
	use_once(pool);
	bytes = bytes_of(pool);
	for (int i = 0; i < 3; i++) {
		use(pool);
		assert_true(backed_pages(own_stash(pool)) >= PAGES - 1);
		assert_int_equal(bytes_of(pool) - bytes,
				 STASH_MOST * sizeof(struct parked));
		gather_idle(&pool->allocator);
		assert_true(backed_pages(own_stash(pool)) >= PAGES - 1);
		gather_idle(&pool->allocator);
		assert_int_equal(backed_pages(own_stash(pool)), 0);
		assert_int_equal(bytes_of(pool), bytes);
		assert_no_place_is_known(own_stash(pool));
		assert_figures(pool, 0);
	}
	end_both(pool, b);
}

/* Else each use now and then would have a page fault. */
static void test_a_page_stays(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint64_t bytes;

	(void)state;
	fill(pool, CLASS, LITTLE);
	empty(pool, LITTLE);
	bytes = bytes_of(pool);
	for (int i = 0; i < 3; i++)
		gather_idle(&pool->allocator);
	assert_int_equal(own_magazine(pool, CLASS)->room, 0);
	assert_int_equal(backed_pages(own_stash(pool)), 1);
	assert_int_equal(bytes_of(pool), bytes);
	end_both(pool, b);
}

/* Their places are forgotten, but not whose they are. */
static void test_what_is_out_comes_back(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	use(pool);
	fill(pool, CLASS, MOST);
	gather_idle(&pool->allocator);
	gather_idle(&pool->allocator);
	assert_int_equal(backed_pages(own_stash(pool)), 0);
	assert_figures(pool, MOST);
	empty(pool, MOST);
	assert_int_equal(figures(pool, SEG_ALL).misuses_total, 0);
	assert_int_equal(seg_release(pool, held[0]), -ESTALE);
	assert_true(own_count(pool, CLASS) > 0);
	assert_figures(pool, 0);
	end_both(pool, b);
}

static void test_what_an_ended_thread_left_goes(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	struct stash *left;

	(void)state;
	actor_begin(&other);
	actor_do(&other, use, pool);
	actor_end(&other);
	left = stash_at(&pool->allocator.stashes, 1);
	assert_true(backed_pages(left) >= PAGES - 1);
	gather_idle(&pool->allocator);
	gather_idle(&pool->allocator);
	assert_int_equal(backed_pages(left), 0);
	assert_no_place_is_known(left);
	end_both(pool, b);
}

/* It stays as it was, and is tried again. */
static void test_a_discard_is_refused(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint64_t bytes;

	(void)state;
	use(pool);
	bytes = bytes_of(pool);
	gather_idle(&pool->allocator);
	fault_arm(FAULT_ADVISE, 1, 1);
	gather_idle(&pool->allocator);
	assert_int_equal(fault_disarm(), 1);
	assert_int_equal(own_magazine(pool, CLASS)->room, 0);
	assert_int_equal(bytes_of(pool), bytes);
	gather_idle(&pool->allocator);
	assert_int_equal(backed_pages(own_stash(pool)), 0);
	assert_true(bytes_of(pool) < bytes);
	use(pool);
	assert_figures(pool, 0);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_it_goes_when_idle),
		cmocka_unit_test(test_a_page_stays),
		cmocka_unit_test(test_what_is_out_comes_back),
		cmocka_unit_test(test_what_an_ended_thread_left_goes),
		cmocka_unit_test(test_a_discard_is_refused),
	};

	if (!sections_begin() || sysconf(_SC_PAGESIZE) != STASH_PAGE) {
		print_message("no stashes, or pages of another size\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
