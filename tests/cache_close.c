/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_close.h: each way out of a cache for entries that are open, and for
 * those that slots pin; many by one barrier; and a kernel that has no barrier,
 * or refuses it later.  Linked with fault_os.c in place of lib/os.c.
 */
#include "slot_pins.h"

#include "fault_os.h"

enum {
	TEN = 10,		/* entries, of that weight each: one is left */
	MANY = 100,		/* more than one barrier closes */
	PAGES = 64,		/* of a budget */
};

/* No test leaves a slot in use. */
static int end(void **state)
{
	(void)state;
	assert_int_equal(slots_in_use(), 0);
	return 0;
}

/* The thread has so many pins already. */
static struct seg_pin get_in_slot_or_word(struct seg_cache *c, uint64_t pins,
					  uint64_t key)
{
	return pins < PIN_SLOTS ? get_in_slot(c, key) : get(c, key);
}

/* A full cache of open entries; the first ones are pinned. */
static struct box *begin_with(unsigned short_reads, struct seg_pin *pin,
			      uint64_t pins)
{
	struct box *box = box_begin_with((struct seg_cache_options){
		.max_weight = TEN * TEN, .short_reads = short_reads });

	for (uint64_t i = 0; i < TEN; i++)
		put_open(box->cache, i, TEN);
	for (uint64_t i = 0; i < pins; i++)
		pin[i] = get_in_slot_or_word(box->cache, i, i);
	assert_weights(box, (TEN - pins) * TEN, pins * TEN);
	return box;
}

static struct box *begin(struct seg_pin *pin, uint64_t pins)
{
	return begin_with(0, pin, pins);
}

static unsigned times(struct box *box, uint64_t key, enum seg_cause cause)
{
	unsigned found = 0;

	pthread_mutex_lock(&box->lock);
	for (uint64_t i = 0; i < box->heard && i < HEARD_MOST; i++)
		found += box->call[i].key == key && box->call[i].cause == cause;
	pthread_mutex_unlock(&box->lock);
	return found;
}

static void *unpin_it(void *pin)
{
	return seg_unpin(pin) ? pin : NULL;
}

static void unpin_elsewhere(struct seg_pin *pin)
{
	struct threads threads;

	threads_start(&threads, 1, unpin_it, pin, 0);
	assert_int_equal(threads_join(&threads), 0);
}

/* ---- evicted ---- */

/* What slots pin may weigh until it is met: the cache is lighter than it may
 * be, never heavier. */
static void test_others_are_evicted(void **state)
{
	struct seg_pin pin[2];
	struct box *box = begin(pin, 2);
	struct seg_cache_stats s;

	(void)state;
	for (uint64_t i = TEN; i < 5 * TEN; i++) {
		put(box->cache, i, number(i), TEN);
		s = cache_stats(box->cache);
		assert_true(s.weight >= 8 * TEN && s.weight <= TEN * TEN);
		assert_int_equal(s.pinned_weight, 2 * TEN);
		assert_int_equal(s.weight + s.pinned_weight, s.entries * TEN);
	}
	for (uint64_t i = 0; i < 2; i++) {
		assert_int_equal(box_times(box, number(i)), 0);
		assert_ptr_equal(seg_pin_value(&pin[i]), number(i));
	}
	assert_true(box_heard(box) >= 4 * TEN - 2);
	unpin(&pin[0]);
	assert_true(cache_stats(box->cache).weight <= TEN * TEN);
	unpin_elsewhere(&pin[1]);
	assert_true(cache_stats(box->cache).weight <= TEN * TEN);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	for (uint64_t i = 0; i < 5 * TEN; i++)
		assert_int_equal(box_times(box, number(i)), 1);
	box_end(box);
}

/* Nothing can go: each is met once, and weighs nothing from then on (C1); their
 * unpins make up for it (C2). */
static void test_all_are_pinned(void **state)
{
	struct seg_pin pin[TEN];
	struct box *box = begin(pin, TEN);

	(void)state;
	put(box->cache, TEN, number(TEN), TEN * TEN);
	assert_int_equal(box_heard(box), 0);
	assert_weights(box, TEN * TEN, TEN * TEN);
	assert_int_equal(slots_in_use(), 0);
	for (uint64_t i = 0; i < TEN; i++) {
		unpin(&pin[i]);
		box_check(box);
	}
	assert_true(box_heard(box) > 0);
	box_end(box);
}

