/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Budgets with parents: a root of a few units, two children of one thread or
 * two each.  What the books must say at any moment, and at the end.
 */
#include "explore.h"

#include <string.h>

#include "budget.h"
#include "os.h"
#include "rcu.h"

enum { A, B, CHILDREN };

static struct seg_budget root, child[CHILDREN];
static struct atomic_u64 held;		/* units in use, by our count */
static struct explore_cell backing;	/* the memory that was charged */

static bool guarantee_unpaid;

static void throw_guarantee_unpaid(bool on)
{
	guarantee_unpaid = on;
}

static uint64_t units_of(struct seg_budget *b)
{
	return budget_units(budget_word_charged(budget_look(b)));
}

static uint64_t word_units(struct atomic_u64 *word)
{
	return budget_units(budget_word_charged(u64_load_seq_cst(word)));
}

static void make_tree(uint64_t limit)
{
	memset(&root, 0, sizeof(root));
	memset(&held, 0, sizeof(held));
	memset(child, 0, sizeof(child));
	u64_store_relaxed(&root.word, budget_word(limit, 0));
}

/* As seg_budget_create(). */
static void make_child(unsigned i, uint64_t limit, uint64_t guaranteed)
{
	child[i].parent = &root;
	u32_store_relaxed(&child[i].share, BUDGET_SHARE);
	u64_store_relaxed(&child[i].word, budget_word(limit, 0));
	budget_link_child(&child[i]);
	if (guarantee_unpaid) {
		u64_store_relaxed(&child[i].reserve,
				  budget_word(guaranteed, 0));
		u64_store_relaxed(&child[i].word,
				  budget_word(limit - guaranteed, 0));
	} else {
		explore_check(budget_try_guarantee(&child[i], guaranteed *
							      BUDGET_UNIT));
	}
}

static bool charge(struct seg_budget *b, uint64_t units)
{
	return budget_charge(b, units * BUDGET_UNIT);
}

/* Memory in use: never more than the root allows, whoever has it (B1). */
static void use(uint64_t units)
{
	uint64_t others = u64_add_relaxed(&held, units);

	explore_check(others + units <=
		      budget_units(budget_word_limit(budget_look(&root))));
	explore_pause();
	u64_sub_relaxed(&held, units);
}

static void word_is_within(uint64_t word)
{
	explore_check(budget_word_charged(word) <= budget_word_limit(word));
}

/* B1: each word by itself, and both together. */
static void is_within(struct seg_budget *b)
{
	word_is_within(u64_load_seq_cst(&b->reserve));
	word_is_within(u64_load_seq_cst(&b->word));
	word_is_within(budget_look(b));
}

/* B5, at rest: what the children have is charged, and nothing else. */
static void books_balance(void)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < CHILDREN && child[i].parent; i++) {
		uint64_t reserve = u64_load_seq_cst(&child[i].reserve);
		uint64_t borrowed = word_units(&child[i].word);

		sum += budget_units(budget_word_limit(reserve)) + borrowed;
		explore_check(!borrowed || !budget_word_room(reserve));
		is_within(&child[i]);
	}
	explore_check(units_of(&root) == sum);
	is_within(&root);
}

static void all_is_given_back(void)
{
	books_balance();
	for (unsigned i = 0; i < CHILDREN; i++)
		explore_check(!child[i].parent || units_of(&child[i]) == 0);
}

/* ---- two children, one unit that both want to borrow ---- */

static void one_to_borrow(void)
{
	make_tree(3);
	make_child(A, 3, 1);
	make_child(B, 3, 1);
}

static void charge_two_or_one(unsigned thread)
{
	struct seg_budget *b = &child[thread];
	uint64_t units = 2;

	if (!charge(b, 2)) {
		units = 1;
		explore_check(charge(b, 1));	/* B4 */
	}
	use(units);
	budget_uncharge(b, units * BUDGET_UNIT);
}

