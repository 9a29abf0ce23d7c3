/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A cache as its caller sees it: options, put and get, the maximum, figures
 * and walks.  Pins are in cache_pins.c, ways out in cache_ways_out.c, loads in
 * cache_load.c, reads without a pin in cache_peek.c, pages in cache_pages.c.
 */
#include "caches.h"

enum { MANY = 1000000, SOME = 500 };

static void nobody_listens(void *ctx, uint64_t key, void *value,
			   uint64_t weight, enum seg_cause cause)
{
	(void)ctx;
	(void)key;
	(void)value;
	(void)weight;
	(void)cause;
}

static struct seg_cache_options good_options(void)
{
	return (struct seg_cache_options){
		.size = sizeof(struct seg_cache_options),
		.max_weight = 1000,
		.listener = nobody_listens,
	};
}

static int try_create(const struct seg_cache_options *o)
{
	struct seg_cache *c = NULL;
	int ret = seg_cache_create(o, &c);

	assert_int_equal(ret == 0, c != NULL);
	if (c)
		assert_true(seg_cache_is_valid(c));
	assert_int_equal(seg_cache_destroy(c), 0);
	return ret;
}

static void test_options_in_and_out_of_range(void **state)
{
	struct seg_cache_options o = good_options();
	struct seg_cache *c = NULL;

	(void)state;
	assert_int_equal(seg_cache_create(NULL, &c), -EINVAL);
	assert_int_equal(seg_cache_create(&o, NULL), -EINVAL);
	assert_int_equal(try_create(&o), 0);
	o.max_weight = 0;
	assert_int_equal(try_create(&o), -EINVAL);
	o.max_weight = 1;
	assert_int_equal(try_create(&o), 0);
	o.max_weight = UINT64_C(1) << 56;
	assert_int_equal(try_create(&o), 0);
	o.max_weight++;
	assert_int_equal(try_create(&o), -EINVAL);
	o = good_options();
	o.listener = NULL;
	assert_int_equal(try_create(&o), -EINVAL);
	o = good_options();
	o.short_reads = 1;
	assert_int_equal(try_create(&o), 0);
	o.short_reads = 2;
	assert_int_equal(try_create(&o), -EINVAL);
}

static void test_levels_in_and_out_of_range(void **state)
{
	struct seg_cache_options o = good_options();

	(void)state;
	o.log_level = SEG_LOG_SEGMENT;
	assert_int_equal(try_create(&o), 0);
	o.log_level = (enum seg_log_level)(SEG_LOG_SEGMENT + 1);
	assert_int_equal(try_create(&o), -EINVAL);
	o.log_level = (enum seg_log_level)-1;
	assert_int_equal(try_create(&o), -EINVAL);
}

static void test_options_of_other_versions(void **state)
{
	struct {
		struct seg_cache_options known;
		uint64_t more;
	} o = { .known = good_options() };

	(void)state;
	o.known.size = sizeof(o);
	assert_int_equal(try_create(&o.known), 0);
	o.more = 1;
	assert_int_equal(try_create(&o.known), -EINVAL);
	o.known.size = sizeof(o.known) - 1;
	assert_int_equal(try_create(&o.known), -EINVAL);
	o.known.size = 0;
	assert_int_equal(try_create(&o.known), -EINVAL);
}

