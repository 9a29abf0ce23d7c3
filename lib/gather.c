/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See gather.h, and stash.h for the protocol and its argument. */
#include "gather.h"

#include <string.h>

#include "inbox.h"
#include "load.h"
#include "os.h"

enum { CLOSED_MOST = 16 };	/* stashes that are taken away at a time */

/* The explorer has little. */
#ifndef GATHER_PATIENCE
#define GATHER_PATIENCE 64	/* turns of other threads */
#endif

/* ---- claims ---- */

/* As many as there is place for. */
static uint32_t stand(struct stash *st, const struct claim *claims,
		      uint32_t count)
{
	uint32_t at, room = 0;

	section_enter(&st->section);
	if (stash_is_open(st)) {
		at = stash_claims(st);
		room = STASH_CLAIMS - at < count ? STASH_CLAIMS - at : count;
		for (uint32_t i = 0; i < room; i++)
			claim_copy(&st->claim[at + i], &claims[i]);
		claims_set(st, at + room);
	}
	section_leave(&st->section);
	return room;
}

/* By the thread. */
static void take_out_own_claims(struct stash *st, struct load *load)
{
	load->claims = 0;
	section_enter(&st->section);
	if (stash_is_open(st))
		load_claims(load, st);
	section_leave(&st->section);
}

/* What is open stands there again, or strays; how many are not. */
static uint32_t keep_open(struct allocator *a, struct stash *st,
			  struct claim *open, uint32_t count)
{
	uint32_t again = stand(st, open, count);

	return claims_settle_all(a, open + again, count - again, false);
}

/* In rounds, as long as only claims of before the barrier are there: who hears
 * of a lost one may make others.  True: something is settled. */
static bool settle_own(struct allocator *a, struct stash *st)
{
	uint32_t left = stash_claims(st), open = 0;
	bool ordered = left && sections_barrier(), lost = false, any = false;
	struct claim kept[STASH_BATCH];
	struct load load;

	while (left && ordered && !lost && open < STASH_BATCH) {
		uint32_t more;

		take_out_own_claims(st, &load);
		if (!load.claims)
			break;
		left -= load.claims < left ? load.claims : left;
		more = claims_settle(a, load.claim, load.claims, true, &lost);
		any |= more < load.claims;
		for (; more && open < STASH_BATCH; more--)
			kept[open++] = load.claim[more - 1];
		keep_open(a, st, load.claim, more);
	}
	keep_open(a, st, kept, open);
	return any;
}

/* By number; or if they were all of this one's class, by their bytes. */
static bool are_many(struct allocator *a, uint32_t count,
		     const struct region *r)
{
	return count == STASH_CLAIMS ||
	       count * r->slice_bytes >= budget_limit(a->budget) /
					 STASH_CLAIM_SHARE;
}

/* Where others wait, it would be in their way. */
static void bring(struct allocator *a, struct stash *st)
{
	if (budget_has_waiters(a->budget))
		return;
	section_enter(&st->section);
	if (stash_is_open(st))
		while (inbox_bring(st, budget_limit(a->budget)))
			;
	section_leave(&st->section);
}

void gather_claimed(struct allocator *a, struct stash *st,
		    const struct region *r)
{
	bool many = are_many(a, stash_claims(st), r);

	if (!many && stash_claims(st) % STASH_BATCH)
		return;
	bring(a, st);
	if (many && are_many(a, stash_claims(st), r))
		settle_own(a, st);
}

void gather_claim(struct allocator *a, struct stash *st,
		  const struct claim *claim)
{
	struct claim alone = *claim;

	if (!st || !stand(st, claim, 1))
		claims_settle_all(a, &alone, 1, sections_barrier());
	else
		/* relaxed: our own */
		gather_claimed(a, st, ptr_load_relaxed(&alone.region));
}

/* ---- emptying ---- */

/* By the thread, section by section. */
static bool empty_own_class(struct stash *st, int class_index)
{
	bool any = false;
	struct load load;

	do {
		load.count = 0;
		section_enter(&st->section);
		if (stash_is_open(st))
			load_slices(&load, st, class_index, STASH_BATCH);
		section_leave(&st->section);
		load_give(st->allocator, load.parked, load.count);
		any |= load.count != 0;
	} while (load.count);
	return any;
}

static bool empty_own(struct stash *st)
{
	bool any = false;

	for (int c = 0; c < SEG_CLASSES; c++)
		any |= empty_own_class(st, c);
	return any;
}

/* By the thread: (I2). */
static bool empty_own_inbox(struct allocator *a, struct stash *st)
{
	struct claim claim[STASH_BATCH];
	uint32_t count;
	bool any = false;

	do {
		count = 0;
		section_enter(&st->section);
		if (stash_is_open(st))
			count = inbox_take(&a->stashes, &st->inbox,
					   inbox_full(&st->inbox), claim);
		section_leave(&st->section);
		any |= claims_settle_all(a, claim, count, true);
	} while (count);
	return any;
}

