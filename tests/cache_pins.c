/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Pins and weights: what is pinned weighs nothing and does not leave, and the
 * last unpin brings just its weight back.
 */
#include "caches.h"

#include "cache.h"

enum { SOME = 500 };

/* Entries whose pin count fell kept weight 0, and the cache was blind to them:
 * here the weight moves with the first pin and the last unpin. */
static void test_pins_move_just_the_entrys_weight(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin a, b, other;

	(void)state;
	put(box->cache, 1, number(1), 300);
	put(box->cache, 2, number(2), 50);
	assert_weights(box, 350, 0);
	a = get(box->cache, 1);
	assert_weights(box, 50, 300);
	b = get(box->cache, 1);
	other = get(box->cache, 2);
	assert_weights(box, 0, 350);
	unpin(&a);
	assert_weights(box, 0, 350);
	unpin(&b);
	assert_weights(box, 300, 50);
	unpin(&other);
	assert_weights(box, 350, 0);
	for (int i = 0; i < 100; i++)
		assert_true(has(box->cache, 1));
	assert_weights(box, 350, 0);
	box_end(box);
}

/* ... and is evicted again, all of it, once nobody pins it. */
static void test_what_was_pinned_can_be_evicted(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin[10];

	(void)state;
	for (int i = 0; i < 10; i++)
		pin[i] = put_pinned(box->cache, (uint64_t)i,
				    number((uint64_t)i), 10);
	for (int i = 0; i < 10; i++)
		unpin(&pin[i]);
	assert_weights(box, 100, 0);
	for (uint64_t i = 10; i < 60; i++)
		put(box->cache, i, number(i), 10);
	assert_weights(box, 100, 0);
	for (uint64_t i = 0; i < 10; i++)
		assert_int_equal(box_times(box, number(i)), 1);
	assert_int_equal(cache_stats(box->cache).evictions_total, 50);
	box_end(box);
}

static void test_pinned_entries_do_not_leave(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 0, number(0), 60);

	(void)state;
	for (uint64_t i = 1; i <= 100; i++)
		put(box->cache, i, number(i), 10);
	assert_int_equal(box_times(box, number(0)), 0);
	assert_weights(box, 100, 60);
	assert_ptr_equal(seg_pin_value(&pin), number(0));
	unpin(&pin);
	assert_true(cache_stats(box->cache).weight <= 100);
	box_end(box);
}

/* The unpin finds the cache too heavy now, and sees to it. */
static void test_the_unpin_evicts(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 80);

	(void)state;
	put(box->cache, 2, number(2), 90);
	assert_int_equal(box->heard, 0);
	unpin(&pin);
	assert_int_equal(box->heard, 1);
	assert_true(cache_stats(box->cache).weight <= 100);
	assert_int_equal(box->call[0].cause, SEG_CAUSE_EVICTED);
	box_end(box);
}

/* Nothing can go: puts succeed and end, and later unpins make up for it. */
static void test_everything_is_pinned(void **state)
{
	static struct seg_pin pin[SOME];
	struct box *box = box_begin(100);

	(void)state;
	for (uint64_t i = 0; i < SOME; i++)
		pin[i] = put_pinned(box->cache, i, number(i), 50);
	assert_weights(box, 0, SOME * 50);
	assert_int_equal(box->heard, 0);
	put(box->cache, SOME, number(SOME), 100);
	assert_weights(box, 100, SOME * 50);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	assert_weights(box, 0, SOME * 50);
	assert_int_equal(box->heard, 1);
	for (uint64_t i = 0; i < SOME; i++) {
		unpin(&pin[i]);
		box_check(box);
	}
	assert_int_equal(cache_stats(box->cache).entries, 2);
	box_end(box);
}

/* A pin is the caller's memory: it may be moved, and unpinned elsewhere. */
static void *unpin_it(void *pin)
{
	return seg_unpin(pin) ? pin : NULL;
}

static void test_another_thread_unpins(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pins[4], moved[4];
	struct threads threads;

	(void)state;
	put(box->cache, 1, number(1), 70);
	for (int i = 0; i < 4; i++)
		pins[i] = get(box->cache, 1);
	memcpy(moved, pins, sizeof(pins));
	threads_start(&threads, 4, unpin_it, moved, sizeof(*moved));
	assert_int_equal(threads_join(&threads), 0);
	assert_weights(box, 70, 0);
	box_end(box);
}

/* Pins were given back by who never took them: a copy's unpin is reported, and
 * takes nothing from anybody. */
static void test_a_second_unpin_of_a_copy_is_reported(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin, copy;

	(void)state;
	put(box->cache, 1, number(1), 70);
	pin = copy = get(box->cache, 1);
	unpin(&pin);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 1);
	assert_int_equal(recorder_has(&box->lines, "Cache: unpin of what is "
						   "not pinned"), 1);
	assert_weights(box, 70, 0);
	/* Nor when the entry is gone. */
	pin = copy = get(box->cache, 1);
	unpin(&pin);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 2);
	assert_int_equal(box->heard, 1);
	box_end(box);
}

