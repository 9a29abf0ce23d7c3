/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Stashes: their owners allocate and release while others empty them; who waits
 * at the limit finds what is parked; and the room of all is bounded.
 */
#include "stashes.h"

#include <string.h>

#include "os.h"

static struct allocator *const allocator = &stashes_pool.allocator;

/* ---- the owner against who empties ---- */

static void two_parked(void)
{
	stashes_open(2, 2);
}

static void two_parked_refused(void)
{
	two_parked();
	explore_barriers_left = 0;
}

static void close_allowed(void)
{
	explore_barriers_left = 64;
	stashes_close();
}

static void use_one(void)
{
	stashes_use_and_release(stashes_take());
}

static void use_or_empty(unsigned thread)
{
	if (thread)
		gather_all(allocator, false);
	else
		use_one();
}

static void use_both_or_empty(unsigned thread)
{
	void *first, *second;

	if (thread) {
		gather_all(allocator, false);
		return;
	}
	first = stashes_take();
	second = stashes_take();
	stashes_use_and_release(first);
	stashes_use_and_release(second);
}

/* Another one with a stash takes what was emptied. */
static void use_or_empty_and_use(unsigned thread)
{
	if (thread)
		gather_all(allocator, false);
	use_one();
}

static const struct explore_twin empty_twins[] = {
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("closed not looked at", SKIP, "stash_is_open", "load"),
	EXPLORE_TWIN("relaxed look at closed", RELAX, "stash_is_open", "load"),
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	EXPLORE_TWIN("relaxed look at the section", RELAX, "section_is_left",
		     "load"),
	EXPLORE_TWIN("relaxed reopening", RELAX, "reopen", "cas"),
	{ .name = NULL },
};

static const struct explore_twin refused_twins[] = {
	EXPLORE_TWIN_SWITCH("refusal not looked at", explore_throw_barrier),
	{ .name = NULL },
};

static const struct explore_twin two_empty_twins[] = {
	EXPLORE_TWIN("closed for nothing", BLIND, "close_it", "cas"),
	EXPLORE_TWIN("closed in two steps", SPLIT, "close_it", "cas"),
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	{ .name = NULL },
};

