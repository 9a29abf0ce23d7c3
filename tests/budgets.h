/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Budgets with parents, in units of 4 KiB. */
#ifndef SEG_TESTS_BUDGETS_H
#define SEG_TESTS_BUDGETS_H

#include "testing.h"

#include "budget.h"

enum { UNIT = BUDGET_UNIT };

static inline int create_child(struct seg_budget *parent, uint64_t limit,
			       uint64_t guaranteed, unsigned share,
			       struct seg_budget **ret_budget)
{
	struct seg_budget_options o = {
		.size = sizeof(o),
		.limit_bytes = limit * UNIT,
		.parent = parent,
		.guaranteed_bytes = guaranteed * UNIT,
		.share = share,
	};

	return seg_budget_create(&o, ret_budget);
}

static inline struct seg_budget *
new_child(struct seg_budget *parent, uint64_t limit, uint64_t guaranteed)
{
	struct seg_budget *b = NULL;

	assert_int_equal(create_child(parent, limit, guaranteed, 0, &b), 0);
	assert_non_null(b);
	return b;
}

/* In units: limit, charged, guaranteed, borrowed; and the equations. */
static inline void assert_books(struct seg_budget *b, uint64_t limit,
				uint64_t charged, uint64_t guaranteed,
				uint64_t borrowed)
{
	struct seg_budget_stats s = budget_stats(b);

	assert_int_equal(s.limit_bytes, limit * UNIT);
	assert_int_equal(s.charged_bytes, charged * UNIT);
	assert_int_equal(s.guaranteed_bytes, guaranteed * UNIT);
	assert_int_equal(s.borrowed_bytes, borrowed * UNIT);
	assert_true(charged <= limit && guaranteed <= limit);
	if (b->parent)	/* B5 */
		assert_int_equal(borrowed, charged > guaranteed ?
						   charged - guaranteed : 0);
}

static inline bool charge(struct seg_budget *b, uint64_t units)
{
	return budget_charge(b, units * UNIT);
}

static inline void uncharge(struct seg_budget *b, uint64_t units)
{
	budget_uncharge(b, units * UNIT);
}

#endif