/* Who is open and pinned by nobody is as good a victim as any. */
static void test_open_ones_are_evicted(void **state)
{
	struct box *box = box_begin(MANY);

	(void)state;
	for (uint64_t i = 0; i < MANY; i++)
		put_open(box->cache, i, 1);
	for (uint64_t i = MANY; i < 3 * MANY; i++) {
		put(box->cache, i, number(i), 1);
		assert_weights(box, MANY, 0);
	}
	assert_int_equal(box_heard(box), 2 * MANY);
	for (uint64_t i = 0; i < 3 * MANY; i++)
		assert_int_equal(box_times(box, number(i)) +
				 has(box->cache, i), 1);
	box_end(box);
}

static void test_shrunk_to_what_is_pinned(void **state)
{
	struct seg_pin pin[4];
	struct box *box = begin(pin, 4);
	uint64_t evicted = 1;

	(void)state;
	/* What is not pinned weighs no more than that already. */
	assert_int_equal(seg_cache_shrink(box->cache, 60, &evicted), 0);
	assert_int_equal(evicted, 0);
	assert_weights(box, 60, 40);
	assert_int_equal(seg_cache_shrink(box->cache, 20, &evicted), 0);
	assert_int_equal(evicted, 40);
	assert_weights(box, 20, 40);
	assert_int_equal(seg_cache_shrink(box->cache, 0, &evicted), 0);
	assert_int_equal(evicted, 20);
	assert_weights(box, 0, 40);
	for (uint64_t i = 0; i < 4; i++) {
		assert_int_equal(box_times(box, number(i)), 0);
		unpin(&pin[i]);
	}
	assert_weights(box, 40, 0);
	assert_int_equal(seg_cache_shrink(box->cache, 0, &evicted), 0);
	assert_int_equal(evicted, 40);
	assert_int_equal(box_heard(box), TEN);
	box_end(box);
}

/* Unpins make it as light as it is to be now (C2). */
static void test_a_smaller_maximum(void **state)
{
	struct seg_pin pin[TEN];
	struct box *box = begin(pin, TEN);

	(void)state;
	assert_int_equal(seg_cache_set_max_weight(box->cache, 35), 0);
	assert_weights(box, 0, TEN * TEN);
	for (uint64_t i = 0; i < TEN; i++) {
		unpin(&pin[i]);
		assert_true(cache_stats(box->cache).weight <= 35);
	}
	assert_weights(box, 30, 0);
	assert_int_equal(box_heard(box), 7);
	box_end(box);
}

/* ---- removed, one way or the other ---- */

static void remove_it(struct seg_cache *c)
{
	assert_int_equal(seg_cache_remove(c, 0, number(0)), 0);
}

static void replace_it(struct seg_cache *c)
{
	assert_int_equal(seg_cache_replace(c, 0, number(TEN), TEN, NULL), 0);
}

static void clear_it(struct seg_cache *c)
{
	assert_int_equal(seg_cache_clear(c), 0);
}

/* The value leaves with the last of its pins, wherever that stood. */
static void removed_by(void (*remove)(struct seg_cache *c),
		       enum seg_cause cause, unsigned short_reads)
{
	struct seg_pin pin[3], second;
	struct box *box = begin_with(short_reads, pin, 3);

	second = get_in_slot(box->cache, 0);
	remove(box->cache);
	assert_int_equal(times(box, 0, cause), 0);
	assert_ptr_equal(seg_pin_value(&pin[0]), number(0));
	assert_int_equal(cache_stats(box->cache).pinned_weight, 3 * TEN);
	unpin_elsewhere(&pin[0]);
	assert_int_equal(box_times(box, number(0)), 0);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 3 * TEN);
	unpin(&second);
	assert_int_equal(cache_stats(box->cache).pinned_weight, 2 * TEN);
	wait_until(box_times(box, number(0)));
	for (int i = 1; i < 3; i++)
		unpin(&pin[i]);
	box_settle(box);
	assert_int_equal(box_times(box, number(0)), 1);
	assert_int_equal(times(box, 0, cause), 1);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	box_end(box);
}

