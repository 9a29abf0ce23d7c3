/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The failure record: what held the memory when an allocation was refused.
 * The regions are walked for it, so that not every refusal is recorded.  Under
 * a gate of its own; who finds it held leaves the record to the other.
 */
#include <errno.h>

#include "options.h"
#include "os.h"
#include "pin_sums.h"
#include "pool.h"
#include "rcu.h"

#define RECORD_EVERY_NS (UINT64_C(100) * 1000 * 1000)
#define NS_PER_MS (UINT64_C(1000) * 1000)

enum { JSON_BYTES = 9216 };

/* ---- who has it ---- */

/* Keeps the biggest ones, in that order. */
static void add_holder(struct seg_refusal *r, const struct seg_holder *holder)
{
	uint64_t n = r->holders++;

	if (n >= SEG_HOLDERS_MOST) {
		n = SEG_HOLDERS_MOST - 1;
		if (r->holder[n].charged_bytes >= holder->charged_bytes)
			return;
	}
	for (; n && r->holder[n - 1].charged_bytes < holder->charged_bytes; n--)
		r->holder[n] = r->holder[n - 1];
	r->holder[n] = *holder;
}

static void add_member(struct seg_refusal *r, struct budget_member *m)
{
	struct seg_holder h = { .kind = SEG_HOLDER_POOL };

	m->report(m, &h);
	add_holder(r, &h);
}

static void record_pools(struct seg_budget *budget, struct seg_refusal *r)
{
	struct budget_member *m;

	rcu_enter();
	/* acquire <- budget_join() */
	for (m = ptr_load_acquire(&budget->members); m;
	     m = ptr_load_acquire(&m->next)) /* acquire: as above */
		add_member(r, m);
	rcu_leave();
}

static void add_child(void *ctx, struct seg_budget *child)
{
	struct seg_holder h = {
		.kind = SEG_HOLDER_BUDGET,
		.id = (uint64_t)(uintptr_t)child,
		.charged_bytes = budget_word_charged(budget_look(child)),
		.guaranteed_bytes = budget_guaranteed(child),
	};

	add_holder(ctx, &h);
}

/* Holders and reclaimers of those above it, too: it is what they leave. */
static void record_budget(struct seg_budget *budget, struct seg_refusal *r)
{
	struct pin_sums pins = { .longest = r->longest,
				 .biggest = r->biggest };
	struct seg_budget *asker = budget;
	uint64_t word = budget_look(budget);

	r->limit_bytes = budget_word_limit(word);
	r->charged_bytes = budget_word_charged(word);
	r->deferred_bytes = budget_deferred(budget);
	r->room_bytes = budget_room(budget);
	for (; budget; budget = budget->parent) {
		record_pools(budget, r);
		budget_each_child(budget, add_child, r);
		reclaim_report(&budget->reclaimers, r, &pins);
	}
	budget_list_borrowers(asker, r);
	r->tagged_pins = pins.tagged;
	pin_sums_heaviest(&pins, r->tags);
}

static void record_class(struct class_pool *cp, struct seg_refusal *r)
{
	struct seg_refusal_class *c = &r->classes[cp->class_index];
	struct class_sum sum = class_pool_sum(cp);

	c->active = class_sum_active(sum) * cp->slice_bytes;
	c->unused = sum.unused * cp->slice_bytes;
	c->cached = sum.cached * cp->slice_bytes;
	c->decommitted = sum.cold * cp->slice_bytes;
	c->deferred = u64_load_relaxed(&cp->deferred_bytes); /* relaxed: sum */
	r->active_bytes += c->active;
	r->unused_bytes += c->unused;
	r->decommitted_bytes += c->decommitted;
	/* relaxed: counter */
	r->refusals_total += u64_load_relaxed(&cp->refusals);
}

static void record_error(struct allocator *a, struct seg_refusal *r,
			 uint64_t now_ns)
{
	/* acquire <- allocator_note_error(): no older error than the time */
	uint64_t error_ns = u64_load_acquire(&a->error_ns);

	r->error = u32_load_relaxed(&a->error); /* relaxed: a hint */
	if (r->error && now_ns > error_ns)
		r->error_age_ns = now_ns - error_ns;
}

/* ---- why ---- */

static bool is_parent_full(const struct seg_refusal *r, uint64_t need)
{
	return r->limit_bytes - r->charged_bytes >= need &&
	       r->room_bytes < need;
}

/* The node has nothing left, or its own budget has no room. */
static bool is_node_full(struct class_pool *cp,
			 const struct limit_report *report)
{
	return report->node_full ||
	       (cp->budget != cp->allocator->budget &&
		budget_word_room(budget_look(cp->budget)) < cp->slice_bytes);
}

