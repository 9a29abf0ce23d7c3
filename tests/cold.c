/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/cold.h: (C1) a slice is in one place, (C3) a region with cold slices
 * retires only while each of its slices is unused or cold, and the order in
 * which slices go and come.  What the class pool makes of it: decommit.c.
 */
#include "testing.h"

#include "cold.h"
#include "os.h"

enum { SLICES = 8, SIZES = 4, THREADS = 4, ROUNDS = 3000 };

static const uint32_t sizes[SIZES] = { 1, 2, 100, REGION_MAX_SLICES };

/* Of a struct with its arrays behind it. */
static size_t whole_bytes(uint32_t slices)
{
	return sizeof(struct region) + region_arrays_bytes(slices);
}

static struct region *new_region(uint32_t slices, uint32_t taken)
{
	struct region *r = os_map(whole_bytes(slices), CACHE_LINE);

	assert_non_null(r);
	region_init(r, r + 1, slices, taken);
	return r;
}

static void end_region(struct region *r)
{
	assert_true(region_is_valid(r));
	assert_int_equal(os_unmap(r, whole_bytes(r->slices)), 0);
}

static uint32_t unused_of(const struct region *r)
{
	return word_unused(region_look(r));
}

static uint32_t take_one(struct region *r)
{
	struct word_change change;
	uint32_t slice;

	return region_take(r, 1, &slice, NULL, &change) ? slice : UINT32_MAX;
}

static void give(struct region *r, uint32_t slice)
{
	assert_true(region_disown(r, slice));
	region_give(r, slice);
}

static uint32_t count_of(const struct slice_set *set)
{
	uint32_t n = 0;

	for (uint32_t i = 0; (i = slice_set_next(set, i)) != REGION_MAX_SLICES;
	     i++)
		n++;
	return n;
}

static void make_cold(struct region *r, uint32_t want)
{
	struct slice_set set;
	uint32_t n = cold_withdraw(r, want, &set);

	assert_int_equal(n, want);
	assert_int_equal(count_of(&set), n);
	cold_push(r, &set, n);
}

static void test_sets(void **state)
{
	struct slice_set set = { .bits = { 0 } };
	const uint32_t members[] = { 0, 1, 63, 64, 200, REGION_MAX_SLICES - 1 };
	uint32_t at = 0;

	(void)state;
	assert_int_equal(slice_set_next(&set, 0), REGION_MAX_SLICES);
	for (int i = 0; i < 6; i++)
		slice_set_add(&set, members[i]);
	for (int i = 0; i < 6; i++, at++) {
		at = slice_set_next(&set, at);
		assert_int_equal(at, members[i]);
		assert_true(slice_set_has(&set, at));
	}
	assert_int_equal(slice_set_next(&set, at), REGION_MAX_SLICES);
	set.bits[1] = 0;	/* without 64 */
	assert_int_equal(slice_set_next(&set, 64), 200);
}

/* What was unused for longest goes first, so what never was anybody's. */
static void test_the_end_of_the_list_is_withdrawn(void **state)
{
	struct region *r = new_region(SLICES, 3);
	struct slice_set set;

	(void)state;
	give(r, 1);
	give(r, 0);
	assert_int_equal(cold_withdraw(r, 6, &set), 6);
	for (uint32_t i = 1; i < SLICES; i++)
		assert_int_equal(slice_set_has(&set, i), i != 2);
	cold_push(r, &set, 6);
	assert_int_equal(unused_of(r), 1);
	assert_int_equal(take_one(r), 0);
	assert_int_equal(take_one(r), UINT32_MAX);
	end_region(r);
}

static void test_nothing_to_withdraw(void **state)
{
	struct region *r = new_region(2, 2);
	struct slice_set set;

	(void)state;
	assert_int_equal(cold_withdraw(r, 2, &set), 0);
	give(r, 0);
	assert_int_equal(cold_withdraw(r, 0, &set), 0);
	give(r, 1);
	assert_true(region_retire(r, region_look(r)));
	assert_int_equal(cold_withdraw(r, 2, &set), 0);
	end_region(r);
}

/* All sizes, all out and in again, each slice once. */
static void test_out_and_in_again(void **state)
{
	struct slice_set seen = { .bits = { 0 } };
	uint32_t slice;

	(void)state;
	for (int s = 0; s < SIZES; s++, seen = (struct slice_set){ { 0 } }) {
		struct region *r = new_region(sizes[s], 0);

		make_cold(r, sizes[s]);
		assert_int_equal(unused_of(r), 0);
		assert_int_equal(region_cold(r), sizes[s]);
		assert_true(region_is_valid(r));
		for (uint32_t i = 0; i < sizes[s]; i++) {
			assert_true(cold_pop(r, &slice));
			assert_false(slice_set_has(&seen, slice));
			slice_set_add(&seen, slice);
			assert_true(region_generation(r, slice) == 1);
		}
		assert_false(cold_pop(r, &slice));
		assert_false(cold_can_pop(r));
		assert_true(region_is_valid(r));
		end_region(r);
	}
}