static void test_names_have_up_to_31_bytes(void **state)
{
	struct seg_cache_options o = good_options();

	(void)state;
	o.name = "";
	assert_int_equal(try_create(&o), 0);
	o.name = "1234567890123456789012345678901";
	assert_int_equal(strlen(o.name), 31);
	assert_int_equal(try_create(&o), 0);
	o.name = "12345678901234567890123456789012";
	assert_int_equal(try_create(&o), -EINVAL);
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

static int never_visit(void *ctx, const struct seg_cache_entry_info *info)
{
	(void)ctx;
	(void)info;
	abort();
}

static void test_what_each_function_says_to_null(void **state)
{
	struct seg_cache_stats s = { .size = sizeof(s) };
	struct seg_pin_report r = { .size = sizeof(r) };
	struct seg_pin pin = { .cache = NULL };
	struct box *box = box_begin(100);
	struct seg_cache *c = box->cache;
	void *value;

	(void)state;
	assert_int_equal(seg_cache_put(NULL, 1, number(1), 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_put(c, 1, NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_put(c, 1, number(1), 0, NULL), -EINVAL);
	assert_int_equal(seg_cache_replace(NULL, 1, number(1), 1, NULL),
			 -EINVAL);
	assert_int_equal(seg_cache_replace(c, 1, NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_replace(c, 1, number(1), 0, NULL), -EINVAL);
	assert_int_equal(seg_cache_get(NULL, 1, &pin), -EINVAL);
	assert_int_equal(seg_cache_get(c, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_get_or_load(NULL, 1, never_load, NULL, 0,
					       &pin), -EINVAL);
	assert_int_equal(seg_cache_get_or_load(c, 1, NULL, NULL, 0, &pin),
			 -EINVAL);
	assert_int_equal(seg_cache_get_or_load(c, 1, never_load, NULL, 0,
					       NULL), -EINVAL);
	assert_int_equal(seg_cache_take(NULL, 1, &value), -EINVAL);
	assert_int_equal(seg_cache_take(c, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_remove(NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_clear(NULL), -EINVAL);
	assert_int_equal(seg_cache_shrink(NULL, 1, NULL), -EINVAL);
	assert_int_equal(seg_cache_set_max_weight(NULL, 1), -EINVAL);
	assert_int_equal(seg_cache_each(NULL, never_visit, NULL), -EINVAL);
	assert_int_equal(seg_cache_each(c, NULL, NULL), -EINVAL);
	assert_int_equal(seg_cache_pins(NULL, &r), -EINVAL);
	assert_int_equal(seg_cache_pins(c, NULL), -EINVAL);
	assert_int_equal(seg_cache_stats(NULL, &s), -EINVAL);
	assert_int_equal(seg_cache_stats(c, NULL), -EINVAL);
	s.size = r.size = 1;
	assert_int_equal(seg_cache_stats(c, &s), -EINVAL);
	assert_int_equal(seg_cache_pins(c, &r), -EINVAL);
	assert_false(seg_cache_is_valid(NULL));
	assert_int_equal(seg_cache_destroy(NULL), 0);
	assert_null(seg_pin_value(NULL));
	assert_null(seg_pin_value(&pin));
	assert_int_equal(seg_unpin(NULL), -EINVAL);
	assert_int_equal(seg_unpin(&pin), 0);
	assert_int_equal(seg_pin_tag(NULL, 1), -EINVAL);
	assert_int_equal(seg_pin_tag(&pin, 1), -EINVAL);
	assert_int_equal(cache_stats(c).inserts_total, 0);
	box_end(box);
}

/* ---- put and get ---- */

static void test_put_get_unpin(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin;

	(void)state;
	assert_int_equal(seg_cache_get(box->cache, 5, &pin), -ENOENT);
	put(box->cache, 5, number(5), 40);
	pin = get(box->cache, 5);
	assert_ptr_equal(seg_pin_value(&pin), number(5));
	assert_int_equal(seg_unpin(&pin), 0);
	assert_null(seg_pin_value(&pin));
	assert_int_equal(seg_unpin(&pin), 0);
	assert_int_equal(cache_stats(box->cache).hits_total, 1);
	assert_int_equal(cache_stats(box->cache).misses_total, 1);
	assert_int_equal(cache_stats(box->cache).inserts_total, 1);
	assert_int_equal(cache_stats(box->cache).entries, 1);
	box_end(box);
}

static void test_a_pin_that_failed_stays_what_it_was(void **state)
{
	struct box *box = box_begin(100);
	struct seg_pin pin = { .version = 4711 };

	(void)state;
	assert_int_equal(seg_cache_get(box->cache, 5, &pin), -ENOENT);
	assert_int_equal(seg_cache_put(box->cache, 5, number(1), 101, &pin),
			 -E2BIG);
	assert_int_equal(pin.version, 4711);
	box_end(box);
}

static void test_any_key(void **state)
{
	const uint64_t keys[] = { 0, 1, UINT64_MAX, UINT64_MAX - 1,
				  UINT64_C(1) << 63, UINT32_MAX };
	struct box *box = box_begin(100);

	(void)state;
	for (int i = 0; i < 6; i++)
		put(box->cache, keys[i], number((uint64_t)i), 1);
	for (int i = 0; i < 6; i++) {
		struct seg_pin pin = get(box->cache, keys[i]);

		assert_ptr_equal(seg_pin_value(&pin), number((uint64_t)i));
		unpin(&pin);
		assert_int_equal(seg_cache_remove(box->cache, keys[i], NULL),
				 0);
		assert_int_equal(box->call[i].key, keys[i]);
	}
	box_end(box);
}

/* Heavier than the maximum: refused, and nothing had to go for it. */
static void test_what_is_too_heavy_is_refused(void **state)
{
	struct box *box = box_begin(100);

	(void)state;
	put(box->cache, 1, number(1), 100);
	assert_int_equal(seg_cache_put(box->cache, 2, number(2), 101, NULL),
			 -E2BIG);
	assert_int_equal(seg_cache_replace(box->cache, 1, number(2), 101,
					   NULL), -E2BIG);
	assert_int_equal(seg_cache_put(box->cache, 2, number(2), UINT64_MAX,
				       NULL), -E2BIG);
	assert_int_equal(box_heard(box), 0);
	assert_true(has(box->cache, 1));
	put(box->cache, 2, number(2), 100);
	assert_int_equal(box_heard(box), 1);
	box_end(box);
}

/* ---- the maximum ---- */

/* A cache without a limit of weight grew for a month. */
static void test_a_put_never_makes_it_too_heavy(void **state)
{
	uint64_t seed = random_seed(11);
	struct box *box = box_begin(1000);

	(void)state;
	for (uint64_t i = 0; i < 5000; i++) {
		uint64_t weight = 1 + random_below(&seed, 1000);

		put(box->cache, i, number(i), weight);
		assert_true(cache_stats(box->cache).weight <= 1000);
		assert_true(has(box->cache, i));
	}
	box_end(box);
}

/* Evicted 10 % of all there was, in each round, with room enough. */
static void test_nothing_goes_while_there_is_room(void **state)
{
	struct box *box = box_begin(SOME * 7);

	(void)state;
	for (uint64_t i = 0; i < SOME; i++)
		put(box->cache, i, number(i), 7);
	for (uint64_t i = 0; i < SOME; i++)
		assert_true(has(box->cache, i));
	assert_int_equal(box_heard(box), 0);
	put(box->cache, SOME, number(SOME), 7);
	assert_int_equal(box_heard(box), 1);
	assert_weights(box, SOME * 7, 0);
	box_end(box);
}

static void test_the_maximum_changes_at_run_time(void **state)
{
	struct box *box = box_begin(1000);
	struct seg_pin pin = put_pinned(box->cache, 999, number(999), 400);

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		put(box->cache, i, number(i), 10);
	assert_int_equal(seg_cache_set_max_weight(box->cache, 0), -ERANGE);
	assert_int_equal(seg_cache_set_max_weight(box->cache,
						  (UINT64_C(1) << 56) + 1),
			 -ERANGE);
	assert_int_equal(box_heard(box), 0);
	assert_int_equal(seg_cache_set_max_weight(box->cache, 300), 0);
	assert_weights(box, 300, 400);
	assert_int_equal(box_heard(box), 70);
	assert_int_equal(cache_stats(box->cache).shrinks_total, 70);
	/* Below what is pinned alone: its unpin sees to it. */
	unpin(&pin);
	box_check(box);
	assert_int_equal(box_times(box, number(999)), 1);
	assert_int_equal(seg_cache_set_max_weight(box->cache, 1), 0);
	assert_weights(box, 0, 0);
	assert_int_equal(seg_cache_set_max_weight(box->cache, 5000), 0);
	assert_int_equal(cache_stats(box->cache).max_weight, 5000);
	put(box->cache, 1, number(1), 5000);
	box_end(box);
}

static void test_shrink_leaves_the_maximum(void **state)
{
	struct box *box = box_begin(1000);
	uint64_t gone = 4711;

	(void)state;
	for (uint64_t i = 0; i < 100; i++)
		put(box->cache, i, number(i), 10);
	assert_int_equal(seg_cache_shrink(box->cache, 1000, &gone), 0);
	assert_int_equal(gone, 0);
	assert_int_equal(seg_cache_shrink(box->cache, 205, &gone), 0);
	assert_int_equal(gone, 800);
	assert_weights(box, 200, 0);
	assert_int_equal(cache_stats(box->cache).max_weight, 1000);
	assert_int_equal(cache_stats(box->cache).shrinks_total, 80);
	for (uint64_t i = 0; i < 80; i++)
		assert_int_equal(box->call[i].cause, SEG_CAUSE_SHRUNK);
	box_end(box);
}

static void test_the_greatest_weights(void **state)
{
	const uint64_t most = UINT64_C(1) << 56;
	struct box *box = box_begin(most);
	struct seg_pin pin;

	(void)state;
	put(box->cache, 1, number(1), most - 1);
	put(box->cache, 2, number(2), 1);
	assert_weights(box, most, 0);
	pin = get(box->cache, 1);
	assert_weights(box, 1, most - 1);
	put(box->cache, 3, number(3), most - 1);
	assert_weights(box, most, most - 1);
	unpin(&pin);
	assert_true(cache_stats(box->cache).weight <= most);
	put(box->cache, 4, number(4), most);
	assert_weights(box, most, 0);
	assert_int_equal(cache_stats(box->cache).entries, 1);
	box_end(box);
}

/* 2^62 in all; a destroy knows of whatever is pinned. */
static void test_the_greatest_weights_pinned(void **state)
{
	const uint64_t most = UINT64_C(1) << 56;
	struct box *box = box_begin(most);
	struct seg_pin pin[64], none;

	(void)state;
	for (uint64_t i = 0; i < 64; i++) {
		pin[i] = put_pinned(box->cache, i, number(i), most);
		assert_int_equal(seg_cache_destroy(box->cache), -EBUSY);
		assert_weights(box, 0, (i + 1) * most);
	}
	assert_int_equal(seg_cache_put(box->cache, 64, number(64), 1, NULL),
			 -E2BIG);
	assert_int_equal(seg_cache_put(box->cache, 64, number(64), most, &none),
			 -E2BIG);
	unpin(&pin[0]);
	assert_weights(box, most, 63 * most);
	assert_int_equal(seg_cache_shrink(box->cache, 0, NULL), 0);
	put(box->cache, 64, number(64), most);
	for (int i = 1; i < 64; i++)
		unpin(&pin[i]);
	box_end(box);
}

/* ---- figures and walks ---- */

struct seen {
	struct seg_cache_entry_info last;
	uint64_t count, weight, pins, stop_at;
};

static int see(void *ctx, const struct seg_cache_entry_info *info)
{
	struct seen *seen = ctx;

	require(info->size == sizeof(*info));
	seen->last = *info;
	seen->count++;
	seen->weight += info->weight;
	seen->pins += info->pins;
	return seen->count == seen->stop_at ? -ECANCELED : 0;
}

static uint64_t count_each(struct seg_cache *c, struct seen *seen)
{
	*seen = (struct seen){ .count = 0 };
	require(seg_cache_each(c, see, seen) == 0);
	return seen->count;
}

static void test_each_meets_every_entry(void **state)
{
	struct box *box = box_begin(100000);
	struct seen seen = { .count = 0 };
	struct seg_pin a, b;

	(void)state;
	assert_int_equal(seg_cache_each(box->cache, see, &seen), 0);
	assert_int_equal(seen.count, 0);
	put(box->cache, 77, number(7), 33);
	a = get(box->cache, 77);
	b = get(box->cache, 77);
	assert_int_equal(seg_cache_each(box->cache, see, &seen), 0);
	assert_int_equal(seen.last.key, 77);
	assert_ptr_equal(seen.last.value, number(7));
	assert_int_equal(seen.last.weight, 33);
	assert_int_equal(seen.last.pins, 2);
	assert_int_equal(seen.last.mark, 2);
	for (uint64_t i = 100; i < 1100; i++)
		put(box->cache, i, number(i), 5);
	/* The table may grow for a while yet. */
	wait_until(count_each(box->cache, &seen) == 1001);
	assert_int_equal(seen.weight, 5033);
	assert_int_equal(seen.pins, 2);
	seen = (struct seen){ .stop_at = 3 };
	assert_int_equal(seg_cache_each(box->cache, see, &seen), -ECANCELED);
	assert_int_equal(seen.count, 3);
	unpin(&a);
	unpin(&b);
	box_end(box);
}

static void test_a_mark_is_three_at_most(void **state)
{
	struct box *box = box_begin(100);
	struct seen seen = { .count = 0 };

	(void)state;
	put(box->cache, 1, number(1), 10);
	for (uint64_t hits = 0; hits < 6; hits++) {
		assert_int_equal(seg_cache_each(box->cache, see, &seen), 0);
		assert_int_equal(seen.last.mark, hits < 3 ? hits : 3);
		assert_true(has(box->cache, 1));
	}
	box_end(box);
}

static void test_figures_of_other_versions(void **state)
{
	struct {
		struct seg_cache_stats known;
		uint64_t more;
	} s = { .more = 4711 };
	struct box *box = box_begin(100);

	(void)state;
	put(box->cache, 1, number(1), 10);
	s.known.size = sizeof(s);
	assert_int_equal(seg_cache_stats(box->cache, &s.known), 0);
	assert_int_equal(s.known.size, sizeof(s));
	assert_int_equal(s.known.weight, 10);
	assert_int_equal(s.more, 0);
	s.known.entries = 4711;
	s.known.size = offsetof(struct seg_cache_stats, entries);
	assert_int_equal(seg_cache_stats(box->cache, &s.known), 0);
	assert_int_equal(s.known.entries, 4711);
	box_end(box);
}

/* A cache shrinks to an entry, and grows to a million and back. */
static void test_a_million_entries_and_back(void **state)
{
	struct seg_cache_options o = good_options();
	struct seg_cache_stats s;
	struct seg_cache *c;
#if defined(SEG_TSAN) || defined(SEG_ASAN)
	const uint64_t many = MANY / 20;
#else
	const uint64_t many = MANY;
#endif

	(void)state;
	o.max_weight = MANY;
	assert_int_equal(seg_cache_create(&o, &c), 0);
	for (uint64_t i = 0; i < many; i++)
		put(c, i, number(i), 1);
	assert_true(seg_cache_is_valid(c));
	s = cache_stats(c);
	assert_int_equal(s.entries, many);
	assert_int_equal(s.evictions_total, 0);
	assert_true(s.metadata_bytes < 260 * many);
	for (uint64_t i = 0; i < many; i += 97)
		assert_true(has(c, i));
	assert_int_equal(seg_cache_shrink(c, 1, NULL), 0);
	assert_int_equal(cache_stats(c).entries, 1);
	assert_true(seg_cache_is_valid(c));
	for (uint64_t i = many; i < many + many / 4; i++)
		put(c, i, number(i), 1);
	assert_int_equal(cache_stats(c).entries, 1 + many / 4);
	assert_true(seg_cache_is_valid(c));
	/* Recycled: no more memory than the million took. */
	assert_true(cache_stats(c).metadata_bytes <= s.metadata_bytes * 5 / 4);
	assert_int_equal(seg_cache_clear(c), 0);
	assert_true(seg_cache_is_valid(c));
	assert_int_equal(cache_stats(c).weight, 0);
	assert_int_equal(seg_cache_destroy(c), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options_in_and_out_of_range),
		cmocka_unit_test(test_levels_in_and_out_of_range),
		cmocka_unit_test(test_options_of_other_versions),
		cmocka_unit_test(test_names_have_up_to_31_bytes),
		cmocka_unit_test(test_what_each_function_says_to_null),
		cmocka_unit_test(test_put_get_unpin),
		cmocka_unit_test(test_a_pin_that_failed_stays_what_it_was),
		cmocka_unit_test(test_any_key),
		cmocka_unit_test(test_what_is_too_heavy_is_refused),
		cmocka_unit_test(test_a_put_never_makes_it_too_heavy),
		cmocka_unit_test(test_nothing_goes_while_there_is_room),
		cmocka_unit_test(test_the_maximum_changes_at_run_time),
		cmocka_unit_test(test_shrink_leaves_the_maximum),
		cmocka_unit_test(test_the_greatest_weights),
		cmocka_unit_test(test_the_greatest_weights_pinned),
		cmocka_unit_test(test_each_meets_every_entry),
		cmocka_unit_test(test_a_mark_is_three_at_most),
		cmocka_unit_test(test_figures_of_other_versions),
		cmocka_unit_test(test_a_million_entries_and_back),
	};

	return run_group(tests);
}
