/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reclaim.h. */
#include "reclaim.h"

#include <stddef.h>
#include <string.h>

#include "keeper.h"
#include "os.h"
#include "rcu.h"

enum {
	LEAVING = 1,
	CALL = 2,
	IN_VAIN_MOST = 2,
	REST_NS = 10 * 1000 * 1000,
};

static _Thread_local bool inside;

static bool is_foreign(const struct reclaimer *r)
{
	return r->process != keeper_process();
}

static bool call_begin(struct reclaimer *r)
{
	uint32_t old = u32_load_relaxed(&r->word); /* relaxed: compared */

	if (is_foreign(r))
		return false;
	do {
		if (old & LEAVING)
			return false;
		/* acquire <- reclaim_join(), through the list; retries when
		 * another call began or ended */
	} while (!u32_cas_weak_acquire(&r->word, &old, old + CALL));
	return true;
}

static void call_end(struct reclaimer *r)
{
	/* seq_cst: release -> reclaim_leave(): the call is over (R1) */
	if (u32_sub_seq_cst(&r->word, CALL) == (CALL | LEAVING))
		os_futex_wake_all(&r->word);
}

void reclaim_link(struct reclaimers *all, struct reclaimer *r)
{
	struct atomic_ptr *at = &all->first;
	struct reclaimer *found;

	/* relaxed, all: the hold orders writers; not yet published */
	while ((found = ptr_load_relaxed(at)) != NULL &&
	       found->priority > r->priority)
		at = &found->next;
	r->process = keeper_process();
	/* relaxed, both: as above */
	u32_store_relaxed(&r->word, 0);
	ptr_store_relaxed(&r->next, found);
	/* release -> begin_with() */
	ptr_store_release(at, r);
	u64_add_relaxed(&all->count, 1); /* relaxed: counter */
	if (r->added)
		u64_add_relaxed(&all->added, 1); /* relaxed: counter */
}

void reclaim_join(struct reclaimers *all, struct reclaimer *r)
{
	keeper_hold();
	reclaim_link(all, r);
	keeper_let_go();
}

/* Those of the parent's threads are over, whatever the word says (R5). */
static void wait_for_calls(struct reclaimer *r)
{
	uint32_t word;

	if (is_foreign(r))
		return;
	/* seq_cst: no call begins after it (R1) */
	word = u32_add_seq_cst(&r->word, LEAVING) + LEAVING;
	while (word != LEAVING) {
		os_futex_wait(&r->word, word, OS_FOREVER);
		/* acquire <- call_end() */
		word = u32_load_acquire(&r->word);
	}
}

void reclaim_leave(struct reclaimers *all, struct reclaimer *r)
{
	struct atomic_ptr *at = &all->first;
	struct reclaimer *found;

	wait_for_calls(r);
	keeper_hold();
	/* relaxed: the hold orders writers */
	while ((found = ptr_load_relaxed(at)) != r)
		at = &found->next;
	/* release -> begin_with(): what stands behind */
	ptr_store_release(at, ptr_load_relaxed(&r->next));
	if (r->added)
		u64_sub_relaxed(&all->added, 1); /* relaxed: counter */
	u64_sub_relaxed(&all->count, 1); /* relaxed: counter */
	keeper_let_go();
	rcu_wait_for_readers();
}

/* The first from there on that does not leave, with a call begun. */
static struct reclaimer *begin_with(const struct atomic_ptr *from)
{
	/* acquire <- reclaim_join(), reclaim_leave() */
	struct reclaimer *r = ptr_load_acquire(from);

	while (r && !call_begin(r))
		r = ptr_load_acquire(&r->next); /* acquire: as above */
	return r;
}

static struct reclaimer *first_of(struct reclaimers *all)
{
	struct reclaimer *r;

	rcu_enter();
	r = begin_with(&all->first);
	rcu_leave();
	return r;
}

/* Ends the call and begins one on the next (R2). */
static struct reclaimer *next_of(struct reclaimer *r)
{
	struct reclaimer *next;

