/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See reclaim.h. */
#include "reclaim.h"

#include <stddef.h>

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

static bool call_begin(struct reclaimer *r)
{
	uint32_t old = u32_load_relaxed(&r->word); /* relaxed: compared */

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

void reclaim_join(struct reclaimers *all, struct reclaimer *r)
{
	keeper_hold();
	/* relaxed, all: the hold orders writers; not yet published */
	u32_store_relaxed(&r->word, 0);
	ptr_store_relaxed(&r->next, ptr_load_relaxed(&all->first));
	/* release -> begin_with() */
	ptr_store_release(&all->first, r);
	u64_add_relaxed(&all->count, 1); /* relaxed: counter */
	keeper_let_go();
}

static void wait_for_calls(struct reclaimer *r)
{
	/* seq_cst: no call begins after it (R1) */
	uint32_t word = u32_add_seq_cst(&r->word, LEAVING) + LEAVING;

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

	/* relaxed, all: see is_resting() */
	if (given)
		u32_store_relaxed(&r->in_vain, 0);
	else if (u32_add_relaxed(&r->in_vain, 1) + 1 >= IN_VAIN_MOST)
		u64_store_relaxed(&r->ask_again_ns, now_ns + REST_NS);
	return given;
}

/* Asks those that rest, or those that do not. */
static uint64_t ask_all(struct reclaimers *all, uint64_t bytes, bool resting)
{
	uint64_t now_ns = os_now_ns();
	uint64_t given = 0;

	for (struct reclaimer *r = first_of(all); r; r = next_of(r))
		if (given < bytes && is_resting(r, now_ns) == resting)
			given += ask_one(r, bytes - given, now_ns);
	return given;
}

uint64_t reclaim_ask(struct reclaimers *all, uint64_t bytes)
{
	uint64_t given;

	if (inside || keeper_at_work())
		return 0;
	inside = true;
	given = ask_all(all, bytes, false);
	if (!given)
		given = ask_all(all, bytes, true);
	inside = false;
	/* relaxed, both: counters */
	u64_add_relaxed(&all->asked, 1);
	u64_add_relaxed(&all->given_bytes, given);
	return given;
}

void reclaim_report(struct reclaimers *all, struct seg_refusal *refusal)
{
	for (struct reclaimer *r = first_of(all); r; r = next_of(r))
		r->report(r, refusal);
}
