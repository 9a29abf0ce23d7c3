/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/inbox.h: claims are brought to the slices' owner, which parks the slices
 * where it needs some next; others take them out.  Figures are exact at each
 * step.  inbox_twice.c has the rest.
 */
#include "inboxes.h"

static int begin_wide(void **state)
{
	(void)state;
	return begin_with_limit(1024 * MIB);
}

static int begin_narrow(void **state)
{
	(void)state;
	return begin_with_limit(4 * MIB);
}

/* -------------------------------------------------------- there and back */

static void test_a_parcel_is_the_owners_next(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH - 1),
			 STASH_BATCH - 1);
	assert_int_equal(parcels(own_stash()), 0);
	assert_step(0, STASH_BATCH - 1, STASH_BATCH - 1, 0);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(in_parcel(own_stash(), 0), STASH_BATCH);
	assert_step(0, 1, 1, 0);
	assert_ptr_equal(get(0), mine.at[STASH_BATCH - 1]);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(parked(0), STASH_BATCH - 1);
	assert_step(1, 0, -1, 0);
	get_back(&mine, 0, STASH_BATCH - 1);
	assert_step(STASH_BATCH - 1, 0, 1 - STASH_BATCH, 0);
	/* And again, in the same parcel. */
	for (int i = 0; i < STASH_BATCH; i++)
		mine.at[i] = spare[--spares];
	mine.gone = 0;
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	get_back(&mine, 0, STASH_BATCH);
	assert_step(STASH_BATCH, STASH_BATCH, 0, 0);
	/* Nothing was there any more: from a region, as ever. */
	get(0);
	assert_step(1, 0, (int64_t)parked(0), -1 - (int64_t)parked(0));
}

static void take_theirs_back(void *end)
{
	get_back(&theirs, *(unsigned *)end - PARCEL_LEAST, *(unsigned *)end);
}

