/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The cold list: decommit against take, give, pop and retire, over the class
 * pool's own functions and a budget.  Contents are race-checked cells: a slice
 * that is discarded while somebody owns it is a race, a region that goes while
 * somebody owns a slice is a use after free; and who has a slice must find it
 * charged.
 */
#include "explore.h"

#include <string.h>

#include "class_pool.h"
#include "cold.h"
#include "os.h"
#include "rcu.h"

/* Only one leaf of the table is ever used; the table is large. */
enum { ROOT = TABLE_GRANULE_BITS + TABLE_LEAF_BITS, SLICES = 3 };

static struct seg_budget budget;
static struct allocator allocator;
static struct class_pool pool;
static void *held;		/* the first slice */

/* ---- the pool ---- */

static struct taken open_region(uint32_t slices, uint32_t charged)
{
	struct taken t;

	explore_check(class_pool_open(&pool, slices * SEG_MIN_BYTES, charged,
				      &t) == OPEN_DONE);
	return t;
}

static void release(void *segment)
{
	struct region *r;
	uint32_t slice;

	rcu_enter();
	r = region_table_find(&allocator.table, segment, NULL);
	explore_check(r);
	slice = (uint32_t)(((uintptr_t)segment - (uintptr_t)region_base(r)) /
			   SEG_MIN_BYTES);
	explore_check(region_disown(r, slice));
	class_pool_give(&pool, r, slice);
	rcu_leave();
	budget_notify(&budget);
}

/* Fresh is zero: what an earlier owner wrote is gone for good. */
static void use(struct taken t, unsigned thread)
{
	struct explore_cell *cell = explore_contents(t.segment);

	if (t.fresh)
		explore_check(explore_read(cell) == 0);
	explore_write(cell, thread + 1);
	explore_pause();
	explore_check(explore_read(cell) == thread + 1);
}

static void use_and_release(struct taken t, unsigned thread)
{
	if (!t.segment)
		return;
	use(t, thread);
	release(t.segment);
}

static void make_pool(uint32_t units)
{
	memset(&budget, 0, sizeof(budget));
	memset(&allocator.serials, 0, sizeof(allocator.serials));
	memset(&allocator.mapped, 0, sizeof(allocator.mapped));
	ptr_store_relaxed(&allocator.table.leaf[EXPLORE_FIRST_REGION >> ROOT],
			  NULL);
	memset(&pool, 0, sizeof(pool));
	u64_store_relaxed(&budget.word, budget_word(units, 0));
	allocator.budget = &budget;
	class_pool_init(&pool, &allocator, 0, SLICES * SEG_MIN_BYTES);
}

static uint64_t charged(void)
{
	return budget_word_charged(budget_look(&budget));
}

/* Charged is what is mapped less what is cold; and all of it goes back. */
static void all_is_accounted_for(void)
{
	struct class_sum sum;

	while (explore_keeper_run())
		;
	sum = class_pool_sum(&pool);
	explore_check(class_pool_is_valid(&pool));
	explore_check(charged() == (sum.slices - sum.cold) * SEG_MIN_BYTES);
	explore_check(gauge_value(&pool.mapped) -
		      u64_load_relaxed(&pool.cold_bytes) == charged());
}

static void all_goes(void)
{
	all_is_accounted_for();
	class_pool_trim(&pool);
	while (explore_keeper_run())
		;
	explore_check(charged() == 0);
	explore_check(gauge_value(&pool.mapped) == 0);
}

static uint64_t decommit(uint64_t bytes)
{
	uint64_t given = 0;

	for (unsigned band = BAND_SPARE + 1; band-- > 0 && given < bytes;)
		given += class_pool_decommit(&pool, band, bytes - given);
	return given;
}

/* ---- steps in a wrong order, for twins ---- */

static bool pushed_early, popped_early;

static void throw_push(bool on)
{
	pushed_early = on;
}

static void throw_pop(bool on)
{
	popped_early = on;
}

