/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/bands.h: (H1) at rest each region with unused slices is in one set of
 * hints, and no other is in any; (H2) a wrong hint never gives a wrong answer;
 * the fullest region comes first, spares last, so that sparse ones drain (P3).
 */
#include "testing.h"

#include "bands.h"
#include "os.h"
#include "rcu.h"

enum {
	SLICES = 8,
	MANY = 2 * BANDS_GROUP_SLOTS + 700,	/* regions, in three groups */
	SLOTS = BANDS_GROUPS * BANDS_GROUP_SLOTS,
	THREADS = 4,
	SHARED_REGIONS = 6,
	ROUNDS = 1500,
	CLAIMS = 10000,
};

static struct bands *bands;
static char *memory;	/* of the regions */
static size_t stride;

/* Of a struct with its arrays behind it. */
static size_t whole_bytes(uint32_t slices)
{
	return sizeof(struct region) + region_arrays_bytes(slices);
}

static int new_bands(void **state)
{
	(void)state;
	stride = (whole_bytes(SLICES) + CACHE_LINE - 1) &
		 ~(size_t)(CACHE_LINE - 1);
	bands = os_map(sizeof(*bands), CACHE_LINE);
	memory = os_map(MANY * stride, CACHE_LINE);
	return bands && memory ? 0 : -1;
}

static int end_bands(void **state)
{
	(void)state;
	bands_clear(bands);
	return os_unmap(bands, sizeof(*bands)) |
	       os_unmap(memory, MANY * stride);
}

static struct region *region_at(uint32_t i)
{
	return (void *)(memory + i * stride);
}

/* The i-th region, with so many slices out of it. */
static struct region *publish(uint32_t i, uint32_t out)
{
	struct region *r = region_at(i);

	region_init(r, r + 1, SLICES, out);
	assert_true(bands_claim(bands, &r->slot));
	bands_publish(bands, r);
	return r;
}

static void retire(struct region *r)
{
	assert_true(region_retire(r, region_look(r)));
	bands_remove(bands, r);
}

/* What class_pool does after a take and a give. */
static bool take(struct region *r, uint32_t *ret_slice)
{
	struct word_change c;

	if (!region_take(r, 1, ret_slice, NULL, &c))
		return false;
	bands_changed(bands, r, c.old, c.new);
	return true;
}

static void give(struct region *r, uint32_t slice)
{
	struct word_change c;

	region_disown(r, slice);
	c = region_give(r, slice);
	bands_changed(bands, r, c.old, c.new);
}

static bool in_set(unsigned band, uint32_t slot)
{
	return bands_next(bands, band, slot) == slot;
}

/* The number of sets that a slot is in, and the last of them. */
static unsigned sets_of(uint32_t slot, unsigned *ret_band)
{
	unsigned count = 0;

	for (unsigned band = BAND_FULLEST; band <= BAND_SPARE; band++)
		if (in_set(band, slot)) {
			*ret_band = band;
			count++;
		}
	return count;
}

/* In the band of its word, or a sparser one; of a spare, see bands.h. */
static bool hint_is_right(uint32_t slot)
{
	struct region *r = bands_at(bands, slot);
	unsigned hint = BAND_NONE, band = BAND_NONE;
	unsigned sets = sets_of(slot, &hint);

	if (r)
		band = bands_of(r, region_look(r));
	if (bands_has_hint(bands, slot) != (sets > 0))
		return false;
	if (band == BAND_NONE)
		return sets == 0;
	return sets == 1 && (hint >= band || (band == BAND_SPARE &&
					      hint == BAND_SPARSEST));
}

/* H1 */
static void assert_at_rest(void)
{
	for (uint32_t slot = 0; slot < bands_slots(bands); slot++)
		assert_true(hint_is_right(slot));
}

static void assert_pick(const struct region *expected)
{
	struct region *r;

	rcu_enter();
	r = bands_pick(bands);
	rcu_leave();
	assert_ptr_equal(r, expected);
}

static unsigned band_with_cold(uint32_t unused, uint32_t cold, uint32_t slices)
{
	struct region r = { .slices = slices };

	u64_store_relaxed(&r.cold, word_next(0, 0, cold));
	return bands_of(&r, word_next(0, 0, unused));
}

static unsigned band(uint32_t unused, uint32_t slices)
{
	return band_with_cold(unused, 0, slices);
}

