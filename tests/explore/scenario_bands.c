/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The hints: when all are quiet, a region with unused slices is in one set,
 * and no other region is in any.  Three levels of two, so that each bit of the
 * inner levels is fought for.
 */
#include "explore.h"

#include <string.h>

#include "bands.h"
#include "rcu.h"

enum { REGIONS = 3, SLICES = 2, MOST_SLICES = 8 };

/* As region_init() lays them out. */
static struct {
	struct region region;
	struct atomic_u64 generations[MOST_SLICES];
	struct atomic_u16 links[MOST_SLICES];
	struct atomic_u16 owners[MOST_SLICES];
	struct atomic_u64 stray_bits;
} memory[REGIONS];

static struct bands bands;
static struct explore_cell fields[REGIONS];	/* of the region struct */

static void add_sized(unsigned i, uint32_t slices, uint32_t taken)
{
	struct region *r = &memory[i].region;

	region_init(r, memory[i].generations, slices, taken);
	explore_check(bands_claim(&bands, &r->slot));
	explore_write(&fields[i], 1);
	bands_publish(&bands, r);
}

static void add_region(unsigned i, uint32_t taken)
{
	add_sized(i, SLICES, taken);
}

static void clear(void)
{
	memset(&bands, 0, sizeof(bands));
	memset(memory, 0, sizeof(memory));
}

/* Both regions stand in one leaf word. */
static void two_regions(void)
{
	clear();
	add_region(0, 1);
	add_region(1, 1);
}

/* Two leaf words of one mid word; thread 1 has the region of the other. */
static void three_regions(void)
{
	clear();
	add_region(0, 1);
	add_region(2, 2);
	add_region(1, 1);
}

static void one_region(void)
{
	clear();
	add_region(0, 1);
}

/* ---- the equation ---- */

static bool is_found(unsigned set, uint32_t slot)
{
	return bands_next(&bands, set, slot) == slot &&
	       bands_next(&bands, set, 0) <= slot;
}

static void check_slot(uint32_t slot)
{
	struct region *r = bands_at(&bands, slot);
	unsigned band = r ? bands_of(r, region_look(r)) : BAND_NONE;
	unsigned sets = 0;

	for (unsigned set = BAND_FULLEST; set <= BAND_SPARE; set++)
		sets += is_found(set, slot);
	explore_check(sets == (band != BAND_NONE));
	explore_check(is_found(BAND_VACANT, slot) == !r);
}

static void hints_are_right(void)
{
	for (uint32_t slot = 0; slot < bands_slots(&bands); slot++)
		check_slot(slot);
}

/* ---- operations as the class pool makes them ---- */

static bool take(struct region *r, uint32_t *ret_slice)
{
	struct word_change change;

	if (!region_take(r, 1, ret_slice, NULL, &change))
		return false;
	bands_changed(&bands, r, change.old, change.new);
	return true;
}

static void give(struct region *r, uint32_t slice)
{
	struct word_change change;

	explore_check(region_disown(r, slice));
	change = region_give(r, slice);
	bands_changed(&bands, r, change.old, change.new);
}

/* Takers of the last slice against the giver of the first. */
static void take_or_give(unsigned thread)
{
	struct region *r = &memory[0].region;
	uint32_t slice;

	if (thread == 0)
		give(r, 0);
	else
		take(r, &slice);
}

static const struct explore_twin settle_twins[] = {
	EXPLORE_TWIN("settle does not look again", SKIP, "set_remove", "and"),
	EXPLORE_TWIN("relaxed look", RELAX, "region_look", "load"),
	{ .name = NULL },
};

static const struct explore_twin last_twins[] = {
	EXPLORE_TWIN("relaxed clearing", RELAX, "set_remove", "and"),
	EXPLORE_TWIN("relaxed take", RELAX, "region_take_unused", "cas"),
	{ .name = NULL },
};

/* Two regions that share words: one comes into the set, one goes. */
static void come_and_go(unsigned thread)
{
	struct region *r = &memory[thread].region;
	uint32_t slice;

	if (thread == 0)
		take(r, &slice);
	else if (take(r, &slice))
		give(r, slice);
}

static const struct explore_twin shared_twins[] = {
	EXPLORE_TWIN("leaf set in two steps", SPLIT, "raise_bit", "or"),
	EXPLORE_TWIN("leaf cleared in two steps", SPLIT, "set_remove", "and"),
	EXPLORE_TWIN("inner bit not set again", SKIP, "lower_bit", "or"),
	{ .name = NULL },
};

static const struct explore_twin inner_twins[] = {
	EXPLORE_TWIN("inner bit cleared in two steps", SPLIT, "lower_bit",
		     "and"),
	{ .name = NULL },
};

/* Slots 0 and 1 share a leaf word; 1 comes while 0 and 2 go. */
static void middle_is_taken(void)
{
	clear();
	add_region(0, 1);
	add_region(1, 2);
	add_region(2, 1);
}

static void one_comes_two_go(unsigned thread)
{
	struct region *r = &memory[thread].region;
	uint32_t slice;

	if (thread == 1)
		give(r, 0);
	else
		take(r, &slice);
}