static void test_removed(void **state)
{
	(void)state;
	for (unsigned short_reads = 0; short_reads < 2; short_reads++)
		removed_by(remove_it, SEG_CAUSE_REMOVED, short_reads);
}

static void test_replaced(void **state)
{
	(void)state;
	for (unsigned short_reads = 0; short_reads < 2; short_reads++)
		removed_by(replace_it, SEG_CAUSE_REPLACED, short_reads);
}

static void test_cleared(void **state)
{
	(void)state;
	for (unsigned short_reads = 0; short_reads < 2; short_reads++)
		removed_by(clear_it, SEG_CAUSE_CLEARED, short_reads);
}

static void test_taken(void **state)
{
	struct seg_pin pin[2];
	struct box *box = begin(pin, 2);
	void *value = NULL;

	(void)state;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(seg_cache_take(box->cache, 0, &value),
				 -EBUSY);
		assert_null(value);
		assert_weights(box, 80, 20);
		make_open(box->cache, 0);
	}
	unpin(&pin[0]);
	assert_int_equal(seg_cache_take(box->cache, 0, &value), 0);
	assert_ptr_equal(value, number(0));
	assert_weights(box, 80, 10);
	assert_false(has(box->cache, 0));
	unpin(&pin[1]);
	assert_int_equal(box_heard(box), 0);
	box_end(box);
}

static void test_destroyed(void **state)
{
	struct seg_pin pin[3];
	struct box *box = begin(pin, 3);
	struct seg_pin second = get_in_slot(box->cache, 0);

	(void)state;
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	assert_int_equal(recorder_has(&box->lines, "not destroyed: 3 entries "
						   "pinned"), 1);
	assert_int_equal(recorder_has(&box->lines, "4 pins without a tag"), 1);
	assert_int_equal(box_heard(box), 0);
	assert_weights(box, 70, 30);
	/* It can be used on. */
	for (int i = 0; i < 3; i++)
		unpin(&pin[i]);
	assert_weights(box, 90, 10);
	pin[1] = get_in_slot(box->cache, 1);
	unpin(&second);
	assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
	assert_int_equal(recorder_has(&box->lines, "not destroyed: 1 entries "
						   "pinned"), 1);
	unpin(&pin[1]);
	box_end(box);
}

/* ---- many at once ---- */

/* Some of them pinned, in slots of this thread. */
static struct box *begin_many(struct seg_pin *pin)
{
	struct box *box = box_begin(MANY);

	for (uint64_t i = 0; i < MANY; i++)
		put_open(box->cache, i, 1);
	for (uint64_t i = 0; i < TEN; i++)
		pin[i] = get_in_slot_or_word(box->cache, i, i * (MANY / TEN));
	assert_weights(box, MANY - TEN, TEN);
	return box;
}

/* All that were not pinned have left by that cause; the others then do. */
static void end_many(struct box *box, struct seg_pin *pin,
		     enum seg_cause cause, bool leave_then)
{
	assert_int_equal(box_heard(box), MANY - TEN);
	assert_weights(box, 0, TEN);
	for (uint64_t i = 0; i < MANY; i++)
		assert_int_equal(times(box, i, cause), i % TEN != 0);
	for (int i = 0; i < TEN; i++)
		unpin(&pin[i]);
	assert_int_equal(box_heard(box), leave_then ? MANY : MANY - TEN);
	assert_int_equal(seg_cache_clear(box->cache), 0);
	for (uint64_t i = 0; i < MANY; i++)
		assert_int_equal(box_times(box, number(i)), 1);
	box_end(box);
}

static void test_many_are_evicted(void **state)
{
	struct seg_pin pin[TEN];
	struct box *box = begin_many(pin);

	(void)state;
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	end_many(box, pin, SEG_CAUSE_SHRUNK, false);
}

static void test_many_are_cleared(void **state)
{
	struct seg_pin pin[TEN];
	struct box *box = begin_many(pin);

	(void)state;
	assert_int_equal(seg_cache_clear(box->cache), 0);
	end_many(box, pin, SEG_CAUSE_CLEARED, true);
}

static void test_many_are_removed(void **state)
{
	struct seg_pin pin[TEN];
	struct box *box = begin_many(pin);

	(void)state;
	for (uint64_t i = 0; i < MANY; i++)
		assert_int_equal(seg_cache_remove(box->cache, i, NULL), 0);
	end_many(box, pin, SEG_CAUSE_REMOVED, true);
}

