/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Who leaves a cache next.  See cache_policy.c for the policy itself.
 * Everything here runs under the lock of the cache, except that a hit does
 *	m = u16_load_relaxed(&entry->mark);
 *	if (m < CACHE_MARK_MOST)
 *		u16_store_relaxed(&entry->mark, m + 1);
 */
#ifndef SEG_CACHE_POLICY_H
#define SEG_CACHE_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cache_entry.h"
#include "cache_ghost.h"

enum { CACHE_MARK_MOST = 3, QUEUE_AHEAD = 8 };

/* Of an entry, in the order of the way through the cache. */
enum cache_queue_name {
	QUEUE_NONE,
	QUEUE_YOUNG,	/* came lately: uses do not count yet */
	QUEUE_SMALL,
	QUEUE_MAIN,
	QUEUE_END,
};

/*
 * weight == sum of the weights, count == number of entries from newest to
 * oldest; all have queue == this queue's name, and no others.
 */
struct cache_queue {
	struct cache_record *newest;
	uint64_t weight;
	struct cache_record *oldest;
	uint64_t count;
	unsigned linked;	/* records that ever came; the last of them */
	struct cache_record *last[QUEUE_AHEAD];
};

struct cache_policy {
	uint64_t max_weight;
	uint64_t weight;	/* of all queues; so the count */
	uint64_t came;		/* weight that ever came in: the time */
	uint64_t count;
	uint64_t left[2];	/* weight evicted; [1]: from main */
	unsigned shift;		/* stamps are one of these >> shift */
	unsigned far_seen;	/* since one was let in */
	uint64_t small_share;	/* in parts of POLICY_SHARES */
	struct cache_queue queue[QUEUE_END];
	struct ghost ghost;
};

#define POLICY_SHARES (UINT64_C(1) << 30)

/* p is all zero. */
void cache_policy_init(struct cache_policy *p, uint64_t max_weight);
/* Frees the table; entries still queued are left to themselves. */
void cache_policy_clear(struct cache_policy *p);
void cache_policy_set_max(struct cache_policy *p, uint64_t max_weight);

/* After a miss.  Key and weight (not 0) are set and stay as long as it is
 * queued; the mark is 0.  Takes memory, if there is any; no other does. */
void cache_policy_insert(struct cache_policy *p, struct cache_record *r);
/* It leaves its queue: taken, removed, or parked because it is pinned. */
void cache_policy_remove(struct cache_policy *p, struct cache_record *r);
/* A parked one comes back. */
void cache_policy_return(struct cache_policy *p, struct cache_record *r);
/* r comes as the new value of a key whose entry old was removed: it inherits
 * the mark and comes back in old's stead. */
void cache_policy_succeed(struct cache_policy *p,
			  const struct cache_record *old,
			  struct cache_record *r);

/* Who is behind a queued one, in the order in which they go; NULL: nobody. */
static inline struct cache_record *
cache_policy_behind(const struct cache_policy *p, const struct cache_record *r)
{
	return r == p->queue[r->queue].newest ? NULL : r->newer;
}

/* Who should go next, still in its queue; NULL: all queues are empty. */
struct cache_record *cache_policy_victim(struct cache_policy *p);
/* It went: out of its queue, but remembered. */
void cache_policy_evict(struct cache_policy *p, struct cache_record *r);

/*
 * To bring near what is about to be looked at, since at random places all of it
 * is far: where it is remembered what became of a key that will be inserted or
 * evicted, and who probably goes next (NULL: nobody).  The caller prefetches: a
 * function that does nothing else may be taken for one that does nothing.
 */
static inline const void *cache_policy_place(const struct cache_policy *p,
					     uint64_t key)
{
	return ghost_place(&p->ghost, key);
}
struct cache_entry *cache_policy_next(const struct cache_policy *p);

/* Memory of its own. */
static inline uint64_t cache_policy_bytes(const struct cache_policy *p)
{
	return ghost_bytes(&p->ghost);
}
bool cache_policy_is_valid(const struct cache_policy *p);

#endif
