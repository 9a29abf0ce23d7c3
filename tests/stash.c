/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/stash.h and lib/gather.h: what a thread keeps at hand, how much that may
 * be, who takes it away, and what becomes of it when threads and pools end.
 */
#include <sys/mman.h>

#include "stashes.h"

/* ------------------------------------------------------- takes and parks */

static void test_the_last_one_comes_first(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint32_t count;

	(void)state;
	fill(pool, 2, 5);
	count = own_count(pool, 2);
	assert_true(count > 3);
	assert_int_equal(figures(pool, 2).cached, count);
	for (int i = 0; i < 3; i++)
		assert_int_equal(seg_release(pool, held[i]), 0);
	assert_int_equal(own_count(pool, 2), count + 3);
	assert_int_equal(figures(pool, 2).cached, count + 3);
	assert_int_equal(figures(pool, SEG_ALL).cached, count + 3);
	assert_figures(pool, 2);
	for (int i = 3; i > 0; i--)
		assert_ptr_equal(seg_alloc(pool, slice_of(2)), held[i - 1]);
	assert_int_equal(own_count(pool, 2), count);
	empty(pool, 5);
	end_both(pool, b);
}

static void test_a_handle_is_stale_in_a_stash(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct seg_handle old, now;
	void *found;

	(void)state;
	use_once(pool);
	held[0] = seg_alloc(pool, 1);
	assert_int_equal(seg_handle_of(pool, held[0], &old), 0);
	assert_int_equal(seg_release_handle(pool, &old), 0);
	assert_int_equal(seg_resolve(pool, &old, &found), -ESTALE);
	assert_int_equal(seg_size(pool, held[0]), 0);
	assert_int_equal(seg_release(pool, held[0]), -ESTALE);
	assert_ptr_equal(seg_alloc(pool, 1), held[0]);
	assert_int_equal(seg_handle_of(pool, held[0], &now), 0);
	assert_int_equal(now.region, old.region);
	assert_true(now.generation > old.generation);
	assert_int_equal(seg_release_handle(pool, &old), -ESTALE);
	assert_int_equal(figures(pool, SEG_ALL).misuses_total, 2);
	assert_figures(pool, 1);
	assert_int_equal(seg_release_handle(pool, &now), 0);
	end_both(pool, b);
}

static unsigned fresh_ones(struct seg_pool *pool)
{
	const struct parked *place = stash_place(own_stash(pool), 0);
	unsigned fresh = 0;

	for (uint32_t i = 1; i <= own_count(pool, 0); i++)
		fresh += place[i].out == PARKED_FRESH;
	return fresh;
}

/* ------------------------------------------------------ the last hand-out */

/* What stands above the top. */
static void *last_out(struct seg_pool *pool)
{
	struct stash *st = own_stash(pool);

	return stash_place(st, u32_load_relaxed(&st->last->top))[1].segment;
}

/* So that a segment is the last one that the stash handed out. */
static char *take_last(struct seg_pool *pool)
{
	char *segment;

	use_once(pool);
	segment = seg_alloc(pool, 1);
	assert_ptr_equal(last_out(pool), segment);
	return segment;
}

/* The last one was the lowest, so it stays above the top when others empty the
 * stash.  How many are held. */
static unsigned take_all_parked(struct seg_pool *pool)
{
	unsigned n = 0;

	do
		require(n < MOST && (held[n++] = seg_alloc(pool, 1)));
	while (n < 2 || own_count(pool, 0));
	return n;
}

/* Its region is unmapped, and what was written of its slices with it. */
static void test_what_was_parked_is_no_hand_out(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	unsigned n = take_all_parked(pool);
	void *first = held[0];

	(void)state;
	assert_int_equal(seg_release(pool, first), 0);
	held[0] = held[--n];
	empty(pool, n);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
	assert_ptr_equal(last_out(pool), first);
	assert_int_equal(seg_release(pool, first), -ESTALE);
	assert_int_equal(own_count(pool, 0), 0);
	end_both(pool, b);
}

static void test_the_last_ends_once(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	char *last = take_last(pool);

	(void)state;
	assert_int_equal(seg_release(pool, last + 64), -EINVAL);
	assert_int_equal(seg_release(pool, last), 0);
	assert_int_equal(seg_release(pool, last), -ESTALE);
	assert_figures(pool, 0);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
	assert_int_equal(seg_release(pool, last), -ESTALE);
	assert_int_equal(figures(pool, SEG_ALL).misuses_total, 3);
	assert_figures(pool, 0);
	end_both(pool, b);
}

struct other_use {
	struct seg_pool *pool;
	void *segment;
};