/* Each gets its own; a few are not worth a parcel. */
static void test_two_owners(void **state)
{
	const unsigned many = STASH_BATCH - PARCEL_LEAST;
	unsigned n = STASH_BATCH, end = PARCEL_LEAST;
	struct actor owner;
	struct stash *st;

	(void)state;
	hold_mine(0, 2 * STASH_BATCH);
	actor_begin(&owner);
	actor_do(&owner, hold_theirs, &n);
	st = stash_at(&pool->allocator.stashes, own_stash()->number + 1);
	look();
	assert_int_equal(other_releases(&mine, 10), 10);
	assert_int_equal(other_releases(&theirs, PARCEL_LEAST),
			 10 + PARCEL_LEAST);
	assert_int_equal(other_releases(&mine, many - 10), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(in_parcel(own_stash(), 0), many);
	assert_int_equal(parcels(st), full(1));
	assert_int_equal(in_parcel(st, 0), PARCEL_LEAST);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	get_back(&mine, 0, many);
	assert_step(many, 0, -(int64_t)many, 0);
	assert_int_equal(parcels(st), full(1));
	actor_do(&owner, take_theirs_back, &end);
	assert_int_equal(parcels(st), 0);
	assert_step(PARCEL_LEAST, 0, -PARCEL_LEAST, 0);
	/* One less. */
	assert_int_equal(other_releases(&theirs, PARCEL_LEAST - 1),
			 PARCEL_LEAST - 1);
	assert_int_equal(other_releases(&mine, many + 1), PARCEL_LEAST - 1);
	assert_int_equal(in_parcel(own_stash(), 0), many + 1);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(parcels(st), 0);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	get_back(&mine, many, 2 * many + 1);
	assert_step(many + 1, 0, -(int64_t)many - 1, 0);
	actor_end(&owner);
}

/* One parcel has both. */
static void test_several_classes(void **state)
{
	const unsigned n = 30, more = STASH_BATCH - 30;

	(void)state;
	hold_mine(0, n);
	hold(&theirs, 1, more);
	look();
	assert_int_equal(other_releases(&mine, n), n);
	assert_int_equal(other_releases(&theirs, more), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	assert_int_equal(figures(pool, 0).cached, n);
	assert_int_equal(figures(pool, 1).cached, more);
	assert_ptr_equal(get(1), theirs.at[more - 1]);
	assert_int_equal(parked(0), n);
	assert_int_equal(parked(1), more - 1);
	assert_int_equal(figures(pool, 0).cached, n);
	assert_int_equal(figures(pool, 1).cached, more - 1);
	assert_step(1, 0, -1, 0);
	get_back(&mine, 0, n);
	assert_step(n, 0, -(int64_t)n, 0);
}

/* The wanted class is in the second one. */
static void test_all_parcels_until_it_is_served(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	hold(&theirs, 1, STASH_BATCH);
	look();
	assert_int_equal(other_releases(&theirs, STASH_BATCH), 0);
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(parcels(own_stash()), full(3));
	assert_step(0, 2 * STASH_BATCH, 2 * STASH_BATCH, 0);
	assert_ptr_equal(get(0), mine.at[STASH_BATCH - 1]);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(parked(0), STASH_BATCH - 1);
	assert_int_equal(parked(1), STASH_BATCH);
	assert_step(1, 0, -1, 0);
}

/* ------------------------------------------------------------- no place */

static void fill_inbox(unsigned most)
{
	hold_mine(0, (most + 2) * STASH_BATCH + STASH_CLAIMS);
	look();
	for (unsigned i = 1; i <= most; i++) {
		assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
		assert_int_equal(parcels(own_stash()), full((1u << i) - 1));
	}
	assert_step(0, most * STASH_BATCH, most * STASH_BATCH, 0);
}

/* Then they stand, and are settled by a barrier. */
static void assert_no_parcel_is_free(void)
{
	uint32_t before = parcels(own_stash());

	for (unsigned n = STASH_BATCH; n < STASH_CLAIMS; n += STASH_BATCH)
		assert_int_equal(other_releases(&mine, STASH_BATCH), n);
	assert_int_equal(other_releases(&mine, STASH_BATCH - 1),
			 STASH_CLAIMS - 1);
	assert_step(0, STASH_CLAIMS - 1, STASH_CLAIMS - 1, 0);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), before);
	assert_step(0, 1, 1 - STASH_CLAIMS, STASH_CLAIMS);
}

/* As soon as one is free, it is used; the oldest claims go first. */
static void test_all_parcels_are_full(void **state)
{
	unsigned at;

	(void)state;
	fill_inbox(INBOX_PARCELS);
	assert_no_parcel_is_free();
	at = mine.gone;
	assert_int_equal(other_releases(&mine, 100), 100);
	assert_ptr_equal(get(0), mine.at[STASH_BATCH - 1]);
	assert_int_equal(parcels(own_stash()),
			 full((1u << INBOX_PARCELS) - 2));
	assert_step(1, 100, 99, 0);
	assert_int_equal(other_releases(&mine, 28), STASH_BATCH);
	assert_int_equal(parcels(own_stash()),
			 full((1u << INBOX_PARCELS) - 1));
	assert_step(0, 28, 28, 0);
	get_back(&mine, 0, STASH_BATCH - 1);
	assert_ptr_equal(get(0), mine.at[at + STASH_BATCH - 1]);
	assert_step(STASH_BATCH, 0, -STASH_BATCH, 0);
}

/* 2 MiB are eight parcels, and there is always one. */
static void test_parcels_are_a_share_of_the_limit(void **state)
{
	(void)state;
	assert_int_equal(KEPT / STASH_CLAIM_SHARE / SEG_MIN_BYTES /
			 STASH_BATCH, 8);
	fill_inbox(9);
	assert_no_parcel_is_free();
}