/* Pushed before what is there; of one push, the first ones first. */
static void test_pushes_are_popped_last_first(void **state)
{
	struct region *r = new_region(SLICES, 2);
	uint32_t slice;

	(void)state;
	make_cold(r, 3);
	give(r, 1);
	make_cold(r, 1);
	make_cold(r, 1);
	make_cold(r, 2);
	for (uint32_t i = 0; i < 7; i++) {
		const uint32_t expected[] = { 1, 2, 3, 4, 5, 6, 7 };

		assert_true(cold_pop(r, &slice));
		assert_int_equal(slice, expected[i]);
	}
	end_region(r);
}

static void test_a_region_is_born_with_cold_slices(void **state)
{
	struct region *r = new_region(SLICES, 1);
	uint32_t slice;

	(void)state;
	cold_init(r, 3);
	assert_int_equal(unused_of(r), 2);
	assert_int_equal(region_cold(r), 5);
	assert_true(region_is_valid(r));
	assert_int_equal(take_one(r), 1);
	assert_int_equal(take_one(r), 2);
	assert_int_equal(take_one(r), UINT32_MAX);
	for (uint32_t i = 3; i < SLICES; i++) {
		assert_true(cold_pop(r, &slice));
		assert_int_equal(slice, i);
	}
	end_region(r);
}

/* P7: nobody can release what is in hand or cold. */
static void test_what_is_in_hand_is_nobodys(void **state)
{
	struct region *r = new_region(2, 1);
	struct slice_set set;

	(void)state;
	give(r, 0);
	assert_int_equal(cold_withdraw(r, 2, &set), 2);
	assert_false(region_disown(r, 0));
	assert_false(region_disown_exactly(r, 0, 2));
	cold_push(r, &set, 2);
	assert_false(region_disown(r, 0));
	assert_false(region_disown(r, 1));
	end_region(r);
}

/* C3 */
static void test_retires_with_cold_slices(void **state)
{
	struct region *r = new_region(SLICES, 1);
	uint32_t slice;

	(void)state;
	make_cold(r, 5);
	assert_false(region_retire(r, region_look(r)));
	assert_true(cold_can_pop(r));
	give(r, 0);
	assert_true(region_is_idle(r, region_look(r)));
	assert_true(region_retire(r, region_look(r)));
	assert_true(word_retired(region_look(r)));
	assert_int_equal(region_cold(r), 5);
	assert_false(cold_pop(r, &slice));
	assert_int_equal(take_one(r), UINT32_MAX);
	assert_false(region_retire(r, region_look(r)));
	end_region(r);
}

static void test_retires_when_all_is_cold(void **state)
{
	struct region *r = new_region(SLICES, 0);

	(void)state;
	make_cold(r, SLICES);
	assert_true(region_retire(r, region_look(r)));
	end_region(r);
}

/* Neither what is out by the cold list, nor what is in hand. */
static void test_does_not_retire_what_is_out(void **state)
{
	struct region *r = new_region(SLICES, 0);
	struct slice_set set;
	uint32_t slice;

	(void)state;
	make_cold(r, 5);
	assert_true(cold_pop(r, &slice));
	assert_false(region_retire(r, region_look(r)));
	give(r, slice);
	assert_int_equal(cold_withdraw(r, 1, &set), 1);
	assert_false(region_retire(r, region_look(r)));
	cold_push(r, &set, 1);
	assert_true(region_retire(r, region_look(r)));
	end_region(r);
}

/* A word that was seen before does not do, and then the list is open again. */
static void test_a_failed_retire_opens_again(void **state)
{
	struct region *r = new_region(4, 0);
	uint64_t seen;
	uint32_t slice;

	(void)state;
	make_cold(r, 2);
	seen = region_look(r);
	give(r, take_one(r));
	assert_false(region_retire(r, seen));
	assert_true(region_is_valid(r));
	assert_true(cold_pop(r, &slice));
	end_region(r);
}

