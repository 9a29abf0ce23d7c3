/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The region word: take, give, retire.  What the slices hold, and the region
 * itself, are race-checked cells: two owners, or an owner after the unmapping,
 * are a data race or a use after free.
 */
#include "explore.h"

#include <string.h>

#include "rcu.h"
#include "region.h"

enum { SLICES = 3 };

/* As region_init() lays them out. */
static struct {
	struct region region;
	struct atomic_u64 generations[SLICES];
	struct atomic_u16 links[SLICES];
	struct atomic_u16 owners[SLICES];
	struct atomic_u64 stray_bits;
} memory;

static struct region *const region = &memory.region;
static struct explore_cell contents[SLICES];
static struct explore_cell header;	/* the region's own memory */
static struct atomic_ptr published;	/* stands for bands and table */
static struct atomic_u32 winners;

static void open_region(uint32_t slices, uint32_t taken)
{
	memset(&memory, 0, sizeof(memory));
	memset(&winners, 0, sizeof(winners));
	region_init(region, memory.generations, slices, taken);
	ptr_store_relaxed(&published, region);
}

static bool is_retired(void)
{
	return word_retired(region_look(region));
}

static void region_holds(void)
{
	explore_check(is_retired() || region_is_valid(region));
}

static void nothing_is_out(void)
{
	region_holds();
	explore_check(is_retired() ||
		      word_unused(region_look(region)) == region->slices);
}

/* ---- taking and giving, by owners that may hold on to the region ---- */

static void use(uint32_t slice, unsigned thread)
{
	explore_write(&contents[slice], thread + 1);
	explore_pause();
	explore_check(explore_read(&contents[slice]) == thread + 1);
}

static uint32_t take(uint32_t want, uint32_t *slices, unsigned thread)
{
	struct word_change change;
	uint32_t n = region_take(region, want, slices, NULL, &change);

	for (uint32_t i = 0; i < n; i++)
		use(slices[i], thread);
	return n;
}

static void give(uint32_t slice)
{
	explore_check(region_disown(region, slice));
	region_give(region, slice);
}

/* ---- 1: the free list ---- */

/* Slice 0 is out, thread 1 holds it. */
static void one_is_out(void)
{
	open_region(SLICES, 1);
}

/*
 * Thread 1 takes the two others and gives back so that the list starts and
 * counts as before, but goes on with another slice.  Whoever took the link
 * before that would put a slice on the list that thread 1 holds.
 */
static void take_give_take(unsigned thread)
{
	uint32_t first, second;

	if (thread == 0) {
		take(1, &first, thread);
		take(1, &second, thread);
	} else if (take(1, &first, thread) && take(1, &second, thread)) {
		give(0);
		give(first);
	}
}

static const struct explore_twin list_twins[] = {
	EXPLORE_TWIN_SWITCH("tag left out", explore_throw_tag),
	EXPLORE_TWIN("take in two steps", SPLIT, "region_take_unused", "cas"),
	EXPLORE_TWIN("blind take", BLIND, "region_take_unused", "cas"),
	EXPLORE_TWIN("blind give", BLIND, "region_give_all", "cas"),
	EXPLORE_TWIN("link left out", SKIP, "link_store", "store"),
	{ .name = NULL },
};

static void all_unused(void)
{
	open_region(SLICES, 0);
}

/* Three owners in turn: contents and links travel through the word. */
static void take_batch_give(unsigned thread)
{
	uint32_t slices[2];
	uint32_t n = take(thread == 0 ? 2 : 1, slices, thread);

	while (n--)
		give(slices[n]);
}

static const struct explore_twin batch_twins[] = {
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN("relaxed take", RELAX, "region_take_unused", "cas"),
	EXPLORE_TWIN("give in two steps", SPLIT, "region_give_all", "cas"),
	{ .name = NULL },
};

/* ---- 2, 3: against retiring ---- */

