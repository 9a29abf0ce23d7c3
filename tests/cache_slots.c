/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_slots.h: an entry has one owner, and one that was retired is free
 * again only when its batch has arrived.
 */
#include "testing.h"

#include "cache_slots.h"

enum { MANY = 5000 };

static struct cache_slots slots;

static int new_slots(void **state)
{
	(void)state;
	memset(&slots, 0, sizeof(slots));
	return 0;
}

static int end_slots(void **state)
{
	(void)state;
	slots_clear(&slots);
	return 0;
}

static struct cache_entry *get(void)
{
	struct cache_entry *e = slots_get(&slots);

	assert_non_null(e);
	return e;
}

/* The keeper brings the batch, the next holder of the lock takes it in. */
static void arrive(void)
{
	slots_arrive(&slots);
	slots_receive(&slots);
}

static uint64_t free_ones(void)
{
	uint64_t count = 0;

	for (struct cache_entry *e = slots.free; e; e = e->next)
		count++;
	return count;
}

/* made = free + in use + retired + on their way */
static void assert_all_are_there(uint64_t in_use)
{
	uint64_t sent = 0;

	for (struct cache_entry *e = slots.sent; e; e = e->next)
		sent++;
	assert_int_equal(u64_load_relaxed(&slots.made),
			 free_ones() + in_use + slots.retired_count + sent);
}

static void test_entries_are_new_apart_and_aligned(void **state)
{
	static struct cache_entry *e[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		e[i] = get();
		assert_int_equal((uintptr_t)e[i] % CACHE_LINE, 0);
		assert_int_equal(u64_load_relaxed(&e[i]->word), 0);
		assert_int_equal(e[i]->key, 0);
		e[i]->key = (uint64_t)i + 1;
	}
	for (int i = 0; i < MANY; i++)
		assert_int_equal(e[i]->key, i + 1);
	assert_all_are_there(MANY);
	assert_true(u64_load_relaxed(&slots.bytes) >=
		    MANY * sizeof(struct cache_entry));
	assert_true(u64_load_relaxed(&slots.bytes) <=
		    2 * MANY * sizeof(struct cache_entry));
}

static void test_the_last_put_is_got_first(void **state)
{
	struct cache_entry *a = get(), *b = get();
	uint64_t bytes = u64_load_relaxed(&slots.bytes);

	(void)state;
	slots_put(&slots, a);
	slots_put(&slots, b);
	assert_ptr_equal(get(), b);
	assert_ptr_equal(get(), a);
	assert_int_equal(u64_load_relaxed(&slots.bytes), bytes);
}

static bool is_free(const struct cache_entry *wanted)
{
	const struct cache_entry *e = slots.free;

	while (e && e != wanted)
		e = e->next;
	return e != NULL;
}

static void test_retired_is_not_free_before_it_arrived(void **state)
{
	struct cache_entry *e = get();

	(void)state;
	slots_retire(&slots, e);
	assert_false(is_free(e));
	assert_true(slots_send(&slots, 1));
	slots_receive(&slots);
	assert_false(is_free(e));
	assert_all_are_there(0);
	slots_arrive(&slots);
	assert_false(is_free(e));
	slots_receive(&slots);
	assert_true(is_free(e));
	assert_all_are_there(0);
}

static void test_a_batch_has_at_least_so_many(void **state)
{
	(void)state;
	assert_false(slots_send(&slots, 0));
	slots_retire(&slots, get());
	slots_retire(&slots, get());
	assert_false(slots_send(&slots, 3));
	slots_retire(&slots, get());
	assert_true(slots_send(&slots, 3));
	assert_int_equal(slots.retired_count, 0);
	arrive();
	assert_all_are_there(0);
}

/* What retires meanwhile waits for the next batch, and for its own readers. */
static void test_one_batch_is_on_its_way_at_a_time(void **state)
{
	struct cache_entry *first = get(), *second = get();

	(void)state;
	slots_retire(&slots, first);
	assert_true(slots_send(&slots, 1));
	slots_retire(&slots, second);
	assert_false(slots_send(&slots, 1));
	arrive();
	assert_true(is_free(first));
	assert_false(is_free(second));
	assert_true(slots_send(&slots, 1));
	arrive();
	assert_true(is_free(second));
	assert_all_are_there(0);
}

/* A stale pin is known by the version, which recycling must not lose. */
static void test_the_word_outlives_recycling(void **state)
{
	struct cache_entry *e = get();
	uint64_t version;

	(void)state;
	entry_begin(e, 0, 0);
	version = entry_version(entry_look(e));
	assert_true(entry_kill(e) != 0);
	slots_retire(&slots, e);
	assert_true(slots_send(&slots, 1));
	arrive();
	assert_ptr_equal(get(), e);
	entry_begin(e, 0, 0);
	assert_int_equal(entry_version(entry_look(e)), version + 1);
}

static void test_no_more_is_made_than_was_in_use(void **state)
{
	static struct cache_entry *e[100];

	(void)state;
	for (int round = 0; round < 50; round++) {
		for (int i = 0; i < 100; i++)
			e[i] = get();
		for (int i = 0; i < 100; i++)
			slots_retire(&slots, e[i]);
		assert_true(slots_send(&slots, 100));
		arrive();
	}
	assert_true(u64_load_relaxed(&slots.made) < 200);
	assert_all_are_there(0);
}

#define slots_test(f) cmocka_unit_test_setup_teardown(f, new_slots, end_slots)

int main(void)
{
	const struct CMUnitTest tests[] = {
		slots_test(test_entries_are_new_apart_and_aligned),
		slots_test(test_the_last_put_is_got_first),
		slots_test(test_retired_is_not_free_before_it_arrived),
		slots_test(test_a_batch_has_at_least_so_many),
		slots_test(test_one_batch_is_on_its_way_at_a_time),
		slots_test(test_the_word_outlives_recycling),
		slots_test(test_no_more_is_made_than_was_in_use),
	};

	return run_group(tests);
}
