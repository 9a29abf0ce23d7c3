/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims are brought to the owner's inbox: while it takes and releases, while
 * others empty it or ask for figures, and while somebody waits for memory.
 */
#include "stashes.h"

#include "inbox.h"
#include "os.h"

enum { MOST = 4 };

static struct allocator *const allocator = &stashes_pool.allocator;
static void *held[MOST];

/* Thread 0 has so many of them out, the others are parked. */
static void some_are_out(unsigned out, unsigned slices, unsigned threads)
{
	stashes_open(slices, threads);
	for (unsigned i = 0; i < out; i++) {
		held[i] = stashes_take();
		explore_check(held[i]);
	}
}

/* As a release by another thread, up to where it is looked how many there
 * are. */
static void claim(void *segment)
{
	struct stash *st = stash_of(&allocator->stashes);
	struct region *r = stashes_region(segment);
	uint32_t slice = (uint32_t)region_slice_of(r, segment);

	struct claim alone, *place;

	stashes_use(segment);
	section_enter(&st->section);
	place = claim_place(st);
	explore_check(claim_make(place ? place : &alone, r, slice,
				 region_generation(r, slice)));
	if (place)
		claim_stands(st);
	section_leave(&st->section);
	if (!place)
		gather_claim(allocator, st, &alone);
}

static void look_how_many(void)
{
	gather_claimed(allocator, stash_of(&allocator->stashes),
		       stashes_region(held[0]));
}

static void claim_two_and_bring(unsigned first)
{
	claim(held[first]);
	claim(held[first + 1]);
	look_how_many();
}

static void use_two(void)
{
	void *first = stashes_take(), *second = stashes_take();

	stashes_use_and_release(first);
	stashes_use_and_release(second);
}

/* ---- the owner goes on ---- */

static void two_are_out(void)
{
	some_are_out(2, 3, 2);
}

static void go_on_or_bring(unsigned thread)
{
	if (thread)
		claim_two_and_bring(0);
	else
		use_two();
}

static const struct explore_twin go_on_twins[] = {
	EXPLORE_TWIN("relaxed bringing", RELAX, "bring_to", "add_seq"),
	EXPLORE_TWIN("relaxed look", RELAX, "inbox_full", "load"),
	EXPLORE_TWIN("not settled", SKIP, "claim_is_won", "store"),
	{ .name = NULL },
};

/* ---- another one empties all ---- */

static void two_are_out_of_three(void)
{
	some_are_out(2, 3, 3);
}

static void go_on_or_bring_or_empty(unsigned thread)
{
	if (thread == 2)
		gather_all(allocator, false);
	else
		go_on_or_bring(thread);
}

static const struct explore_twin empty_twins[] = {
	EXPLORE_TWIN("parcel emptied, but not free", SKIP, "inbox_take",
		     "sub_seq"),
	EXPLORE_TWIN("closed not looked at", SKIP, "stash_is_open", "load"),
	{ .name = NULL },
};

/* ---- two bring, and there is one parcel ---- */

static void three_are_out_two_claimed(void)
{
	some_are_out(3, 4, 3);
	explore_as(1);
	claim(held[0]);
	explore_as(2);
	claim(held[1]);
	explore_as(0);
}

/* The second one finds no free parcel, or one that was emptied. */
static void take_or_bring(unsigned thread)
{
	if (thread == 0) {
		stashes_use_and_release(stashes_take());
		use_two();
	} else if (thread == 1) {
		claim(held[2]);
		look_how_many();
	} else {
		look_how_many();
	}
}

static const struct explore_twin two_bring_twins[] = {
	EXPLORE_TWIN("not settled", SKIP, "claim_is_won", "store"),
	{ .name = NULL },
};

static void four_are_claimed(void)
{
	some_are_out(4, 4, 3);
	explore_as(1);
	claim(held[0]);
	claim(held[1]);
	explore_as(2);
	claim(held[2]);
	claim(held[3]);
	explore_as(0);
}

static void take_or_bring_two(unsigned thread)
{
	if (thread)
		look_how_many();
	else
		use_two();
}

