/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_policy.h: what a record is told of those ahead of it.  It is a
 * hint, which may be old, but is of a record: of one that came to the queue
 * while it was not empty since.
 */
#include "groups.h"

#include "cache_policy.h"

enum { KEYS = 30000, STEPS = 30000, ROUND = 100 };

static struct cache_policy policy;
static bool known[KEYS];	/* it may be named by a hint */

static int set_up(void **state)
{
	(void)state;
	groups_map();
	memset(&policy, 0, sizeof(policy));
	memset(known, 0, sizeof(known));
	cache_policy_init(&policy, KEYS);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	cache_policy_clear(&policy);
	groups_unmap();
	return 0;
}

static struct cache_record *insert(uint64_t key)
{
	entry_fill(nth_entry(key), key, NULL, 1);
	cache_policy_insert(&policy, nth_record(key));
	known[key] = true;
	return nth_record(key);
}

static void leave_all(void)
{
	struct cache_record *r;

	while ((r = cache_policy_victim(&policy)) != NULL)
		cache_policy_evict(&policy, r);
	for (unsigned name = 0; name < QUEUE_END; name++)
		for (unsigned i = 0; i < QUEUE_AHEAD; i++)
			assert_null(policy.queue[name].last[i]);
}

static void check_hint(const struct cache_record *r)
{
	uint64_t key;

	if (!r)
		return;
	assert_true(cache_group_of(r) == groups[0] ||
		    cache_group_of(r) == groups[1]);
	key = entry_nth(record_entry(r));
	assert_true(key < KEYS && known[key]);
}

static void check_hints(void)
{
	for (unsigned name = 0; name < QUEUE_END; name++) {
		const struct cache_queue *q = &policy.queue[name];
		const struct cache_record *r = q->newest;

		for (uint64_t n = q->count; n; n--, r = r->older)
			check_hint(r->ahead);
		for (unsigned i = 0; i < QUEUE_AHEAD; i++)
			check_hint(q->last[i]);
	}
	assert_true(cache_policy_is_valid(&policy));
}

/* Who will be the oldest, so many steps after it. */
static void test_one_is_told_who_comes_soon(void **state)
{
	struct cache_record *r[ROUND];

	(void)state;
	for (unsigned i = 0; i < ROUND; i++)
		r[i] = insert(i);
	/* The last ones are young still. */
	for (unsigned i = 0; i + QUEUE_AHEAD < ROUND / 2; i++) {
		assert_int_equal(r[i]->queue, QUEUE_SMALL);
		assert_ptr_equal(r[i]->ahead, r[i + QUEUE_AHEAD]);
	}
	check_hints();
}

static struct cache_record *steps_newer(struct cache_record *r, unsigned steps)
{
	while (steps--)
		r = r->newer;
	return r;
}

/* Also of those that go round in main. */
static void test_so_it_is_in_main(void **state)
{
	struct cache_queue *q = &policy.queue[QUEUE_MAIN];
	struct cache_record *r;

	(void)state;
	for (uint64_t key = 0; key < ROUND; key++)
		insert(key);
	for (uint64_t key = 0; key < ROUND; key++)
		/* relaxed: one thread */
		u16_store_relaxed(&nth_entry(key)->mark, CACHE_MARK_MOST);
	for (int i = 0; i < 3 * ROUND; i++) {
		r = cache_policy_victim(&policy);
		assert_non_null(r);
		u16_store_relaxed(&record_entry(r)->mark, CACHE_MARK_MOST);
	}
	assert_true(q->count > 2 * QUEUE_AHEAD);
	r = q->oldest;
	for (uint64_t n = q->count; n > QUEUE_AHEAD; n--, r = r->newer)
		assert_ptr_equal(r->ahead, steps_newer(r, QUEUE_AHEAD));
	check_hints();
}

/* After it was empty, nobody is told to anybody who was there before: that may
 * be no record any more (the groups are others, once a cache was cleared). */
static void test_an_empty_queue_remembers_nobody(void **state)
{
	static struct cache_record before[ROUND];

	(void)state;
	for (uint64_t key = 0; key < ROUND; key++)
		insert(key);
	leave_all();
	for (uint64_t key = 0; key < ROUND; key++) {
		known[key] = false;
		before[key] = *nth_record(key);
	}
	for (uint64_t key = ROUND; key < 3 * ROUND; key++)
		insert(key);
	for (uint64_t key = 0; key < ROUND; key++)
		assert_ptr_equal(nth_record(key)->ahead, before[key].ahead);
	check_hints();
	leave_all();
}

static void test_hints_after_any_sequence(void **state)
{
	uint64_t seed = random_seed(9);

	(void)state;
	for (unsigned i = 0; i < STEPS; i++) {
		uint64_t key = random_below(&seed, KEYS);
		struct cache_record *r = nth_record(key);

		if (!r->queue)
			insert(key);
		else if (i % 3 == 0)
			cache_policy_remove(&policy, r);
		else if (i % 3 == 1)
			/* relaxed: one thread */
			u16_store_relaxed(&nth_entry(key)->mark, 2);
		else if ((r = cache_policy_victim(&policy)) != NULL)
			cache_policy_evict(&policy, r);
		if (i % 1000 == 0)
			check_hints();
	}
	check_hints();
	leave_all();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_one_is_told_who_comes_soon),
		TEST(test_so_it_is_in_main),
		TEST(test_an_empty_queue_remembers_nobody),
		TEST(test_hints_after_any_sequence),
	};

	return run_group(tests);
}
