/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Claims are brought to the slices' owner: many of one owner's at a time, as a
 * parcel in its stash's inbox.  The owner settles them where it needs slices
 * next, and keeps the slices: no barrier, no region.  So a thread that
 * allocates what another one releases gets back what was released last.
 *
 *   who brings                     who empties
 *   1  reserves a free parcel      1  sees a full one
 *   2  moves claims there          2  settles them
 *   3  says that it is full        3  says that it is free
 *
 * Guarantees:
 * (I1) A claim is in one hand (claim.h, K2): it is taken out of the bringer's
 *      stash before the parcel is full.  One thread has a reserved parcel, one
 *      a full one: the owner in a section, its stash being open, or who closed
 *      that.  What each did there is before what the next one does: 3 of the
 *      one is read by 1 of the other.
 * (I2) The owner needs no barrier: its own release, look and store, is before
 *      or after that in its program.  Before: the claim was lost, and it reads
 *      its own store or a later one.  After: it had seen the claim.
 * (I3) Anybody else sees a parcel full, then has the barrier, then looks at the
 *      owner's section: that is settling as in (K1).
 * (I4) Who waits for memory finds it: 3 is before the bringer's look for those
 *      who wait, as any release's, and they count themselves in before they
 *      look at inboxes; all four are in one order.  So they find it, or are
 *      woken, and look again.  Who may not wait looks twice (limit.c), and a
 *      claim goes to an inbox once.
 * (I5) A thread that stops between 1 and 3 keeps its claims, and one parcel of
 *      that owner's.  Nobody waits for it; where no parcel is free, claims are
 *      settled as they always were.
 * Where the owner doesn't allocate, or has just ended, the keeper empties its
 * inbox, as it does its magazines.  Bringing is lock-free: a retry means that
 * another thread reserved or emptied a parcel.
 */
#ifndef SEG_INBOX_H
#define SEG_INBOX_H

#include "claim.h"

/*
 * The thread's, in a section, open: moves claims of the last one's owner to
 * that owner's inbox.  False: they are few, or inboxes have their share of that
 * limit.
 */
bool inbox_bring(struct stash *st, uint64_t limit_bytes);

/* The bits of the parcels that are full. */
static inline uint32_t inbox_full(const struct inbox *in)
{
	/* seq_cst: acquire <- bring_to(); the load of (I4) */
	return u32_load_seq_cst(&in->parcels) >> INBOX_PARCELS;
}

/*
 * Takes what is in the first of those out; how many.  By the thread in a
 * section, open, or by who closed the stash.
 */
uint32_t inbox_take(struct stashes *all, struct inbox *in, uint32_t full,
		    struct claim *ret_claims);

/* In the child of a fork: what another thread was bringing never comes. */
static inline void inbox_forked(struct inbox *in)
{
	uint32_t full = inbox_full(in);

	/* relaxed: nobody else is there */
	u32_store_relaxed(&in->parcels, full | full << INBOX_PARCELS);
}

#endif
