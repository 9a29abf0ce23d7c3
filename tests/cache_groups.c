/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cache_entry.h: an entry, its record and its number by where they lie, and
 * a weight that stands in the entry, or only in the record.
 */
#include "groups.h"

#include "cache_index.h"
#include "cache_slots.h"

enum { ALL = 3 * CACHE_GROUP_ENTRIES / 2 };

static int new_groups(void **state)
{
	(void)state;
	groups_map();
	return 0;
}

static int end_groups(void **state)
{
	(void)state;
	groups_unmap();
	return 0;
}

/* ---- where they lie ---- */

static void test_half_a_line_and_a_line(void **state)
{
	(void)state;
	assert_int_equal(sizeof(struct cache_entry), CACHE_LINE / 2);
	assert_int_equal(sizeof(struct cache_record), CACHE_LINE);
	assert_int_equal(offsetof(struct cache_group, record) % CACHE_LINE, 0);
	/* What is lost of a group is less than two more would take. */
	assert_in_range(sizeof(struct cache_group),
			CACHE_GROUP_BYTES - 3 * CACHE_LINE -
				2 * sizeof(struct cache_record),
			CACHE_GROUP_BYTES);
}

static void check_pair(struct cache_group *g, uint32_t at)
{
	struct cache_entry *e = &g->entry[at];
	struct cache_record *r = &g->record[at];

	assert_ptr_equal(cache_group_of(e), g);
	assert_ptr_equal(cache_group_of(r), g);
	assert_ptr_equal((char *)cache_group_of((char *)(r + 1) - 1), g);
	assert_ptr_equal(entry_record(e), r);
	assert_ptr_equal(record_entry(r), e);
	assert_int_equal(entry_number(e), g->first + at);
}

static void test_pairs_of_each_group(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < GROUPS; i++)
		for (uint32_t at = 0; at < CACHE_GROUP_ENTRIES; at++)
			check_pair(groups[i], at);
}

static void test_numbers_lead_back(void **state)
{
	struct cache_index ix = { .groups = groups };

	(void)state;
	assert_null(index_entry(&ix, 0));
	for (uint32_t i = 0; i < GROUPS; i++)
		for (uint32_t at = i ? 0 : 1; at < CACHE_GROUP_ENTRIES; at++) {
			struct cache_entry *e = &groups[i]->entry[at];

			assert_int_not_equal(entry_number(e), 0);
			assert_ptr_equal(index_entry(&ix, entry_number(e)), e);
		}
}

/* Those that a cache has: each once, none of number 0. */
static void test_numbers_of_what_is_made(void **state)
{
	struct cache_slots slots = { .made = { 0 } };
	struct cache_index ix = { .entries = 0 };

	(void)state;
	assert_true(slots_init(&slots));
	ix.groups = slots.groups;
	for (uint32_t n = 0; n < ALL; n++) {
		struct cache_entry *e = slots_make(&slots);

		assert_non_null(e);
		assert_int_not_equal(entry_number(e), 0);
		assert_ptr_equal(index_entry(&ix, entry_number(e)), e);
		check_pair(cache_group_of(e), (uint32_t)
			   (e - cache_group_of(e)->entry));
		assert_int_equal(entry_key(e), 0);
		/* relaxed: one thread */
		u64_store_relaxed(&e->key, n + 1);
	}
	assert_non_null(slots.groups[1]);
	assert_null(slots.groups[2]);
	assert_int_equal(entry_key(&slots.groups[0]->entry[0]), 0);
	assert_true(slots_clear(&slots));
}

/* ---- weights ---- */

static bool is_packed(uint64_t weight)
{
	uint16_t packed = weight_pack(weight);

	assert_true(!packed || weight_unpack(packed) == weight);
	return packed != 0;
}

/* As entry_weigh() leaves them, after another weight. */
static void check_weight(uint64_t weight)
{
	struct cache_entry *e = nth_entry(3);

	for (int before = 0; before < 2; before++) {
		entry_weigh(e, before ? 4096 : UINT64_MAX);
		entry_weigh(e, weight);
		assert_int_equal(entry_weight(e), weight);
		assert_int_equal(record_weight(entry_record(e)), weight);
	}
}