/* As if others had what is left of it. */
static void test_all_inboxes_have_a_share(void **state)
{
	struct atomic_u64 *brought = &pool->allocator.stashes.brought_bytes;
	const uint64_t share = KEPT / INBOX_SHARE;
	const uint64_t lot = STASH_BATCH * SEG_MIN_BYTES;

	(void)state;
	hold_mine(0, 2 * STASH_BATCH);
	look();
	u64_store_relaxed(brought, share - lot + 1);
	assert_int_equal(other_releases(&mine, STASH_BATCH), STASH_BATCH);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(u64_load_relaxed(brought), share - lot + 1);
	u64_store_relaxed(brought, share - lot);
	assert_int_equal(other_releases(&mine, STASH_BATCH), STASH_BATCH);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(u64_load_relaxed(brought), share);
	assert_step(0, 2 * STASH_BATCH, 2 * STASH_BATCH, 0);
	get_back(&mine, 0, STASH_BATCH);
	assert_int_equal(u64_load_relaxed(brought), share - lot);
	u64_store_relaxed(brought, 0);
}

/* 256 KiB: eight of them are the share. */
static void test_large_ones(void **state)
{
	(void)state;
	assert_int_equal(slice_of(6), 256 * KIB);
	hold_mine(6, 24);
	look();
	assert_int_equal(other_releases(&mine, 7), 7);
	assert_step(0, 7, 7, 0);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(in_parcel(own_stash(), 0), 8);
	assert_step(0, 1, 1, 0);
	assert_int_equal(other_releases(&mine, 7), 7);
	assert_step(0, 7, 7, 0);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_step(0, 1, -7, 8);
	assert_ptr_equal(get(6), mine.at[7]);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(parked(6), 7);
	assert_step(1, 0, -1, 0);
}

/* 4 MiB: one of 64 KiB is the share, so each is settled at once. */
static void test_a_small_limit(void **state)
{
	(void)state;
	hold_mine(4, 4);
	look();
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(other_releases(&mine, 1), 0);
		assert_int_equal(parcels(own_stash()), 0);
		assert_step(0, 1, 0, 1);
	}
}

/* To its regions. */
static void test_what_does_not_fit(void **state)
{
	const unsigned room = 16;

	(void)state;
	pool->allocator.stashes.most_bytes = room * SEG_MIN_BYTES;
	hold_mine(0, STASH_BATCH);
	assert_int_equal(own_stash()->magazine[0].room, room);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	assert_ptr_equal(get(0), mine.at[room - 1]);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(parked(0), room - 1);
	assert_step(1, 0, (int)room - 1 - STASH_BATCH,
		    STASH_BATCH - (int)room);
	get_back(&mine, 0, room - 1);
	assert_step(room - 1, 0, 1 - (int)room, 0);
}

/* --------------------------------------------------------- threads that end */

static void test_the_owner_ends(void **state)
{
	unsigned n = STASH_BATCH;
	struct actor owner;
	struct stash *st;

	(void)state;
	actor_begin(&owner);
	actor_do(&owner, hold_theirs, &n);
	st = stash_at(&pool->allocator.stashes, 1);
	look();
	assert_int_equal(other_releases(&theirs, n), 0);
	assert_int_equal(parcels(st), full(1));
	assert_step(0, n, n, 0);
	actor_end(&owner);
	assert_int_equal(parcels(st), 0);
	assert_step(0, 0, -(int64_t)n, n);
}

static void release_own(void *unused)
{
	(void)unused;
	require(!seg_release(pool, seg_alloc(pool, 1)));
	gather_own(&pool->allocator);
}

static void test_nothing_is_brought_to_who_ended(void **state)
{
	unsigned n = STASH_BATCH;
	struct actor owner;

	(void)state;
	release_own(NULL);
	actor_do(&other, release_own, NULL);
	actor_begin(&owner);
	actor_do(&owner, hold_theirs, &n);
	actor_end(&owner);
	look();
	assert_int_equal(other_releases(&theirs, n), n);
	assert_int_equal(parcels(stash_at(&pool->allocator.stashes, 3)), 0);
	assert_step(0, n, n, 0);
}