static const struct explore_twin borrow_twins[] = {
	EXPLORE_TWIN_SWITCH("guarantee not paid for", throw_guarantee_unpaid),
	EXPLORE_TWIN("parent looked at, then charged", SPLIT, "account_charge",
		     "cas"),
	EXPLORE_TWIN("parent charged though it is full", BLIND,
		     "account_charge", "cas"),
	EXPLORE_TWIN("rollback forgotten", SKIP, "account_uncharge_some",
		     "cas"),
	EXPLORE_TWIN("parent not uncharged", SKIP, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* ---- one child, two threads: the parent first ---- */

static bool child_first;

static void throw_child_first(bool on)
{
	child_first = on;
}

static bool borrow_one(struct seg_budget *b)
{
	if (!child_first)
		return charge(b, 1);
	u64_add_seq_cst(&b->word, budget_word(0, 1));
	explore_check(charge(&root, 1));
	return true;
}

static void nothing_guaranteed(void)
{
	make_tree(3);
	make_child(A, 3, 0);
	make_child(B, 3, 0);
}

/* Nobody uncharges, so what was borrowed a moment ago is charged by now. */
static void borrow_or_watch(unsigned thread)
{
	uint64_t borrowed;

	if (thread == 0) {
		explore_check(borrow_one(&child[A]));
		return;
	}
	borrowed = word_units(&child[A].word);
	explore_check(word_units(&root.word) >= borrowed);
}

static const struct explore_twin parent_twins[] = {
	EXPLORE_TWIN_SWITCH("child before parent", throw_child_first),
	{ .name = NULL },
};

/* ---- one child, three threads: borrowed, though the reserve has room ---- */

static void one_is_charged(void)
{
	make_tree(4);
	make_child(A, 4, 1);
	explore_check(charge(&child[A], 1));
}

static void give_and_borrow(unsigned thread)
{
	if (thread == 0) {
		budget_uncharge(&child[A], BUDGET_UNIT);
		return;
	}
	explore_check(charge(&child[A], 1));
	is_within(&child[A]);
	if (thread == 2)
		budget_uncharge(&child[A], BUDGET_UNIT);
}

static const struct explore_twin overlap_twins[] = {
	EXPLORE_TWIN("nobody looks again", SKIP, "overlap", "load"),
	EXPLORE_TWIN("looked at too early", RELAX, "overlap", "load"),
	EXPLORE_TWIN("reserve looked at, then charged", SPLIT,
		     "account_charge_some", "cas"),
	EXPLORE_TWIN("uncharge in two steps", SPLIT, "account_uncharge_some",
		     "cas"),
	{ .name = NULL },
};

/* ---- the guaranteed memory goes from hand to hand ---- */

static void one_is_guaranteed(void)
{
	make_tree(1);
	make_child(A, 1, 1);
}

static void use_guaranteed(unsigned thread)
{
	if (!charge(&child[A], 1))
		return;
	explore_write(&backing, thread);
	budget_uncharge(&child[A], BUDGET_UNIT);
}

static const struct explore_twin reserve_twins[] = {
	EXPLORE_TWIN("relaxed uncharge", RELAX, "account_uncharge_some",
		     "cas"),
	EXPLORE_TWIN("charge in two steps", SPLIT, "account_charge_some",
		     "cas"),
	{ .name = NULL },
};

/* ---- one child: its guarantee and limit change as it charges ---- */

static void guarantee_of_one(void)
{
	make_tree(4);
	make_child(A, 2, 1);
	explore_check(charge(&child[A], 1));
}

static void set_guarantee(uint64_t units)
{
	explore_check(budget_try_guarantee(&child[A], units * BUDGET_UNIT));
	is_within(&child[A]);
}

/* Thread 2 has the unit that was charged. */
static void charge_or_guarantee(unsigned thread)
{
	struct seg_budget *b = &child[A];

	if (thread == 0) {
		set_guarantee(0);
		set_guarantee(2);
	} else if (thread == 1) {
		if (charge(b, 1)) {
			is_within(b);
			budget_uncharge(b, BUDGET_UNIT);
		}
	} else {
		budget_uncharge(b, BUDGET_UNIT);
	}
}

static void two_are_guaranteed(void)
{
	uint64_t reserve = u64_load_seq_cst(&child[A].reserve);

	all_is_given_back();
	explore_check(reserve == budget_word(2, 0));
	explore_check(u64_load_seq_cst(&child[A].word) == 0);
}

static const struct explore_twin guarantee_twins[] = {
	EXPLORE_TWIN("reserve shrinks in two steps", SPLIT, "shrink_reserve",
		     "cas"),
	EXPLORE_TWIN("blind shrinking", BLIND, "shrink_reserve", "cas"),
	EXPLORE_TWIN("borrowed all the same", BLIND, "account_narrow", "cas"),
	EXPLORE_TWIN("limit of the rest not lowered", SKIP, "account_lower",
		     "cas"),
	EXPLORE_TWIN("guarantee not raised", SKIP, "account_raise", "add"),
	{ .name = NULL },
};

/* ---- a thread waits for what a sibling gives back ---- */

static bool notify_child_only;

static void throw_notify_child_only(bool on)
{
	notify_child_only = on;
}

static void give_back(struct seg_budget *b, uint64_t units)
{
	budget_uncharge(b, units * BUDGET_UNIT);
	if (!notify_child_only)
		budget_notify(b);
	else if (u32_load_seq_cst(&b->waiters))
		budget_wake(b);
}

static void sibling_has_all(void)
{
	make_tree(3);
	make_child(A, 3, 1);
	make_child(B, 3, 0);
	explore_check(charge(&child[B], 2));
}

/* Two units: one is guaranteed, one must be given back. */
static void wait_for_sibling(unsigned thread)
{
	struct seg_budget *b = &child[A];

	if (thread == 0) {
		explore_write(&backing, 1);
		give_back(&child[B], 1);
		return;
	}
	budget_wait_begin(b);
	for (;;) {
		uint32_t ticket = budget_wait_ticket(b);

		if (charge(b, 2))
			break;
		budget_wait_sleep(b, ticket, OS_FOREVER);
	}
	budget_wait_end(b);
	explore_write(&backing, 2);
	give_back(b, 2);
}

static const struct explore_twin wait_twins[] = {
	EXPLORE_TWIN_SWITCH("woken at the child", throw_notify_child_only),
	EXPLORE_TWIN("waiters not looked at", SKIP, "budget_has_waiters",
		     "load"),
	EXPLORE_TWIN("wake not counted", SKIP, "budget_wake", "add"),
	EXPLORE_TWIN("relaxed look at the words", RELAX, "account_look",
		     "load"),
	EXPLORE_TWIN("relaxed uncharge", RELAX, "account_uncharge", "sub"),
	{ .name = NULL },
};

/* Two siblings in turn: a charge that fails half-way wakes, too. */
static void wait_in_turn(unsigned thread)
{
	struct seg_budget *b = &child[thread];

	if (thread == 1) {
		give_back(b, 2);
		return;
	}
	wait_for_sibling(1);
}

/* The room is in neither of the two words for a moment. */
static void room_for_one(void)
{
	make_tree(2);
	make_child(A, 1, 0);
}

static void wait_for_guarantee(unsigned thread)
{
	struct seg_budget *b = &child[A];

	if (thread == 0) {
		set_guarantee(1);
		budget_notify(b);
		return;
	}
	budget_wait_begin(b);
	for (;;) {
		uint32_t ticket = budget_wait_ticket(b);

		if (charge(b, 1))
			break;
		budget_wait_sleep(b, ticket, OS_FOREVER);
	}
	budget_wait_end(b);
}

static const struct explore_twin raise_twins[] = {
	EXPLORE_TWIN("relaxed raise", RELAX, "account_raise", "add"),
	EXPLORE_TWIN("guarantee not raised", SKIP, "account_raise", "add"),
	{ .name = NULL },
};

/* ---- a child comes, is asked, and goes ---- */

static struct seg_budget *asked;
static struct reclaimer reclaimer;
static struct explore_cell there;	/* while the child is */

static uint64_t give(struct reclaimer *r, uint64_t bytes)
{
	(void)r;
	explore_read(&there);
	return bytes / 2;
}

static uint64_t shed(struct budget_member *m, uint64_t bytes)
{
	(void)m;
	explore_read(&there);
	return bytes / 2;
}

static struct budget_member member;

static void one_will_ask(void)
{
	make_tree(4);
	make_child(A, 4, 0);
}

static void begin_asked(void)
{
	asked = os_calloc(1, sizeof(*asked));
	asked->parent = &root;
	u64_store_relaxed(&asked->word, budget_word(4, 0));
	u32_store_relaxed(&asked->share, BUDGET_SHARE);
	budget_link_child(asked);
	explore_check(charge(asked, 4));
	memset(&reclaimer, 0, sizeof(reclaimer));
	memset(&member, 0, sizeof(member));
	reclaimer.give = give;
	member.shed = shed;
	explore_write(&there, 1);
	budget_join(asked, &member);
	reclaim_join(&asked->reclaimers, &reclaimer);
}

static bool unawaited;

static void throw_unawaited(bool on)
{
	unawaited = on;
}

static void ask_or_leave(unsigned thread)
{
	if (thread == 1) {
		budget_reclaim(&child[A], BUDGET_UNIT, RECLAIM_WILLING);
		budget_shed(&child[A], BUDGET_UNIT);
		return;
	}
	begin_asked();
	reclaim_leave(&asked->reclaimers, &reclaimer);
	budget_leave(asked, &member);
	explore_free(&there);
	budget_uncharge(asked, 4 * BUDGET_UNIT);
	budget_unlink_child(asked);
	if (!unawaited)
		budget_await_visits(asked);
	os_free(asked);
}

static const struct explore_twin ask_twins[] = {
	EXPLORE_TWIN_SWITCH("visits not awaited", throw_unawaited),
	EXPLORE_TWIN_SWITCH("no grace period", explore_throw_grace_period),
	EXPLORE_TWIN("visit not counted", SKIP, "visit_begin", "cas"),
	EXPLORE_TWIN("not taken out", SKIP, "budget_unlink_child", "store"),
	{ .name = NULL },
};

const struct explore_scenario explore_tree[] = {
	{ .name = "tree: two want the one unit that is left", .threads = 2,
	  .setup = one_to_borrow, .body = charge_two_or_one,
	  .post = all_is_given_back, .twins = borrow_twins },
	{ .name = "tree: the parent is charged first", .threads = 2,
	  .setup = nothing_guaranteed, .body = borrow_or_watch,
	  .post = books_balance, .twins = parent_twins },
	{ .name = "tree: nobody borrows what it has", .threads = 3,
	  .setup = one_is_charged, .body = give_and_borrow,
	  .post = books_balance, .twins = overlap_twins },
	{ .name = "tree: what is guaranteed is had in turn", .threads = 3,
	  .setup = one_is_guaranteed, .body = use_guaranteed,
	  .post = all_is_given_back, .twins = reserve_twins },
	{ .name = "tree: a guarantee changes", .threads = 3,
	  .setup = guarantee_of_one, .body = charge_or_guarantee,
	  .post = two_are_guaranteed, .twins = guarantee_twins },
	{ .name = "tree: waiting for a sibling", .threads = 2,
	  .setup = sibling_has_all, .body = wait_for_sibling,
	  .post = books_balance, .twins = wait_twins },
	{ .name = "tree: waiting for all that a sibling has", .threads = 2,
	  .setup = sibling_has_all, .body = wait_in_turn,
	  .post = books_balance },
	{ .name = "tree: waiting as the guarantee rises", .threads = 2,
	  .setup = room_for_one, .body = wait_for_guarantee,
	  .post = books_balance, .twins = raise_twins },
	{ .name = "tree: asking a child that leaves", .threads = 2,
	  .setup = one_will_ask, .body = ask_or_leave, .twins = ask_twins },
	{ .name = NULL },
};
