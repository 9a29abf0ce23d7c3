/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See budget.h. */
#include "budget.h"

#include "assert.h"
#include "backoff.h"
#include "os.h"

uint64_t budget_look(struct seg_budget *b)
{
	/* seq_cst: load after the store of waiters, see budget_wait_begin() */
	return u64_load_seq_cst(&b->word);
}

void budget_refuse(struct seg_budget *b)
{
	u64_add_relaxed(&b->refusals, 1); /* relaxed: counter */
}

static void note_charge(struct seg_budget *b, uint64_t word)
{
	gauge_raise_peak(&b->peak_units, word & UINT32_MAX);
}

bool budget_charge(struct seg_budget *b, uint64_t bytes)
{
	uint64_t units = budget_units(bytes);
	uint64_t old = budget_look(b);
	struct backoff backoff = BACKOFF_INIT;

	for (;;) {
		if ((old & UINT32_MAX) + units > old >> 32) {
			budget_refuse(b);
			return false;
		}
		/* acquire <- budget_uncharge(): the munmap is over; retries
		 * only when another charge, uncharge or limit came between */
		if (u64_cas_weak_acquire(&b->word, &old, old + units))
			break;
		backoff_pause(&backoff);
	}
	note_charge(b, old + units);
	return true;
}

void budget_uncharge(struct seg_budget *b, uint64_t bytes)
{
	/* seq_cst: release -> budget_charge(); store before the load of
	 * waiters, see budget_notify() */
	uint64_t old = u64_sub_seq_cst(&b->word, budget_units(bytes));

	seg_assert((old & UINT32_MAX) >= budget_units(bytes));
	(void)old;
}

void budget_defer(struct seg_budget *b, uint64_t bytes)
{
	u64_add_relaxed(&b->deferred_bytes, bytes); /* relaxed: counter */
}

/* In this order, so that who sees none deferred finds them uncharged, or
 * waits for a moment in vain; never the other way round for good. */
void budget_uncharge_deferred(struct seg_budget *b, uint64_t bytes)
{
	budget_uncharge(b, bytes);
	u64_sub_relaxed(&b->deferred_bytes, bytes); /* relaxed: counter */
}

uint64_t budget_deferred(struct seg_budget *b)
{
	return u64_load_relaxed(&b->deferred_bytes); /* relaxed: counter */
}

void budget_stick(struct seg_budget *b, uint64_t bytes)
{
	u64_add_relaxed(&b->stuck_bytes, bytes); /* relaxed: counter */
}

void budget_unstick(struct seg_budget *b, uint64_t bytes)
{
	u64_sub_relaxed(&b->stuck_bytes, bytes); /* relaxed: counter */
}

uint64_t budget_coming(struct seg_budget *b)
{
	uint64_t deferred = budget_deferred(b);
	/* relaxed: counter */
	uint64_t stuck = u64_load_relaxed(&b->stuck_bytes);

	return deferred > stuck ? deferred - stuck : 0;
}

bool budget_try_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	uint64_t limit = budget_units(limit_bytes);
	uint64_t old = budget_look(b);

	do {
		if ((old & UINT32_MAX) > limit)
			return false;
		/* seq_cst: store before the load of waiters, see
		 * budget_notify(); retries when a charge came between */
	} while (!u64_cas_weak_seq_cst(&b->word, &old,
				       budget_word(limit, old & UINT32_MAX)));
	return true;
}

void budget_notify(struct seg_budget *b)
{
	/* seq_cst: load after the caller's store, see budget_wait_begin() */
	if (__builtin_expect(u32_load_seq_cst(&b->waiters) == 0, 1))
		return;
	/* seq_cst: release -> budget_wait_ticket() */
	u32_add_seq_cst(&b->wakes, 1);
	os_futex_wake_all(&b->wakes);
}

void budget_wait_begin(struct seg_budget *b)
{
	/* seq_cst: store before the look at the word and the slices, see
	 * budget_notify() */
	u32_add_seq_cst(&b->waiters, 1);
	u64_add_relaxed(&b->waits, 1); /* relaxed: counter */
}

uint32_t budget_wait_ticket(struct seg_budget *b)
{
	/* acquire <- budget_notify(): what it was called for is seen */
	return u32_load_acquire(&b->wakes);
}

void budget_wait_sleep(struct seg_budget *b, uint32_t ticket,
		       uint64_t timeout_ns)
{
	os_futex_wait(&b->wakes, ticket, timeout_ns);
}

void budget_wait_end(struct seg_budget *b)
{
	/* seq_cst: as budget_wait_begin() */
	u32_sub_seq_cst(&b->waiters, 1);
}