/* Discards what is on the cold list already. */
static void decommit_backwards(void)
{
	struct slice_set set;
	struct region *r;

	rcu_enter();
	r = bands_at(&pool.bands, 0);
	if (r && cold_withdraw(r, 1, &set)) {
		budget_uncharge(&budget, SEG_MIN_BYTES);
		cold_push(r, &set, 1);
		u64_add_relaxed(&pool.cold_bytes, SEG_MIN_BYTES);
		bands_settle(&pool.bands, 0);
		bands_settle_cold(&pool.bands, 0);
		os_discard(region_slice(r, slice_set_next(&set, 0)),
			   SEG_MIN_BYTES);
	}
	rcu_leave();
}

static void decommit_one(void)
{
	if (pushed_early)
		decommit_backwards();
	else
		decommit(SEG_MIN_BYTES);
}

/* Charges what it has popped already. */
static struct taken take_cold_backwards(void)
{
	struct taken t = { .fresh = true };
	struct region *r;
	uint32_t slice;

	rcu_enter();
	r = bands_at(&pool.bands, 0);
	if (r && cold_pop(r, &slice)) {
		t.segment = region_slice(r, slice);
		explore_check(budget_charge(&budget, SEG_MIN_BYTES));
	}
	rcu_leave();
	return t;
}

static struct taken take_cold(void)
{
	return popped_early ? take_cold_backwards() :
			      class_pool_take_cold(&pool);
}

/* ---- decommit against take ---- */

/* Slice 0 is held and used, 1 and 2 are unused. */
static void one_is_out(void)
{
	struct taken t;

	make_pool(SLICES);
	t = open_region(SLICES, SLICES);
	use(t, 0);
	held = t.segment;
}

static void decommit_or_take(unsigned thread)
{
	if (thread == 0)
		decommit(2 * SEG_MIN_BYTES);
	else
		use_and_release(class_pool_take(&pool), thread);
}

