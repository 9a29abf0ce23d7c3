/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/region.h: (R1) a slice has one owner, (R2) a region retires only while
 * all its slices are unused and gives nothing afterwards (P4), (R3) owners
 * follow each other in order, (R4) one of many releases wins (P7).
 */
#include "testing.h"

#include "os.h"
#include "region.h"

enum { THREADS = 4, ROUNDS = 2000, RACES = 400, SHARED_SLICES = 8 };

static const uint32_t sizes[] = { 1, 2, 4, REGION_MAX_SLICES };
enum { SIZES = sizeof(sizes) / sizeof(*sizes) };

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
	assert_true(region_is_valid(r));
	return r;
}

static void end_region(struct region *r)
{
	assert_int_equal(os_unmap(r, whole_bytes(r->slices)), 0);
}

static uint32_t unused_of(const struct region *r)
{
	return word_unused(region_look(r));
}

static uint32_t take(struct region *r, uint32_t want, uint32_t *ret_slices)
{
	struct word_change change;

	return region_take(r, want, ret_slices, NULL, &change);
}

/* Takes one that must be there. */
static uint32_t take_one(struct region *r)
{
	uint32_t slice = UINT32_MAX;

	assert_int_equal(take(r, 1, &slice), 1);
	return slice;
}

static void give(struct region *r, uint32_t slice)
{
	assert_true(region_disown(r, slice));
	region_give(r, slice);
}

/* A zero-filled list is the natural order, and its slices are fresh. */
static void test_first_drain_is_in_natural_order(void **state)
{
	(void)state;
	for (int s = 0; s < SIZES; s++) {
		struct region *r = new_region(sizes[s], 0);

		for (uint32_t i = 0; i < sizes[s]; i++) {
			struct word_change c;
			bool fresh = false;
			uint32_t slice;

			assert_int_equal(unused_of(r), sizes[s] - i);
			assert_int_equal(region_take(r, 1, &slice, &fresh, &c),
					 1);
			assert_int_equal(slice, i);
			assert_true(fresh);
		}
		assert_int_equal(unused_of(r), 0);
		assert_true(region_is_valid(r));
		end_region(r);
	}
}

/* R1, over all widths of the word: LIFO, each slice once, no more than all. */
static void test_refill_is_taken_last_in_first_out(void **state)
{
	(void)state;
	for (int s = 0; s < SIZES; s++) {
		struct region *r = new_region(sizes[s], sizes[s]);
		uint32_t none;

		assert_int_equal(take(r, 1, &none), 0);
		for (uint32_t i = 0; i < sizes[s]; i++)
			give(r, i);
		assert_int_equal(unused_of(r), sizes[s]);
		assert_true(region_is_valid(r));
		for (uint32_t i = sizes[s]; i-- > 0;)
			assert_int_equal(take_one(r), i);
		assert_int_equal(take(r, 1, &none), 0);
		end_region(r);
	}
}

/* The links hold any order: a permutation goes in, and comes out reversed. */
static void test_any_order_of_release(void **state)
{
	const uint32_t n = REGION_MAX_SLICES;
	struct region *r = new_region(n, n);

	(void)state;
	for (uint32_t i = 0; i < n; i++)
		give(r, i * 5 % n);
	assert_true(region_is_valid(r));
	for (uint32_t i = n; i-- > 0;)
		assert_int_equal(take_one(r), i * 5 % n);
	end_region(r);
}

static void test_a_slice_is_fresh_once(void **state)
{
	struct region *r = new_region(2, 1);
	struct word_change c;
	uint32_t slice;
	bool fresh;

	(void)state;
	give(r, 0);
	assert_int_equal(region_take(r, 1, &slice, &fresh, &c), 1);
	assert_int_equal(slice, 0);
	assert_false(fresh);
	assert_int_equal(region_take(r, 1, &slice, &fresh, &c), 1);
	assert_int_equal(slice, 1);
	assert_true(fresh);
	end_region(r);
}

