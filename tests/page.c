/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pages (P8, one owner): all parts or none, growing, and exactly one release
 * whoever tries.  Pages in a log are in txlog.c.
 */
#include "one_node.h"
#include "pools.h"

static struct seg_page *page_of(struct seg_pool *pool, size_t a, size_t b)
{
	const size_t bytes[] = { a, b };
	struct seg_page *page = NULL;

	assert_int_equal(seg_page_create(pool, bytes, b ? 2 : 1, &page), 0);
	assert_non_null(page);
	return page;
}

static bool is_filled(const void *memory, size_t bytes, char with)
{
	const char *p = memory;

	return p[0] == with && !memcmp(p, p + 1, bytes - 1);
}

static void test_one_to_four_parts(void **state)
{
	const size_t bytes[] = { 1, 4097, 65536, 262144 };
	const size_t sizes[] = { 4096, 8192, 65536, 262144 };
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_page *page;

	(void)state;
	for (unsigned parts = 1; parts <= SEG_PAGE_PARTS; parts++) {
		assert_int_equal(seg_page_create(pool, bytes, parts, &page), 0);
		assert_int_equal(seg_page_parts(page), parts);
		for (unsigned i = 0; i < parts; i++) {
			void *part = seg_page_part(page, i);

			assert_int_equal(seg_page_part_bytes(page, i),
					 sizes[i]);
			assert_int_equal(seg_size(pool, part), sizes[i]);
			memset(part, 1, sizes[i]);
		}
		assert_null(seg_page_part(page, parts));
		assert_int_equal(seg_page_part_bytes(page, parts), 0);
		assert_int_equal(figures(pool, SEG_ALL).active, parts);
		assert_int_equal(seg_page_release(page), 0);
		assert_int_equal(figures(pool, SEG_ALL).active, 0);
	}
	end_both(pool, b);
}

static void test_arguments_that_are_none(void **state)
{
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool(b);
	const size_t good[5] = { 1, 1, 1, 1, 1 };
	const size_t zero[] = { 1, 0 }, large[] = { 1, SEG_MAX_BYTES + 1 };
	struct seg_page *page = NULL;

	(void)state;
	assert_int_equal(seg_page_create(NULL, good, 1, &page), -EINVAL);
	assert_int_equal(seg_page_create(pool, NULL, 1, &page), -EINVAL);
	assert_int_equal(seg_page_create(pool, good, 1, NULL), -EINVAL);
	assert_int_equal(seg_page_create(pool, good, 0, &page), -EINVAL);
	assert_int_equal(seg_page_create(pool, good, 5, &page), -EINVAL);
	assert_int_equal(seg_page_create(pool, zero, 2, &page), -EINVAL);
	assert_int_equal(seg_page_create(pool, large, 2, &page), -EINVAL);
	assert_null(page);
	assert_int_equal(figures(pool, SEG_ALL).allocations_total, 0);
	assert_int_equal(seg_page_parts(NULL), 0);
	assert_null(seg_page_part(NULL, 0));
	assert_int_equal(seg_page_part_bytes(NULL, 0), 0);
	assert_int_equal(seg_page_grow(NULL, 0, 1), -EINVAL);
	assert_int_equal(seg_page_release(NULL), 0);
	page = page_of(pool, 1, 0);
	assert_int_equal(seg_page_grow(page, 1, 1), -EINVAL);
	assert_int_equal(seg_page_grow(page, 0, SEG_MAX_BYTES + 1), -EINVAL);
	assert_int_equal(seg_page_part_bytes(page, 0), SEG_MIN_BYTES);
	assert_int_equal(seg_page_release(page), 0);
	end_both(pool, b);
}

/* The budget has room for k parts only: none is left behind. */
static void test_all_parts_or_none(void **state)
{
	const size_t bytes[] = { 65536, 65536, 65536, 65536 };

	(void)state;
	for (unsigned room = 1; room < SEG_PAGE_PARTS; room++) {
		struct seg_budget *b = new_budget(room * 65536);
		struct seg_pool *pool = make_pool(b);
		struct seg_page *page = NULL;

		errno = 4711;
		assert_int_equal(seg_page_create(pool, bytes, 4, &page),
				 -ENOMEM);
		assert_int_equal(errno, 4711);
		assert_null(page);
		assert_int_equal(figures(pool, SEG_ALL).active, 0);
		assert_int_equal(figures(pool, 4).allocations_total, room);
		assert_int_equal(seg_page_create(pool, bytes, room, &page), 0);
		assert_int_equal(seg_page_release(page), 0);
		end_both(pool, b);
	}
}

