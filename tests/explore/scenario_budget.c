/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The budget: one word for limit and charge, and the event count by which
 * threads at the limit wait for memory that others give back.
 */
#include "explore.h"

#include <string.h>

#include "budget.h"
#include "os.h"
#include "rcu.h"
#include "region.h"
#include "work_queue.h"

static struct seg_budget budget;
static struct explore_cell backing;	/* the memory that was charged */
static struct atomic_u64 held;		/* bytes that are ours, by our count */
static struct atomic_u32 done;

static void make_budget(uint64_t limit, uint64_t charged)
{
	memset(&budget, 0, sizeof(budget));
	memset(&held, 0, sizeof(held));
	memset(&done, 0, sizeof(done));
	u64_store_relaxed(&budget.word, budget_word(limit, charged));
}

static uint64_t charged_units(void)
{
	return budget_word_charged(budget_look(&budget)) / BUDGET_UNIT;
}

static void is_within(void)
{
	uint64_t word = budget_look(&budget);

	explore_check(budget_word_charged(word) <= budget_word_limit(word));
}

static void nothing_is_charged(void)
{
	is_within();
	explore_check(charged_units() == 0);
}

/* ---- 4: charge, uncharge, limit ---- */

static void three_units(void)
{
	make_budget(3, 0);
}

/* Two units for each: they never fit together. */
static void charge_two(unsigned thread)
{
	uint64_t others;

	(void)thread;
	if (!budget_charge(&budget, 2 * BUDGET_UNIT))
		return;
	others = u64_add_relaxed(&held, 2);
	explore_check(others == 0);
	explore_write(&backing, 1);
	is_within();
	u64_sub_relaxed(&held, 2);
	budget_uncharge(&budget, 2 * BUDGET_UNIT);
}

static const struct explore_twin charge_twins[] = {
	EXPLORE_TWIN("load, then add", SPLIT, "account_charge", "cas"),
	EXPLORE_TWIN("blind charge", BLIND, "account_charge", "cas"),
	EXPLORE_TWIN("charge left out", SKIP, "account_charge", "cas"),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	EXPLORE_TWIN("relaxed uncharge", RELAX, "account_uncharge", "sub"),
	EXPLORE_TWIN("relaxed charge", RELAX, "account_charge", "cas"),
	{ .name = NULL },
};

/* What fits must be had, although another asks for what never fits. */
static void charge_or_overcharge(unsigned thread)
{
	bool fits = budget_charge(&budget, (thread ? 2 : 4) * BUDGET_UNIT);

	explore_check(fits == (thread != 0));
	if (fits)
		budget_uncharge(&budget, 2 * BUDGET_UNIT);
}

/* Thread 0 lowers the limit to 1 unit, and raises it again. */
static void charge_or_limit(unsigned thread)
{
	if (thread > 0) {
		if (budget_charge(&budget, thread * BUDGET_UNIT)) {
			is_within();
			budget_uncharge(&budget, thread * BUDGET_UNIT);
		}
		return;
	}
	if (budget_try_limit(&budget, BUDGET_UNIT)) {
		explore_check(budget_word_limit(budget_look(&budget)) ==
			      BUDGET_UNIT);
		explore_check(charged_units() <= 1);
		explore_check(budget_try_limit(&budget, 3 * BUDGET_UNIT));
	}
}

static void limit_is_three(void)
{
	nothing_is_charged();
	explore_check(budget_word_limit(budget_look(&budget)) ==
		      3 * BUDGET_UNIT);
}

