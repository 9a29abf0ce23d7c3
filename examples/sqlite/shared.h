/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What all connections share, from xInit to xShutdown: one budget, one pool,
 * one cache of all pages that SQLite does not hold, and the list of the
 * connections' page caches ("tenants").
 */
#ifndef SQLITE_SHARED_H
#define SQLITE_SHARED_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <seg.h>
#include <sqlite3.h>

#include "slots.h"

enum {
	SHARED_SLOT_SIZES = 8,
	/* SQLite may look so far behind a page of a corrupt file. */
	SHARED_TAIL_BYTES = 16
};

struct tenant;

struct shared {
	/* written at creation */
	struct seg_budget *budget;
	struct seg_pool *pool;
	struct seg_cache *cache;
	uint64_t limit;
	/* under the lock */
	pthread_mutex_t lock;
	struct tenant *tenants;
	uint32_t joined;		/* tenants */
	uint32_t ids;			/* given to tenants so far */
	unsigned sizes;
	struct slots slots[SHARED_SLOT_SIZES];
	/* counters, written by misses */
	atomic_ulong recycled;
	atomic_ulong refusals;
	atomic_uint foreign;	/* 1: in the child of a fork */
};

/* A page of SQLite's: what lies beside its bytes. */
struct page {
	sqlite3_pcache_page sqlite;	/* first */
	struct stub *stub;	/* the tenant's, while SQLite holds it */
	struct tenant *tenant;
	uint32_t kept;		/* 1: leaves the cache, but not the tenant */
};

/* 0 or an SQLite result code. */
int shared_create(uint64_t limit, int wait_ms, struct shared **ret_shared);
/* All tenants are gone. */
void shared_destroy(struct shared *s);

/* The slots of that size; they last as long as s.  NULL: too many sizes. */
struct slots *shared_slots(struct shared *s, size_t bytes);

/* How many there are now. */
uint32_t shared_join(struct shared *s, struct tenant *t);
void shared_leave(struct shared *s, struct tenant *t);
bool shared_is_used(struct shared *s);

/* Around a fork, and in between in its child, where it is foreign from then on:
 * nothing of it is to be used. */
void shared_before_fork(struct shared *s);
void shared_after_fork(struct shared *s);
void shared_forked(struct shared *s);

/* relaxed: only a fork writes it, before there are threads */
static inline bool shared_is_foreign(struct shared *s)
{
	return atomic_load_explicit(&s->foreign, memory_order_relaxed);
}

/* What libseg's thread would do; that one is started only in a process that has
 * threads, since malloc() and mutexes are faster in one that has none. */
void shared_upkeep(void);

/* How much SQLite may hold still: three quarters of the limit less what it
 * has.  The rest is for what it must have, and for slots and stubs. */
uint64_t shared_room(struct shared *s);

#endif