static void test_growing_keeps_the_contents(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_page *page = page_of(pool, 65536, 4096);
	void *other = seg_page_part(page, 1);

	(void)state;
	memset(seg_page_part(page, 0), 'a', 65536);
	for (size_t bytes = 131072; bytes <= SEG_MAX_BYTES; bytes *= 2) {
		char *old = seg_page_part(page, 0), *new;

		assert_int_equal(seg_page_grow(page, 0, bytes / 2), 0);
		assert_ptr_equal(seg_page_part(page, 0), old);
		assert_int_equal(seg_page_grow(page, 0, bytes / 2 + 1), 0);
		new = seg_page_part(page, 0);
		assert_int_equal(seg_page_part_bytes(page, 0), bytes);
		assert_int_equal(seg_size(pool, new), bytes);
		assert_int_equal(seg_size(pool, old), 0);
		assert_true(is_filled(new, bytes / 2, 'a'));
		memset(new, 'a', bytes);
	}
	assert_ptr_equal(seg_page_part(page, 1), other);
	assert_int_equal(seg_page_grow(page, 0, 1), 0);
	assert_int_equal(seg_page_grow(page, 0, 0), 0);
	assert_int_equal(seg_page_part_bytes(page, 0), SEG_MAX_BYTES);
	assert_int_equal(figures(pool, SEG_ALL).active, 2);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	end_both(pool, b);
}