static const struct explore_twin hand_on_twins[] = {
	EXPLORE_TWIN("relaxed give", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN("relaxed take", RELAX, "region_take_unused", "cas"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* ---- the thread ends, the keeper looks ---- */

static void end_or_empty(unsigned thread)
{
	if (thread) {
		gather_all(allocator, false);
		return;
	}
	use_one();
	gather_end(stash_of(&allocator->stashes));
	thread_slot_set(0, NULL);
}

static const struct explore_twin end_twins[] = {
	EXPLORE_TWIN("closed not looked at", SKIP, "stash_is_open", "load"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

static void use_or_look(unsigned thread)
{
	if (thread) {
		gather_idle(allocator);
		gather_idle(allocator);
		return;
	}
	use_one();
}

static const struct explore_twin look_twins[] = {
	EXPLORE_TWIN("room not given back", SKIP, "stash_drop_room", "sub"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

static void sum_or_look(unsigned thread)
{
	uint32_t ended;
	struct class_sum sum;

	if (thread) {
		gather_idle(allocator);
		return;
	}
	ended = moves_ended(&allocator->moves);
	sum = class_pool_sum(stashes_class);
	if (!moves_none_since(&allocator->moves, ended))
		return;
	explore_check(class_sum_active(sum) == 0);
	explore_check(sum.unused + sum.cached == 2);
	explore_check(sum.allocations == sum.releases);
}

/* What the other two exchanges order, loads before stores, is not explored. */
static const struct explore_twin sum_twins[] = {
	EXPLORE_TWIN("moves not told of", SKIP, "moves_begin", "add_seq"),
	EXPLORE_TWIN("relaxed end", RELAX, "moves_end", "add_seq"),
	EXPLORE_TWIN("relaxed look before", RELAX, "moves_ended", "load"),
	{ .name = NULL },
};

static void room_is_right(void)
{
	uint64_t room = 0;

	for (uint32_t n = 1; n <= stashes_used(&allocator->stashes); n++)
		room += stash_at(&allocator->stashes, n)->magazine[0].room;
	explore_check(u64_load_relaxed(&allocator->stashes.room_bytes) ==
		      room * SEG_MIN_BYTES);
	stashes_close();
}

/* ---- waiting at the limit ---- */

static void *held;

/* Thread 0 has the only slice, out of its stash. */
static void one_is_out(void)
{
	stashes_open(1, 2);
	held = stashes_take();
	explore_check(held);
}

static void wait_and_use(void)
{
	struct limit_want want = { .deadline_ns = OS_FOREVER };
	struct limit_report report;
	struct taken t = limit_allocate(stashes_class, &want, &report);

	explore_check(t.segment);
	stashes_use_and_release(t.segment);
}

static void release_or_wait(unsigned thread)
{
	if (thread == 0)
		stashes_use_and_release(held);
	else
		wait_and_use();
}

/* Who empties beside the one that waits makes it find the stash closed. */
static void release_or_wait_or_empty(unsigned thread)
{
	if (thread == 2)
		gather_all(allocator, false);
	else
		release_or_wait(thread);
}

static const struct explore_twin wait_twins[] = {
	EXPLORE_TWIN("waiters not looked at", SKIP, "nobody_waits", "load"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

static const struct explore_twin wait_empty_twins[] = {
	{ .name = "not told that it was wanted", .mutation = EXPLORE_SKIP,
	  .function = "close_it", .op = "cas", .nth = 2 },
	EXPLORE_TWIN("nobody woken after reopening", SKIP,
		     "budget_has_waiters", "load"),
	EXPLORE_TWIN("waiters not looked at", SKIP, "nobody_waits", "load"),
	{ .name = NULL },
};

/* ---- room ---- */

static void no_room_yet(void)
{
	stashes_open(1, 2);
	for (uint32_t n = 1; n <= 2; n++)
		stash_drop_room(&allocator->stashes,
				stash_at(&allocator->stashes, n), 0,
				SEG_MIN_BYTES);
	memset(&allocator->stashes.busy, 0, sizeof(struct atomic_u32));
	memset(&allocator->stashes.room_bytes, 0, sizeof(struct atomic_u64));
	allocator->stashes.most_bytes = 5 * SEG_MIN_BYTES;
}

static void grow(unsigned thread)
{
	struct stash *st = stash_at(&allocator->stashes, thread + 1);

	stash_grow(&allocator->stashes, st, 0, SEG_MIN_BYTES, 0);
	explore_check(u64_load_relaxed(&allocator->stashes.room_bytes) <=
		      allocator->stashes.most_bytes);
}

static const struct explore_twin room_twins[] = {
	EXPLORE_TWIN("reserved in two steps", SPLIT, "reserve", "cas"),
	EXPLORE_TWIN("reserved blindly", BLIND, "reserve", "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_stash[] = {
	{ .name = "stash: use against emptying", .threads = 2,
	  .setup = two_parked, .body = use_or_empty, .post = stashes_close,
	  .twins = empty_twins },
	{ .name = "stash: use of two against two that empty", .threads = 3,
	  .setup = two_parked, .body = use_both_or_empty,
	  .post = stashes_close, .twins = two_empty_twins },
	{ .name = "stash: use against refused emptying", .threads = 2,
	  .setup = two_parked_refused, .body = use_or_empty,
	  .post = close_allowed, .twins = refused_twins },
	{ .name = "stash: emptied and used by another", .threads = 2,
	  .setup = two_parked, .body = use_or_empty_and_use,
	  .post = stashes_close, .twins = hand_on_twins },
	{ .name = "stash: a thread's end against emptying", .threads = 2,
	  .setup = two_parked, .body = end_or_empty, .post = stashes_close,
	  .twins = end_twins },
	{ .name = "stash: use against the keeper's looks", .threads = 2,
	  .setup = two_parked, .body = use_or_look, .post = room_is_right,
	  .twins = look_twins },
	{ .name = "stash: figures against the keeper's looks", .threads = 2,
	  .setup = two_parked, .body = sum_or_look, .post = room_is_right,
	  .twins = sum_twins },
	{ .name = "stash: release against waiting", .threads = 2,
	  .setup = one_is_out, .body = release_or_wait,
	  .post = stashes_close, .twins = wait_twins },
	{ .name = "stash: release against waiting and emptying", .threads = 3,
	  .setup = one_is_out, .body = release_or_wait_or_empty,
	  .post = stashes_close, .twins = wait_empty_twins },
	{ .name = "stash: two get room", .threads = 2,
	  .setup = no_room_yet, .body = grow, .post = room_is_right,
	  .twins = room_twins },
	{ .name = NULL },
};
