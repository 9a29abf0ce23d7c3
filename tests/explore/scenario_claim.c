/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Slices of a stash that others release: claims, who wins them, and what comes
 * of those that can't be settled since the owner is in its section.
 */
#include "stashes.h"

#include "claim.h"

static struct allocator *const allocator = &stashes_pool.allocator;
static void *held, *later;

/* Thread 0 has one of two slices out, the other is parked. */
static void one_of_two_is_out(unsigned threads)
{
	stashes_open(2, threads);
	held = stashes_take();
	explore_check(held);
}

static void settle_all(unsigned threads)
{
	for (unsigned i = 0; i < threads; i++) {
		explore_as(i);
		gather_own(allocator);
	}
	stashes_close();
}

/* ---- two releases of one hand-out ---- */

static void released_twice(void)
{
	one_of_two_is_out(2);
	explore_misuses_left = 1;
}

static void release(unsigned thread)
{
	stashes_release(held);
	if (thread)
		gather_own(allocator);
}

static void two_are_there(void)
{
	settle_all(2);
}

/* What thread 0 took last is another one. */
static void not_the_last_released_twice(void)
{
	released_twice();
	later = stashes_take();
	explore_check(later);
}

static void the_last_is_out(void)
{
	explore_as(0);
	stashes_release(later);
	settle_all(2);
}

/* Nothing can be settled, until it is allowed again. */
static void released_twice_refused(void)
{
	released_twice();
	explore_barriers_left = 0;
}

static void two_are_there_allowed(void)
{
	explore_barriers_left = 64;
	for (unsigned i = 0; i < 2; i++) {
		explore_as(i);
		gather_own(allocator);
	}
	gather_all(allocator, true);
	stashes_close();
}

static const struct explore_twin refused_twins[] = {
	EXPLORE_TWIN_SWITCH("refusal not looked at", explore_throw_barrier),
	{ .name = NULL },
};

/* Three: the owner, and two that claim. */
static void released_thrice(void)
{
	one_of_two_is_out(3);
	explore_misuses_left = 2;
}

static void three_are_there(void)
{
	settle_all(3);
}