static void test_growing_that_fails_leaves_the_page(void **state)
{
	struct seg_budget *b = new_budget(128 * KIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_page *page = page_of(pool, 65536, 0);
	void *part = seg_page_part(page, 0);

	(void)state;
	memset(part, 'x', 65536);
	errno = 4711;
	assert_int_equal(seg_page_grow(page, 0, 131072), -ENOMEM);
	assert_int_equal(errno, 4711);
	assert_ptr_equal(seg_page_part(page, 0), part);
	assert_int_equal(seg_page_part_bytes(page, 0), 65536);
	assert_true(is_filled(part, 65536, 'x'));
	assert_int_equal(figures(pool, SEG_ALL).active, 1);
	assert_int_equal(seg_page_release(page), 0);
	end_both(pool, b);
}

/* P7 */
static void test_a_second_release_is_detected(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	struct seg_page *page = page_of(pool, 1, 1);

	(void)state;
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(seg_page_release(page), -ESTALE);
	assert_int_equal(seg_page_grow(page, 0, SEG_MAX_BYTES), -ESTALE);
	assert_int_equal(e.misuses, 2);
	assert_int_equal(e.what, SEG_MISUSE_DOUBLE);
	assert_ptr_equal(e.address, page);
	assert_int_equal(seg_page_parts(page), 0);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_int_equal(figures(pool, SEG_ALL).releases_total, 2);
	end_both(pool, b);
}

/* P7: a part that its caller released is reported, the rest goes on. */
static void test_a_part_released_by_hand_is_reported(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(MIB);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	struct seg_page *page = page_of(pool, 1, 1);

	(void)state;
	assert_int_equal(seg_release(pool, seg_page_part(page, 0)), 0);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(e.misuses, 1);
	assert_int_equal(e.what, SEG_MISUSE_STALE);
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	end_both(pool, b);
}

/* P7: and it is not taken from whom it belongs to by then. */
static void test_a_part_released_by_hand_is_its_next_owners(void **state)
{
	struct events e = EVENTS_INIT;
	struct seg_budget *b = new_budget(SEG_MIN_BYTES);
	struct seg_pool *pool = make_pool_events(b, &e, SEG_LOG_ERROR);
	struct seg_page *page = page_of(pool, 1, 0);
	void *part = seg_page_part(page, 0);

	(void)state;
	assert_int_equal(seg_release(pool, part), 0);
	assert_ptr_equal(seg_alloc(pool, 1), part);
	assert_int_equal(seg_page_release(page), 0);
	assert_int_equal(e.what, SEG_MISUSE_STALE);
	assert_int_equal(seg_size(pool, part), SEG_MIN_BYTES);
	assert_int_equal(seg_release(pool, part), 0);
	end_both(pool, b);
}

/* More pages than the first chunks of the slab have. */
static void test_many_pages(void **state)
{
	enum { MANY = 2000 };
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	static struct seg_page *page[MANY];

	(void)state;
	for (int round = 0; round < 2; round++) {
		for (int i = 0; i < MANY; i++) {
			page[i] = page_of(pool, 1, i % 2);
			memset(seg_page_part(page[i], 0), i, 64);
		}
		for (int i = 0; i < MANY; i++)
			assert_true(is_filled(seg_page_part(page[i], 0), 64,
					      (char)i));
		assert_int_equal(seg_pool_destroy(pool), -EBUSY);
		for (int i = 0; i < MANY; i++)
			assert_int_equal(seg_page_release(page[i]), 0);
		assert_int_equal(figures(pool, SEG_ALL).active, 0);
	}
	end_both(pool, b);
}

enum { THREADS = 4, ROUNDS = 500 };

struct race {
	struct seg_pool *pool;
	struct seg_page **page;
	pthread_barrier_t *barrier;
	unsigned wins;
};

/* Makes pages of its own, and fights for the one that all know. */
static void *race_main(void *arg)
{
	const size_t bytes[] = { 1, 5000 };
	struct race *race = arg;
	struct seg_page *own;

	for (int i = 0; i < ROUNDS; i++) {
		int ret;

		pthread_barrier_wait(race->barrier);
		ret = seg_page_release(*race->page);
		require(ret == 0 || ret == -ESTALE);
		race->wins += ret == 0;
		pthread_barrier_wait(race->barrier);
		require(!seg_page_create(race->pool, bytes, 2, &own));
		memset(seg_page_part(own, 1), i, 64);
		require(!seg_page_grow(own, 0, 5000));
		require(is_filled(seg_page_part(own, 1), 64, (char)i));
		require(!seg_page_release(own));
		pthread_barrier_wait(race->barrier);
	}
	return NULL;
}

static void test_one_of_four_threads_releases_a_page(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct race races[THREADS];
	struct threads threads;
	pthread_barrier_t barrier;
	struct seg_page *page;
	unsigned wins = 0;

	(void)state;
	assert_int_equal(pthread_barrier_init(&barrier, NULL, THREADS + 1), 0);
	for (int i = 0; i < THREADS; i++)
		races[i] = (struct race){ pool, &page, &barrier, 0 };
	threads_start(&threads, THREADS, race_main, races, sizeof(*races));
	for (int i = 0; i < ROUNDS; i++) {
		page = page_of(pool, 1, 1);
		for (int step = 0; step < 3; step++)
			pthread_barrier_wait(&barrier);
	}
	assert_int_equal(threads_join(&threads), 0);
	pthread_barrier_destroy(&barrier);
	for (int i = 0; i < THREADS; i++)
		wins += races[i].wins;
	assert_int_equal(wins, ROUNDS);
	assert_int_equal(figures(pool, SEG_ALL).misuses_total,
			 ROUNDS * (THREADS - 1));
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_to_four_parts),
		cmocka_unit_test(test_arguments_that_are_none),
		cmocka_unit_test(test_all_parts_or_none),
		cmocka_unit_test(test_growing_keeps_the_contents),
		cmocka_unit_test(test_growing_that_fails_leaves_the_page),
		cmocka_unit_test(test_a_second_release_is_detected),
		cmocka_unit_test(test_a_part_released_by_hand_is_reported),
		cmocka_unit_test(
			test_a_part_released_by_hand_is_its_next_owners),
		cmocka_unit_test(test_many_pages),
		cmocka_unit_test(test_one_of_four_threads_releases_a_page),
	};

	return run_group(tests);
}