static void test_few_digits_are_packed(void **state)
{
	(void)state;
	for (uint64_t weight = 1; weight < WEIGHT_DIGITS; weight++) {
		assert_true(is_packed(weight));
		assert_true(is_packed(weight << 12));
		check_weight(weight);
		check_weight(weight << 12);
	}
	for (int shift = 0; shift < 1 << WEIGHT_SHIFT_BITS; shift++) {
		assert_true(is_packed(UINT64_C(1) << shift));
		assert_true(is_packed(UINT64_C(2047) << shift));
		check_weight(UINT64_C(1) << shift);
	}
}

static void test_any_weight_is_exact(void **state)
{
	static const uint64_t odd[] = {
		0, 2047, 2049, 4095, 4097, 123457, UINT32_MAX, UINT64_MAX,
		UINT64_C(1) << 56, (UINT64_C(1) << 56) + 1, UINT64_MAX - 1,
		UINT64_C(2047) << 31, UINT64_C(2047) << 32, UINT64_C(2049) << 31
	};
	uint64_t seed = random_seed(5);

	(void)state;
	for (uint64_t weight = 1; weight <= 5000; weight++)
		check_weight(weight);
	for (int shift = 0; shift < 64; shift++)
		for (uint64_t w = 0; w < 4; w++)
			check_weight((UINT64_C(1) << shift) + w);
	for (size_t i = 0; i < sizeof(odd) / sizeof(*odd); i++) {
		is_packed(odd[i]);
		check_weight(odd[i]);
	}
	for (int i = 0; i < 10000; i++)
		check_weight(random_next(&seed) >> random_below(&seed, 64));
}

/* 0 says that the record is to be read. */
static void test_too_many_digits_are_not_packed(void **state)
{
	(void)state;
	assert_int_equal(weight_pack(0), 0);
	assert_int_equal(weight_pack(2049), 0);
	assert_int_equal(weight_pack((UINT64_C(1) << 56) + 1), 0);
	assert_int_equal(weight_pack(UINT64_C(1) << 56), 0);
	assert_int_equal(weight_pack(UINT64_C(1) << 32), 0);
	assert_int_equal(weight_pack(UINT64_MAX), 0);
	assert_int_not_equal(weight_pack(2048), 0);
	assert_int_not_equal(weight_pack(UINT64_C(1) << 31), 0);
}

/* What is packed is believed: a hit does not read the record. */
static void test_a_packed_weight_needs_no_record(void **state)
{
	struct cache_entry *e = nth_entry(3);

	(void)state;
	entry_weigh(e, 8192);
	/* relaxed, both: one thread */
	u64_store_relaxed(&entry_record(e)->weight, 5);
	assert_int_equal(entry_weight(e), 8192);
	entry_weigh(e, 8193);
	u64_store_relaxed(&entry_record(e)->weight, 5);
	assert_int_equal(entry_weight(e), 5);
}

static void test_what_departs_had_any_weight(void **state)
{
	struct cache_entry *e = nth_entry(CACHE_GROUP_ENTRIES + 1);

	(void)state;
	for (uint64_t weight = 4095; weight <= 4098; weight++) {
		entry_fill(e, 1, e, weight);
		assert_int_equal(entry_departs(e, 2).weight, weight);
	}
}

#define groups_test(f) \
	cmocka_unit_test_setup_teardown(f, new_groups, end_groups)

int main(void)
{
	const struct CMUnitTest tests[] = {
		groups_test(test_half_a_line_and_a_line),
		groups_test(test_pairs_of_each_group),
		groups_test(test_numbers_lead_back),
		groups_test(test_numbers_of_what_is_made),
		groups_test(test_few_digits_are_packed),
		groups_test(test_any_weight_is_exact),
		groups_test(test_too_many_digits_are_not_packed),
		groups_test(test_a_packed_weight_needs_no_record),
		groups_test(test_what_departs_had_any_weight),
	};

	return run_group(tests);
}
