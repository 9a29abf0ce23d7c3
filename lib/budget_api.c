/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The public side of a budget, and the pools that share it.  The list of pools
 * is changed while the keeper is held (a lock that a fork respects) and walked
 * under RCU.
 */
#include <errno.h>
#include <string.h>

#include "budget.h"
#include "keeper.h"
#include "options.h"
#include "os.h"
#include "rcu.h"
#include "seg.h"

static bool limit_is_valid(uint64_t bytes)
{
	return bytes >= BUDGET_UNIT && bytes <= BUDGET_MAX_BYTES;
}

int seg_budget_create(const struct seg_budget_options *options,
		      struct seg_budget **ret_budget)
{
	struct seg_budget_options o = { 0 };
	struct seg_budget *b;

	if (!ret_budget || !options_get(&o, sizeof(o), options, sizeof(o)))
		return -EINVAL;
	if (!limit_is_valid(o.limit_bytes))
		return -ERANGE;
	b = os_calloc(1, sizeof(*b));
	if (!b)
		return -ENOMEM;
	/* relaxed: not yet published */
	u64_store_relaxed(&b->word,
			  budget_word(budget_units(o.limit_bytes), 0));
	*ret_budget = b;
	return 0;
}

int seg_budget_destroy(struct seg_budget *b)
{
	bool busy;

	if (!b)
		return 0;
	keeper_hold();
	/* relaxed, both: written while the keeper is held */
	busy = u64_load_relaxed(&b->member_count) != 0 ||
	       u64_load_relaxed(&b->reclaimers.count) != 0;
	keeper_let_go();
	if (busy)
		return -EBUSY;
	os_free(b);
	return 0;
}

int seg_budget_set_limit(struct seg_budget *b, uint64_t limit_bytes)
{
	uint64_t charged;

	if (!b)
		return -EINVAL;
	if (!limit_is_valid(limit_bytes))
		return -ERANGE;
	if (!budget_try_limit(b, limit_bytes)) {
		charged = budget_word_charged(budget_look(b));
		if (charged > limit_bytes)
			budget_shed(b, charged - limit_bytes);
		if (!budget_try_limit(b, limit_bytes))
			return -EBUSY;
	}
	budget_notify(b);
	return 0;
}

int seg_budget_stats(struct seg_budget *b, struct seg_budget_stats *ret_stats)
{
	struct seg_budget_stats s = { .size = sizeof(s) };
	uint64_t word;

	if (!b || !result_is_valid(ret_stats))
		return -EINVAL;
	word = budget_look(b);
	s.limit_bytes = budget_word_limit(word);
	s.charged_bytes = budget_word_charged(word);
	/* relaxed, all of these: counters */
	s.peak_charged_bytes = u64_load_relaxed(&b->peak_units) * BUDGET_UNIT;
	s.charge_refusals_total = u64_load_relaxed(&b->refusals);
	s.deferred_bytes = budget_deferred(b);
	s.waiters = u32_load_relaxed(&b->waiters);
	s.waits_total = u64_load_relaxed(&b->waits);
	s.pools = u64_load_relaxed(&b->member_count);
	s.caches = u64_load_relaxed(&b->reclaimers.count);
	s.reclaims_total = u64_load_relaxed(&b->reclaimers.asked);
	s.reclaimed_bytes_total = u64_load_relaxed(&b->reclaimers.given_bytes);
	result_put(ret_stats, &s, sizeof(s));
	return 0;
}

void budget_join(struct seg_budget *b, struct budget_member *member)
{
	keeper_hold();
	/* relaxed: the hold orders writers; not yet published */
	ptr_store_relaxed(&member->next, ptr_load_relaxed(&b->members));
	/* release -> budget_shed() */
	ptr_store_release(&b->members, member);
	u64_add_relaxed(&b->member_count, 1); /* relaxed: counter */
	keeper_let_go();
}

void budget_leave(struct seg_budget *b, struct budget_member *member)
{
	struct atomic_ptr *at = &b->members;
	struct budget_member *m;

	keeper_hold();
	/* relaxed: the hold orders writers */
	while ((m = ptr_load_relaxed(at)) != member)
		at = &m->next;
	/* release -> budget_shed(): what stands behind was published before */
	ptr_store_release(at, ptr_load_relaxed(&member->next));
	u64_sub_relaxed(&b->member_count, 1); /* relaxed: counter */
	keeper_let_go();
	rcu_wait_for_readers();
}

uint64_t budget_shed(struct seg_budget *b, uint64_t bytes)
{
	struct budget_member *m;
	uint64_t shed = 0;

	rcu_enter();
	/* acquire <- budget_join() */
	for (m = ptr_load_acquire(&b->members); m && shed < bytes;
	     m = ptr_load_acquire(&m->next)) /* acquire <- budget_join() */
		shed += m->shed(m, bytes - shed);
	rcu_leave();
	return shed;
}