/* The thread ends its hand-out, and has the same slice itself then: at the
 * limit at the latest. */
static void release_and_have(void *arg)
{
	struct other_use *use = arg;
	void *segment[MOST];
	unsigned n = 0;

	require(!seg_release(use->pool, use->segment));
	do
		require(n < MOST && (segment[n] = seg_alloc(use->pool, 1)));
	while (segment[n++] != use->segment);
	while (--n > 0)
		require(!seg_release(use->pool, segment[n - 1]));
}

/* Nor what is beside it; it is the first that was never handed out. */
static void test_beside_the_last(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	char *fresh;

	(void)state;
	fill(pool, 0, 2);
	require(fresh_ones(pool) > 0);
	fresh = seg_alloc(pool, 1);
	assert_ptr_equal(last_out(pool), fresh);
	for (int beside = 1; beside < 64; beside++)
		assert_int_equal(seg_release(pool, fresh + beside), -EINVAL);
	assert_int_equal(seg_release(pool, fresh), 0);
	empty(pool, 2);
	assert_figures(pool, 0);
	end_both(pool, b);
}

/* It is what it was by its address only: no more this thread's to park. */
static void test_the_last_is_another_ones_by_now(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct other_use use = { pool, NULL };
	struct seg_handle before, now;
	struct atomic_u64 *generation;
	struct actor other;
	unsigned n = take_all_parked(pool);

	(void)state;
	use.segment = held[--n];
	assert_int_equal(seg_handle_of(pool, use.segment, &before), 0);
	actor_begin(&other);
	actor_do(&other, release_and_have, &use);
	assert_ptr_equal(last_out(pool), use.segment);
	assert_figures(pool, n + 1);
	assert_int_equal(seg_handle_of(pool, use.segment, &now), 0);
	assert_true(now.generation > before.generation);
	assert_int_equal(seg_release(pool, use.segment), 0);
	generation = stash_place(own_stash(pool), 0)[1].generation;
	assert_true(u64_load_relaxed(generation) == now.generation + 1);
	assert_figures(pool, n);
	empty(pool, n);
	assert_int_equal(figures(pool, SEG_ALL).misuses_total, 0);
	actor_end(&other);
	end_both(pool, b);
}

/* What the keeper took the room away for is not parked. */
static void test_the_last_needs_room(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 40 });
	unsigned n;

	(void)state;
	for (;;) {
		n = take_all_parked(pool);
		wait_until(room_bytes(pool) == 0);
		if (last_out(pool) == held[n - 1])
			break;
		empty(pool, n);	/* the keeper was there in between */
	}
	assert_int_equal(seg_release(pool, held[--n]), 0);
	assert_true(own_count(pool, 0) <= own_magazine(pool, 0)->room);
	empty(pool, n);
	assert_figures(pool, 0);
	end_both(pool, b);
}

/* -------------------------------------------------------------------- room */