static const struct explore_twin limit_twins[] = {
	EXPLORE_TWIN("limit in two steps", SPLIT, "set_limit", "cas"),
	EXPLORE_TWIN("blind limit", BLIND, "set_limit", "cas"),
	EXPLORE_TWIN("charge in two steps", SPLIT, "account_charge", "cas"),
	EXPLORE_TWIN("uncharge in two steps", SPLIT, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* ---- 5: waiting at the limit ---- */

/* As the limit path does it. */
static void wait_until(bool (*try)(void))
{
	budget_wait_begin(&budget);
	for (;;) {
		uint32_t ticket = budget_wait_ticket(&budget);

		if (try())
			break;
		budget_wait_sleep(&budget, ticket, OS_FOREVER);
	}
	budget_wait_end(&budget);
}

static bool charge_one(void)
{
	return budget_charge(&budget, BUDGET_UNIT);
}

static bool notify_first;

static void throw_notify_first(bool on)
{
	notify_first = on;
}

static void give_memory_back(uint64_t bytes)
{
	if (notify_first)
		budget_notify(&budget);
	budget_uncharge(&budget, bytes);
	if (!notify_first)
		budget_notify(&budget);
}

static void all_is_charged(void)
{
	make_budget(1, 1);
}

/* One gives its memory back, the others wait for it in turn. */
static void wait_for_memory(unsigned thread)
{
	if (thread > 0)
		wait_until(charge_one);
	explore_write(&backing, thread);
	give_memory_back(BUDGET_UNIT);
}

static const struct explore_twin wait_twins[] = {
	EXPLORE_TWIN_SWITCH("notify before uncharge", throw_notify_first),
	EXPLORE_TWIN("relaxed look at waiters", RELAX, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("wake not counted", SKIP, "budget_wake", "add"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	EXPLORE_TWIN("relaxed uncharge", RELAX, "account_uncharge", "sub"),
	EXPLORE_TWIN("relaxed look at the word", RELAX, "account_look", "load"),
	{ .name = NULL },
};

/* The same for a limit that is raised ... */
static void wait_for_limit(unsigned thread)
{
	if (thread == 1) {
		wait_until(charge_one);
		return;
	}
	explore_check(budget_try_limit(&budget, 2 * BUDGET_UNIT));
	budget_notify(&budget);
}

static const struct explore_twin raise_twins[] = {
	EXPLORE_TWIN("relaxed raise", RELAX, "set_limit", "cas"),
	{ .name = NULL },
};

/* ... and for a slice that is given back. */
static struct {
	struct region region;
	struct atomic_u64 generations[1];
	struct atomic_u16 links[1];
	struct atomic_u16 owners[1];
	struct atomic_u64 stray_bits;
} memory;

static struct region *const region = &memory.region;
static struct work_queue queue;
static struct work unmap;

static bool run_unmap(struct work *work)
{
	(void)work;
	explore_free(&backing);
	give_memory_back(BUDGET_UNIT);
	return true;
}

static void one_slice_is_out(void)
{
	make_budget(1, 1);
	memset(&memory, 0, sizeof(memory));
	memset(&queue, 0, sizeof(queue));
	region_init(region, memory.generations, 1, 1);
	unmap = (struct work){ .run = run_unmap };
}

static void give_slice(void)
{
	rcu_enter();
	explore_write(&backing, 1);
	explore_check(region_disown(region, 0));
	region_give(region, 0);
	budget_notify(&budget);
	rcu_leave();
}

static bool take_slice(void)
{
	struct word_change change;
	uint32_t slice;

	return region_take(region, 1, &slice, NULL, &change) == 1;
}

static void wait_for_slice(unsigned thread)
{
	if (thread == 0)
		give_slice();
	else
		wait_until(take_slice);
}

static const struct explore_twin slice_twins[] = {
	EXPLORE_TWIN("relaxed give", RELAX, "region_give_all", "cas"),
	EXPLORE_TWIN("relaxed look at the region", RELAX, "region_look",
		     "load"),
	EXPLORE_TWIN("waiter not counted", SKIP, "budget_wait_begin",
		     "add_seq"),
	{ .name = NULL },
};

/* ---- the whole way: give, retire, defer, unmap, uncharge, wake ---- */

static void retire_and_defer(void)
{
	if (region_retire(region, region_look(region)))
		work_queue_push(&queue, &unmap);
}

static bool run_all(void)
{
	struct work *work = work_queue_take_all(&queue);

	if (!work)
		return false;
	rcu_wait_for_readers();
	explore_check(work == &unmap && !work->next);
	return work->run(work);
}

/* The keeper, until it has unmapped the region. */
static void keep(void)
{
	for (;;) {
		uint32_t ticket = work_queue_ticket(&queue);

		if (run_all())
			return;
		work_queue_sleep(&queue, ticket, OS_FOREVER);
	}
}

static bool retire_or_charge(void)
{
	retire_and_defer();
	return charge_one();
}

static void hand_over(unsigned thread)
{
	if (thread == 0)
		give_slice();
	else if (thread == 1)
		wait_until(retire_or_charge);
	else
		keep();
}

static void handed_over(void)
{
	is_within();
	explore_check(charged_units() == 1);
	explore_check(word_retired(region_look(region)));
}

static const struct explore_twin hand_over_twins[] = {
	EXPLORE_TWIN_SWITCH("notify before uncharge", throw_notify_first),
	EXPLORE_TWIN("relaxed look at waiters", RELAX, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("ticket left out", SKIP, "work_queue_kick", "add"),
	EXPLORE_TWIN("push left out", SKIP, "work_queue_push", "cas"),
	EXPLORE_TWIN("uncharge left out", SKIP, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* ---- the pools that share it ---- */

static struct budget_member members[2];
static struct explore_cell joined[2];

static uint64_t shed(struct budget_member *member, uint64_t bytes)
{
	(void)bytes;
	explore_check(explore_read(&joined[member - members]) == 1);
	return 0;
}

static void join(unsigned i)
{
	memset(&members[i], 0, sizeof(members[i]));
	members[i].shed = shed;
	explore_write(&joined[i], 1);
	budget_join(&budget, &members[i]);
}

static void nobody_has_joined(void)
{
	three_units();
}

static void leave(unsigned i)
{
	budget_leave(&budget, &members[i]);
	explore_free(&joined[i]);
}

/* Only one thread takes the lock: it is a real one. */
static void join_or_shed(unsigned thread)
{
	if (thread == 1) {
		budget_shed(&budget, BUDGET_UNIT);
		return;
	}
	join(0);
	join(1);
	leave(1);
	leave(0);
}

static const struct explore_twin member_twins[] = {
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("relaxed join", RELAX, "budget_join", "store_release"),
	EXPLORE_TWIN("relaxed leave", RELAX, "budget_leave", "store"),
	EXPLORE_TWIN("not taken out", SKIP, "budget_leave", "store"),
	{ .name = NULL },
};

const struct explore_scenario explore_budget[] = {
	{ .name = "budget: two of three units each", .threads = 3,
	  .setup = three_units, .body = charge_two,
	  .post = nothing_is_charged, .twins = charge_twins },
	{ .name = "budget: what never fits is in nobody's way", .threads = 2,
	  .setup = three_units, .body = charge_or_overcharge,
	  .post = nothing_is_charged },
	{ .name = "budget: charge against a new limit", .threads = 3,
	  .setup = three_units, .body = charge_or_limit,
	  .post = limit_is_three, .twins = limit_twins },
	{ .name = "budget: waiting for memory", .threads = 3,
	  .setup = all_is_charged, .body = wait_for_memory,
	  .post = nothing_is_charged, .twins = wait_twins },
	{ .name = "budget: waiting for a higher limit", .threads = 2,
	  .setup = all_is_charged, .body = wait_for_limit,
	  .post = is_within, .twins = raise_twins },
	{ .name = "budget: waiting for a slice", .threads = 2,
	  .setup = one_slice_is_out, .body = wait_for_slice,
	  .post = is_within, .twins = slice_twins },
	{ .name = "budget: give, retire, defer, unmap, wake", .threads = 3,
	  .setup = one_slice_is_out, .body = hand_over, .post = handed_over,
	  .twins = hand_over_twins },
	{ .name = "budget: a member joins and leaves", .threads = 2,
	  .setup = nobody_has_joined, .body = join_or_shed,
	  .twins = member_twins },
	{ .name = NULL },
};