/* Quarters; nothing and everything are apart. */
static void test_bands_are_quarters(void **state)
{
	const uint32_t slices[] = { 4, 8, 100, REGION_MAX_SLICES };
	struct region r = { .slices = 8 };

	(void)state;
	assert_int_equal(bands_of(&r, word_next(0, 0, 8) | REGION_RETIRED),
			 BAND_NONE);
	for (int i = 0; i < 4; i++) {
		uint32_t n = slices[i], quarter = n / 4;

		assert_int_equal(band(0, n), BAND_NONE);
		assert_int_equal(band(n, n), BAND_SPARE);
		for (unsigned q = 0; q < 4; q++)
			assert_int_equal(band(q * quarter + 1, n),
					 quarter == 1 && q == 3 ? BAND_SPARE :
								  q);
		for (unsigned q = 1; q < 4; q++)
			assert_int_equal(band(q * quarter, n), q - 1);
	}
}

static void test_bands_of_small_regions(void **state)
{
	(void)state;
	assert_int_equal(band(1, 1), BAND_SPARE);
	assert_int_equal(band(1, 2), BAND_FULLEST);
	assert_int_equal(band(2, 2), BAND_SPARE);
	assert_int_equal(band(1, 3), BAND_FULLEST);
	assert_int_equal(band(2, 3), 1);
	assert_int_equal(band(3, 3), BAND_SPARE);
}

/* What is cold is free, but only what is unused can be taken. */
static void test_bands_count_cold_slices_as_free(void **state)
{
	(void)state;
	assert_int_equal(band_with_cold(0, 8, 8), BAND_NONE);
	assert_int_equal(band_with_cold(1, 0, 8), BAND_FULLEST);
	assert_int_equal(band_with_cold(1, 2, 8), 1);
	assert_int_equal(band_with_cold(1, 6, 8), BAND_SPARSEST);
	assert_int_equal(band_with_cold(1, 7, 8), BAND_SPARE);
}

static void test_empty_bands(void **state)
{
	(void)state;
	assert_pick(NULL);
	assert_int_equal(bands_slots(bands), 0);
	assert_int_equal(bands_bytes(bands), 0);
	assert_null(bands_at(bands, 0));
	assert_null(bands_at(bands, SLOTS - 1));
	assert_null(bands_at(bands, UINT32_MAX));
}

/* Whatever the order in which they came. */
static void test_fullest_comes_first_and_spares_last(void **state)
{
	const uint32_t out[] = { 0, 1, 4, 6, 3, 8 };
	const uint32_t order[] = { 3, 2, 4, 1, 0 };
	uint32_t slice;

	(void)state;
	for (uint32_t i = 0; i < 6; i++)
		publish(i, out[i]);
	assert_at_rest();
	for (int i = 0; i < 5; i++) {
		struct region *r = region_at(order[i]);

		assert_pick(r);
		while (take(r, &slice))
			;
		assert_at_rest();
	}
	assert_pick(NULL);
}

static void test_a_release_brings_the_hint_back(void **state)
{
	struct region *r = publish(0, SLICES);

	(void)state;
	assert_pick(NULL);
	for (uint32_t i = 0; i < SLICES; i++) {
		give(r, i);
		assert_pick(r);
		assert_at_rest();
	}
}

/* The last step to all-unused is the keeper's to make, by settling. */
static void test_a_spare_is_noticed_by_settling(void **state)
{
	struct region *r = publish(0, 1);

	(void)state;
	assert_true(in_set(BAND_SPARSEST, r->slot));
	give(r, 0);
	assert_true(in_set(BAND_SPARSEST, r->slot));
	bands_settle(bands, r->slot);
	assert_false(in_set(BAND_SPARSEST, r->slot));
	assert_true(in_set(BAND_SPARE, r->slot));
	assert_at_rest();
}

static void test_the_first_take_from_a_spare_moves_it(void **state)
{
	struct region *r = publish(0, 0);
	uint32_t slice;

	(void)state;
	assert_true(in_set(BAND_SPARE, r->slot));
	assert_true(take(r, &slice));
	assert_false(in_set(BAND_SPARE, r->slot));
	assert_at_rest();
	give(r, slice);
	assert_true(in_set(BAND_SPARSEST, r->slot));
}

/* H2: any wrong combination of leaf bits, and settling puts it right. */
static void test_settling_mends_broken_hints(void **state)
{
	struct band_group *group;

	(void)state;
	for (uint32_t i = 0; i <= SLICES; i++)
		publish(i, i);
	group = ptr_load_acquire(&bands->group[0]);
	for (uint64_t wrong = 0; wrong < 1 << (BAND_SPARE + 1); wrong++) {
		for (unsigned set = 0; set <= BAND_SPARE; set++)
			u64_store_relaxed(&group->set[set].leaf[0],
					  wrong >> set & 1 ?
						  (2u << SLICES) - 1 : 0);
		for (uint32_t slot = 0; slot <= SLICES; slot++)
			bands_settle(bands, slot);
		assert_at_rest();
		assert_pick(region_at(SLICES - 2));
	}
}

