/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/inbox.h where something is not as usual: a segment was released twice, a
 * fork, a barrier that is refused, several nodes.  Linked with fault_os.c in
 * place of lib/os.c.
 */
#include <errno.h>

#include "fault_os.h"
#include "inboxes.h"
#include "machine.h"

enum { FOR_EVER = INT32_MAX };

/* --------------------------------------------------- one released it twice */

/* What is left of the owner's release, which had looked before the claim. */
static void store_late(void *segment, uint64_t looked)
{
	struct stash *st = own_stash();
	struct magazine *m = &st->magazine[0];
	uint32_t owner;
	struct atomic_u64 *at = generation_at(segment, &owner);

	stash_push(st, m, u32_load_relaxed(&m->top), segment, at);
	u64_store_relaxed(at, looked + 1);
	magazine_count_release(m);
	set_inside(0);
}

/* The first segment's claim is lost, but nobody knows yet. */
static void bring_a_lost_one(void)
{
	uint64_t looked;
	uint32_t owner;

	hold_mine(0, STASH_BATCH);
	looked = u64_load_relaxed(generation_at(mine.at[0], &owner));
	set_inside(1);
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	store_late(mine.at[0], looked);
	assert_int_equal(events.misuses, 0);
}

static void assert_reported_once(void)
{
	assert_int_equal(events.misuses, 1);
	assert_int_equal(events.what, SEG_MISUSE_DOUBLE);
	assert_ptr_equal(events.address, mine.at[0]);
	assert_int_equal(parcels(own_stash()), 0);
	look();
	assert_step(0, 0, 0, 0);
}

/* It is out again by then. */
static void test_the_owner_hears_of_a_lost_one(void **state)
{
	uint64_t active;

	(void)state;
	bring_a_lost_one();
	active = spares + mine.count - STASH_BATCH;
	assert_ptr_equal(get(0), mine.at[0]);
	assert_int_equal(events.misuses, 0);
	assert_ptr_equal(get(0), mine.at[STASH_BATCH - 1]);
	assert_reported_once();
	assert_int_equal(seen.active, active + 2);
	assert_int_equal(parked(0), STASH_BATCH - 2);
	get_back(&mine, 1, STASH_BATCH - 1);
	assert_step(STASH_BATCH - 2, 0, 2 - STASH_BATCH, 0);
	get(0);
	assert_int_equal(events.misuses, 1);
}

/* Parked by the owner, and not a second time. */
static void test_a_lost_one_is_parked_once(void **state)
{
	(void)state;
	bring_a_lost_one();
	get(1);
	assert_reported_once();
	assert_int_equal(parked(0), STASH_BATCH);
	get_back(&mine, 0, STASH_BATCH);
}

static void gather_quietly(void *unused)
{
	(void)unused;
	gather_all(&pool->allocator, true);
}

static void test_who_gathers_hears_of_a_lost_one(void **state)
{
	(void)state;
	bring_a_lost_one();
	actor_do(&other, gather_quietly, NULL);
	assert_reported_once();
	assert_int_equal(seen.cached, 0);
}

static void test_the_owners_own_gathering_hears_of_a_lost_one(void **state)
{
	(void)state;
	bring_a_lost_one();
	gather_own(&pool->allocator);
	assert_reported_once();
	assert_int_equal(seen.cached, 0);
}

/* As long as it is brought, parked and out again. */
static void assert_stale(const struct seg_handle *handle)
{
	unsigned before = events.misuses;
	void *found;

	assert_int_equal(seg_resolve(pool, handle, &found), -ESTALE);
	assert_int_equal(seg_release_handle(pool, handle), -ESTALE);
	assert_int_equal(events.misuses, before + 1);
	assert_int_equal(events.what, SEG_MISUSE_STALE);
	assert_ptr_equal(events.address, handle->segment);
}

static void release_by_handle(void *handle)
{
	require(!seg_release_handle(pool, handle));
	require(seg_release_handle(pool, handle) == -ESTALE);
}