static void held_goes(void)
{
	release(held);
	all_goes();
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("withdrawn in two steps", SPLIT, "cold_withdraw", "cas"),
	EXPLORE_TWIN("blind withdrawal", BLIND, "cold_withdraw", "cas"),
	EXPLORE_TWIN("not withdrawn", SKIP, "cold_withdraw", "cas"),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* ---- decommit against release ---- */

/* What the owner wrote is gone, and its use over, before it is discarded; with
 * its last slice the region may be all cold. */
static void decommit_or_release(unsigned thread)
{
	if (thread == 0)
		release(held);
	else
		decommit((uint64_t)SLICES * SEG_MIN_BYTES);
}

static const struct explore_twin release_twins[] = {
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN("blind withdrawal", BLIND, "cold_withdraw", "cas"),
	EXPLORE_TWIN("blind give", BLIND, "region_give_all", "cas"),
	{ .name = NULL },
};

/* ---- decommit against a take of cold slices ---- */

static void decommit_or_take_cold(unsigned thread)
{
	if (thread == 0)
		decommit_one();
	else
		use_and_release(take_cold(), thread);
}

static const struct explore_twin pop_twins[] = {
	EXPLORE_TWIN_SWITCH("discarded when it is on the list", throw_push),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* ---- the same, of the last cold one ---- */

/* Slice 0 is held, 1 is cold, 2 is unused. */
static void one_is_cold(void)
{
	one_is_out();
	decommit(2 * SEG_MIN_BYTES);
	use_and_release(class_pool_take_cold(&pool), 0);
}

/* The hint must stay: one comes, one goes. */
static void decommit_or_take_last(unsigned thread)
{
	struct taken t;

	if (thread == 0) {
		decommit_one();
		return;
	}
	t = take_cold();
	explore_check(t.segment);
	use(t, thread);
}

static void two_are_held(void)
{
	all_is_accounted_for();
}

static const struct explore_twin last_twins[] = {
	EXPLORE_TWIN("relaxed look at what is cold", RELAX, "region_cold",
		     "load"),
	EXPLORE_TWIN("relaxed look at the hint", RELAX, "bands_has", "load"),
	{ .name = NULL },
};

/* ---- two take the last room ---- */

/* Slice 0 is held, 1 and 2 are cold, one of them can be charged. */
static void two_are_cold(void)
{
	make_pool(SLICES - 1);
	held = open_region(SLICES, 1).segment;
}

static void take_cold_and_keep(unsigned thread)
{
	struct taken t = take_cold();

	if (!t.segment)
		return;
	use(t, thread);
	if (thread == 0)
		release(t.segment);
}

static void one_or_two_had_it(void)
{
	explore_check(charged() == (SLICES - 1) * SEG_MIN_BYTES);
	explore_check(class_pool_is_valid(&pool));
}

static const struct explore_twin room_twins[] = {
	EXPLORE_TWIN_SWITCH("charged when it is popped", throw_pop),
	EXPLORE_TWIN("charged in two steps", SPLIT, "account_charge", "cas"),
	{ .name = NULL },
};

/* ---- two cold takes ---- */

static void room_for_two(void)
{
	make_pool(SLICES);
	held = open_region(SLICES, 1).segment;
}

static void take_both(unsigned thread)
{
	use_and_release(take_cold(), thread);
}

static const struct explore_twin both_twins[] = {
	EXPLORE_TWIN("blind pop", BLIND, "cold_pop", "cas"),
	EXPLORE_TWIN("popped in two steps", SPLIT, "cold_pop", "cas"),
	{ .name = NULL },
};

/* ---- retire against a take of cold slices ---- */

/* Slice 0 is unused, 1 and 2 are cold. */
static void idle_with_cold(void)
{
	make_pool(SLICES);
	release(open_region(SLICES, 1).segment);
}

static void retire_or_take_cold(unsigned thread)
{
	if (thread == 0) {
		class_pool_trim(&pool);
		explore_keeper_run();
	} else {
		use_and_release(take_cold(), thread);
	}
}

static const struct explore_twin retire_twins[] = {
	EXPLORE_TWIN("not closed before retiring", SKIP, "cold_close", "cas"),
	EXPLORE_TWIN("closed in two steps", SPLIT, "cold_close", "cas"),
	EXPLORE_TWIN("blind close", BLIND, "cold_close", "cas"),
	{ .name = NULL },
};

/* Takes of the unused and of the cold, batchwise against the retiring. */
static void retire_or_take_both(unsigned thread)
{
	if (thread == 2)
		use_and_release(class_pool_take(&pool), thread);
	else
		retire_or_take_cold(thread);
}

/* ---- two retirers ---- */

/* Slice 0 is held, 1 and 2 are cold. */
static void held_with_cold(void)
{
	make_pool(SLICES);
	held = open_region(SLICES, 1).segment;
}

static void release_or_retire(unsigned thread)
{
	if (thread == 0) {
		explore_write(explore_contents(held), 1);
		release(held);
		return;
	}
	class_pool_trim(&pool);
	explore_keeper_run();
}

static void retired_once(void)
{
	explore_check(u64_load_relaxed(&pool.regions_retired) <= 1);
	all_goes();
}

/* ---- decommit against retire ---- */

/* Slices 0 and 1 are unused, 2 is cold. */
static void idle_and_cold(void)
{
	struct taken first, second;

	make_pool(SLICES);
	first = open_region(SLICES, SLICES - 1);
	second = class_pool_take(&pool);
	use(second, 0);
	release(second.segment);
	release(first.segment);
}

/* A push that the closing counts comes with its withdrawal. */
static void decommit_or_retire(unsigned thread)
{
	if (thread == 0)
		decommit_one();
	else
		class_pool_trim(&pool);
}

static const struct explore_twin decommit_twins[] = {
	EXPLORE_TWIN("blind close", BLIND, "cold_close", "cas"),
	EXPLORE_TWIN("blind push", BLIND, "cold_push", "cas"),
	{ .name = NULL },
};

/* ---- a discard that is refused ---- */

static void refuse_discard(void)
{
	one_is_out();
	explore_advices_left = 0;
}

static void nothing_became_cold(void)
{
	explore_check(class_pool_sum(&pool).cold == 0);
	explore_check(charged() == SLICES * SEG_MIN_BYTES);
	held_goes();
}

static const struct explore_twin refused_twins[] = {
	EXPLORE_TWIN("not put back", SKIP, "region_give_all", "cas"),
	{ .name = NULL },
};

/* ---- a closed list against a waiter ---- */

/* Slice 0 is unused, 1 and 2 are cold. */
static bool got_one(unsigned thread)
{
	struct taken t = take_cold();

	use_and_release(t, thread);
	return t.segment;
}

/* Sleeps until it had one, or there is no region to have one of. */
static void wait_for_one(unsigned thread)
{
	budget_wait_begin(&budget);
	for (;;) {
		uint32_t ticket = budget_wait_ticket(&budget);

		if (got_one(thread) || class_pool_sum(&pool).regions == 0)
			break;
		budget_wait_sleep(&budget, ticket, OS_FOREVER);
	}
	budget_wait_end(&budget);
}

/* The retirer notifies in any case: the region may be gone. */
static void retire_take_or_wait(unsigned thread)
{
	if (thread == 0) {
		if (class_pool_trim(&pool))
			budget_notify(&budget);
	} else if (thread == 1) {
		use_and_release(class_pool_take(&pool), thread);
	} else {
		wait_for_one(thread);
	}
}

static const struct explore_twin wait_twins[] = {
	EXPLORE_TWIN("not opened again", SKIP, "cold_reopen", "sub"),
	EXPLORE_TWIN("relaxed opening", RELAX, "cold_reopen", "sub"),
	EXPLORE_TWIN("blind retire", BLIND, "region_retire", "cas"),
	{ .name = NULL },
};

/* ---- a slice that can't be placed is made cold again ---- */

static bool cooled_early;

static void throw_cool(bool on)
{
	cooled_early = on;
}

/* Discards what is on the cold list already. */
static void cool_backwards(void *segment)
{
	struct slice_set set = { .bits = { 1 } };
	struct region *r;

	rcu_enter();
	r = region_table_find(&allocator.table, segment, NULL);
	explore_check(r && region_disown(r, 0));
	counter_add(&pool.releases);
	u64_add_relaxed(&pool.cold_bytes, SEG_MIN_BYTES);
	budget_uncharge(&budget, SEG_MIN_BYTES);
	cold_push(r, &set, 1);
	bands_settle_cold(&pool.bands, r->slot);
	os_discard(segment, SEG_MIN_BYTES);
	rcu_leave();
}

static void cool(void *segment)
{
	if (cooled_early)
		cool_backwards(segment);
	else
		class_pool_cool(&pool, segment);
}

static void cool_or_take_cold(unsigned thread)
{
	if (thread == 0)
		cool(held);
	else
		use_and_release(take_cold(), thread);
}

static const struct explore_twin cool_twins[] = {
	EXPLORE_TWIN_SWITCH("discarded when it is on the list", throw_cool),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	EXPLORE_TWIN("blind push", BLIND, "cold_push", "cas"),
	{ .name = NULL },
};

/* With it the region is all cold, and may go at once; and its struct is another
 * region's while the one that cooled looks at its hints. */
static void cool_or_retire(unsigned thread)
{
	struct taken t;

	if (thread == 0) {
		cool(held);
		return;
	}
	class_pool_trim(&pool);
	if (explore_keeper_run() &&
	    class_pool_open(&pool, SLICES * SEG_MIN_BYTES, 1, &t) == OPEN_DONE)
		use_and_release(t, thread);
}

static const struct explore_twin cool_and_go_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* Both push, and what was written is gone. */
static void cool_or_decommit(unsigned thread)
{
	if (thread == 0)
		cool(held);
	else if (thread == 1)
		decommit((uint64_t)SLICES * SEG_MIN_BYTES);
	else
		use_and_release(take_cold(), thread);
}

static const struct explore_twin both_push_twins[] = {
	EXPLORE_TWIN("blind push", BLIND, "cold_push", "cas"),
	EXPLORE_TWIN("blind withdrawal", BLIND, "cold_withdraw", "cas"),
	{ .name = NULL },
};

/* Somebody releases by mistake what is not his yet: one of the two does. */
static void cool_or_release(unsigned thread)
{
	struct region *r;

	if (thread == 0) {
		cool(held);
		return;
	}
	rcu_enter();
	r = region_table_find(&allocator.table, held, NULL);
	if (r && region_disown(r, 0))
		class_pool_give(&pool, r, 0);
	rcu_leave();
}

static const struct explore_twin one_does_twins[] = {
	EXPLORE_TWIN("blind disowning", BLIND, "region_disown_exactly", "cas"),
	{ .name = NULL },
};

static void cool_or_take(unsigned thread)
{
	if (thread == 0)
		cool(held);
	else
		use_and_release(class_pool_take(&pool), thread);
}

static void it_is_unused(void)
{
	explore_check(class_pool_sum(&pool).cold == 0);
	all_goes();
}

const struct explore_scenario explore_cold[] = {
	{ .name = "cold: decommit against take", .threads = 2,
	  .setup = one_is_out, .body = decommit_or_take, .post = held_goes,
	  .twins = take_twins },
	{ .name = "cold: decommit against the last release", .threads = 2,
	  .setup = one_is_out, .body = decommit_or_release, .post = all_goes,
	  .twins = release_twins },
	{ .name = "cold: decommit against a cold take", .threads = 2,
	  .setup = one_is_out, .body = decommit_or_take_cold,
	  .post = held_goes, .twins = pop_twins },
	{ .name = "cold: one becomes cold, the last one is taken",
	  .threads = 2, .setup = one_is_cold, .body = decommit_or_take_last,
	  .post = two_are_held, .twins = last_twins },
	{ .name = "cold: two take the last room", .threads = 2,
	  .setup = two_are_cold, .body = take_cold_and_keep,
	  .post = one_or_two_had_it, .twins = room_twins },
	{ .name = "cold: two cold takes", .threads = 2,
	  .setup = room_for_two, .body = take_both, .post = held_goes,
	  .twins = both_twins },
	{ .name = "cold: retire against a cold take", .threads = 2,
	  .setup = idle_with_cold, .body = retire_or_take_cold,
	  .post = all_goes, .twins = retire_twins },
	{ .name = "cold: retire against both takes", .threads = 3,
	  .setup = idle_with_cold, .body = retire_or_take_both,
	  .post = all_goes },
	{ .name = "cold: last release against two retirers", .threads = 3,
	  .setup = held_with_cold, .body = release_or_retire,
	  .post = retired_once },
	{ .name = "cold: decommit against retire", .threads = 2,
	  .setup = idle_and_cold, .body = decommit_or_retire,
	  .post = all_goes, .twins = decommit_twins },
	{ .name = "cold: a refused discard against take", .threads = 2,
	  .setup = refuse_discard, .body = decommit_or_take,
	  .post = nothing_became_cold, .twins = refused_twins },
	{ .name = "cold: a closed list against a waiter", .threads = 3,
	  .setup = idle_with_cold, .body = retire_take_or_wait,
	  .post = all_goes, .twins = wait_twins },
	{ .name = "cold: cooled against a cold take", .threads = 2,
	  .setup = held_with_cold, .body = cool_or_take_cold,
	  .post = all_goes, .twins = cool_twins },
	{ .name = "cold: cooled against two retirers", .threads = 3,
	  .setup = held_with_cold, .body = cool_or_retire,
	  .post = all_goes, .twins = cool_and_go_twins },
	{ .name = "cold: cooled against decommit and a cold take",
	  .threads = 3, .setup = one_is_out, .body = cool_or_decommit,
	  .post = all_goes, .twins = both_push_twins },
	{ .name = "cold: cooled against a wrong release", .threads = 2,
	  .setup = one_is_out, .body = cool_or_release,
	  .post = all_goes, .twins = one_does_twins },
	{ .name = "cold: a refused cooling against take", .threads = 2,
	  .setup = refuse_discard, .body = cool_or_take,
	  .post = it_is_unused, .twins = refused_twins },
	{ .name = NULL },
};