	rcu_enter();
	next = begin_with(&r->next);
	rcu_leave();
	call_end(r);
	return next;
}

void reclaim_busy(struct reclaimer *r)
{
	u32_store_relaxed(&r->in_vain, 0); /* relaxed: see is_resting() */
}

/* relaxed, all: a matter of manners, nothing hangs on it */
static bool is_resting(struct reclaimer *r, uint64_t now_ns)
{
	/* relaxed, both: see above */
	return u32_load_relaxed(&r->in_vain) >= IN_VAIN_MOST &&
	       now_ns < u64_load_relaxed(&r->ask_again_ns);
}

static uint64_t ask_one(struct reclaimer *r, uint64_t bytes, uint64_t now_ns)
{
	uint64_t given = r->give(r, bytes);

	/* relaxed, both: counters */
	u64_add_relaxed(&r->asked, 1);
	u64_add_relaxed(&r->given_bytes, given);
	/* relaxed, all: see is_resting() */
	if (given)
		u32_store_relaxed(&r->in_vain, 0);
	else if (u32_add_relaxed(&r->in_vain, 1) + 1 >= IN_VAIN_MOST)
		u64_store_relaxed(&r->ask_again_ns, now_ns + REST_NS);
	return given;
}

bool reclaim_may_ask(void)
{
	return !inside && !keeper_at_work();
}

static uint64_t ask_all(struct reclaimers *all, uint64_t bytes, bool resting)
{
	uint64_t now_ns = os_now_ns();
	uint64_t given = 0;

	for (struct reclaimer *r = first_of(all); r; r = next_of(r))
		if (given < bytes && is_resting(r, now_ns) == resting)
			given += ask_one(r, bytes - given, now_ns);
	return given;
}

uint64_t reclaim_ask(struct reclaimers *all, uint64_t bytes,
		     enum reclaim_whom whom)
{
	uint64_t given;

	if (!reclaim_may_ask())
		return 0;
	inside = true;
	given = ask_all(all, bytes, whom == RECLAIM_RESTING);
	inside = false;
	/* relaxed, both: counters */
	u64_add_relaxed(&all->asked, 1);
	u64_add_relaxed(&all->given_bytes, given);
	return given;
}

struct drain_span *drain_find(const struct drain *d, const void *address)
{
	unsigned low = 0, high = d->count;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;

		if ((uintptr_t)address < d->spans[middle].first)
			high = middle;
		else
			low = middle + 1;
	}
	if (low == 0 || (uintptr_t)address >= d->spans[low - 1].end)
		return NULL;
	return &d->spans[low - 1];
}

void reclaim_drain(struct reclaimers *all, struct drain *d)
{
	if (!reclaim_may_ask())
		return;
	inside = true;
	for (struct reclaimer *r = first_of(all); r; r = next_of(r))
		if (r->drain)
			r->drain(r, d);
	inside = false;
}

static void list_one(struct reclaimer *r, struct seg_refusal *refusal)
{
	uint64_t n = refusal->reclaimers++;
	struct seg_reclaimer_info *info;

	if (n >= SEG_RECLAIMERS_MOST)
		return;
	info = &refusal->reclaimer[n];
	if (r->name)
		strncpy(info->name, r->name, sizeof(info->name) - 1);
	info->priority = r->priority;
	/* relaxed, all of these: counters */
	info->asked_total = u64_load_relaxed(&r->asked);
	info->given_bytes_total = u64_load_relaxed(&r->given_bytes);
	info->in_vain = u32_load_relaxed(&r->in_vain);
}

void reclaim_report(struct reclaimers *all, struct seg_refusal *refusal,
		    struct pin_sums *pins)
{
	for (struct reclaimer *r = first_of(all); r; r = next_of(r)) {
		if (r->report)
			r->report(r, refusal, pins);
		list_one(r, refusal);
	}
}

void reclaim_list(struct reclaimers *all, struct seg_refusal *refusal)
{
	for (struct reclaimer *r = first_of(all); r; r = next_of(r))
		list_one(r, refusal);
}