static enum seg_refusal_reason reason_of(const struct seg_refusal *r,
					 const struct limit_report *report,
					 struct class_pool *cp)
{
	uint64_t need = cp->slice_bytes;

	if (need > r->limit_bytes)
		return SEG_REFUSED_LIMIT;
	if (is_node_full(cp, report))
		return SEG_REFUSED_NODE;
	if (report->refused)
		return SEG_REFUSED_SYSTEM;
	if (report->inside)
		return SEG_REFUSED_INSIDE;
	if (is_parent_full(r, need))
		return SEG_REFUSED_PARENT;
	if (r->deferred_bytes >= need || r->cache_deferred_weight >= need)
		return SEG_REFUSED_DEFERRED;
	if (r->pinned_weight >= need && r->pinned_weight >= r->cache_weight)
		return SEG_REFUSED_PINNED;
	return r->cache_weight >= need ? SEG_REFUSED_FLOOR :
					 SEG_REFUSED_IN_USE;
}

/* ---- the record ---- */

static void record(struct seg_pool *p, struct class_pool *cp,
		   const struct limit_report *report, uint64_t now_ns,
		   struct seg_refusal *r)
{
	for (struct node *n = NULL; (n = pool_next_node(p, n)) != NULL;)
		for (int c = 0; c < SEG_CLASSES; c++)
			record_class(&n->pools[c], r);
	record_budget(cp->budget, r);
	record_error(&p->allocator, r, now_ns);
	r->class_index = (uint64_t)cp->class_index;
	r->node = (uint64_t)cp->node_id;
	r->retired_bytes = report->retired_bytes;
	r->discarded_bytes = report->discarded_bytes;
	r->asks = report->asks;
	r->given_bytes = report->given_bytes;
	r->reason = reason_of(r, report, cp);
}

/* False: there is a young one, or another thread makes one. */
static bool record_anew(struct seg_pool *p, struct class_pool *cp,
			const struct limit_report *report, uint64_t now_ns,
			struct seg_refusal *r)
{
	bool due;

	if (!gate_try(&p->refusal_gate))
		return false;
	due = !p->refused_ns || now_ns >= p->refused_ns + RECORD_EVERY_NS;
	if (due) {
		record(p, cp, report, now_ns, r);
		p->refusal = *r;
		p->refused_ns = now_ns;
	}
	gate_unlock(&p->refusal_gate);
	return due;
}

static void log_record(struct log *log, const struct seg_refusal *r)
{
	static const char head[] = "Refusal record: ";
	char line[JSON_BYTES];

	if (!log_wants(log, SEG_LOG_ERROR))
		return;
	memcpy(line, head, sizeof(head));
	seg_refusal_json(r, line + sizeof(head) - 1,
			 sizeof(line) - sizeof(head) + 1);
	log_line(log, SEG_LOG_ERROR, line);
}

/* The budget is the one that the record is about. */
static void log_refusal(struct class_pool *cp, const struct seg_refusal *r)
{
	struct seg_budget *b = cp->budget;
	uint64_t word = budget_look(b);

	log_event(&cp->allocator->log, SEG_LOG_ERROR,
		  "Allocation refused: size=%llu, pool %d, waited %llu ms "
		  "(charged %llu KB of %llu KB, deferred %llu KB)",
		  (unsigned long long)r->bytes, cp->class_index,
		  (unsigned long long)(r->waited_ns / NS_PER_MS),
		  (unsigned long long)budget_word_charged(word) / 1024,
		  (unsigned long long)budget_word_limit(word) / 1024,
		  (unsigned long long)budget_deferred(b) / 1024);
}

void pool_refused(struct seg_pool *p, struct class_pool *cp, size_t bytes,
		  const struct limit_report *report)
{
	struct seg_refusal r = { .size = sizeof(r), .bytes = bytes,
				 .waited_ns = report->waited_ns };
	uint64_t now_ns = os_now_ns();

	u64_add_relaxed(&cp->refusals, 1); /* relaxed: counter */
	if (report->easy)
		return;		/* its caller was ready for it */
	log_refusal(cp, &r);
	if (record_anew(p, cp, report, now_ns, &r))
		log_record(&p->allocator.log, &r);
}

void pool_refusal_forked(struct seg_pool *p)
{
	/* relaxed, both: nobody else is there */
	if (u32_load_relaxed(&p->refusal_gate.word))
		p->refused_ns = 0;
	u32_store_relaxed(&p->refusal_gate.word, 0);
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