/* A parcel stands in the stash of nobody: who brought it saw its thread. */
static struct stash *fill_dead_stash(void)
{
	unsigned n = 2 * STASH_BATCH;
	struct actor owner;
	struct stash *st;

	release_own(NULL);
	actor_do(&other, release_own, NULL);
	actor_begin(&owner);
	actor_do(&owner, hold_theirs, &n);
	actor_end(&owner);
	st = stash_at(&pool->allocator.stashes, 3);
	assert_int_equal(stashes_used(&pool->allocator.stashes), 3);
	look();
	u32_store_relaxed(&st->used, 1);
	assert_int_equal(other_releases(&theirs, STASH_BATCH), 0);
	u32_store_relaxed(&st->used, 0);
	assert_int_equal(parcels(st), full(1));
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	return st;
}

static void assert_taken_out(struct stash *st)
{
	assert_int_equal(parcels(st), 0);
	assert_step(0, 0, -STASH_BATCH, STASH_BATCH);
}

static void test_who_gathers_empties_a_dead_stash(void **state)
{
	struct stash *st = fill_dead_stash();

	(void)state;
	assert_true(gather_all(&pool->allocator, true));
	assert_taken_out(st);
	assert_false(gather_all(&pool->allocator, true));
	release_rest(&theirs);
	release_spares();
	assert_int_equal(seg_pool_trim(pool, NULL), 0);
	assert_int_equal(figures(pool, SEG_ALL).regions, 0);
	assert_int_equal(charged(budget), 0);
}

static void test_the_keeper_empties_a_dead_stash(void **state)
{
	struct stash *st = fill_dead_stash();

	(void)state;
	gather_idle(&pool->allocator);
	assert_taken_out(st);
}

static void take_their_stash(void *unused)
{
	(void)unused;
	get_back(&theirs, 0, STASH_BATCH);
	require(own_stash() == stash_at(&pool->allocator.stashes, 3));
}

static void test_the_next_thread_has_what_a_dead_stash_has(void **state)
{
	struct stash *st = fill_dead_stash();
	struct actor next;

	(void)state;
	actor_begin(&next);
	actor_do(&next, take_their_stash, NULL);
	assert_int_equal(parcels(st), 0);
	assert_step(STASH_BATCH, 0, -STASH_BATCH, 0);
	actor_end(&next);
	assert_step(0, 0, 0, 0);
}

/* All is given back, and nothing charged. */
static void test_the_pool_ends(void **state)
{
	const unsigned n = 2 * STASH_BATCH;

	(void)state;
	hold_mine(0, n + 3);
	assert_int_equal(other_releases(&mine, n + 3), 3);
	assert_int_equal(parcels(own_stash()), full(3));
	release_rest(&mine);
	release_spares();
	assert_int_equal(parcels(own_stash()), full(3));
	assert_int_equal(figures(pool, SEG_ALL).active, 0);
	assert_int_equal(seg_pool_destroy(pool), 0);
	assert_int_equal(charged(budget), 0);
	assert_int_equal(events.misuses, 0);
	pool = make_pool_events(budget, &events, SEG_LOG_ERROR);
}

/* ---------------------------------------------------------- at the limit */

enum { SHARE = 16 };	/* of begin_narrow()'s, in smallest slices */

/* All that the limit allows is out, and some of it is in an inbox then. */
static void fill_limit(void)
{
	void *segment;

	hold_mine(0, 4 * SHARE);
	while ((segment = alloc_without_wait(pool, 1)) != NULL)
		spare[spares++] = segment;
	look();
	assert_int_equal(seen.active, 4 * MIB / SEG_MIN_BYTES);
	assert_int_equal(other_releases(&mine, SHARE - 1), SHARE - 1);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(in_parcel(own_stash(), 0), SHARE);
	assert_step(0, SHARE, SHARE, 0);
}

static void get_without_wait(void *unused)
{
	(void)unused;
	require((spare[spares++] = alloc_without_wait(pool, 1)) != NULL);
}

