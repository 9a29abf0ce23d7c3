/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * lib/budget_tree.c: when a budget of a tree is full, who is asked to give
 * back, in which order and how much; never for a part of a guarantee.
 */
#include "budgets.h"

/* A pool and a cache in one: what it holds, and what it was asked for. */
struct tenant {
	struct budget_member member;	/* first */
	struct reclaimer reclaimer;
	struct seg_budget *budget;
	uint64_t idle, unused, cached;	/* units */
	uint64_t slice;			/* decommitted in whole ones; 0: any */
	uint64_t asked_shed, asked_decommit, asked_reclaim;
	unsigned calls;			/* of decommit */
};

static uint64_t give(struct tenant *t, uint64_t *from, uint64_t bytes)
{
	uint64_t units = bytes / UNIT < *from ? bytes / UNIT : *from;

	*from -= units;
	uncharge(t->budget, units);
	return units * UNIT;
}

static uint64_t tenant_shed(struct budget_member *m, uint64_t bytes)
{
	struct tenant *t = (struct tenant *)m;

	t->asked_shed += bytes / UNIT;
	return give(t, &t->idle, bytes);
}

static uint64_t tenant_decommit(struct budget_member *m, uint64_t bytes)
{
	struct tenant *t = (struct tenant *)m;

	t->calls++;
	t->asked_decommit += bytes / UNIT;
	if (bytes < t->slice * UNIT)
		bytes = t->slice * UNIT;
	return give(t, &t->unused, bytes);
}

static uint64_t tenant_give(struct reclaimer *r, uint64_t bytes)
{
	struct tenant *t = (struct tenant *)((char *)r -
					     offsetof(struct tenant,
						      reclaimer));

	t->asked_reclaim += bytes / UNIT;
	return give(t, &t->cached, bytes);
}

static void tenant_begin(struct tenant *t, struct seg_budget *b, uint64_t idle,
			 uint64_t unused, uint64_t cached)
{
	*t = (struct tenant){
		.member = { .shed = tenant_shed, .decommit = tenant_decommit },
		.reclaimer.give = tenant_give,
		.budget = b, .idle = idle, .unused = unused, .cached = cached,
	};
	assert_true(charge(b, idle + unused + cached));
	budget_join(b, &t->member);
	reclaim_join(&b->reclaimers, &t->reclaimer);
}

static void tenant_end(struct tenant *t)
{
	reclaim_leave(&t->budget->reclaimers, &t->reclaimer);
	budget_leave(t->budget, &t->member);
	uncharge(t->budget, t->idle + t->unused + t->cached);
}

static uint64_t reclaim(struct seg_budget *b, uint64_t units)
{
	return budget_reclaim(b, units * UNIT, RECLAIM_WILLING) / UNIT;
}

/* What nobody uses is taken from all, but not below a guarantee. */
static void test_idle_memory_is_taken_from_siblings(void **state)
{
	struct seg_budget *root = new_budget(20 * UNIT);
	struct seg_budget *b = new_child(root, 20, 4);
	struct seg_budget *c = new_child(root, 20, 0);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 5, 5, 0);
	tenant_begin(&tc, c, 0, 0, 10);
	assert_int_equal(budget_shed(c, 2 * UNIT), 2 * UNIT);
	assert_int_equal(tb.asked_shed, 2);
	assert_int_equal(budget_decommit(c, 20 * UNIT), 4 * UNIT);
	assert_int_equal(tb.asked_decommit, 4);
	assert_books(b, 20, 4, 4, 0);
	assert_int_equal(budget_decommit(c, 20 * UNIT), 0);
	assert_int_equal(tb.asked_decommit, 4);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* What is idle within a guarantee is its owner's own: it comes to its use. */
static void test_a_guarantee_is_freed_for_its_owner(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 6);
	struct tenant tb;

	(void)state;
	tenant_begin(&tb, b, 3, 2, 1);
	assert_true(charge(root, 4));
	assert_false(charge(b, 1));
	assert_int_equal(budget_shed(root, UNIT), 0);
	assert_int_equal(budget_decommit(b, 2 * UNIT), 2 * UNIT);
	assert_int_equal(budget_shed(b, 3 * UNIT), 3 * UNIT);
	assert_int_equal(reclaim(b, 1), 1);
	assert_true(charge(b, 6));
	uncharge(b, 6);
	uncharge(root, 4);
	tenant_end(&tb);
	end_budget(b);
	end_budget(root);
}

/* A child gives a slice, of which two units were borrowed: the other is asked
 * for the third. */
