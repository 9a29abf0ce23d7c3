/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The whole way at the limit, over the library's class pools, region table and
 * limit path: one releases, one waits for the memory, the keeper unmaps.  The
 * budget has room for one region of one slice, of which nothing can be
 * discarded; but for the scenarios of decommit, which have a region of two.
 */
#include "explore.h"

#include <string.h>

#include "os.h"
#include "pool.h"
#include "rcu.h"

/* Only one leaf of the table is ever used; the table is large. */
enum { ROOT = TABLE_GRANULE_BITS + TABLE_LEAF_BITS };

static struct seg_budget budget;
static struct allocator allocator;
static struct class_pool pools[2];
static struct budget_member member;
static void *held;

/* ---- the allocator ---- */

static uint64_t shed(struct budget_member *m, uint64_t bytes)
{
	uint64_t given = class_pool_shed(&pools[0], bytes);

	(void)m;
	return given < bytes ?
		       given + class_pool_shed(&pools[1], bytes - given) :
		       given;
}

static uint64_t decommit(struct budget_member *m, uint64_t bytes)
{
	uint64_t given = 0;

	(void)m;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned band = BAND_SPARE + 1; band-- > 0;)
			if (given < bytes)
				given += class_pool_decommit(&pools[i], band,
							     bytes - given);
	return given;
}

static void *allocate_until(struct class_pool *cp, uint64_t deadline_ns)
{
	struct limit_want want = { .deadline_ns = deadline_ns };
	struct limit_report report;

	return limit_allocate(cp, &want, &report).segment;
}

static void *allocate(struct class_pool *cp)
{
	return allocate_until(cp, OS_FOREVER);
}

static void release(struct class_pool *cp, void *segment)
{
	struct region *r;
	uint32_t slice;

	rcu_enter();
	r = region_table_find(&allocator.table, segment, NULL);
	explore_check(r && r->pool == cp);
	slice = (uint32_t)(((uintptr_t)segment - (uintptr_t)region_base(r)) /
			   SEG_MIN_BYTES);
	explore_check(region_disown(r, slice));
	class_pool_give(cp, r, slice);
	rcu_leave();
	budget_notify(&budget);
}

static void make_pools(void)
{
	memset(&budget, 0, sizeof(budget));
	memset(&allocator.serials, 0, sizeof(allocator.serials));
	memset(&allocator.mapped, 0, sizeof(allocator.mapped));
	ptr_store_relaxed(&allocator.table.leaf[EXPLORE_FIRST_REGION >> ROOT],
			  NULL);
	memset(pools, 0, sizeof(pools));
	memset(&member, 0, sizeof(member));
	u64_store_relaxed(&budget.word, budget_word(1, 0));
	member.shed = shed;
	ptr_store_relaxed(&budget.members, &member);
	allocator.budget = &budget;
	class_pool_init(&pools[0], &allocator, 0, SEG_MIN_BYTES);
	class_pool_init(&pools[1], &allocator, 0, SEG_MIN_BYTES);
}

static void one_is_out(void)
{
	make_pools();
	held = allocate(&pools[0]);
	explore_check(held);
}

static void use(void *segment, unsigned thread)
{
	explore_write(explore_contents(segment), thread + 1);
	explore_pause();
	explore_check(explore_read(explore_contents(segment)) == thread + 1);
}

static void all_is_back(void)
{
	while (explore_keeper_run())
		;
	class_pool_trim(&pools[0]);
	class_pool_trim(&pools[1]);
	while (explore_keeper_run())
		;
	explore_check(class_pool_is_valid(&pools[0]));
	explore_check(class_pool_is_valid(&pools[1]));
	explore_check(budget_word_charged(budget_look(&budget)) == 0);
}

/* ---- scenarios ---- */

static void use_and_release(struct class_pool *cp, void *segment,
			    unsigned thread)
{
	explore_check(segment);
	use(segment, thread);
	release(cp, segment);
}

/* Both in one pool: handed on, or unmapped and mapped again. */
static void wait_in_pool(unsigned thread)
{
	if (thread == 2) {
		explore_keeper(2);
		return;
	}
	use_and_release(&pools[0], thread ? allocate(&pools[0]) : held,
			thread);
	explore_finish();
}

