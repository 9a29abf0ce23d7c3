/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The failure record: what held the memory when an allocation was refused.
 * The regions are walked for it, so that not every refusal is recorded.  Under
 * a gate of its own; who finds it held leaves the record to the other.
 */
#include <errno.h>

#include "options.h"
#include "os.h"
#include "pool.h"

#define RECORD_EVERY_NS (UINT64_C(100) * 1000 * 1000)

static void record_budget(struct seg_pool *p, struct seg_refusal *r)
{
	struct seg_budget *budget = p->allocator.budget;
	uint64_t word = budget_look(budget);

	r->limit_bytes = budget_word_limit(word);
	r->charged_bytes = budget_word_charged(word);
	r->deferred_bytes = budget_deferred(budget);
	reclaim_report(&budget->reclaimers, r);
}

static void record_classes(struct seg_pool *p, struct seg_refusal *r)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct class_pool *cp = &p->node.pools[c];
		struct class_sum sum = class_pool_sum(cp);

		r->active_bytes += (sum.slices - sum.unused) * cp->slice_bytes;
		r->unused_bytes += sum.unused * cp->slice_bytes;
		/* relaxed: counter */
		r->refusals_total += u64_load_relaxed(&cp->refusals);
	}
}

void pool_record_refusal(struct seg_pool *p, size_t bytes, uint64_t since_ns)
{
	struct seg_refusal r = { .size = sizeof(r), .bytes = bytes };
	uint64_t now_ns = os_now_ns();

	if (!gate_try(&p->refusal_gate))
		return;
	if (!p->refused_ns || now_ns >= p->refused_ns + RECORD_EVERY_NS) {
		r.waited_ns = now_ns - since_ns;
		record_budget(p, &r);
		record_classes(p, &r);
		p->refusal = r;
		p->refused_ns = now_ns;
	}
	gate_unlock(&p->refusal_gate);
}

int seg_pool_last_refusal(struct seg_pool *p, struct seg_refusal *ret_refusal)
{
	struct seg_refusal r;
	bool found;

	if (!p || !result_is_valid(ret_refusal))
		return -EINVAL;
	gate_lock(&p->refusal_gate);
	found = p->refused_ns != 0;
	r = p->refusal;
	gate_unlock(&p->refusal_gate);
	if (!found)
		return -ENOENT;
	result_put(ret_refusal, &r, sizeof(r));
	return 0;
}