static void test_what_falls_into_a_guarantee_is_not_given(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 0);
	struct seg_budget *c = new_child(root, 10, 4);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 0, 4, 0);
	tenant_begin(&tc, c, 0, 6, 0);
	tc.slice = 4;
	assert_int_equal(budget_decommit(root, 3 * UNIT), 3 * UNIT);
	assert_int_equal(tb.unused, 3);
	assert_int_equal(tc.unused, 2);
	assert_int_equal(budget_room(root), 3 * UNIT);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* Who has nothing is asked twice at most, and not 2^depth times. */
static void test_nobody_is_asked_again_and_again(void **state)
{
	struct seg_budget *root = new_budget(4 * UNIT);
	struct seg_budget *b[BUDGET_DEPTH] = { root };
	struct seg_budget *c = new_child(root, 4, 0);
	struct tenant t;

	(void)state;
	for (int i = 1; i < BUDGET_DEPTH; i++)
		b[i] = new_child(b[i - 1], 4, 0);
	tenant_begin(&t, b[BUDGET_DEPTH - 1], 0, 0, 4);
	assert_int_equal(budget_decommit(c, UNIT), 0);
	assert_in_range(t.calls, 1, 2);
	t.calls = 0;
	assert_int_equal(budget_decommit(b[BUDGET_DEPTH - 1], UNIT), 0);
	assert_in_range(t.calls, 1, 2);
	tenant_end(&t);
	end_budget(c);
	for (int i = BUDGET_DEPTH - 1; i >= 0; i--)
		end_budget(b[i]);
}

/* A reclaimer that rests has it all: who lowers a limit asks it, too. */
static void test_lowering_a_limit_asks_those_that_rest(void **state)
{
	struct seg_budget *root = new_budget(8 * UNIT);
	struct seg_budget *b = new_child(root, 8, 0);
	struct tenant t;

	(void)state;
	tenant_begin(&t, b, 0, 0, 0);
	for (int i = 0; i < 2; i++)
		assert_int_equal(reclaim(b, 1), 0);
	/* relaxed: nobody else is there; it rests for as long as this takes */
	u64_store_relaxed(&t.reclaimer.ask_again_ns, UINT64_MAX);
	assert_true(charge(b, 6));
	t.cached = 6;
	assert_int_equal(reclaim(b, 1), 0);
	assert_int_equal(seg_budget_set_limit(root, 4 * UNIT), 0);
	assert_int_equal(t.cached, 4);
	tenant_end(&t);
	end_budget(b);
	end_budget(root);
}

/* Who is at its own limit is not helped by others. */
static void test_who_is_at_its_own_limit_asks_itself(void **state)
{
	struct seg_budget *root = new_budget(20 * UNIT);
	struct seg_budget *b = new_child(root, 5, 0);
	struct seg_budget *c = new_child(root, 20, 0);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 1, 1, 3);
	tenant_begin(&tc, c, 4, 4, 4);
	assert_int_equal(budget_shed(b, 3 * UNIT), UNIT);
	assert_int_equal(budget_decommit(b, 3 * UNIT), UNIT);
	assert_int_equal(reclaim(b, 2), 2);
	assert_int_equal(tc.asked_shed + tc.asked_decommit + tc.asked_reclaim,
			 0);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* Shares: 12 borrowed, of which b is due a third, c two thirds. */
static void test_who_is_beyond_its_share_is_asked(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT), *b, *c;
	struct tenant tb, tc;

	(void)state;
	assert_int_equal(create_child(root, 20, 0, 1, &b), 0);
	assert_int_equal(create_child(root, 20, 0, 2, &c), 0);
	tenant_begin(&tb, b, 0, 0, 10);
	tenant_begin(&tc, c, 0, 0, 2);
	/* c wishes 3: 15 in all, and 5 are b's due */
	assert_int_equal(reclaim(c, 3), 3);
	assert_int_equal(tb.asked_reclaim, 3);
	assert_int_equal(tc.asked_reclaim, 0);
	assert_true(charge(c, 3));
	/* b wishes 6: 18 in all, it holds 13 of 6: it asks itself */
	assert_int_equal(reclaim(b, 6), 6);
	assert_int_equal(tb.asked_reclaim, 9);
	assert_int_equal(tc.asked_reclaim, 0);
	uncharge(c, 3);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* Who gives is beyond its share, but so are many others, further, who have
 * nothing to give. */
static void test_many_are_before_who_gives(void **state)
{
	enum { MANY = 40 };
	struct seg_budget *root = new_budget((MANY / 2 * 6 + 4) * UNIT);
	struct seg_budget *child[MANY], *last;
	struct tenant t;

	(void)state;
	for (int i = 0; i < MANY; i++) {
		child[i] = new_child(root, 20, 0);
		assert_true(charge(child[i], i < MANY / 2 ? 5 : 1));
	}
	last = new_child(root, 20, 0);
	tenant_begin(&t, last, 0, 0, 4);
	assert_int_equal(reclaim(root, 2), 2);
	assert_int_equal(t.asked_reclaim, 2);
	tenant_end(&t);
	end_budget(last);
	for (int i = 0; i < MANY; i++) {
		uncharge(child[i], i < MANY / 2 ? 5 : 1);
		end_budget(child[i]);
	}
	end_budget(root);
}