static void test_several_are_taken_in_one_step(void **state)
{
	struct region *r = new_region(8, 1);
	struct word_change c;
	uint32_t slices[8];

	(void)state;
	assert_int_equal(region_take(r, 5, slices, NULL, &c), 5);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(slices[i], i + 1);
	assert_int_equal(word_unused(c.old), 7);
	assert_int_equal(word_unused(c.new), 2);
	assert_int_equal((c.new & REGION_TAG_MASK) - (c.old & REGION_TAG_MASK),
			 REGION_TAG_ONE);
	assert_int_equal(take(r, 5, slices), 2);
	assert_int_equal(take(r, 5, slices), 0);
	assert_true(region_is_valid(r));
	end_region(r);
}

static void test_a_take_of_nothing_changes_nothing(void **state)
{
	struct region *r = new_region(2, 2);
	uint64_t word = region_look(r);
	uint32_t slice;

	(void)state;
	assert_int_equal(take(r, 1, &slice), 0);
	assert_int_equal(take(r, 0, &slice), 0);
	assert_int_equal(region_look(r), word);
	end_region(r);
}

/* R2 */
static void test_retires_only_when_all_unused(void **state)
{
	(void)state;
	for (int s = 0; s < SIZES; s++) {
		struct region *r = new_region(sizes[s], 1);
		uint32_t slice;

		assert_false(region_retire(r, region_look(r)));
		give(r, 0);
		assert_true(region_retire(r, region_look(r)));
		assert_true(word_retired(region_look(r)));
		assert_false(region_retire(r, region_look(r)));
		assert_int_equal(take(r, 1, &slice), 0);
		assert_int_equal(region_generation(r, 0), 2);
		end_region(r);
	}
}

/* R2: the same count and head as seen before do not do. */
static void test_a_word_seen_before_does_not_retire(void **state)
{
	struct region *r = new_region(4, 0);
	uint64_t seen = region_look(r);

	(void)state;
	give(r, take_one(r));
	assert_int_equal(word_head(region_look(r)), word_head(seen));
	assert_int_equal(unused_of(r), word_unused(seen));
	assert_false(region_retire(r, seen));
	assert_true(region_retire(r, region_look(r)));
	end_region(r);
}

/* R1: what a taker read before it stopped no longer exchanges. */
static void test_every_change_raises_the_tag(void **state)
{
	struct region *r = new_region(4, 0);
	uint64_t stale = region_look(r);
	uint32_t a = take_one(r), b = take_one(r);

	(void)state;
	give(r, b);
	give(r, a);
	assert_int_equal((region_look(r) - stale) / REGION_TAG_ONE, 4);
	assert_false(u64_cas_strong_acquire(&r->word, &stale,
					    word_next(stale, 1, 3)));
	assert_true(region_is_valid(r));
	end_region(r);
}

/* The tag wraps without touching what stands beside it. */
static void test_the_tag_wraps(void **state)
{
	struct region *r = new_region(REGION_MAX_SLICES, 0);
	uint64_t word = region_look(r) | REGION_TAG_MASK;

	(void)state;
	u64_store_relaxed(&r->word, word);
	assert_int_equal(take_one(r), 0);
	word = region_look(r);
	assert_int_equal(word & REGION_TAG_MASK, 0);
	assert_int_equal(word_head(word), 1);
	assert_int_equal(word_unused(word), REGION_MAX_SLICES - 1);
	assert_false(word_retired(word));
	give(r, 0);
	assert_int_equal(unused_of(r), REGION_MAX_SLICES);
	assert_true(region_is_valid(r));
	end_region(r);
}

/* P7: odd while handed out; each hand-out and each release is another. */
static void test_generations_count_hand_outs(void **state)
{
	struct region *r = new_region(1, 0);

	(void)state;
	for (uint64_t i = 0; i < 10; i++) {
		assert_int_equal(region_generation(r, 0), 2 * i);
		assert_false(region_disown(r, 0));
		take_one(r);
		assert_int_equal(region_generation(r, 0), 2 * i + 1);
		assert_true(generation_is_out(region_generation(r, 0)));
		give(r, 0);
	}
	end_region(r);
}