bool gather_own(struct allocator *a)
{
	struct stash *st = stash_of(&a->stashes);
	bool any;

	if (!st)
		return false;
	any = empty_own(st);
	any |= empty_own_inbox(a, st);
	return settle_own(a, st) || any;
}

/* By who closed it: what was full before the barrier. */
static bool empty_inbox(struct allocator *a, struct stash *st, uint32_t full,
			bool ordered)
{
	struct claim claim[STASH_BATCH];
	bool any = false;

	for (; full; full &= full - 1) {
		uint32_t count = inbox_take(&a->stashes, &st->inbox, full,
					    claim);

		any |= claims_settle_all(a, claim, count, ordered);
	}
	return any;
}

/* By who closed it. */
static bool empty_claims(struct allocator *a, struct stash *st)
{
	uint32_t full = inbox_full(&st->inbox);
	bool ordered = (stash_claims(st) || full) && sections_barrier();
	bool any = empty_inbox(a, st, full, ordered);
	struct load load;

	while (stash_claims(st)) {
		load_claims(&load, st);
		any |= claims_settle_all(a, load.claim, load.claims, ordered);
	}
	return any;
}

/* By who closed it; and the claims are taken along. */
static bool empty(struct allocator *a, struct stash *st)
{
	bool any = false;
	struct load load;

	for (int c = 0; c < SEG_CLASSES; c++)
		while (stash_count(st, c)) {
			load_slices(&load, st, c, STASH_BATCH);
			load_give(a, load.parked, load.count);
			any = true;
		}
	return empty_claims(a, st) || any;
}

/* What a stash's `closed` is. */
enum { OPEN, CLOSED, WANTED };	/* by another one, who met it closed */

/* False: another thread has it, and tells all who wait when it lets it go. */
static bool close_it(struct stash *st)
{
	for (;;) {
		uint32_t seen = OPEN;

		/* seq_cst: acquire <- reopen(): what the one before did; load
		 * after the store of waiters */
		if (u32_cas_strong_seq_cst(&st->closed, &seen, CLOSED))
			return true;
		/* seq_cst: store of waiters before; -> reopen().  Retries only
		 * when another thread closed or opened it */
		if (seen == WANTED ||
		    u32_cas_strong_seq_cst(&st->closed, &seen, WANTED))
			return false;
	}
}

/* True: somebody met it closed. */
static bool reopen(struct stash *st)
{
	uint32_t closed = CLOSED;

	/* seq_cst, both: release -> stash_is_open(), close_it(); before the
	 * load of waiters */
	if (u32_cas_strong_seq_cst(&st->closed, &closed, OPEN))
		return false;
	u32_store_seq_cst(&st->closed, OPEN); /* seq_cst: as above */
	return true;
}

typedef bool visit_fn(struct allocator *a, struct stash *st);

/* How threads in their sections are waited for. */
enum await { NOT_AT_ALL, FOR_A_MOMENT, NOBODY_IS_THERE };

static bool await(struct stash *st, enum await how)
{
	if (how == NOBODY_IS_THERE)
		return true;
	for (int i = 0; i < (how == FOR_A_MOMENT ? GATHER_PATIENCE : 0); i++) {
		if (section_is_left(&st->section))
			return true;
		os_yield();
	}
	return section_is_left(&st->section);
}

/* What another one has closed it will have emptied in a moment, too. */
static bool close_awaiting(struct stash *st, enum await how)
{
	for (int i = 0; i < (how == FOR_A_MOMENT ? GATHER_PATIENCE : 0); i++) {
		if (close_it(st))
			return true;
		os_yield();
	}
	return close_it(st);
}

/* Closes up to so many from a number on, and visits those.  Who waits is woken
 * only if there is a reason: the caller may be one of them. */
static bool visit_some(struct allocator *a, uint32_t first, uint32_t end,
		       enum await how, visit_fn *visit)
{
	struct stash *closed[CLOSED_MOST];
	uint32_t count = 0;
	bool any = false, wanted = false;

	for (uint32_t number = first; number < end; number++) {
		struct stash *st = stash_at(&a->stashes, number);

		if (st && close_awaiting(st, how))
			closed[count++] = st;
	}
	if (how == NOBODY_IS_THERE || sections_barrier())
		for (uint32_t i = 0; i < count; i++)
			if (await(closed[i], how))
				any |= visit(a, closed[i]);
	for (uint32_t i = 0; i < count; i++)
		wanted |= reopen(closed[i]);
	if (any || wanted)
		budget_notify(a->budget);
	return any;
}

static bool visit_all(struct allocator *a, enum await how, visit_fn *visit)
{
	uint32_t used = stashes_used(&a->stashes);
	bool any = false;

	for (uint32_t first = 1; first <= used; first += CLOSED_MOST) {
		uint32_t end = first + CLOSED_MOST;

		any |= visit_some(a, first, end <= used ? end : used + 1, how,
				  visit);
	}
	return any;
}

static bool take_up_strays(struct allocator *a)
{
	bool any = claims_settle_strays(a);

	if (any)
		budget_notify(a->budget);
	return any;
}