/* H2: inner bits that promise what is not there are passed over. */
static void test_inner_bits_may_be_wrong(void **state)
{
	struct region *r = publish(0, SLICES - 1);
	struct band_group *group = ptr_load_acquire(&bands->group[0]);

	(void)state;
	for (unsigned set = 0; set <= BAND_SPARE; set++) {
		u64_store_relaxed(&group->set[set].mid, UINT64_MAX);
		u64_store_relaxed(&bands->top[set][0], 1);
	}
	assert_pick(r);
	assert_int_equal(bands_next(bands, BAND_FULLEST, 0), 0);
	assert_int_equal(bands_next(bands, BAND_FULLEST, 1), UINT32_MAX);
	assert_int_equal(bands_next(bands, BAND_SPARE, 0), UINT32_MAX);
}

/* H2: a hint at a slot without a region is passed over. */
static void test_a_hint_without_a_region(void **state)
{
	struct region *gone = publish(0, 0), *r = publish(1, 0);
	struct band_group *group = ptr_load_acquire(&bands->group[0]);

	(void)state;
	retire(gone);
	u64_or_seq_cst(&group->set[BAND_SPARE].leaf[0], 1);
	assert_pick(r);
	bands_settle(bands, 0);
	assert_at_rest();
}

static uint32_t claim(void)
{
	uint32_t slot = UINT32_MAX;

	assert_true(bands_claim(bands, &slot));
	return slot;
}

static void test_slots_are_used_again(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < 10; i++)
		assert_int_equal(claim(), i);
	bands_vacate(bands, 7);
	bands_vacate(bands, 3);
	assert_int_equal(claim(), 3);
	assert_int_equal(claim(), 7);
	assert_int_equal(claim(), 10);
	assert_int_equal(bands_slots(bands), 11);
}

static void test_a_removed_region_leaves_its_slot(void **state)
{
	struct region *a = publish(0, 0), *b = publish(1, 0);

	(void)state;
	retire(a);
	assert_null(bands_at(bands, 0));
	assert_ptr_equal(bands_at(bands, 1), b);
	assert_pick(b);
	assert_at_rest();
	assert_int_equal(publish(2, 0)->slot, 0);
	assert_int_equal(bands_slots(bands), 2);
	assert_at_rest();
}

/* Slots far out, where the top level has several words. */
static void test_slots_beyond_one_top_word(void **state)
{
	const uint32_t far = BANDS_FANOUT * BANDS_GROUP_SLOTS + 77;

	(void)state;
	u32_store_relaxed(&bands->used, far);
	assert_int_equal(claim(), far);
	bands_vacate(bands, far);
	assert_int_equal(bands_next(bands, BAND_VACANT, 0), far);
	assert_int_equal(bands_next(bands, BAND_VACANT, far), far);
	assert_int_equal(bands_next(bands, BAND_VACANT, far + 1), UINT32_MAX);
	assert_int_equal(claim(), far);
	assert_int_equal(bands_bytes(bands), sizeof(struct band_group));
}

static void test_the_last_slot(void **state)
{
	uint32_t slot = 5;

	(void)state;
	u32_store_relaxed(&bands->used, SLOTS - 1);
	assert_int_equal(claim(), SLOTS - 1);
	assert_false(bands_claim(bands, &slot));
	assert_int_equal(slot, 5);
	assert_int_equal(bands_slots(bands), SLOTS);
	bands_vacate(bands, SLOTS - 1);
	assert_int_equal(bands_next(bands, BAND_VACANT, 0), SLOTS - 1);
	assert_int_equal(claim(), SLOTS - 1);
}

/* Three groups: the fullest of all is found wherever it is. */
static void test_thousands_of_regions(void **state)
{
	const uint32_t fuller[] = { MANY - 1, 1, BANDS_GROUP_SLOTS,
				    2 * BANDS_GROUP_SLOTS - 1, 64 };
	uint32_t slot = 0, slice;

	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		publish(i, 1);
	assert_int_equal(bands_bytes(bands), 3 * sizeof(struct band_group));
	assert_pick(region_at(0));
	for (int i = 0; i < 5; i++) {
		struct region *r = region_at(fuller[i]);

		while (bands_of(r, region_look(r)) != BAND_FULLEST)
			assert_true(take(r, &slice));
		bands_settle(bands, r->slot);
		assert_pick(r);
		while (take(r, &slice))
			;
	}
	for (uint32_t i = 0; i < MANY; i++)
		if (i != 1 && i != 64 && i != BANDS_GROUP_SLOTS &&
		    i != 2 * BANDS_GROUP_SLOTS - 1 && i != MANY - 1) {
			assert_int_equal(slot = bands_next(bands, BAND_SPARSEST,
							   slot), i);
			slot++;
		}
	assert_int_equal(bands_next(bands, BAND_SPARSEST, slot), UINT32_MAX);
	assert_at_rest();
}