static void test_handles(void **state)
{
	struct seg_handle handle, now;

	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	assert_int_equal(seg_handle_of(pool, mine.at[0], &handle), 0);
	actor_do(&other, release_by_handle, &handle);
	assert_int_equal(events.misuses, 1);
	mine.gone = 1;
	assert_stale(&handle);
	assert_int_equal(other_releases(&mine, STASH_BATCH - 1), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_stale(&handle);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	assert_ptr_equal(get(0), mine.at[STASH_BATCH - 1]);
	assert_int_equal(parcels(own_stash()), 0);
	assert_stale(&handle);
	get_back(&mine, 0, STASH_BATCH - 1);
	assert_stale(&handle);
	assert_int_equal(seg_handle_of(pool, mine.at[0], &now), 0);
	assert_int_equal(now.region, handle.region);
	assert_int_equal(now.generation, handle.generation + 2);
	assert_int_equal(events.misuses, 5);
	assert_step(STASH_BATCH, 0, -STASH_BATCH, 0);
}

/* -------------------------------------------------------------------- fork */

#ifdef SEG_TSAN	/* it does not follow a child that has threads */
enum { FOLLOWS_CHILD = false };
#else
enum { FOLLOWS_CHILD = true };
#endif

/* What was full came along; what was reserved is free. */
static int child_uses_the_parcel(void *unused)
{
	struct seg_pool_stats s;
	struct stash *st = own_stash();
	struct actor another;
	struct job j = { .set = &mine, .count = STASH_BATCH };

	(void)unused;
	require(parcels(st) == full(1));
	actor_begin(&another);
	actor_do(&another, release_front, &j);
	require(j.claims == 0 && parcels(st) == full(3));
	for (unsigned i = STASH_BATCH; i; i--)
		require(get(0) == mine.at[i - 1]);
	require(parcels(st) == full(2) && parked(0) == 0);
	for (unsigned i = 2 * STASH_BATCH; i > STASH_BATCH; i--)
		require(get(0) == mine.at[i - 1]);
	require(parcels(st) == 0 && parked(0) == 0);
	s = figures(pool, SEG_ALL);
	require(s.active == seen.active + STASH_BATCH && s.cached == 0);
	require(s.active + s.unused == s.slices && seg_pool_is_valid(pool));
	actor_end(&another);
	return 0;
}

/* In the parent whoever brings goes round it: (I5). */
static void test_a_fork_while_one_brings(void **state)
{
	struct atomic_u32 *bits;

	(void)state;
	if (emulated("a child of several threads can start none"))
		skip();
	hold_mine(0, 3 * STASH_BATCH);
	bits = parcels_of(own_stash());
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	u32_store_relaxed(bits, full(1) | 2);
	look();
	if (FOLLOWS_CHILD)
		assert_int_equal(run_in_child(child_uses_the_parcel, NULL), 0);
	assert_int_equal(u32_load_relaxed(bits), full(1) | 2);
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(u32_load_relaxed(bits), full(5) | 2);
	get_back(&mine, 0, STASH_BATCH);
	get_back(&mine, STASH_BATCH, 2 * STASH_BATCH);
	assert_int_equal(u32_load_relaxed(bits), 2);
	u32_store_relaxed(bits, 0);
	assert_step(2 * STASH_BATCH, STASH_BATCH, -STASH_BATCH, 0);
}

/* ------------------------------------------------------- without a barrier */

/* Neither who brings nor the owner needs one. */
static void test_no_barrier_is_needed(void **state)
{
	(void)state;
	hold_mine(0, 2 * STASH_BATCH);
	look();
	fault_arm(FAULT_MEMBARRIER, 1, FOR_EVER);
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(parcels(own_stash()), full(1));
	get_back(&mine, 0, STASH_BATCH);
	assert_step(STASH_BATCH, STASH_BATCH, 0, 0);
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_true(gather_own(&pool->allocator));
	assert_int_equal(parcels(own_stash()), 0);
	assert_step(0, STASH_BATCH, 0, STASH_BATCH);
	assert_int_equal(fault_disarm(), 0);
}

/* Others do. */
static void test_others_are_refused_one(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	fault_arm(FAULT_MEMBARRIER, 1, FOR_EVER);
	actor_do(&other, gather_quietly, NULL);
	assert_true(fault_disarm() > 0);
	assert_int_equal(parcels(own_stash()), full(1));
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	get_back(&mine, 0, STASH_BATCH);
	assert_step(STASH_BATCH, 0, -STASH_BATCH, 0);
}

/* The one that closes the stash is allowed, the one after that is not. */
static void test_what_is_taken_out_strays(void **state)
{
	struct atomic_u32 *strays = &pool->allocator.stashes.strays;

	(void)state;
	hold_mine(0, STASH_BATCH);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	fault_arm(FAULT_MEMBARRIER, 2, FOR_EVER);
	actor_do(&other, gather_quietly, NULL);
	assert_true(fault_disarm() > 0);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(u32_load_relaxed(strays), STASH_BATCH);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	actor_do(&other, gather_quietly, NULL);
	assert_int_equal(u32_load_relaxed(strays), 0);
	assert_step(0, 0, -STASH_BATCH, STASH_BATCH);
}

/* ------------------------------------------------------------------- nodes */

static const int nodes[] = { 0, 2 };

static int begin_nodes(void **state)
{
	machine_begin(nodes, 2);
	machine_run_at(2);
	return begin(state);
}

static int end_nodes(void **state)
{
	end(state);
	machine_end();
	return 0;
}

static struct seg_pool_stats on_node(int node)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	require(seg_pool_stats(pool, node, SEG_ALL, &s) == 0);
	return s;
}