/* ---- for the sake of memory ---- */

struct scene {
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct box *box;
	struct seg_pin pin[3];
};

/* All that the budget allows is in open pages, three of them pinned. */
static struct scene scene_begin(void)
{
	const size_t bytes = SEG_MIN_BYTES;
	struct scene s = { .budget = new_budget(PAGES * SEG_MIN_BYTES) };
	struct seg_page *page;

	s.pool = make_pool_with((struct seg_pool_options){
		.budget = s.budget, .region_bytes = 16 * SEG_MIN_BYTES,
		.wait_ms = SEG_NO_WAIT, .decay_ms = 600000 });
	s.box = box_begin_with((struct seg_cache_options){
		.max_weight = MIB, .pages = s.pool, .budget = s.budget });
	for (uint64_t i = 0; i < PAGES; i++) {
		require(!seg_page_create(s.pool, &bytes, 1, &page));
		put(s.box->cache, i, page, 0);
		make_open(s.box->cache, i);
	}
	for (uint64_t i = 0; i < 3; i++)
		s.pin[i] = get_in_slot(s.box->cache, i * 16);
	return s;
}

/* Those that slots pinned are there still. */
static void scene_end(struct scene *s)
{
	assert_weights(s->box, 0, 3 * SEG_MIN_BYTES);
	for (uint64_t i = 0; i < PAGES; i++)
		assert_int_equal(times(s->box, i, SEG_CAUSE_RECLAIMED),
				 i % 16 != 0 || i == 48);
	for (int i = 0; i < 3; i++) {
		const struct seg_page *page = seg_pin_value(&s->pin[i]);

		assert_int_equal(seg_page_bytes(page), SEG_MIN_BYTES);
		unpin(&s->pin[i]);
	}
	assert_weights(s->box, 3 * SEG_MIN_BYTES, 0);
	box_end(s->box);
	end_both(s->pool, s->budget);
}

static void test_reclaimed_at_the_limit(void **state)
{
	struct scene s = scene_begin();
	void *segment[PAGES];
	int got = 0;

	(void)state;
	while (got < PAGES &&
	       (segment[got] = seg_alloc(s.pool, SEG_MIN_BYTES)) != NULL)
		got++;
	assert_int_equal(got, PAGES - 3);
	while (got)
		assert_int_equal(seg_release(s.pool, segment[--got]), 0);
	scene_end(&s);
}

static void test_drained(void **state)
{
	struct scene s = scene_begin();
	struct seg_drain d = { .size = sizeof(d) };

	(void)state;
	assert_int_equal(seg_pool_drain(s.pool, 100, &d), 0);
	assert_int_equal(d.pinned_bytes, 3 * SEG_MIN_BYTES);
	assert_int_equal(d.cached_bytes, 0);
	assert_int_equal(d.evicted_bytes, (PAGES - 3) * SEG_MIN_BYTES);
	assert_int_equal(d.kept_regions, 3);
	scene_end(&s);
}

/* ---- without a barrier ---- */

/* Where the kernel never had one, all pins stand in words. */
static int child_without_barrier(void *unused)
{
	struct seg_pin pin[HITS_MOST];
	struct box *box;

	(void)unused;
	fault_arm(FAULT_MEMBARRIER, 1, UINT64_MAX);
	box = box_begin(100);
	require(!sections_begin());
	put(box->cache, 1, number(1), 70);
	for (int i = 0; i < HITS_MOST; i++) {
		pin[i] = get(box->cache, 1);
		require(!cache_pin_slot(&pin[i]));
		require(!is_open(entry_of(box->cache, 1)));
	}
	assert_weights(box, 0, 70);
	require(!seg_cache_remove(box->cache, 1, NULL));
	for (int i = 0; i < HITS_MOST; i++) {
		require(box_heard(box) == 0);
		unpin(&pin[i]);
	}
	require(box_heard(box) == 1 && slots_in_use() == 0);
	/* It asks for none either. */
	require(fault_disarm() <= 2);
	box_end(box);
	return 0;
}

static void test_without_a_barrier(void **state)
{
	(void)state;
	assert_int_equal(run_in_child(child_without_barrier, NULL), 0);
}