/* An entry that ended is the next one's at once. */
static struct cache_entry *use_again(struct box *box, uint64_t key,
				     struct seg_pin *ret_pin)
{
	*ret_pin = put_pinned(box->cache, key, number(key), 60);
	return ret_pin->entry;
}

/* A copy of a pin that was given back, of an entry that is another key's, and
 * pinned: reported, and that one's pin and weight are left alone. */
static void test_a_copy_whose_entry_is_another_keys(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin, copy, other, again;

	(void)state;
	pin = copy = put_pinned(box->cache, 1, number(1), 70);
	unpin(&pin);
	assert_int_equal(seg_cache_remove(box->cache, 1, NULL), 0);
	assert_ptr_equal(use_again(box, 2, &other), copy.entry);
	assert_int_equal(other.version, copy.version + 1);
	again = copy;
	assert_int_equal(seg_unpin(&copy), -ESTALE);
	assert_int_equal(seg_unpin(&again), -ESTALE);
	assert_int_equal(cache_stats(box->cache).misuses_total, 2);
	assert_weights(box, 0, 60);
	assert_ptr_equal(seg_pin_value(&other), number(2));
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	assert_true(has(box->cache, 2));
	unpin(&other);
	assert_weights(box, 60, 0);
	assert_int_equal(box->heard, 1);
	box_end(box);
}

/* How an entry ends, while a look-up stands on it. */
static void take_it(struct seg_cache *c)
{
	void *value;

	require(seg_cache_take(c, 1, &value) == 0);
}

static void remove_it(struct seg_cache *c)
{
	require(seg_cache_remove(c, 1, NULL) == 0);
}

static void evict_it(struct seg_cache *c)
{
	require(seg_cache_shrink(c, 0, NULL) == 0);
}

static void unpin_removed(struct seg_cache *c)
{
	struct seg_pin pin = get(c, 1);

	remove_it(c);
	unpin(&pin);
}

/* The steps of a hit, with a long stop after the first. */
static void test_a_hit_on_what_is_used_again(void **state)
{
	void (*const ends[])(struct seg_cache *c) = {
		take_it, remove_it, evict_it, unpin_removed,
	};

	(void)state;
	for (int i = 0; i < 4; i++) {
		struct box *box = box_begin(100);
		struct cache_index *ix = &box->cache->index;
		struct cache_entry *e;
		struct seg_pin pin;
		uint64_t word = 0, changes = u64_load_relaxed(&ix->changes);

		put(box->cache, 1, number(1), 10);
		e = cache_index_find_first(ix, 1, &word);
		assert_non_null(e);
		assert_ptr_equal(cache_index_value(e, word), number(1));
		ends[i](box->cache);
		assert_null(cache_index_value(e, word));
		assert_ptr_equal(use_again(box, 2, &pin), e);
		assert_int_equal(u64_load_relaxed(&ix->changes), changes + 2);
		assert_null(cache_index_value(e, word));
		assert_false(entry_pin(e, &word));
		assert_weights(box, 0, 60);
		assert_false(has(box->cache, 1));
		unpin(&pin);
		box_end(box);
	}
}

static int never_load(void *ctx, uint64_t key, void **ret_value,
		      uint64_t *ret_weight)
{
	(void)ctx;
	(void)key;
	(void)ret_value;
	(void)ret_weight;
	abort();
}

/* The count of pins is full: a miss, and nothing runs over. */
static void test_the_most_pins_of_an_entry(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = put_pinned(box->cache, 1, number(1), 10), other;
	struct cache_entry *e = pin.entry;
	uint64_t word = u64_load_relaxed(&e->word);

	(void)state;
	u64_store_relaxed(&e->word, word | ENTRY_FULL);
	assert_int_equal(seg_cache_get(box->cache, 1, &other), -ENOENT);
	assert_int_equal(seg_cache_get_or_load(box->cache, 1, never_load, NULL,
					       0, &other), -EOVERFLOW);
	u64_store_relaxed(&e->word, word);
	other = get(box->cache, 1);
	unpin(&other);
	unpin(&pin);
	box_end(box);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pins_move_just_the_entrys_weight),
		cmocka_unit_test(test_what_was_pinned_can_be_evicted),
		cmocka_unit_test(test_pinned_entries_do_not_leave),
		cmocka_unit_test(test_the_unpin_evicts),
		cmocka_unit_test(test_everything_is_pinned),
		cmocka_unit_test(test_another_thread_unpins),
		cmocka_unit_test(test_a_second_unpin_of_a_copy_is_reported),
		cmocka_unit_test(test_a_copy_whose_entry_is_another_keys),
		cmocka_unit_test(test_a_hit_on_what_is_used_again),
		cmocka_unit_test(test_the_most_pins_of_an_entry),
	};

	return run_group(tests);
}