/* The last owner's use is over by the word alone; late lookers need RCU. */
static void retire(void)
{
	if (!region_retire(region, region_look(region)))
		return;
	u32_add_relaxed(&winners, 1);
	for (unsigned i = 0; i < SLICES; i++)
		explore_free(&contents[i]);
	ptr_store_release(&published, NULL);
	rcu_wait_for_readers();
	explore_free(&header);
}

static uint32_t take_if_there(uint32_t want, uint32_t *slices, unsigned thread)
{
	uint32_t n = 0;

	rcu_enter();
	if (ptr_load_acquire(&published)) {
		explore_read(&header);
		n = take(want, slices, thread);
	}
	rcu_leave();
	return n;
}

/* The region is touched after the give: for its hints. */
static void give_in_section(uint32_t slice)
{
	rcu_enter();
	explore_read(&header);
	give(slice);
	explore_pause();
	explore_read(&header);
	rcu_leave();
}

static void take_or_retire(unsigned thread)
{
	uint32_t slices[SLICES], n;

	if (thread == 0) {
		retire();
		return;
	}
	n = take_if_there(thread == 1 ? SLICES : 1, slices, thread);
	while (n--)
		give_in_section(slices[n]);
}

static const struct explore_twin retire_twins[] = {
	EXPLORE_TWIN("retire flag set late", SPLIT, "region_retire", "cas"),
	EXPLORE_TWIN("blind retire", BLIND, "region_retire", "cas"),
	EXPLORE_TWIN("no retire flag", SKIP, "region_retire", "cas"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* One slice, out: its owner gives it back while two want to retire. */
static void the_only_one_is_out(void)
{
	open_region(1, 1);
}

static void give_or_retire(unsigned thread)
{
	if (thread == 0) {
		explore_write(&contents[0], 1);
		give_in_section(0);
	} else {
		retire();
	}
}

static void one_retired_it(void)
{
	explore_check(u32_load_relaxed(&winners) <= 1);
	nothing_is_out();
}

static const struct explore_twin give_twins[] = {
	EXPLORE_TWIN("retire in two steps", SPLIT, "region_retire", "cas"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* ---- one hand-out is released once ---- */

static void release_twice(unsigned thread)
{
	uint32_t slice;

	if (thread < 2) {
		if (region_disown_exactly(region, 0, 1)) {
			u32_add_relaxed(&winners, 1);
			explore_write(&contents[0], 9);
			region_give(region, 0);
		}
	} else if (take(1, &slice, thread)) {
		explore_check(region_generation(region, slice) & 1);
	}
}

static void released_once(void)
{
	explore_check(u32_load_relaxed(&winners) == 1);
	region_holds();
}

static const struct explore_twin release_twins[] = {
	EXPLORE_TWIN("generation in two steps", SPLIT,
		     "region_disown_exactly", "cas"),
	EXPLORE_TWIN("generation ignored", BLIND, "region_disown_exactly",
		     "cas"),
	{ .name = NULL },
};

const struct explore_scenario explore_region[] = {
	{ .name = "region: take against take, give, take", .threads = 2,
	  .setup = one_is_out, .body = take_give_take, .post = region_holds,
	  .twins = list_twins },
	{ .name = "region: batch, contents handed on", .threads = 3,
	  .setup = all_unused, .body = take_batch_give,
	  .post = nothing_is_out, .twins = batch_twins },
	{ .name = "region: batch take against retire", .threads = 3,
	  .setup = all_unused, .body = take_or_retire,
	  .post = nothing_is_out, .twins = retire_twins },
	{ .name = "region: last give against two retirers", .threads = 3,
	  .setup = the_only_one_is_out, .body = give_or_retire,
	  .post = one_retired_it, .twins = give_twins },
	{ .name = "region: one hand-out released twice", .threads = 3,
	  .setup = the_only_one_is_out, .body = release_twice,
	  .post = released_once, .twins = release_twins },
	{ .name = NULL },
};