/* Their owner goes on where they are, be it that it was elsewhere. */
static void test_they_are_of_the_threads_node(void **state)
{
	(void)state;
	hold_mine(0, STASH_BATCH);
	machine_run_at(0);
	do
		get(0);
	while (!parked(0));
	while (parked(0))
		get(0);
	machine_run_at(2);
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_int_equal(on_node(2).cached, STASH_BATCH);
	get_back(&mine, 0, STASH_BATCH);
	assert_step(STASH_BATCH, STASH_BATCH, 0, 0);
}

/* It needs others now: they go to their regions. */
static void test_they_are_of_another_node(void **state)
{
	uint64_t unused, here;

	(void)state;
	hold_mine(0, STASH_BATCH);
	machine_run_at(0);
	get(0);
	while (parked(0))
		get(0);
	here = on_node(0).active;
	look();
	assert_int_equal(other_releases(&mine, STASH_BATCH), 0);
	assert_step(0, STASH_BATCH, STASH_BATCH, 0);
	unused = on_node(2).unused;
	assert_int_equal(on_node(2).cached, STASH_BATCH);
	get(0);
	assert_int_equal(parcels(own_stash()), 0);
	assert_int_equal(on_node(2).cached, 0);
	assert_int_equal(on_node(2).unused, unused + STASH_BATCH);
	assert_int_equal(on_node(0).active, here + 1);
	assert_int_equal(on_node(0).cached, parked(0));
	assert_true(seg_pool_is_valid(pool));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)
#define NODES(f) cmocka_unit_test_setup_teardown(f, begin_nodes, end_nodes)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_the_owner_hears_of_a_lost_one),
		TEST(test_a_lost_one_is_parked_once),
		TEST(test_who_gathers_hears_of_a_lost_one),
		TEST(test_the_owners_own_gathering_hears_of_a_lost_one),
		TEST(test_handles),
		TEST(test_a_fork_while_one_brings),
		TEST(test_no_barrier_is_needed),
		TEST(test_others_are_refused_one),
		TEST(test_what_is_taken_out_strays),
		NODES(test_they_are_of_the_threads_node),
		NODES(test_they_are_of_another_node),
	};

	if (!sections_begin()) {
		print_message("no membarrier, so no stashes\n");
		return TESTING_SKIPPED;
	}
	return run_group(tests);
}