static void get_patiently(void *unused)
{
	(void)unused;
	require((spare[spares++] = alloc_patiently(pool, 1)) != NULL);
}

static void test_the_limit_is_met(void **state)
{
	struct actor third;

	(void)state;
	fill_limit();
	actor_begin(&third);
	actor_do(&third, get_without_wait, NULL);
	assert_int_equal(parcels(own_stash()), 0);
	assert_step(1, 0, -SHARE, SHARE - 1);
	assert_int_equal(budget_stats(budget).waits_total, 0);
	actor_end(&third);
}

/* The owner was in a section when it looked; it empties its inbox itself. */
static void test_one_waits_at_the_limit(void **state)
{
	struct seg_pool_stats s;
	struct actor third;

	(void)state;
	fill_limit();
	set_inside(1);
	actor_begin(&third);
	actor_start(&third, get_patiently, NULL);
	wait_until(budget_stats(budget).waiters == 1);
	assert_int_equal(parcels(own_stash()), full(1));
	set_inside(0);
	assert_int_equal(seg_release(pool, mine.at[mine.gone++]), 0);
	actor_await(&third);
	assert_int_equal(parcels(own_stash()), 0);
	s = figures(pool, SEG_ALL);
	assert_int_equal(s.active, seen.active);
	assert_int_equal(s.cached + s.unused, SHARE);
	assert_int_equal(s.allocations_total, seen.allocations_total + 1);
	assert_true(seg_pool_is_valid(pool));
	actor_end(&third);
}

/* Since who released it gathers where somebody waits, this is seen only if the
 * owner stands still. */
static void test_nothing_is_brought_where_one_waits(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	set_inside(1);
	assert_int_equal(other_releases(&mine, STASH_BATCH - 1),
			 STASH_BATCH - 1);
	budget_wait_begin(budget);
	assert_int_equal(other_releases(&mine, 1), STASH_BATCH);
	assert_int_equal(parcels(own_stash()), 0);
	set_inside(0);
	assert_int_equal(other_releases(&mine, 1), 0);
	assert_int_equal(parcels(own_stash()), 0);
	assert_step(0, STASH_BATCH + 1, 0, STASH_BATCH + 1);
	budget_wait_end(budget);
}

/* Nor is anything taken along. */
static void test_nothing_is_parked_where_one_waits(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	budget_wait_begin(budget);
	get(0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_int_equal(parked(0), 0);
	assert_step(1, STASH_BATCH, STASH_BATCH, -1);
	assert_int_equal(seg_release(pool, spare[--spares]), 0);
	assert_int_equal(parcels(own_stash()), 0);
	assert_step(0, 1, -STASH_BATCH, STASH_BATCH + 1);
	budget_wait_end(budget);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_a_parcel_is_the_owners_next),
		TEST(test_two_owners),
		TEST(test_several_classes),
		TEST(test_all_parcels_until_it_is_served),
		cmocka_unit_test_setup_teardown(
			test_all_parcels_are_full, begin_wide, end),
		TEST(test_parcels_are_a_share_of_the_limit),
		TEST(test_all_inboxes_have_a_share),
		TEST(test_large_ones),
		cmocka_unit_test_setup_teardown(
			test_a_small_limit, begin_narrow, end),
		TEST(test_what_does_not_fit),
		TEST(test_the_owner_ends),
		TEST(test_nothing_is_brought_to_who_ended),
		TEST(test_who_gathers_empties_a_dead_stash),
		TEST(test_the_keeper_empties_a_dead_stash),
		TEST(test_the_next_thread_has_what_a_dead_stash_has),
		TEST(test_the_pool_ends),
		cmocka_unit_test_setup_teardown(
			test_the_limit_is_met, begin_narrow, end),
		cmocka_unit_test_setup_teardown(
			test_one_waits_at_the_limit, begin_narrow, end),
		TEST(test_nothing_is_brought_where_one_waits),
		TEST(test_nothing_is_parked_where_one_waits),
	};

	if (!sections_begin()) {
		print_message("no membarrier, so no stashes\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