static const struct explore_twin twice_twins[] = {
	EXPLORE_TWIN("claimed for nothing", BLIND, "claim_make", "cas"),
	EXPLORE_TWIN("no look at the section", SKIP, "section_is_left", "load"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

static const struct explore_twin thrice_twins[] = {
	EXPLORE_TWIN("claimed for nothing", BLIND, "claim_make", "cas"),
	EXPLORE_TWIN("claim in two steps", SPLIT, "claim_make", "cas"),
	{ .name = NULL },
};

/* ---- a release by another while the owner goes on ---- */

static void one_for_another(void)
{
	one_of_two_is_out(3);
}

/* Thread 2 takes up what thread 1 left, or takes its claim along. */
static void go_on_or_claim(unsigned thread)
{
	if (thread == 0)
		stashes_use_and_release(stashes_take());
	else if (thread == 1)
		stashes_use_and_release(held);
	else
		gather_all(allocator, false);
}

/* Its claim is a stray if the owner is inside. */
static void go_on_or_claim_and_end(unsigned thread)
{
	if (thread == 0) {
		stashes_use_and_release(stashes_take());
	} else if (thread == 1) {
		stashes_use_and_release(held);
		gather_end(stash_of(&allocator->stashes));
		thread_slot_set(0, NULL);
	} else {
		gather_all(allocator, false);
	}
}

static const struct explore_twin settle_twins[] = {
	EXPLORE_TWIN("not settled", SKIP, "claim_is_won", "store"),
	{ .name = NULL },
};

/* A stray, made in the setup: it was claimed while the owner was inside. */
static void one_strays(void)
{
	struct stash *owner;

	one_of_two_is_out(3);
	explore_as(0);
	owner = stash_of(&allocator->stashes);
	section_enter(&owner->section);
	explore_as(1);
	stashes_use_and_release(held);
	gather_all(allocator, false);
	explore_as(0);
	section_leave(&owner->section);
	explore_check(u32_load_relaxed(&allocator->stashes.strays) == 1);
}

static void go_on_or_take_up(unsigned thread)
{
	if (thread)
		claims_settle_strays(allocator);
	else
		stashes_use_and_release(stashes_take());
}

static const struct explore_twin stray_twins[] = {
	EXPLORE_TWIN("taken up in two steps", SPLIT, "clear_bit", "and"),
	EXPLORE_TWIN("not taken up", SKIP, "clear_bit", "and"),
	{ .name = NULL },
};

/* ---- a wrong release of what another has by now ---- */

/* Both slices are unused, and were thread 0's; the second one will be parked by
 * who takes the first. */
static void two_were_owned(void)
{
	struct region *r;

	stashes_open(2, 2);
	gather_own(allocator);
	r = stashes_region((void *)EXPLORE_FIRST_REGION);
	held = region_slice(r, 1 - word_head(region_look(r)));
	explore_misuses_left = 1;
}

static void take_two_or_release(unsigned thread)
{
	void *first, *second;

	if (thread == 0) {
		stashes_release(held);
		gather_own(allocator);
		return;
	}
	first = stashes_take();
	second = stashes_take();
	stashes_release(second);
	stashes_release(first);
}

static const struct explore_twin wrong_twins[] = {
	EXPLORE_TWIN("owner looked at before the generation", RELAX,
		     "stash_park", "load"),
	EXPLORE_TWIN("claimed for nothing", BLIND, "claim_make", "cas"),
	{ .name = NULL },
};

/* ---- what can be asked meanwhile ---- */

static void claim_or_ask(unsigned thread)
{
	struct class_sum sum;

	if (thread == 1) {
		stashes_use_and_release(held);
		gather_own(allocator);
	}
	if (thread)
		return;
	sum = class_pool_sum(stashes_class);
	explore_check(sum.cached <= sum.slices);
	explore_check(class_sum_active(sum) <= 1);
}

static const struct explore_twin ask_twins[] = {
	EXPLORE_TWIN("relaxed stand", RELAX, "claims_set", "store_release"),
	EXPLORE_TWIN("relaxed look", RELAX, "add", "load_acquire"),
	{ .name = NULL },
};

/* ---- a stray that its owner releases, too ---- */

static void released_twice_stray(void)
{
	one_of_two_is_out(3);
	explore_misuses_left = 1;
}

static void release_or_end_or_empty(unsigned thread)
{
	if (thread < 2)
		stashes_release(held);
	if (thread == 1) {
		gather_end(stash_of(&allocator->stashes));
		thread_slot_set(0, NULL);
	}
	if (thread == 2)
		gather_all(allocator, false);
}

/* The figures are right when it was looked for. */
static void one_is_reported(void)
{
	gather_all(allocator, true);
	stashes_close();
}

static const struct explore_twin lost_twins[] = {
	EXPLORE_TWIN("mark blindly made", BLIND, "let_stray", "cas"),
	EXPLORE_TWIN("mark blindly taken off", BLIND, "clear_mark", "cas"),
	EXPLORE_TWIN("bit not set", SKIP, "set_bit", "or"),
	{ .name = NULL },
};

const struct explore_scenario explore_claim[] = {
	{ .name = "claim: the owner's release against another", .threads = 2,
	  .setup = released_twice, .body = release, .post = two_are_there,
	  .twins = twice_twins },
	{ .name = "claim: so, but it was not the last hand-out", .threads = 2,
	  .setup = not_the_last_released_twice, .body = release,
	  .post = the_last_is_out, .twins = twice_twins },
	{ .name = "claim: two releases, settling refused", .threads = 2,
	  .setup = released_twice_refused, .body = release,
	  .post = two_are_there_allowed, .twins = refused_twins },
	{ .name = "claim: the owner's release against two others",
	  .threads = 3, .setup = released_thrice, .body = release,
	  .post = three_are_there, .twins = thrice_twins },
	{ .name = "claim: while the owner goes on", .threads = 3,
	  .setup = one_for_another, .body = go_on_or_claim,
	  .post = three_are_there, .twins = settle_twins },
	{ .name = "claim: of a thread that ends", .threads = 3,
	  .setup = one_for_another, .body = go_on_or_claim_and_end,
	  .post = stashes_close, .twins = settle_twins },
	{ .name = "claim: a stray against two that take it up", .threads = 3,
	  .setup = one_strays, .body = go_on_or_take_up,
	  .post = three_are_there, .twins = stray_twins },
	{ .name = "claim: a wrong release of another's slice", .threads = 2,
	  .setup = two_were_owned, .body = take_two_or_release,
	  .post = two_are_there, .twins = wrong_twins },
	{ .name = "claim: asked for the figures meanwhile", .threads = 2,
	  .setup = one_for_another, .body = claim_or_ask,
	  .post = three_are_there, .twins = ask_twins },
	{ .name = "claim: a stray against the owner's release", .threads = 3,
	  .setup = released_twice_stray, .body = release_or_end_or_empty,
	  .post = one_is_reported, .twins = lost_twins },
	{ .name = NULL },
};