static void test_closing(void **state)
{
	struct region *r = new_region(4, 0);
	struct slice_set set;
	uint32_t slice;

	(void)state;
	make_cold(r, 2);
	assert_false(cold_close(r, 1));
	assert_false(cold_close(r, 3));
	assert_true(cold_close(r, 2));
	assert_false(cold_close(r, 2));
	assert_false(cold_pop(r, &slice));
	assert_false(cold_can_pop(r));
	assert_int_equal(cold_withdraw(r, 1, &set), 1);
	cold_push(r, &set, 1);
	assert_false(cold_pop(r, &slice));
	assert_int_equal(region_cold(r), 3);
	cold_reopen(r);
	assert_true(cold_pop(r, &slice));
	assert_true(slice_set_has(&set, slice));
	end_region(r);
}

static void test_valid_sees_damage(void **state)
{
	struct region *r = new_region(4, 1);
	uint64_t cold;

	(void)state;
	make_cold(r, 2);
	cold = u64_load_relaxed(&r->cold);
	for (uint32_t count = 0; count < 5; count++) {
		u64_store_relaxed(&r->cold,
				  word_next(cold, word_head(cold), count));
		assert_int_equal(region_is_valid(r), count == 2);
	}
	for (uint32_t head = 0; head < 5; head++) {
		u64_store_relaxed(&r->cold, word_next(cold, head, 2));
		assert_int_equal(region_is_valid(r), head == 2);
	}
	u64_store_relaxed(&r->cold, cold | COLD_CLOSED);
	assert_false(region_is_valid(r));
	u64_store_relaxed(&r->cold, cold);
	end_region(r);
}

/* ------------------------------------------------------- several threads */

static struct {
	struct region *r;
	uint64_t payload[SLICES];	/* plain: C1 protects it */
	struct atomic_u32 working;
} shared;

static bool own(uint32_t slice, uint64_t mark)
{
	bool right;

	shared.payload[slice] = mark;
	sched_yield();
	right = shared.payload[slice] == mark;
	return region_disown(shared.r, slice) && right;
}

/* In turns an owner by either list, and one that moves slices between them. */
static void *take_both_ways(void *arg)
{
	bool wrong = false;
	uint32_t slice;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint64_t mark = (uint64_t)(uintptr_t)arg * ROUNDS + i;
		struct slice_set set;
		uint32_t n = cold_withdraw(shared.r, 1 + i % 3, &set);

		if (n) {
			for (uint32_t k = 0; k < SLICES; k++)
				if (slice_set_has(&set, k))
					shared.payload[k] = 0;
			cold_push(shared.r, &set, n);
		}
		if (cold_pop(shared.r, &slice)) {
			wrong |= !own(slice, mark);
			region_give(shared.r, slice);
		}
		slice = take_one(shared.r);
		if (slice != UINT32_MAX) {
			wrong |= !own(slice, mark);
			region_give(shared.r, slice);
		}
	}
	u32_sub_seq_cst(&shared.working, 1);
	return wrong ? arg : NULL;
}

/* Closes whatever it may; it must never find all at home while one is out. */
static void test_a_slice_is_in_one_place(void **state)
{
	char who[THREADS];
	struct threads t;

	(void)state;
	shared.r = new_region(SLICES, 1);
	u32_store_relaxed(&shared.working, THREADS);
	threads_start(&t, THREADS, take_both_ways, who, 1);
	while (u32_load_acquire(&shared.working))
		assert_false(region_retire(shared.r, region_look(shared.r)));
	assert_int_equal(threads_join(&t), 0);
	assert_true(region_is_valid(shared.r));
	assert_int_equal(unused_of(shared.r) + region_cold(shared.r),
			 SLICES - 1);
	give(shared.r, 0);
	assert_true(region_retire(shared.r, region_look(shared.r)));
	end_region(shared.r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sets),
		cmocka_unit_test(test_the_end_of_the_list_is_withdrawn),
		cmocka_unit_test(test_nothing_to_withdraw),
		cmocka_unit_test(test_out_and_in_again),
		cmocka_unit_test(test_pushes_are_popped_last_first),
		cmocka_unit_test(test_a_region_is_born_with_cold_slices),
		cmocka_unit_test(test_what_is_in_hand_is_nobodys),
		cmocka_unit_test(test_retires_with_cold_slices),
		cmocka_unit_test(test_retires_when_all_is_cold),
		cmocka_unit_test(test_does_not_retire_what_is_out),
		cmocka_unit_test(test_a_failed_retire_opens_again),
		cmocka_unit_test(test_closing),
		cmocka_unit_test(test_valid_sees_damage),
		cmocka_unit_test(test_a_slice_is_in_one_place),
	};

	return run_group(tests);
}