static void test_thousands_of_regions_go(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		publish(i, 0);
	for (uint32_t i = 0; i < MANY; i++)
		retire(region_at(i));
	assert_pick(NULL);
	assert_at_rest();
	for (uint32_t i = 0; i < MANY; i++)
		assert_int_equal(claim(), i);
	assert_int_equal(bands_slots(bands), MANY);
}

/* ------------------------------------------------------- several threads */

/* As class_pool_take() does: a hint that proves wrong is settled. */
static struct region *take_somewhere(uint32_t *ret_slice)
{
	struct region *r;

	rcu_enter();
	while ((r = bands_pick(bands)) && !take(r, ret_slice))
		bands_settle(bands, r->slot);
	rcu_leave();
	return r;
}

static void *take_and_give(void *arg)
{
	uint64_t seed = *(uint64_t *)arg;
	struct region *held[4 * SLICES];
	uint32_t slices[4 * SLICES], n = 0;

	for (int i = 0; i < ROUNDS; i++) {
		if (n < 4 * SLICES && random_below(&seed, 2)) {
			held[n] = take_somewhere(&slices[n]);
			n += held[n] != NULL;
		} else if (n) {
			n--;
			give(held[n], slices[n]);
		}
	}
	while (n--)
		give(held[n], slices[n]);
	return NULL;
}

/* H1, after any interleaving; and nothing is left unused but unfindable. */
static void test_hints_are_right_after_a_fight(void **state)
{
	uint64_t seeds[THREADS];
	struct threads t;
	uint32_t slice;

	(void)state;
	for (uint32_t i = 0; i < SHARED_REGIONS; i++)
		publish(i, 0);
	for (uint64_t i = 0; i < THREADS; i++)
		seeds[i] = random_seed(i + 1);
	threads_start(&t, THREADS, take_and_give, seeds, sizeof(*seeds));
	assert_int_equal(threads_join(&t), 0);
	assert_at_rest();
	for (uint32_t i = 0; i < SHARED_REGIONS * SLICES; i++)
		assert_non_null(take_somewhere(&slice));
	assert_null(take_somewhere(&slice));
	assert_at_rest();
}

/* More than are out at a time: a slot that is just being vacated may not be
 * found yet, and then one that never was used is claimed. */
static struct atomic_u32 owners[BANDS_GROUP_SLOTS];

static void *claim_and_vacate(void *arg)
{
	uint32_t slots[4];
	bool wrong = false;

	for (int i = 0; i < CLAIMS; i++) {
		for (int k = 0; k < 4; k++) {
			wrong |= !bands_claim(bands, &slots[k]);
			wrong |= slots[k] >= BANDS_GROUP_SLOTS ||
				 u32_add_relaxed(&owners[slots[k]], 1) != 0;
			if (wrong)
				return arg;
		}
		for (int k = 0; k < 4; k++) {
			u32_store_relaxed(&owners[slots[k]], 0);
			bands_vacate(bands, slots[k]);
		}
	}
	return NULL;
}

static void test_a_slot_has_one_owner(void **state)
{
	struct threads t;
	int arg;

	(void)state;
	threads_start(&t, THREADS, claim_and_vacate, &arg, 0);
	assert_int_equal(threads_join(&t), 0);
}

#define bands_test(f) cmocka_unit_test_setup_teardown(f, new_bands, end_bands)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bands_are_quarters),
		cmocka_unit_test(test_bands_of_small_regions),
		cmocka_unit_test(test_bands_count_cold_slices_as_free),
		bands_test(test_empty_bands),
		bands_test(test_fullest_comes_first_and_spares_last),
		bands_test(test_a_release_brings_the_hint_back),
		bands_test(test_a_spare_is_noticed_by_settling),
		bands_test(test_the_first_take_from_a_spare_moves_it),
		bands_test(test_settling_mends_broken_hints),
		bands_test(test_inner_bits_may_be_wrong),
		bands_test(test_a_hint_without_a_region),
		bands_test(test_slots_are_used_again),
		bands_test(test_a_removed_region_leaves_its_slot),
		bands_test(test_slots_beyond_one_top_word),
		bands_test(test_the_last_slot),
		bands_test(test_thousands_of_regions),
		bands_test(test_thousands_of_regions_go),
		bands_test(test_hints_are_right_after_a_fight),
		bands_test(test_a_slot_has_one_owner),
	};

	return run_group(tests);
}