static const struct explore_twin third_twins[] = {
	EXPLORE_TWIN("top not looked at again", SKIP, "set_trim", "load"),
	{ .name = NULL },
};

/* Retired by one, and its slot given to the next region. */
static void retire_or_open(unsigned thread)
{
	struct region *r = &memory[0].region;

	if (thread == 0) {
		give(r, 0);
		if (region_retire(r, region_look(r)))
			bands_remove(&bands, r);
	} else {
		add_region(1, 1);
	}
}

/* A taker meanwhile settles what it finds to be wrong. */
static void retire_or_pick(unsigned thread)
{
	struct region *r;
	uint32_t slice;

	if (thread == 0) {
		retire_or_open(thread);
		return;
	}
	rcu_enter();
	r = bands_pick(&bands);
	if (r) {
		explore_read(&fields[r != &memory[0].region]);
		if (!take(r, &slice))
			bands_settle(&bands, r->slot);
	}
	rcu_leave();
}

/* One slot is vacant; two come. */
static void one_vacant(void)
{
	clear();
	add_region(2, 0);
	if (region_retire(&memory[2].region, region_look(&memory[2].region)))
		bands_remove(&bands, &memory[2].region);
}

static void open_one(unsigned thread)
{
	add_region(thread, 1);
}

static void slots_are_their_own(void)
{
	hints_are_right();
	explore_check(memory[0].region.slot != memory[1].region.slot);
}

static const struct explore_twin vacant_twins[] = {
	EXPLORE_TWIN("slot claimed twice", SPLIT, "set_remove", "and"),
	{ .name = NULL },
};

/* All unused, and still in the set from before the last release. */
static void just_idle(void)
{
	clear();
	add_sized(0, MOST_SLICES, 1);
	give(&memory[0].region, 0);
}

/* The keeper moves it to the spares, while it is used and idle again: each may
 * take the other's hint away, and must look at its own at the end. */
static void settle_or_use(unsigned thread)
{
	struct region *r = &memory[0].region;
	uint32_t slice;

	if (thread == 0)
		bands_settle(&bands, r->slot);
	else if (take(r, &slice))
		give(r, slice);
}

static const struct explore_twin idle_twins[] = {
	EXPLORE_TWIN("clearing left out", SKIP, "set_remove", "and"),
	{ .name = NULL },
};

/* Nothing is there yet: two come, one looks. */
static void open_or_look(unsigned thread)
{
	uint32_t slots;

	if (thread < 2) {
		add_region(thread, 1);
		return;
	}
	slots = bands_slots(&bands);
	for (uint32_t slot = 0; slot < slots; slot++) {
		struct region *r = bands_at(&bands, slot);

		if (r)
			explore_read(&fields[r != &memory[0].region]);
	}
}

static void both_are_there(void)
{
	hints_are_right();
	explore_check(bands_slots(&bands) == 2);
	for (unsigned i = 0; i < 2; i++)
		explore_check(bands_at(&bands, memory[i].region.slot) ==
			      &memory[i].region);
}

static const struct explore_twin open_twins[] = {
	EXPLORE_TWIN("slot claimed twice", BLIND, "claim_unused", "cas"),
	EXPLORE_TWIN("group made twice", BLIND, "group_make", "cas"),
	EXPLORE_TWIN("relaxed publication", RELAX, "put_region", "store"),
	{ .name = NULL },
};

const struct explore_scenario explore_bands[] = {
	{ .name = "bands: take against give", .threads = 3,
	  .setup = one_region, .body = take_or_give,
	  .post = hints_are_right, .twins = settle_twins },
	{ .name = "bands: the last is taken, the first given", .threads = 2,
	  .setup = two_regions, .body = take_or_give,
	  .post = hints_are_right, .twins = last_twins },
	{ .name = "bands: two regions in one word", .threads = 2,
	  .setup = two_regions, .body = come_and_go,
	  .post = hints_are_right, .twins = shared_twins },
	{ .name = "bands: two words below one", .threads = 2,
	  .setup = three_regions, .body = come_and_go,
	  .post = hints_are_right, .twins = inner_twins },
	{ .name = "bands: one comes, two go", .threads = 3,
	  .setup = middle_is_taken, .body = one_comes_two_go,
	  .post = hints_are_right, .twins = third_twins },
	{ .name = "bands: the first regions", .threads = 3, .setup = clear,
	  .body = open_or_look, .post = both_are_there,
	  .twins = open_twins },
	{ .name = "bands: a slot goes and comes", .threads = 2,
	  .setup = one_region, .body = retire_or_open,
	  .post = hints_are_right },
	{ .name = "bands: two come to one vacant slot", .threads = 2,
	  .setup = one_vacant, .body = open_one,
	  .post = slots_are_their_own, .twins = vacant_twins },
	{ .name = "bands: settle against take and give", .threads = 2,
	  .setup = just_idle, .body = settle_or_use,
	  .post = hints_are_right, .twins = idle_twins },
	{ .name = "bands: retire against pick and settle", .threads = 2,
	  .setup = one_region, .body = retire_or_pick,
	  .post = hints_are_right },
	{ .name = NULL },
};