/* R4, P7: by the generation only the owner of that hand-out. */
static void test_disown_exactly(void **state)
{
	struct region *r = new_region(1, 1);

	(void)state;
	assert_false(region_disown_exactly(r, 0, 0));
	assert_false(region_disown_exactly(r, 0, 2));
	assert_false(region_disown_exactly(r, 0, 3));
	assert_int_equal(region_generation(r, 0), 1);
	assert_true(region_disown_exactly(r, 0, 1));
	assert_false(region_disown_exactly(r, 0, 1));
	assert_false(region_disown_exactly(r, 0, 2));
	assert_false(region_disown(r, 0));
	region_give(r, 0);
	take_one(r);
	assert_false(region_disown_exactly(r, 0, 1));
	assert_true(region_disown_exactly(r, 0, 3));
	end_region(r);
}

/* A take that meets a handed out slice ends the process (region.h, tag). */
static int take_what_is_out(void *arg)
{
	struct region *r = arg;
	uint32_t slice;

	close(STDERR_FILENO);
	u64_store_relaxed(&r->generations[0], 5);
	take(r, 1, &slice);
	return 0;
}

static void test_corruption_is_not_handed_out(void **state)
{
	struct region *r = new_region(2, 0);
	int status = run_in_child(take_what_is_out, r);

	(void)state;
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	end_region(r);
}

/* region_is_valid() sees each kind of damage, and its repair. */
static void test_valid_sees_a_wrong_link(void **state)
{
	struct region *r = new_region(4, 1);
	uint16_t good = u16_load_relaxed(&r->links[2]);

	(void)state;
	for (uint32_t next = 0; next < 3; next++) {
		u16_store_relaxed(&r->links[2], (uint16_t)(next - 3));
		assert_false(region_is_valid(r));
	}
	u16_store_relaxed(&r->links[2], good + 1);
	assert_false(region_is_valid(r));
	u16_store_relaxed(&r->links[2], good);
	assert_true(region_is_valid(r));
	end_region(r);
}

static void test_valid_sees_a_wrong_generation(void **state)
{
	struct region *r = new_region(4, 1);

	(void)state;
	for (uint32_t i = 0; i < 4; i++) {
		uint64_t good = region_generation(r, i);

		u64_store_relaxed(&r->generations[i], good + 1);
		assert_false(region_is_valid(r));
		u64_store_relaxed(&r->generations[i], good + 2);
		assert_true(region_is_valid(r));
	}
	end_region(r);
}

static void test_valid_sees_a_wrong_count_or_head(void **state)
{
	struct region *r = new_region(4, 1);
	uint64_t good = region_look(r);

	(void)state;
	for (uint32_t unused = 0; unused <= 5; unused++) {
		u64_store_relaxed(&r->word, word_next(good, 1, unused));
		assert_int_equal(region_is_valid(r), unused == 3);
	}
	for (uint32_t head = 0; head <= 4; head++) {
		u64_store_relaxed(&r->word, word_next(good, head, 3));
		assert_int_equal(region_is_valid(r), head == 1);
	}
	end_region(r);
}

/* ------------------------------------------------------- several threads */

struct shared {
	struct region *r;
	uint64_t payload[SHARED_SLICES];	/* plain: R1, R3 protect it */
	struct atomic_u32 winners;
	pthread_barrier_t barrier;
};

static struct shared shared;

/* Each slice's payload is what its owner wrote, until the owner gives it. */
static void *own_in_turns(void *arg)
{
	uint32_t slices[3];
	bool wrong = false;

	for (uint64_t i = 0; i < ROUNDS; i++) {
		uint32_t n = take(shared.r, 1 + i % 3, slices);
		uint64_t mark = (uint64_t)(uintptr_t)arg * ROUNDS + i;

		for (uint32_t k = 0; k < n; k++)
			shared.payload[slices[k]] = mark;
		sched_yield();
		for (uint32_t k = 0; k < n; k++) {
			wrong |= shared.payload[slices[k]] != mark;
			wrong |= !region_disown(shared.r, slices[k]);
			region_give(shared.r, slices[k]);
		}
	}
	return wrong ? arg : NULL;
}

