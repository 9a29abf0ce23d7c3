/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The whole way at the limit, over the library's class pools, region table and
 * limit path: one releases, one waits for the memory, the keeper unmaps.  The
 * budget has room for one region of one slice.
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

static void *allocate(struct class_pool *cp)
{
	return limit_allocate(cp, OS_FOREVER).segment;
}

static void release(struct class_pool *cp, void *segment)
{
	struct region *r;

	rcu_enter();
	r = region_table_find(&allocator.table, segment, NULL);
	explore_check(r && r->pool == cp);
	explore_check(region_disown(r, 0));
	class_pool_give(cp, r, 0);
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
	class_pool_shed(&pools[0], SEG_MIN_BYTES);
	class_pool_shed(&pools[1], SEG_MIN_BYTES);
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
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_notify", "load"),
	EXPLORE_TWIN("relaxed look at waiters", RELAX, "budget_notify",
		     "load"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give", "cas"),
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
	EXPLORE_TWIN("uncharge left out", SKIP, "budget_uncharge", "sub"),
	EXPLORE_TWIN("wake not counted", SKIP, "budget_notify", "add"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
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
	segment = limit_allocate(&pools[0], 0).segment;
	if (segment)
		use_and_release(&pools[0], segment, thread);
}

static const struct explore_twin take_twins[] = {
	EXPLORE_TWIN("retire flag set late", SPLIT, "region_retire", "cas"),
	EXPLORE_TWIN("relaxed return", RELAX, "region_give", "cas"),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
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
				limit_allocate(&pools[thread], 0).segment,
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
	EXPLORE_TWIN("relaxed look-up", RELAX, "region_table_find", "load"),
	EXPLORE_TWIN("leaf made twice", BLIND, "leaf_make", "cas"),
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
	{ .name = NULL },
};
