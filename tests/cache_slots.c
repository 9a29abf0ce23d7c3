/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_slots.h: an entry and its record have one owner; they are free at
 * once, or, if they were retired, when their batch has arrived.  What memory
 * they take is tests/cache_memory.c's.
 */
#include "testing.h"

#include "cache_slots.h"

enum { MANY = 5000 };

static struct cache_slots slots;

static int new_slots(void **state)
{
	(void)state;
	memset(&slots, 0, sizeof(slots));
	return !slots_init(&slots);
}

static int end_slots(void **state)
{
	(void)state;
	return !slots_clear(&slots);
}

static struct cache_entry *get(void)
{
	struct cache_entry *e = slots_get(&slots);

	assert_non_null(e);
	assert_ptr_equal(record_entry(entry_record(e)), e);
	return e;
}

/* Its value left; the record it had. */
static struct cache_record *retire(struct cache_entry *e)
{
	struct cache_record *r = entry_record(e);

	slots_retire(&slots, e);
	return r;
}

/* The keeper brings the batch, the next holder of the lock takes it in. */
static void arrive(void)
{
	slots_arrive(&slots);
	slots_receive(&slots);
}

static uint64_t length(const struct cache_record *r)
{
	uint64_t count = 0;

	for (; r; r = r->next)
		count++;
	return count;
}

/* As the equation of cache_slots.h says. */
static void assert_all_are_there(uint64_t in_use)
{
	assert_int_equal(length(slots.retired), slots.retired_count);
	assert_int_equal(u64_load_relaxed(&slots.made),
			 length(slots.free) + in_use + slots.retired_count +
				 length(slots.sent));
}

/* Two in a line, and each of them beside its record's line. */
static void test_pairs_are_new_apart_and_aligned(void **state)
{
	static struct cache_entry *e[MANY];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		e[i] = get();
		assert_int_equal((uintptr_t)e[i] % (CACHE_LINE / 2), 0);
		assert_int_equal((uintptr_t)entry_record(e[i]) % CACHE_LINE, 0);
		assert_int_not_equal(entry_number(e[i]), 0);
		assert_int_equal(u64_load_relaxed(&e[i]->word), 0);
		assert_int_equal(entry_key(e[i]), 0);
		assert_int_equal(entry_record(e[i])->queue, 0);
		u64_store_relaxed(&e[i]->key, (uint64_t)i + 1);
		entry_record(e[i])->stamp = (uint32_t)i + 1;
	}
	for (int i = 0; i < MANY; i++) {
		assert_int_equal(entry_key(e[i]), i + 1);
		assert_int_equal(entry_record(e[i])->stamp, i + 1);
	}
	assert_all_are_there(MANY);
}

static void test_the_last_put_is_got_first(void **state)
{
	struct cache_entry *a = get(), *b = get();
	uint64_t bytes = slots_bytes(&slots);

	(void)state;
	slots_put(&slots, a);
	slots_put(&slots, b);
	assert_ptr_equal(get(), b);
	assert_ptr_equal(get(), a);
	assert_int_equal(slots_bytes(&slots), bytes);
	assert_all_are_there(2);
}

static bool is_free(const struct cache_record *wanted)
{
	const struct cache_record *r = slots.free;

	while (r && r != wanted)
		r = r->next;
	return r != NULL;
}

static void test_retired_is_not_free_before_it_arrived(void **state)
{
	struct cache_record *r = retire(get());

	(void)state;
	assert_false(is_free(r));
	assert_true(slots_send(&slots, 1));
	slots_receive(&slots);
	assert_false(is_free(r));
	assert_all_are_there(0);
	slots_arrive(&slots);
	assert_false(is_free(r));
	slots_receive(&slots);
	assert_true(is_free(r));
	assert_all_are_there(0);
}

/* The value waits in it, with its key, weight and cause. */
static void test_what_retired_stays_as_it_was(void **state)
{
	struct cache_entry *e = get(), *other;
	struct departed d;

	(void)state;
	entry_fill(e, 7, &slots, 4097);
	entry_begin(e, 0, 0);
	assert_true(entry_kill(e) != 0);
	record_set_cause(entry_record(e), 3);
	retire(e);
	other = get();
	assert_ptr_not_equal(other, e);
	entry_fill(other, 8, &other, 40);
	assert_all_are_there(1);
	assert_true(slots_send(&slots, 1));
	assert_ptr_equal(slots.sent, entry_record(e));
	assert_null(slots.sent->next);
	d = entry_departs(e, record_cause(entry_record(e)));
	assert_int_equal(d.key, 7);
	assert_ptr_equal(d.value, &slots);
	assert_int_equal(d.weight, 4097);
	assert_int_equal(d.cause, 3);
	slots_put(&slots, other);
	assert_ptr_equal(get(), other);
	arrive();
	assert_ptr_equal(get(), e);
	assert_all_are_there(2);
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
	struct cache_record *first = retire(get()), *second;

	(void)state;
	assert_true(slots_send(&slots, 1));
	second = retire(get());
	assert_false(slots_send(&slots, 1));
	arrive();
	assert_true(is_free(first));
	assert_false(is_free(second));
	assert_true(slots_send(&slots, 1));
	arrive();
	assert_true(is_free(second));
	assert_all_are_there(0);
}

/* A stale pin is known by the version, which another use must not lose. */
static void test_the_word_outlives_another_use(void **state)
{
	struct cache_entry *e = get();
	uint64_t version;

	(void)state;
	entry_begin(e, 0, 0);
	version = entry_version(entry_look(e));
	assert_true(entry_kill(e) != 0);
	slots_put(&slots, e);
	assert_ptr_equal(get(), e);
	assert_int_equal(entry_state(entry_look(e)), ENTRY_DEAD);
	entry_begin(e, 0, 0);
	assert_int_equal(entry_version(entry_look(e)), version + 1);
	assert_true(entry_kill(e) != 0);
	slots_retire(&slots, e);
	assert_true(slots_send(&slots, 1));
	arrive();
	assert_ptr_equal(get(), e);
	entry_begin(e, 0, 0);
	assert_int_equal(entry_version(entry_look(e)), version + 2);
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
	assert_int_equal(u64_load_relaxed(&slots.made), 100);
	assert_all_are_there(0);
}

/* While they wait, others are made. */
static void test_many_retire(void **state)
{
	(void)state;
	for (int i = 0; i < MANY; i++)
		slots_retire(&slots, get());
	assert_int_equal(slots.retired_count, MANY);
	assert_int_equal(u64_load_relaxed(&slots.made), MANY);
	assert_all_are_there(0);
	assert_true(slots_send(&slots, 1));
	assert_int_equal(length(slots.sent), MANY);
	assert_all_are_there(0);
	arrive();
	assert_int_equal(length(slots.free), MANY);
	assert_all_are_there(0);
}

#define slots_test(f) cmocka_unit_test_setup_teardown(f, new_slots, end_slots)

int main(void)
{
	const struct CMUnitTest tests[] = {
		slots_test(test_pairs_are_new_apart_and_aligned),
		slots_test(test_the_last_put_is_got_first),
		slots_test(test_retired_is_not_free_before_it_arrived),
		slots_test(test_what_retired_stays_as_it_was),
		slots_test(test_a_batch_has_at_least_so_many),
		slots_test(test_one_batch_is_on_its_way_at_a_time),
		slots_test(test_the_word_outlives_another_use),
		slots_test(test_no_more_is_made_than_was_in_use),
		slots_test(test_many_retire),
	};

	return run_group(tests);
}
