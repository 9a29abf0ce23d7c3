/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who can give memory back when the limit is met: the reclaimers of a budget,
 * which are its caches and what the application added.  They are asked one
 * after the other, by priority and then the newest first, in the thread that
 * met the limit, in no read section and with no lock held.
 *
 * Guarantees: (R1) A reclaimer is not called after reclaim_leave() returned,
 * which waits for the calls that run.  Each call counts itself in on the
 * reclaimer's word first, and fails to if it is leaving: one word, so one
 * comes first.  (R2) While it is counted in, the reclaimer is in the list, so
 * the walk can go on from it.  (R3) An allocation made inside a reclaimer, or
 * by the keeper at its work, asks none and does not wait.  (R4) One that had
 * nothing twice rests for a while: it is asked only by who found nothing
 * anywhere else.  (R5) In the child of a fork none of the parent's is called:
 * what its calls were in the middle of there is never finished.
 *
 * Asking is lock-free but for what the reclaimers do.  Join and leave block.
 */
#ifndef SEG_RECLAIM_H
#define SEG_RECLAIM_H

#include "atomic.h"
#include "seg.h"

struct pin_sums;

/* The slices of a sparse region, and what reclaimers say of them. */
struct drain_span {
	uintptr_t first, end;		/* addresses; sorted */
	uint64_t region;		/* its serial */
	uint64_t pinned_bytes;		/* of segments of pinned pages */
	uint64_t cached_bytes;		/* of others that could not go */
};

/* What shall be given back: all that lies in the spans. */
struct drain {
	struct drain_span *spans;
	unsigned count;
	uint64_t evicted_bytes;		/* of segments in the spans */
	uint64_t pinned_bytes;
	uint64_t cached_bytes;
};

struct reclaimer {
	/* written before reclaim_join() */
	int64_t priority;		/* of caches: 0; higher is first */
	bool added;			/* by the application */
	const char *name;		/* NULL: none */
	uint64_t process;		/* that it joined in */
	struct atomic_ptr next;		/* read under RCU */
	struct atomic_u32 word;		/* calls that run, 2 each; 1: leaving */
	struct atomic_u32 in_vain;	/* calls in a row that gave nothing */
	struct atomic_u64 ask_again_ns;
	struct atomic_u64 asked;
	struct atomic_u64 given_bytes;
	/* Gives back about so many bytes; what they were.  Who has something
	 * but can't give it now says so by reclaim_busy(). */
	uint64_t (*give)(struct reclaimer *r, uint64_t bytes);
	/* Gives back what it can of what lies in the spans, and adds what that
	 * was, and what it keeps, to the figures there; may be NULL. */
	void (*drain)(struct reclaimer *r, struct drain *d);
	/* Adds what it holds to a failure record, and its tagged pins to the
	 * sums; may be NULL. */
	void (*report)(struct reclaimer *r, struct seg_refusal *refusal,
		       struct pin_sums *pins);
};

struct reclaimers {
	struct atomic_ptr first;
	struct atomic_u64 count;
	struct atomic_u64 added;	/* of these: by the application */
	struct atomic_u64 asked;
	struct atomic_u64 given_bytes;
};

void reclaim_join(struct reclaimers *all, struct reclaimer *r);
/* The same, while the keeper is held. */
void reclaim_link(struct reclaimers *all, struct reclaimer *r);
void reclaim_leave(struct reclaimers *all, struct reclaimer *r);

/* Whether the thread may ask and wait (R3). */
bool reclaim_may_ask(void);

enum reclaim_whom {
	RECLAIM_WILLING,	/* all but those that rest (R4) */
	RECLAIM_RESTING,	/* those */
};

/* Asks one after the other, until the bytes were given; what was. */
uint64_t reclaim_ask(struct reclaimers *all, uint64_t bytes,
		     enum reclaim_whom whom);

/* The span that an address lies in, or NULL. */
struct drain_span *drain_find(const struct drain *d, const void *address);

/* Asks all of them, if the thread may ask. */
void reclaim_drain(struct reclaimers *all, struct drain *d);

/* In give(): that nothing is given is not held against it. */
void reclaim_busy(struct reclaimer *r);

/* What they hold, and what they gave so far. */
void reclaim_report(struct reclaimers *all, struct seg_refusal *refusal,
		    struct pin_sums *pins);

/* The latter only. */
void reclaim_list(struct reclaimers *all, struct seg_refusal *refusal);

#endif