/* They are in, and pinned, for ever. */
static void require_kept(struct box *box, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++) {
		require(!box_times(box, number(i)));
		require(word_pins(entry_of(box->cache, i)) == 1);
	}
}

/* A child, since that cache can't be destroyed. */
static int child_whose_barrier_goes(void *unused)
{
	struct seg_pin pin[2];
	struct box *box = begin(pin, 2);

	(void)unused;
	fault_arm(FAULT_MEMBARRIER, 1, UINT64_MAX);
	/* As much as was in, beside that, and no more. */
	for (uint64_t i = TEN; i < 4 * TEN; i++) {
		put(box->cache, i, number(i), TEN);
		require(cache_stats(box->cache).weight <= TEN * TEN);
	}
	require_kept(box, 0, TEN);
	assert_weights(box, TEN * TEN, TEN * TEN);
	require(box_heard(box) == 2 * TEN);
	for (uint64_t i = TEN; i < 4 * TEN; i++)
		require(box_times(box, number(i)) == !has(box->cache, i));
	/* Nothing opens, and pins in slots are given back as ever. */
	for (int i = 0; i < HITS_MOST; i++)
		for (uint64_t key = 0; key < 4 * TEN; key++)
			require(!has(box->cache, key) ||
				!is_open(entry_of(box->cache, key)));
	for (int i = 0; i < 2; i++)
		unpin(&pin[i]);
	require(slots_in_use() == 0);
	require_kept(box, 0, TEN);
	/* Nor by other ways out: not the listener's, nor the taker's. */
	require(seg_cache_take(box->cache, 1, &(void *){ NULL }) == -EBUSY);
	require(!seg_cache_clear(box->cache));
	require(box_heard(box) == 3 * TEN);
	for (uint64_t i = 0; i < TEN; i++)
		require(!box_times(box, number(i)));
	assert_weights(box, 0, TEN * TEN);
	require(seg_cache_destroy(box->cache) == -EBUSY);
	require(fault_disarm() > 0);
	require(seg_cache_destroy(box->cache) == -EBUSY);
	return 0;
}

/* The first that is closed when there is none. */
static int child_that_removes(void *ctx)
{
	void (**remove)(struct seg_cache *c) = ctx;
	struct seg_pin pin[3];
	struct box *box = begin(pin, 3);

	fault_arm(FAULT_MEMBARRIER, 1, UINT64_MAX);
	(*remove)(box->cache);
	/* In the word it would be the one that stays for ever. */
	require(seg_pin_tag(&pin[0], 7) == -ENOMEM && cache_pin_slot(&pin[0]));
	for (int i = 0; i < 3; i++)
		unpin(&pin[i]);
	require(slots_in_use() == 0 && !box_times(box, number(0)));
	require(cache_stats(box->cache).misuses_total == 0);
	require(cache_stats(box->cache).pinned_weight >= TEN);
	return 0;
}

static void test_a_barrier_that_goes(void **state)
{
	void (*removes[])(struct seg_cache *c) = {
		remove_it, replace_it, clear_it,
	};

	(void)state;
	assert_int_equal(run_in_child(child_whose_barrier_goes, NULL), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(run_in_child(child_that_removes, &removes[i]),
				 0);
}

#define unit(test) cmocka_unit_test_teardown(test, end)

int main(void)
{
	/* Before all others: it is decided once for a process. */
	const struct CMUnitTest first[] = {
		cmocka_unit_test(test_without_a_barrier),
	};
	const struct CMUnitTest tests[] = {
		unit(test_a_barrier_that_goes),
		unit(test_others_are_evicted),
		unit(test_all_are_pinned),
		unit(test_open_ones_are_evicted),
		unit(test_shrunk_to_what_is_pinned),
		unit(test_a_smaller_maximum),
		unit(test_removed),
		unit(test_replaced),
		unit(test_cleared),
		unit(test_taken),
		unit(test_destroyed),
		unit(test_many_are_evicted),
		unit(test_many_are_cleared),
		unit(test_many_are_removed),
		unit(test_reclaimed_at_the_limit),
		unit(test_drained),
	};
	int failed = run_group(first);

	if (!sections_begin()) {
		print_message("no membarrier, so no pins in slots\n");
		return failed;
	}
	return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