/* All hold their share: the asker's own caches are left. */
static void test_who_holds_its_share_keeps_it(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT);
	struct seg_budget *b = new_child(root, 20, 0);
	struct seg_budget *c = new_child(root, 20, 0);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 0, 0, 6);
	tenant_begin(&tc, c, 0, 0, 6);
	assert_int_equal(reclaim(b, 2), 2);
	assert_int_equal(tb.asked_reclaim, 2);
	assert_int_equal(tc.asked_reclaim, 0);
	assert_true(charge(b, 2));
	assert_int_equal(reclaim(c, 8), 6);
	uncharge(b, 2);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* The guarantee is not asked for, and a lender gets back what it lent. */
static void test_a_lender_is_given_back_to(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT);
	struct seg_budget *b = new_child(root, 20, 4);
	struct seg_budget *c = new_child(b, 20, 2);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 0, 0, 2);
	tenant_begin(&tc, c, 0, 0, 10);
	assert_books(c, 20, 10, 2, 8);
	assert_books(b, 20, 12, 4, 8);
	assert_int_equal(reclaim(root, 20), 8);
	assert_int_equal(tb.asked_reclaim, 8);
	assert_int_equal(tc.asked_reclaim, 6);
	assert_books(c, 20, 4, 2, 2);
	assert_books(b, 20, 4, 4, 0);
	assert_books(root, 12, 4, 0, 0);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

static void test_lowering_a_limit_asks_all_below(void **state)
{
	struct seg_budget *root = new_budget(20 * UNIT);
	struct seg_budget *b = new_child(root, 20, 0);
	struct seg_budget *c = new_child(root, 20, 3);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 1, 1, 8);
	tenant_begin(&tc, c, 0, 0, 10);
	assert_int_equal(seg_budget_set_limit(root, 10 * UNIT), 0);
	assert_int_equal(tb.idle + tb.unused, 0);
	assert_int_equal(tc.asked_reclaim + tb.asked_reclaim, 8);
	assert_int_equal(seg_budget_set_limit(root, 2 * UNIT), -EBUSY);
	assert_books(root, 10, 3, 0, 0);
	assert_books(c, 20, 3, 3, 0);
	assert_int_equal(seg_budget_set_limit(root, 3 * UNIT), 0);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* A guarantee is made room for as a segment is. */
static void test_a_guarantee_is_made_room_for(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 0), *c = NULL;
	struct tenant tb;

	(void)state;
	tenant_begin(&tb, b, 2, 2, 6);
	c = new_child(root, 10, 7);
	assert_int_equal(tb.idle + tb.unused, 0);
	assert_int_equal(tb.cached, 3);
	assert_books(root, 10, 10, 0, 0);
	tenant_end(&tb);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* What it borrows becomes guaranteed as it is: others make the room. */
static void test_a_child_is_not_asked_for_its_own_guarantee(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT);
	struct seg_budget *b = new_child(root, 12, 0);
	struct seg_budget *c = new_child(root, 12, 0);
	struct tenant tb, tc;

	(void)state;
	tenant_begin(&tb, b, 0, 2, 6);
	tenant_begin(&tc, c, 0, 0, 4);
	assert_int_equal(seg_budget_set_guarantee(b, 10 * UNIT), 0);
	assert_int_equal(tb.asked_shed + tb.asked_decommit + tb.asked_reclaim,
			 0);
	assert_int_equal(tc.asked_reclaim, 2);
	assert_books(b, 12, 8, 10, 0);
	assert_books(c, 12, 2, 0, 2);
	assert_books(root, 12, 12, 0, 0);
	tenant_end(&tb);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* What is unused first; and nothing if others are promised too much. */
