/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The event count, at the root of a tree: see budget.h. */
#include "budget.h"

#include "os.h"

static struct seg_budget *root_of(struct seg_budget *b)
{
	while (b->parent)
		b = b->parent;
	return b;
}

void budget_wake(struct seg_budget *root)
{
	/* seq_cst: release -> budget_wait_ticket() */
	u32_add_seq_cst(&root->wakes, 1);
	os_futex_wake_all(&root->wakes);
}

void budget_wait_begin(struct seg_budget *b)
{
	/* seq_cst: store before the look at the word and the slices, see
	 * budget_notify() */
	u32_add_seq_cst(&root_of(b)->waiters, 1);
	/* relaxed, both: counters */
	if (b->parent)
		u32_add_relaxed(&b->waiters, 1);
	u64_add_relaxed(&b->waits, 1);
}

uint32_t budget_wait_ticket(struct seg_budget *b)
{
	/* acquire <- budget_wake(): what it was called for is seen */
	return u32_load_acquire(&root_of(b)->wakes);
}

void budget_wait_sleep(struct seg_budget *b, uint32_t ticket,
		       uint64_t timeout_ns)
{
	os_futex_wait(&root_of(b)->wakes, ticket, timeout_ns);
}

void budget_wait_end(struct seg_budget *b)
{
	/* seq_cst, both: as budget_wait_begin() */
	if (b->parent)
		u32_sub_seq_cst(&b->waiters, 1);
	u32_sub_seq_cst(&root_of(b)->waiters, 1);
}
