/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A region's struct is used again: it does not go while a slice is parked or
 * claimed, nobody gets it twice, and a wrong release that was about to happen
 * in its former life does not release what it stands for now.
 */
#include <string.h>

#include "rcu.h"
#include "stashes.h"

enum { LOW = 2, HIGH = 3 };	/* sizes that stand on one list */

static struct allocator *const allocator = &stashes_pool.allocator;
static void *held, *next, *first;
static size_t bytes;		/* of a region */

static uint32_t slice_of(const void *segment)
{
	return (uint32_t)region_slice_of(stashes_region(segment), segment);
}

/* ---- it goes, or it does not ---- */

static void none_is_out(unsigned slices)
{
	stashes_open(slices, 2);
	gather_own(allocator);
}

static void two_unused(void)
{
	none_is_out(2);
}

static void retire(void)
{
	gather_all(allocator, false);
	class_pool_trim(stashes_class);
	explore_keeper_run();
}

static void use_or_retire(unsigned thread)
{
	if (thread)
		retire();
	else
		stashes_use_and_release(stashes_take());
}

static const struct explore_twin retire_twins[] = {
	EXPLORE_TWIN("retired blindly", BLIND, "region_retire", "cas"),
	EXPLORE_TWIN("retire flag set late", SPLIT, "region_retire", "cas"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* A slice that is claimed keeps it, too. */
static void one_out_one_parked(void)
{
	stashes_open(2, 2);
	held = stashes_take();
}

static void use_or_claim_and_retire(unsigned thread)
{
	if (thread == 0) {
		stashes_use_and_release(stashes_take());
		return;
	}
	stashes_use_and_release(held);
	retire();
}

static const struct explore_twin keep_twins[] = {
	EXPLORE_TWIN("not settled", SKIP, "claim_is_won", "store"),
	EXPLORE_TWIN_SWITCH("no barrier", explore_throw_barrier),
	{ .name = NULL },
};

/* ---- the next life ---- */

static bool low_floor;
static uint64_t generation;	/* of the hand-out that is released twice */

static void throw_floor(bool on)
{
	low_floor = on;
}

/* The next life begins with that generation. */
static void lower_floor(void)
{
	struct atomic_ptr *idle = stashes_class->store.idle;
	struct region *r;

	for (int i = 0; i < REGION_STORE_SIZES; i++)
		for (r = ptr_load_relaxed(&idle[i]); r; r = r->next_idle)
			r->floor = generation - 1;
}

static void open_next(void)
{
	struct taken t;

	if (low_floor)
		lower_floor();
	if (class_pool_open(stashes_class, bytes,
			    (uint32_t)(bytes / SEG_MIN_BYTES), &t) != OPEN_DONE)
		return;
	next = t.segment;
	if (bytes > SEG_MIN_BYTES) {
		first = next;
		next = class_pool_take(stashes_class).segment;
	}
	stashes_use(next);
}

/* Hints are not what it is about: no scheduling points there. */
static void leave_out_hints(void)
{
	struct bands *b = &stashes_class->bands;

	explore_counters(b, sizeof(*b));
	explore_counters(ptr_load_relaxed(&b->group[0]),
			 sizeof(struct band_group));
}

/* A slice is released twice; once is right, in its first life. */
static void begin_released_twice(unsigned slices)
{
	next = first = NULL;
	bytes = slices * SEG_MIN_BYTES;
	explore_new_addresses = true;
	explore_misuses_left = 1;
	none_is_out(slices);
	leave_out_hints();
}

static void take_held(void)
{
	held = class_pool_take(stashes_class).segment;
	generation = region_generation(stashes_region(held), slice_of(held));
}

/* By anybody. */
static void nobodys_released_twice(void)
{
	begin_released_twice(1);
	take_held();
}

/* One that comes off the list in the next life. */
static void second_released_twice(void)
{
	void *other;

	begin_released_twice(2);
	take_held();
	if (!slice_of(held)) {
		other = held;
		take_held();
		stashes_release(other);
		gather_own(allocator);
	}
}

/* By its owner and another. */
static void owned_released_twice(void)
{
	begin_released_twice(1);
	held = stashes_take();
	generation = region_generation(stashes_region(held), 0);
}

static void release_and_open_or_release(unsigned thread)
{
	stashes_release(held);
	if (thread)
		return;
	gather_own(allocator);
	class_pool_trim(stashes_class);
	explore_keeper_run();
	open_next();
}

static void next_is_out(void)
{
	if (next) {
		explore_check(stashes_region(next));
		explore_check(region_generation(stashes_region(next),
						slice_of(next)) & 1);
		stashes_use_and_release(next);
		stashes_release(first);
	}
	explore_as(1);
	gather_own(allocator);
	stashes_close();
}

static const struct explore_twin again_twins[] = {
	EXPLORE_TWIN("base not looked at again", STALE, "region_base", "load"),
	EXPLORE_TWIN_SWITCH("floor too low", throw_floor),
	{ .name = NULL },
};

static const struct explore_twin nobodys_twins[] = {
	EXPLORE_TWIN("base not looked at again", STALE, "region_base", "load"),
	EXPLORE_TWIN_SWITCH("floor too low", throw_floor),
	EXPLORE_TWIN("released for nothing", BLIND, "region_disown_exactly",
		     "cas"),
	{ .name = NULL },
};

static const struct explore_twin second_twins[] = {
	EXPLORE_TWIN("relaxed hand-out", RELAX, "region_hand_out", "store_rel"),
	{ .name = NULL },
};

/* Who gave the last slice back is not done with the region yet. */
static void one_parked(void)
{
	next = first = NULL;
	bytes = SEG_MIN_BYTES;
	stashes_open(1, 2);
}

static void put_back_or_reopen(unsigned thread)
{
	if (thread == 0) {
		gather_own(allocator);
		return;
	}
	class_pool_trim(stashes_class);
	explore_keeper_run();
	open_next();
}

static const struct explore_twin reopen_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* ---- the store ---- */

static struct region_store store;

static struct region *get(uint32_t slices)
{
	struct region *r = region_store_get(&store, slices, 0);

	explore_check(r && r->slices == slices);
	/* acq_rel: as who has it alone */
	explore_check(!u32_exchange_acq_rel(&r->strays, 1));
	return r;
}

static void put(struct region *r)
{
	explore_check(u32_exchange_acq_rel(&r->strays, 0) == 1);
	region_store_put(&store, r);
}

static void both_are_idle(void)
{
	struct region *low, *high;

	memset(&store, 0, sizeof(store));
	low = get(LOW);
	high = get(HIGH);
	put(low);
	put(high);
}

static void get_and_put(unsigned thread)
{
	struct region *r = get(thread == 1 ? HIGH : LOW);

	explore_pause();
	put(r);
}

static void all_are_idle(void)
{
	explore_check(region_store_clear(&store));
	explore_check(u64_load_relaxed(&store.bytes) == 0);
}

static const struct explore_twin store_twins[] = {
	EXPLORE_TWIN("relaxed push", RELAX, "push", "cas"),
	EXPLORE_TWIN("pushed blindly", BLIND, "push", "cas"),
	EXPLORE_TWIN("relaxed take", RELAX, "take_all", "exchange"),
	EXPLORE_TWIN("taken in two steps", SPLIT, "take_all", "exchange"),
	{ .name = NULL },
};

const struct explore_scenario explore_region_again[] = {
	{ .name = "again: use against retire", .threads = 2,
	  .setup = two_unused, .body = use_or_retire, .post = stashes_close,
	  .twins = retire_twins },
	{ .name = "again: use and claim against retire", .threads = 2,
	  .setup = one_out_one_parked, .body = use_or_claim_and_retire,
	  .post = stashes_close, .twins = keep_twins },
	{ .name = "again: a wrong release meets the next life", .threads = 2,
	  .setup = nobodys_released_twice, .body = release_and_open_or_release,
	  .post = next_is_out, .twins = nobodys_twins },
	{ .name = "again: a wrong release meets a slice of it", .threads = 2,
	  .setup = second_released_twice, .body = release_and_open_or_release,
	  .post = next_is_out, .twins = second_twins },
	{ .name = "again: a wrong claim meets the next life", .threads = 2,
	  .setup = owned_released_twice, .body = release_and_open_or_release,
	  .post = next_is_out, .twins = again_twins },
	{ .name = "again: the last slice and the next life", .threads = 2,
	  .setup = one_parked, .body = put_back_or_reopen,
	  .post = next_is_out, .twins = reopen_twins },
	{ .name = "again: three get a struct", .threads = 3,
	  .setup = both_are_idle, .body = get_and_put, .post = all_are_idle,
	  .twins = store_twins },
	{ .name = NULL },
};
