/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * libseg at the limit: who gives memory back, and why there was none.
 * Included by seg.h, whose rules on errors, threads, structs and owners hold
 * here, too.  What happens step by step: seg_limit(7).
 */
#ifndef SEG_LIMIT_H
#define SEG_LIMIT_H

#include <seg.h>

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------- reclaimers */

/*
 * Gives memory of the application's back when the budget is full: releases
 * about so many bytes of segments, and returns how many; 0: there is nothing.
 * Called in the thread that met the limit, which is in seg_alloc*() or the
 * like, outside read sections and with no lock of the library's held; by
 * several threads at once.  It may call everything but seg_budget_*_reclaimer()
 * and what destroys, and must not fork.  An allocation made inside neither
 * asks a reclaimer nor waits.  It should not wait for a lock that a thread may
 * hold while it allocates.  One that gave nothing twice is not asked for 10 ms,
 * unless nobody else gives anything.
 */
typedef uint64_t seg_reclaim_fn(void *ctx, uint64_t bytes);

#define SEG_PRIORITY_CACHE 0	/* of the caches; higher is asked first */

struct seg_reclaimer_options {
	size_t size;		/* sizeof(struct seg_reclaimer_options) */
	seg_reclaim_fn *fn;	/* required */
	void *ctx;		/* its first argument; the caller's */
	int64_t priority;	/* -1000 to 1000 */
	const char *name;	/* in records, up to 23 bytes; NULL: none */
};

/*
 * Has fn asked whenever the budget is full, in the order of the priorities,
 * among equal ones the newest first.  The pair of fn and ctx names it.
 * Errors: -EINVAL budget or options NULL, a size that is not valid, no fn, a
 * name that is too long; -ERANGE the priority; -EEXIST fn and ctx are there
 * already; -EDEADLK called inside a reclaimer; -ENOMEM.
 * Owner: the budget, until it is removed; a budget with reclaimers can't be
 * destroyed.  In the child of a fork it is not asked.  Blocking.
 */
SEG_API SEG_NODISCARD int
seg_budget_add_reclaimer(struct seg_budget *budget,
			 const struct seg_reclaimer_options *options);

/*
 * Waits until no call of it runs; then fn is not called any more and ctx is
 * not touched.
 * Errors: -EINVAL budget or fn NULL; -ENOENT there is no such pair; -EDEADLK
 * called inside a reclaimer or in a read section.  Blocking.
 */
SEG_API int seg_budget_remove_reclaimer(struct seg_budget *budget,
					seg_reclaim_fn *fn, void *ctx);

/* ---------------------------------------------------------- failure record */

/* What kept an allocation from being served; a closed list. */
enum seg_refusal_reason {
	SEG_REFUSED_LIMIT = 1,	 /* the limit is below one such segment */
	SEG_REFUSED_SYSTEM = 2,	 /* the kernel gave no memory: see error */
	SEG_REFUSED_INSIDE = 3,	 /* made in a reclaimer, or in a callback in
				    the library's own thread */
	SEG_REFUSED_PARENT = 4,	 /* a budget above is full */
	SEG_REFUSED_DEFERRED = 5,/* memory waits for a grace period */
	SEG_REFUSED_PINNED = 6,	 /* pins in caches hold enough for it */
	SEG_REFUSED_FLOOR = 7,	 /* caches hold enough for it, but no more than
				    their floors */
	SEG_REFUSED_IN_USE = 8,	 /* it is all in its owners' hands */
	SEG_REFUSED_NODE = 9	 /* the node that it has to come from, or each
				    that it may, has no memory left, its own
				    budget is full, or it may not be used */
};

/* One class of the pool, in bytes; all nodes. */
struct seg_refusal_class {
	uint64_t active;	/* handed out */
	uint64_t cached;	/* parked in per-thread caches */
	uint64_t unused;	/* charged, ready to be taken */
	uint64_t decommitted;	/* neither charged nor backed */
	uint64_t deferred;	/* retired, not yet unmapped */
};