static void test_room_doubles(void **state)
{
	struct seg_budget *b = new_budget(1024 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint32_t seen = 0, last = 0;

	(void)state;
	for (unsigned i = 0; i < MOST; i++) {
		uint32_t room;

		held[i] = seg_alloc(pool, 1);
		room = own_magazine(pool, 0)->room;
		assert_true(room == last ||
			    room == (last ? 2 * last : STASH_ROOM_FIRST));
		assert_true(own_count(pool, 0) <= room);
		last = room;
		seen |= room;
	}
	/* 8, 16 and so on; by then it has room for all it may have. */
	assert_int_equal(seen, 2 * STASH_MOST - STASH_ROOM_FIRST);
	assert_int_equal(room_bytes(pool), STASH_MOST * SEG_MIN_BYTES);
	empty(pool, MOST);
	assert_int_equal(figures(pool, 0).cached + figures(pool, 0).unused,
			 figures(pool, 0).slices);
	assert_true(figures(pool, 0).cached <= STASH_MOST);
	assert_figures(pool, 0);
	end_both(pool, b);
}

/* Of all threads, in all classes. */
static void *use_all_classes(void *arg)
{
	struct seg_pool *pool = *(struct seg_pool **)arg;

	for (int i = 0; i < 200; i++) {
		void *segment[SEG_CLASSES][3];

		for (int c = 0; c < SEG_CLASSES; c++)
			for (int k = 0; k < 3; k++)
				require(segment[c][k] =
						seg_alloc(pool, slice_of(c)));
		require(room_bytes(pool) <= 64 * MIB / STASH_ROOM_SHARE);
		for (int c = 0; c < SEG_CLASSES; c++)
			for (int k = 0; k < 3; k++)
				require(!seg_release(pool, segment[c][k]));
		require(figures(pool, SEG_ALL).cached <=
			64 * MIB / STASH_ROOM_SHARE / SEG_MIN_BYTES);
	}
	return NULL;
}

static void test_room_is_a_share_of_the_limit(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct threads threads;

	(void)state;
	threads_start(&threads, 6, use_all_classes, &pool, 0);
	use_all_classes(&pool);
	assert_int_equal(threads_join(&threads), 0);
	use_all_classes(&pool);	/* the others may have had all of it */
	assert_true(room_bytes(pool) > 0);
	assert_true(room_bytes(pool) <= 64 * MIB / STASH_ROOM_SHARE);
	assert_figures(pool, 0);
	end_both(pool, b);
}

/* The keeper's looks; nobody calls anything. */
static void test_room_is_dropped_when_idle(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool_with((struct seg_pool_options){
		.budget = b, .decay_ms = 40 });

	(void)state;
	for (int round = 0; round < 3; round++) {
		use_once(pool);
		wait_until(room_bytes(pool) == 0 && charged(b) == 0);
		assert_int_equal(figures(pool, 0).cached, 0);
		assert_figures(pool, 0);
	}
	end_both(pool, b);
}

/* ----------------------------------------------------------- fresh slices */

static bool is_all(const char *bytes, size_t n, char value)
{
	return bytes[0] == value && !memcmp(bytes, bytes + 1, n - 1);
}

/* What was never handed out stays that, to and fro. */
static void test_fresh_slices_stay_fresh(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);

	(void)state;
	/* In the second life of a region's struct, too. */
	use_once(pool);
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	for (unsigned round = 0; round < 3; round++) {
		held[2 * round] = seg_alloc(pool, 1);
		held[2 * round + 1] = seg_alloc(pool, 1);
		assert_true(own_count(pool, 0) > 0);
		assert_int_equal(fresh_ones(pool), own_count(pool, 0));
		gather_own(&pool->allocator);
		assert_int_equal(own_count(pool, 0), 0);
	}
	assert_figures(pool, 6);
	empty(pool, 6);
	assert_int_equal(fresh_ones(pool), 0);
	end_both(pool, b);
}

static void test_zeroed_ones_from_a_stash(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	unsigned char in_core;
	char *segment;

	(void)state;
	use_once(pool);
	fill(pool, 0, 40);
	/* Not even written to: it is not in memory yet. */
	assert_true(fresh_ones(pool) > 0);
	segment = seg_alloc_zeroed(pool, 1);
	if (!emulated("which pages are in memory")) {
		assert_int_equal(mincore(segment, SEG_MIN_BYTES, &in_core), 0);
		assert_false(in_core & 1);
	}
	assert_true(is_all(segment, SEG_MIN_BYTES, 0));
	memset(segment, 0x5a, SEG_MIN_BYTES);
	assert_int_equal(seg_release(pool, segment), 0);
	assert_ptr_equal(seg_alloc_zeroed(pool, 1), segment);
	assert_true(is_all(segment, SEG_MIN_BYTES, 0));
	assert_int_equal(seg_release(pool, segment), 0);
	empty(pool, 40);
	end_both(pool, b);
}

/* ----------------------------------------------------------- who empties it */

static void use_classes(void *pool)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		void *two[2] = { seg_alloc(pool, slice_of(c)),
				 seg_alloc(pool, slice_of(c)) };

		for (int i = 0; i < 2; i++)
			require(two[i] && !seg_release(pool, two[i]));
	}
}

static void test_it_is_emptied_from_outside(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;

	(void)state;
	actor_begin(&other);
	for (int round = 0; round < 3; round++) {
		actor_do(&other, use_classes, pool);
		assert_true(figures(pool, SEG_ALL).cached >= SEG_CLASSES);
		assert_int_equal(seg_pool_trim(pool, NULL), 0);
		assert_int_equal(figures(pool, SEG_ALL).cached, 0);
		assert_int_equal(figures(pool, SEG_ALL).regions, 0);
		assert_figures(pool, 0);
	}
	actor_end(&other);
	end_both(pool, b);
}

/* Somebody else had closed it when its thread ended. */
static void test_what_an_ended_thread_left_is_the_next_ones(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct stash *st;
	struct actor other;
	uint64_t left;

	(void)state;
	actor_begin(&other);
	actor_do(&other, use_classes, pool);
	left = figures(pool, SEG_ALL).cached;
	assert_true(left >= SEG_CLASSES);
	st = stash_at(&pool->allocator.stashes, 1);
	u32_store_seq_cst(&st->closed, 1);
	actor_end(&other);
	u32_store_seq_cst(&st->closed, 0);
	assert_int_equal(figures(pool, SEG_ALL).cached, left);
	use_once(pool);
	assert_ptr_equal(own_stash(pool), st);
	assert_true(figures(pool, SEG_ALL).cached >= left);
	assert_figures(pool, 0);
	end_both(pool, b);
}