/* The caller's own needs no barrier, so it can't fail. */
bool gather_all(struct allocator *a, bool patient)
{
	bool any = gather_own(a);

	any |= visit_all(a, patient ? FOR_A_MOMENT : NOT_AT_ALL, empty);
	return take_up_strays(a) || any;
}

void gather_last(struct allocator *a)
{
	visit_all(a, NOBODY_IS_THERE, empty);
	take_up_strays(a);
}

/* ---- the keeper ---- */

/* So far; what was taken and not released shows in what was filled in. */
static uint64_t operations(const struct magazine *m)
{
	/* relaxed, both: our own for now */
	return u64_load_relaxed(&m->releases) + u64_load_relaxed(&m->filled);
}

/* Nothing was done with it since the last look. */
static void put_to_rest(struct allocator *a, struct stash *st, int class_index)
{
	if (st->magazine[class_index].room)
		stash_drop_room(&a->stashes, st, class_index,
				(size_t)SEG_MIN_BYTES << class_index);
	stash_discard(&a->stashes, st, class_index);
}

static bool empty_and_look(struct allocator *a, struct stash *st)
{
	bool any = empty(a, st), busy = false;

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct magazine *m = &st->magazine[c];
		uint64_t now = operations(m);

		if (now == m->seen) {	/* what was never used is not touched */
			put_to_rest(a, st, c);
			continue;
		}
		busy = true;
		m->seen = now;
	}
	/* relaxed: a hint */
	if (busy)
		u32_add_relaxed(&a->stashes.busy, 1);
	return any;
}

void gather_idle(struct allocator *a)
{
	if (!stashes_used(&a->stashes))
		return;
	u32_store_relaxed(&a->stashes.busy, 0); /* relaxed: a hint */
	moves_begin(&a->moves);
	visit_all(a, NOT_AT_ALL, empty_and_look);
	take_up_strays(a);
	moves_end(&a->moves);
}

/* ---- the pool ends ---- */

/* The generations may go and begin anew: what left is not known any more. */
static void forget_places(struct stash *st, int class_index)
{
	memset(stash_place(st, stash_bottom(class_index)) + 1, 0,
	       st->magazine[class_index].most_room * sizeof(struct parked));
}

static void unbind(struct stash *st)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		magazine_bind(&st->magazine[c], NULL);
		forget_places(st, c);
		stash_drop_room(&st->allocator->stashes, st, c,
				(size_t)SEG_MIN_BYTES << c);
	}
}

void gather_unbind(struct allocator *a)
{
	uint32_t used = stashes_used(&a->stashes);

	for (uint32_t number = 1; number <= used; number++) {
		struct stash *st = stash_at(&a->stashes, number);

		if (st && st->allocator)
			unbind(st);
	}
}

/* ---- the thread ends ---- */

/* What it had room for, others may have now.  If it is closed, the keeper does
 * that later. */
static void drop_own_room(struct allocator *a, struct stash *st)
{
	section_enter(&st->section);
	for (int c = 0; stash_is_open(st) && c < SEG_CLASSES; c++)
		if (st->magazine[c].room && !stash_count(st, c))
			stash_drop_room(&a->stashes, st, c,
					(size_t)SEG_MIN_BYTES << c);
	section_leave(&st->section);
}

void gather_end(void *stash)
{
	struct stash *st = stash;
	struct allocator *a = st->allocator;

	u32_store_relaxed(&st->used, 0); /* relaxed: nothing is brought, soon */
	empty_own(st);
	empty_own_inbox(a, st);
	settle_own(a, st);
	drop_own_room(a, st);
	budget_notify(a->budget);
	slab_put(&a->stashes.slab, &st->item);
}

/* The slice that a thread of the parent was about to have: it is nobody's, or
 * it is parked still. */
static void drop_handed_out(struct stash *st)
{
	for (int c = 0; c < SEG_CLASSES; c++) {
		struct atomic_u32 *top = &st->magazine[c].top;
		/* relaxed: nobody else is there */
		uint32_t at = u32_load_relaxed(top);
		struct parked *last = stash_place(st, at);

		if (!last->segment)
			continue;
		/* relaxed, both: as above */
		if (u64_load_relaxed(last->generation) & 1)
			u32_store_relaxed(top, at - (uint32_t)sizeof(*last));
		else if (last->out != PARKED_FRESH)
			last->out = PARKED_USED;
	}
}

void gather_forked(struct allocator *a)
{
	uint32_t used = stashes_used(&a->stashes);
	struct stash *own = stash_of(&a->stashes);

	for (uint32_t number = 1; number <= used; number++) {
		struct stash *st = stash_at(&a->stashes, number);

		if (!st)
			continue;
		/* relaxed, both: nobody else is there */
		u32_store_relaxed(&st->closed, 0);
		inbox_forked(&st->inbox);
		if (st != own) {
			u32_store_relaxed(&st->section.inside, 0);
			drop_handed_out(st);
		}
	}
}
