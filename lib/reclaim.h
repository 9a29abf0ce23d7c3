/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who can give memory back when the limit is met: the reclaimers of a budget,
 * which are its caches.  They are asked one after the other, the newest first,
 * in the thread that met the limit, in no read section and with no lock held.
 *
 * Guarantees: (R1) A reclaimer is not called after reclaim_leave() returned,
 * which waits for the calls that run.  Each call counts itself in on the
 * reclaimer's word first, and fails to if it is leaving: one word, so one
 * comes first.  (R2) While it is counted in, the reclaimer is in the list, so
 * the walk can go on from it.  (R3) An allocation made inside a reclaimer, or
 * by the keeper at its work, asks none.  (R4) One that had nothing twice is not
 * asked for a while, as long as another one gives something.
 *
 * Asking is lock-free but for what the reclaimers do.  Join and leave block.
 */
#ifndef SEG_RECLAIM_H
#define SEG_RECLAIM_H

#include "atomic.h"
#include "seg.h"

struct reclaimer {
	struct atomic_ptr next;		/* read under RCU */
	struct atomic_u32 word;		/* calls that run, 2 each; 1: leaving */
	struct atomic_u32 in_vain;	/* calls in a row that gave nothing */
	struct atomic_u64 ask_again_ns;
	/* Gives back about so many bytes; what they were.  Who has something
	 * but can't give it now says so by reclaim_busy(). */
	uint64_t (*give)(struct reclaimer *r, uint64_t bytes);
	/* Adds what it holds to a failure record. */
	void (*report)(struct reclaimer *r, struct seg_refusal *refusal);
};

struct reclaimers {
	struct atomic_ptr first;
	struct atomic_u64 count;
	struct atomic_u64 asked;
	struct atomic_u64 given_bytes;
};

void reclaim_join(struct reclaimers *all, struct reclaimer *r);
void reclaim_leave(struct reclaimers *all, struct reclaimer *r);

/* Asks one after the other, until the bytes were given; what was. */
uint64_t reclaim_ask(struct reclaimers *all, uint64_t bytes);

/* In give(): that nothing is given is not held against it. */
void reclaim_busy(struct reclaimer *r);

void reclaim_report(struct reclaimers *all, struct seg_refusal *refusal);

#endif