static const struct explore_twin pool_twins[] = {
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("relaxed look at waiters", RELAX, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	{ .name = NULL },
};

/* The segment's region must go before the other pool can have one. */
static void wait_for_unmap(unsigned thread)
{
	struct class_pool *cp = &pools[thread % 2];

	if (thread == 2) {
		explore_keeper(2);
		return;
	}
	use_and_release(cp, thread ? allocate(cp) : held, thread);
	explore_finish();
}

/* Nothing is mapped yet: one opens a region, the other waits for it. */
static void wait_for_first(unsigned thread)
{
	if (thread == 2) {
		explore_keeper(2);
		return;
	}
	use_and_release(&pools[0], allocate(&pools[0]), thread);
	explore_finish();
}

static const struct explore_twin first_twins[] = {
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

static const struct explore_twin unmap_twins[] = {
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge",
		     "sub"),
	EXPLORE_TWIN("wake not counted", SKIP, "budget_wake", "add"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

/* Retiring and unmapping against a take that does not wait. */
static void retire_or_take(unsigned thread)
{
	void *segment;

	if (thread == 0) {
		release(&pools[0], held);
		class_pool_shed(&pools[0], SEG_MIN_BYTES);
		explore_keeper_run();
		return;
	}
	segment = allocate_until(&pools[0], 0);
	if (segment)
		use_and_release(&pools[0], segment, thread);
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("retire flag set late", SPLIT, "region_retire", "cas"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	{ .name = NULL },
};

/* A stale look-up against the unmapping, and a new region at its place. */
static void look_up(unsigned thread)
{
	struct region *r;
	bool gone;

	if (thread < 2) {
		retire_or_take(thread);
		return;
	}
	rcu_enter();
	r = region_table_find(&allocator.table, held, &gone);
	explore_check(!r == gone);
	if (r)
		explore_check(region_generation(r, 0) < 8);
	rcu_leave();
}

static const struct explore_twin look_up_twins[] = {
	EXPLORE_TWIN("not taken out of the table", SKIP,
		     "region_table_remove", "store"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	{ .name = NULL },
};

/* Two map the first regions, a third looks up what it has no right to. */
static void room_for_two(void)
{
	make_pools();
	u64_store_relaxed(&budget.word, budget_word(2, 0));
}

static void open_or_look_up(unsigned thread)
{
	const void *address = (const void *)EXPLORE_FIRST_REGION;
	struct region *r;

	if (thread < 2) {
		use_and_release(&pools[thread],
				allocate_until(&pools[thread], 0),
				thread);
		return;
	}
	rcu_enter();
	r = region_table_find(&allocator.table, address, NULL);
	if (r)
		region_generation(r, 0);
	rcu_leave();
}

static const struct explore_twin open_twins[] = {
	EXPLORE_TWIN("relaxed insertion", RELAX, "region_table_insert",
		     "store"),
	EXPLORE_TWIN("relaxed look-up", RELAX, "region_table_entry",
		     "load"),
	EXPLORE_TWIN("leaf made twice", BLIND, "leaf_make", "cas"),
	{ .name = NULL },
};

/* ---- with decommit: a region of two slices, room for two ---- */

static void *other;		/* the second slice */
static struct atomic_u32 served_count;

static void two_are_out(void)
{
	struct taken t;

	make_pools();
	u64_store_relaxed(&budget.word, budget_word(2, 0));
	member.decommit = decommit;
	explore_check(class_pool_open(&pools[0], 2 * SEG_MIN_BYTES, 2, &t) ==
		      OPEN_DONE);
	held = t.segment;
	other = class_pool_take(&pools[0]).segment;
	explore_check(other);
}

static void one_of_two_is_out(void)
{
	two_are_out();
	release(&pools[0], other);
	other = NULL;
	memset(&served_count, 0, sizeof(served_count));
}

static void none_of_two_is_out(void)
{
	one_of_two_is_out();
	release(&pools[0], held);
}

static void first_goes_too(void)
{
	release(&pools[0], held);
	all_is_back();
}

/* One slice is released, and the other pool has been waiting for memory. */
static void wait_for_decommit(unsigned thread)
{
	if (thread == 2) {
		explore_keeper(2);
		return;
	}
	use_and_release(&pools[thread], thread ? allocate(&pools[1]) : other,
			thread);
	explore_finish();
}

static const struct explore_twin decommit_twins[] = {
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* The last slice: to the one that takes it, or to the one that decommits it.
 * Of both, one is served, and the other may be after it. */
static void decommit_or_take(unsigned thread)
{
	void *segment = allocate_until(&pools[thread], 0);

	if (!segment)
		return;
	u32_add_relaxed(&served_count, 1);
	use_and_release(&pools[thread], segment, thread);
}

static void one_was_served(void)
{
	explore_check(u32_load_relaxed(&served_count) >= 1);
	first_goes_too();
}

static const struct explore_twin decommit_take_twins[] = {
	EXPLORE_TWIN("blind take", BLIND, "region_take_unused", "cas"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give_all", "cas"),
	{ .name = NULL },
};

/* An idle region is retired while the other pool reserves its bytes. */
static void retire_or_reserve(unsigned thread)
{
	if (thread == 2) {
		explore_keeper(2);
		return;
	}
	if (thread == 0)
		class_pool_trim(&pools[0]);
	else
		use_and_release(&pools[1], allocate(&pools[1]), thread);
	explore_finish();
}

static const struct explore_twin reserve_twins[] = {
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	EXPLORE_TWIN("retired blindly", BLIND, "region_retire", "cas"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

const struct explore_scenario explore_limit[] = {
	{ .name = "limit: waiting for the pool's own region", .threads = 3,
	  .setup = one_is_out, .body = wait_in_pool, .post = all_is_back,
	  .twins = pool_twins },
	{ .name = "limit: waiting for another pool's region", .threads = 3,
	  .setup = one_is_out, .body = wait_for_unmap, .post = all_is_back,
	  .twins = unmap_twins },
	{ .name = "limit: waiting for the first region", .threads = 3,
	  .setup = make_pools, .body = wait_for_first, .post = all_is_back,
	  .twins = first_twins },
	{ .name = "limit: two first regions and a look-up", .threads = 3,
	  .setup = room_for_two, .body = open_or_look_up,
	  .post = all_is_back, .twins = open_twins },
	{ .name = "limit: retire against take", .threads = 2,
	  .setup = one_is_out, .body = retire_or_take, .post = all_is_back,
	  .twins = take_twins },
	{ .name = "limit: look-up against unmap and map", .threads = 3,
	  .setup = one_is_out, .body = look_up, .post = all_is_back,
	  .twins = look_up_twins },
	{ .name = "limit: decommit while another waits", .threads = 3,
	  .setup = two_are_out, .body = wait_for_decommit,
	  .post = first_goes_too, .twins = decommit_twins },
	{ .name = "limit: decommit while another takes", .threads = 2,
	  .setup = one_of_two_is_out, .body = decommit_or_take,
	  .post = one_was_served, .twins = decommit_take_twins },
	{ .name = "limit: retire while another reserves", .threads = 3,
	  .setup = none_of_two_is_out, .body = retire_or_reserve,
	  .post = all_is_back, .twins = reserve_twins },
	{ .name = NULL },
};