enum seg_holder_kind {
	SEG_HOLDER_POOL = 1,
	SEG_HOLDER_BUDGET = 2	/* a child; what is below is not listed */
};

/* Who has bytes charged to the budget, or to one above it. */
struct seg_holder {
	uint64_t kind;		/* enum seg_holder_kind */
	uint64_t id;		/* its address: only for comparing */
	uint64_t charged_bytes;
	uint64_t active_bytes;	/* of a pool */
	uint64_t guaranteed_bytes; /* of a child */
};

struct seg_reclaimer_info {
	char name[24];
	int64_t priority;
	uint64_t asked_total;		/* calls, whoever needed memory */
	uint64_t given_bytes_total; /* what it said that it gave */
	uint64_t in_vain;		/* the last so many asks gave nothing */
};

#define SEG_HOLDERS_MOST 8
#define SEG_RECLAIMERS_MOST 8

/* Why an allocation was refused: what held the memory at that moment. */
struct seg_refusal {
	size_t size;			/* sizeof(struct seg_refusal) */
	uint64_t bytes;			/* that were asked for */
	uint64_t waited_ns;		/* 0 if it might not wait */
	uint64_t refusals_total;	/* of the pool, this one included */
	uint64_t limit_bytes;
	uint64_t charged_bytes;
	uint64_t deferred_bytes;	/* about to be unmapped */
	uint64_t active_bytes;		/* of the pool: handed out */
	uint64_t unused_bytes;		/* ... ready in regions, of any class */
	uint64_t cache_weight;		/* in the budget's caches: evictable */
	uint64_t pinned_weight;		/* ... and pinned */
	uint64_t cache_deferred_weight;	/* left them, not yet released */
	uint64_t tagged_pins;		/* the first ones of them: */
	struct seg_pin_info longest[SEG_PINS_MOST];
	struct seg_pin_info biggest[SEG_PINS_MOST];
	uint64_t reason;		/* enum seg_refusal_reason */
	uint64_t class_index;
	uint64_t room_bytes;		/* that could still be charged */
	uint64_t decommitted_bytes;	/* of the pool */
	uint64_t error;			/* errno of the last system call that
					   failed for the pool; 0: none did */
	uint64_t error_age_ns;
	uint64_t retired_bytes;		/* what this allocation had retired */
	uint64_t discarded_bytes;	/* ... and decommitted ... */
	uint64_t asks;			/* ... and how often it asked around;
					   each may call several ... */
	uint64_t given_bytes;		/* ... who say that they gave that */
	struct seg_refusal_class classes[SEG_CLASSES];
	uint64_t holders;		/* of the budget and those above; the
					   biggest of them: */
	struct seg_holder holder[SEG_HOLDERS_MOST];
	uint64_t reclaimers;		/* of the same, and of children that
					   borrow; the first of them: */
	struct seg_reclaimer_info reclaimer[SEG_RECLAIMERS_MOST];
	struct seg_tag_sum tags[SEG_PINS_MOST];	/* over all these caches */
	uint64_t node;			/* number of the one that was wanted */
};

/*
 * The pool's last refusal for want of memory (ENOMEM) that was recorded: at
 * most one in 100 ms is, since it takes a look at all regions.  The log
 * callback gets each record as a line of JSON (SEG_LOG_ERROR).
 * Errors: -EINVAL a NULL or a size that is not valid; -ENOENT there was none.
 * Blocking: a short lock.
 */
SEG_API int seg_pool_last_refusal(struct seg_pool *pool,
				  struct seg_refusal *ret_refusal);

/*
 * Writes the record as one JSON object, without a newline, cut to bytes with
 * the terminating zero.  What is zero all through is left out of its lists.
 * Returns the length of the whole, as snprintf() does: not below bytes means
 * that it was cut.  buffer may be NULL if bytes is 0.
 * Errors: -EINVAL refusal NULL or of a size that is not valid, or buffer NULL.
 * Wait-free.
 */
SEG_API int seg_refusal_json(const struct seg_refusal *refusal, char *buffer,
			     size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