/* At the limit: what another thread has at hand is not refused. */
static void test_it_is_emptied_at_the_limit(void **state)
{
	struct seg_budget *b = new_budget(4 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	unsigned n = 0;

	(void)state;
	actor_begin(&other);
	actor_do(&other, use_and_stay, pool);
	while ((held[n] = alloc_without_wait(pool, 1)) != NULL)
		n++;
	assert_int_equal(n, 4 * MIB / SEG_MIN_BYTES);
	assert_int_equal(figures(pool, SEG_ALL).cached, 0);
	assert_figures(pool, n);
	empty(pool, n);
	actor_end(&other);
	end_both(pool, b);
}

/* M3: where somebody waits nothing is kept. */
static void test_it_is_emptied_when_somebody_waits(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint32_t wakes;

	(void)state;
	fill(pool, 0, 10);
	assert_true(figures(pool, 0).cached > 0);
	budget_wait_begin(b);
	wakes = budget_wait_ticket(b);
	assert_int_equal(seg_release(pool, held[9]), 0);
	assert_int_equal(figures(pool, 0).cached, 0);
	assert_int_not_equal(budget_wait_ticket(b), wakes);
	/* Nor is anything taken along. */
	held[9] = seg_alloc(pool, 1);
	assert_int_equal(figures(pool, 0).cached, 0);
	budget_wait_end(b);
	empty(pool, 10);
	assert_true(figures(pool, 0).cached > 0);
	end_both(pool, b);
}

/* Gathering alone wakes nobody, the caller itself included. */
static void test_nobody_is_woken_for_nothing(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	uint32_t wakes;

	(void)state;
	actor_begin(&other);
	actor_do(&other, use_and_stay, pool);
	budget_wait_begin(b);
	wakes = budget_wait_ticket(b);
	assert_true(gather_all(&pool->allocator, true));
	assert_int_not_equal(budget_wait_ticket(b), wakes);
	wakes = budget_wait_ticket(b);
	for (int i = 0; i < 3; i++)
		assert_false(gather_all(&pool->allocator, true));
	assert_int_equal(budget_wait_ticket(b), wakes);
	budget_wait_end(b);
	actor_end(&other);
	end_both(pool, b);
}

/* M5 */
static void test_a_thread_that_stopped_keeps_it(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;
	uint64_t cached;

	(void)state;
	use_once(pool);
	cached = figures(pool, 0).cached;
	u32_store_release(&own_stash(pool)->section.inside, 1);
	actor_begin(&other);
	actor_do(&other, alloc_and_release, pool);
	actor_end(&other);
	gather_idle(&pool->allocator);
	assert_int_equal(figures(pool, 0).cached, cached);
	assert_figures(pool, 0);
	u32_store_release(&own_stash(pool)->section.inside, 0);
	gather_idle(&pool->allocator);
	assert_int_equal(figures(pool, 0).cached, 0);
	end_both(pool, b);
}

/* --------------------------------------------------- threads come and go */

/* What it had room for goes to others, and the next thread gets its stash. */
static void test_a_thread_ends(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	uint64_t bytes = 0;

	(void)state;
	for (int i = 0; i < 20; i++) {
		struct actor other;

		actor_begin(&other);
		actor_do(&other, use_classes, pool);
		assert_true(figures(pool, SEG_ALL).cached >= SEG_CLASSES);
		assert_true(room_bytes(pool) > 0);
		actor_end(&other);
		assert_int_equal(figures(pool, SEG_ALL).cached, 0);
		assert_int_equal(room_bytes(pool), 0);
		if (i == 1)
			bytes = stashes_bytes(&pool->allocator.stashes);
		assert_figures(pool, 0);
	}
	assert_int_equal(stashes_bytes(&pool->allocator.stashes), bytes);
	assert_int_equal(stashes_used(&pool->allocator.stashes), 1);
	assert_int_equal(figures(pool, SEG_ALL).allocations_total,
			 20 * 2 * SEG_CLASSES);
	end_both(pool, b);
}

/* ------------------------------------------------------ pools come and go */

static void test_two_pools_in_one_thread(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool[2] = { make_pool(b), make_pool(b) };

	(void)state;
	use_once(pool[0]);
	assert_int_equal(figures(pool[1], 0).slices, 0);
	use_once(pool[1]);
	assert_ptr_not_equal(own_stash(pool[0]), own_stash(pool[1]));
	fill(pool[0], 0, 10);
	assert_int_equal(seg_release(pool[1], held[0]), -EINVAL);
	assert_int_equal(figures(pool[1], SEG_ALL).misuses_total, 1);
	assert_figures(pool[0], 10);
	assert_figures(pool[1], 0);
	empty(pool[0], 10);
	end_pool(pool[0]);
	assert_true(figures(pool[1], 0).cached > 0);
	fill(pool[1], 0, 10);
	empty(pool[1], 10);
	end_both(pool[1], b);
}

enum { POOLS = THREAD_SLOTS + 6 };

/* Those that get no slot go to the regions themselves. */
static void test_more_pools_than_slots(void **state)
{
	struct seg_budget *b = new_budget(256 * MIB);
	struct seg_pool *pool[POOLS];

	(void)state;
	for (int i = 0; i < POOLS; i++) {
		pool[i] = make_pool(b);
		use_once(pool[i]);
		assert_true((figures(pool[i], 0).cached > 0) ==
			    (i < THREAD_SLOTS));
		assert_figures(pool[i], 0);
	}
	/* The slot of one that ends is the next one's. */
	end_pool(pool[3]);
	pool[3] = make_pool(b);
	use_once(pool[3]);
	assert_true(figures(pool[3], 0).cached > 0);
	for (int i = 0; i < POOLS; i++)
		end_pool(pool[i]);
	end_budget(b);
}

static void test_a_pool_after_another(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct actor other;

	(void)state;
	actor_begin(&other);
	for (int i = 0; i < 30; i++) {
		struct seg_pool *pool = make_pool(b);

		assert_null(own_stash(pool));
		use_once(pool);
		actor_do(&other, use_and_stay, pool);
		assert_int_equal(stashes_used(&pool->allocator.stashes), 2);
		assert_figures(pool, 0);
		end_pool(pool);
	}
	actor_end(&other);
	end_budget(b);
}

static void test_a_pool_that_is_in_use_goes_on(void **state)
{
	struct seg_budget *b = new_budget(64 * MIB);
	struct seg_pool *pool = make_pool(b);
	struct actor other;

	(void)state;
	actor_begin(&other);
	for (int i = 0; i < 3; i++) {
		actor_do(&other, use_and_stay, pool);
		fill(pool, 0, 12);
		assert_int_equal(seg_pool_destroy(pool), -EBUSY);
		assert_int_equal(figures(pool, 0).cached, 0);
		assert_figures(pool, 12);
		/* These are of a stash that is nobody's now, or another's. */
		actor_do(&other, use_and_stay, pool);
		empty(pool, 12);
		assert_figures(pool, 0);
		assert_int_equal(figures(pool, 0).misuses_total, 0);
		use_and_stay(pool);
	}
	assert_int_equal(figures(pool, 0).allocations_total, 3 * (4 + 2 + 12));
	actor_end(&other);
	end_both(pool, b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_last_one_comes_first),
		cmocka_unit_test(test_a_handle_is_stale_in_a_stash),
		cmocka_unit_test(test_what_was_parked_is_no_hand_out),
		cmocka_unit_test(test_the_last_ends_once),
		cmocka_unit_test(test_the_last_is_another_ones_by_now),
		cmocka_unit_test(test_beside_the_last),
		cmocka_unit_test(test_the_last_needs_room),
		cmocka_unit_test(test_room_doubles),
		cmocka_unit_test(test_room_is_a_share_of_the_limit),
		cmocka_unit_test(test_room_is_dropped_when_idle),
		cmocka_unit_test(test_fresh_slices_stay_fresh),
		cmocka_unit_test(test_zeroed_ones_from_a_stash),
		cmocka_unit_test(test_it_is_emptied_from_outside),
		cmocka_unit_test(
			test_what_an_ended_thread_left_is_the_next_ones),
		cmocka_unit_test(test_it_is_emptied_at_the_limit),
		cmocka_unit_test(test_it_is_emptied_when_somebody_waits),
		cmocka_unit_test(test_nobody_is_woken_for_nothing),
		cmocka_unit_test(test_a_thread_that_stopped_keeps_it),
		cmocka_unit_test(test_a_thread_ends),
		cmocka_unit_test(test_two_pools_in_one_thread),
		cmocka_unit_test(test_more_pools_than_slots),
		cmocka_unit_test(test_a_pool_after_another),
		cmocka_unit_test(test_a_pool_that_is_in_use_goes_on),
	};

	if (!sections_begin()) {
		print_message("no membarrier, so no stashes\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