static void test_a_slice_has_one_owner(void **state)
{
	char who[THREADS];
	struct threads t;

	(void)state;
	shared.r = new_region(SHARED_SLICES, 0);
	threads_start(&t, THREADS, own_in_turns, who, 1);
	assert_int_equal(threads_join(&t), 0);
	assert_int_equal(unused_of(shared.r), SHARED_SLICES);
	assert_true(region_is_valid(shared.r));
	end_region(shared.r);
}

/* R4: all release the same hand-out; one does, and gives it back. */
static void *race_to_disown(void *arg)
{
	for (int i = 0; i < RACES; i++) {
		pthread_barrier_wait(&shared.barrier);
		if (region_disown(shared.r, 0)) {
			u32_add_relaxed(&shared.winners, 1);
			region_give(shared.r, 0);
		}
		if (pthread_barrier_wait(&shared.barrier) ==
		    PTHREAD_BARRIER_SERIAL_THREAD)
			take(shared.r, 1, &(uint32_t){ 0 });
	}
	(void)arg;
	return NULL;
}

static void test_one_of_many_releases_wins(void **state)
{
	struct threads t;

	(void)state;
	shared.r = new_region(1, 1);
	u32_store_relaxed(&shared.winners, 0);
	pthread_barrier_init(&shared.barrier, NULL, THREADS);
	threads_start(&t, THREADS, race_to_disown, NULL, 0);
	assert_int_equal(threads_join(&t), 0);
	pthread_barrier_destroy(&shared.barrier);
	assert_int_equal(u32_load_relaxed(&shared.winners), RACES);
	assert_int_equal(region_generation(shared.r, 0), 2 * RACES + 1);
	assert_true(region_is_valid(shared.r));
	end_region(shared.r);
}

/* R2: takers and one who retires: the retired region is whole. */
static void *take_until_retired(void *arg)
{
	uint32_t slice;

	(void)arg;
	while (!word_retired(region_look(shared.r)))
		if (take(shared.r, 1, &slice)) {
			region_disown(shared.r, slice);
			region_give(shared.r, slice);
			sched_yield();
		}
	return NULL;
}

static void test_retires_among_takers(void **state)
{
	struct threads t;

	(void)state;
	for (int i = 0; i < RACES / 16; i++) {
		shared.r = new_region(2, 1);
		threads_start(&t, 2, take_until_retired, NULL, 0);
		assert_false(region_retire(shared.r, region_look(shared.r)));
		give(shared.r, 0);
		while (!region_retire(shared.r, region_look(shared.r)))
			sched_yield();
		assert_int_equal(threads_join(&t), 0);
		assert_int_equal(unused_of(shared.r), 2);
		assert_int_equal(region_generation(shared.r, 0) % 2, 0);
		assert_int_equal(region_generation(shared.r, 1) % 2, 0);
		end_region(shared.r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_first_drain_is_in_natural_order),
		cmocka_unit_test(test_refill_is_taken_last_in_first_out),
		cmocka_unit_test(test_any_order_of_release),
		cmocka_unit_test(test_a_slice_is_fresh_once),
		cmocka_unit_test(test_several_are_taken_in_one_step),
		cmocka_unit_test(test_a_take_of_nothing_changes_nothing),
		cmocka_unit_test(test_retires_only_when_all_unused),
		cmocka_unit_test(test_a_word_seen_before_does_not_retire),
		cmocka_unit_test(test_every_change_raises_the_tag),
		cmocka_unit_test(test_the_tag_wraps),
		cmocka_unit_test(test_generations_count_hand_outs),
		cmocka_unit_test(test_disown_exactly),
		cmocka_unit_test(test_corruption_is_not_handed_out),
		cmocka_unit_test(test_valid_sees_a_wrong_link),
		cmocka_unit_test(test_valid_sees_a_wrong_generation),
		cmocka_unit_test(test_valid_sees_a_wrong_count_or_head),
		cmocka_unit_test(test_a_slice_has_one_owner),
		cmocka_unit_test(test_one_of_many_releases_wins),
		cmocka_unit_test(test_retires_among_takers),
	};

	return run_group(tests);
}