static const struct explore_twin reserve_twins[] = {
	EXPLORE_TWIN("reserved in two steps", SPLIT, "reserve", "cas"),
	EXPLORE_TWIN("reserved blindly", BLIND, "reserve", "cas"),
	EXPLORE_TWIN("relaxed reserving", RELAX, "reserve", "cas"),
	EXPLORE_TWIN("relaxed emptying", RELAX, "inbox_take", "sub_seq"),
	{ .name = NULL },
};

/* ---- the owner releases one of them, too ---- */

static void one_released_twice(void)
{
	two_are_out_of_three();
	explore_misuses_left = 1;
}

/* Who is too late is told so at once, and then has one claim. */
static void release_and_take_or_bring(unsigned thread)
{
	if (thread == 0) {
		stashes_release(held[0]);
		use_two();
	} else {
		claim(held[1]);
		stashes_release(held[0]);
	}
}

static const struct explore_twin twice_twins[] = {
	EXPLORE_TWIN("claimed for nothing", BLIND, "claim_make", "cas"),
	{ .name = NULL },
};

static void release_or_bring_or_empty(unsigned thread)
{
	if (thread == 0) {
		stashes_release(held[0]);
	} else if (thread == 1) {
		claim(held[1]);
		stashes_release(held[0]);
	} else {
		gather_all(allocator, false);
	}
}

static const struct explore_twin twice_empty_twins[] = {
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

static void settle_all(void)
{
	gather_all(allocator, true);
	stashes_close();
}

/* ---- waiting at the limit ---- */

/* All that there is; thread 1 has claimed one of them. */
static void all_are_out(void)
{
	some_are_out(2, 2, 3);
	explore_as(1);
	claim(held[0]);
	explore_as(0);
}

static void bring_or_wait(unsigned thread)
{
	struct limit_want want = { .deadline_ns = OS_FOREVER };
	struct limit_report report;
	struct taken t;

	if (thread == 1)
		stashes_use_and_release(held[1]);
	if (thread != 2)
		return;
	t = limit_allocate(stashes_class, &want, &report);
	explore_check(t.segment);
	stashes_use_and_release(t.segment);
}

static const struct explore_twin wait_twins[] = {
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

/* ---- what can be asked meanwhile ---- */

static void bring_or_ask(unsigned thread)
{
	struct class_sum sum;

	if (thread) {
		claim_two_and_bring(0);
		return;
	}
	sum = class_pool_sum(stashes_class);
	explore_check(sum.cached <= sum.slices);
	explore_check(class_sum_active(sum) <= 2);
}

static const struct explore_twin ask_twins[] = {
	EXPLORE_TWIN("relaxed count", RELAX, "move", "store_release"),
	EXPLORE_TWIN("relaxed look", RELAX, "add_inbox", "load_acquire"),
	{ .name = NULL },
};

const struct explore_scenario explore_inbox[] = {
	{ .name = "inbox: brought while the owner goes on", .threads = 2,
	  .setup = two_are_out, .body = go_on_or_bring, .post = settle_all,
	  .twins = go_on_twins },
	{ .name = "inbox: so, and another one empties all", .threads = 3,
	  .setup = two_are_out_of_three, .body = go_on_or_bring_or_empty,
	  .post = settle_all, .twins = empty_twins },
	{ .name = "inbox: one brings, one has too few", .threads = 3,
	  .setup = three_are_out_two_claimed, .body = take_or_bring,
	  .post = settle_all, .twins = two_bring_twins },
	{ .name = "inbox: two bring, and there is one parcel", .threads = 3,
	  .setup = four_are_claimed, .body = take_or_bring_two,
	  .post = settle_all, .twins = reserve_twins },
	{ .name = "inbox: the owner's release against a brought claim",
	  .threads = 2, .setup = one_released_twice,
	  .body = release_and_take_or_bring, .post = settle_all,
	  .twins = twice_twins },
	{ .name = "inbox: so, and another one empties all it finds",
	  .threads = 3, .setup = one_released_twice,
	  .body = release_or_bring_or_empty, .post = settle_all,
	  .twins = twice_empty_twins },
	{ .name = "inbox: brought while another one waits", .threads = 3,
	  .setup = all_are_out, .body = bring_or_wait, .post = settle_all,
	  .twins = wait_twins },
	{ .name = "inbox: asked for the figures meanwhile", .threads = 2,
	  .setup = two_are_out, .body = bring_or_ask, .post = settle_all,
	  .twins = ask_twins },
	{ .name = NULL },
};