static void test_a_guarantee_evicts_only_if_it_must(void **state)
{
	struct seg_budget *root = new_budget(12 * UNIT);
	struct seg_budget *b = new_child(root, 12, 0);
	struct seg_budget *c = new_child(root, 12, 1);
	struct tenant tc;

	(void)state;
	tenant_begin(&tc, c, 2, 2, 8);
	assert_int_equal(seg_budget_set_guarantee(b, 12 * UNIT), -EBUSY);
	assert_int_equal(tc.asked_shed + tc.asked_decommit + tc.asked_reclaim,
			 0);
	assert_int_equal(seg_budget_set_guarantee(b, 4 * UNIT), 0);
	assert_int_equal(tc.asked_reclaim, 0);
	assert_int_equal(tc.idle + tc.unused, 0);
	assert_int_equal(seg_budget_set_guarantee(b, 11 * UNIT), 0);
	assert_int_equal(tc.asked_reclaim, 7);
	assert_books(root, 12, 12, 0, 0);
	tenant_end(&tc);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

static void no_report(struct reclaimer *r, struct seg_refusal *refusal,
		      struct pin_sums *pins)
{
	(void)r;
	(void)pins;
	refusal->cache_weight++;
}

/* Of those that borrow, below the budget that is full. */
static void test_borrowers_are_listed(void **state)
{
	struct seg_budget *root = new_budget(20 * UNIT);
	struct seg_budget *b = new_child(root, 20, 0);
	struct seg_budget *c = new_child(b, 20, 0);
	struct seg_budget *d = new_child(root, 20, 2);
	struct seg_refusal r = { .size = sizeof(r) };
	struct tenant tb, tc, td;

	(void)state;
	tenant_begin(&tb, b, 0, 0, 3);
	tenant_begin(&tc, c, 0, 0, 5);
	tenant_begin(&td, d, 0, 0, 2);
	tb.reclaimer.name = "b";
	tc.reclaimer.name = "c";
	tc.reclaimer.report = no_report;
	budget_list_borrowers(root, &r);
	assert_int_equal(r.reclaimers, 2);
	assert_string_equal(r.reclaimer[0].name, "b");
	assert_string_equal(r.reclaimer[1].name, "c");
	assert_int_equal(r.cache_weight, 0);	/* a list only */
	assert_true(charge(d, 2));		/* borrows now */
	r.reclaimers = 0;
	budget_list_borrowers(c, &r);		/* but not itself */
	assert_int_equal(r.reclaimers, 1);
	r.reclaimers = 0;
	budget_list_borrowers(d, &r);
	assert_int_equal(r.reclaimers, 2);
	uncharge(d, 2);
	tenant_end(&tb);
	tenant_end(&tc);
	tenant_end(&td);
	end_budget(d);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

/* What is coming comes to who is short of it: not what is guaranteed. */
static void test_deferred_bytes_count_where_they_come_free(void **state)
{
	struct seg_budget *root = new_budget(10 * UNIT);
	struct seg_budget *b = new_child(root, 10, 2);
	struct seg_budget *c = new_child(root, 3, 0);

	(void)state;
	assert_true(charge(b, 8));
	assert_true(charge(c, 2));
	budget_defer(b, 7 * UNIT);
	assert_int_equal(budget_coming(c), 6 * UNIT);
	assert_int_equal(budget_deferred(c), 6 * UNIT);
	assert_int_equal(budget_coming(b), 7 * UNIT);	/* all, to itself */
	budget_stick(b, 3 * UNIT);
	assert_int_equal(budget_coming(c), 4 * UNIT);
	assert_int_equal(budget_deferred(c), 6 * UNIT);
	assert_int_equal(budget_stats(root).deferred_bytes, 7 * UNIT);
	assert_int_equal(budget_stats(c).deferred_bytes, 0);
	budget_unstick(b, 3 * UNIT);
	budget_uncharge_deferred(b, 7 * UNIT);
	assert_true(charge(c, 1));
	budget_defer(b, UNIT);
	assert_int_equal(budget_coming(c), 0);	/* at its own limit */
	budget_uncharge_deferred(b, UNIT);
	uncharge(c, 3);
	end_budget(c);
	end_budget(b);
	end_budget(root);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idle_memory_is_taken_from_siblings),
		cmocka_unit_test(test_a_guarantee_is_freed_for_its_owner),
		cmocka_unit_test(
			test_what_falls_into_a_guarantee_is_not_given),
		cmocka_unit_test(test_nobody_is_asked_again_and_again),
		cmocka_unit_test(test_lowering_a_limit_asks_those_that_rest),
		cmocka_unit_test(test_who_is_at_its_own_limit_asks_itself),
		cmocka_unit_test(test_who_is_beyond_its_share_is_asked),
		cmocka_unit_test(test_many_are_before_who_gives),
		cmocka_unit_test(test_who_holds_its_share_keeps_it),
		cmocka_unit_test(test_a_lender_is_given_back_to),
		cmocka_unit_test(test_lowering_a_limit_asks_all_below),
		cmocka_unit_test(test_a_guarantee_is_made_room_for),
		cmocka_unit_test(
			test_a_child_is_not_asked_for_its_own_guarantee),
		cmocka_unit_test(test_a_guarantee_evicts_only_if_it_must),
		cmocka_unit_test(test_borrowers_are_listed),
		cmocka_unit_test(
			test_deferred_bytes_count_where_they_come_free),
	};

	return run_group(tests);
}
