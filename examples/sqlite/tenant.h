/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The page cache of one connection.  SQLite calls it in one thread at a time;
 * what other threads do to it is to evict pages that SQLite does not hold,
 * which goes through the shared cache and frees a page, but touches nothing
 * here but the number of pages.
 *
 * So a tenant remembers its pages in stubs of its own, and finds one of them
 * without the shared cache's index:
 *
 *   | state   | SQLite has it | in the cache                               |
 *   | FREE    |               |                                            |
 *   | PRIVATE | yes           | no: new, renamed, or not to be evicted     |
 *   | HELD    | yes           | pinned                                     |
 *   | LEFT    | no            | unpinned; or evicted since: the stub's pin |
 *   |         |               | can't be had again, the page may be gone   |
 *
 * SQLite's pin is a flag: HELD is one pin, however often the page is fetched.
 * What SQLite has just let go of rests for a while, still HELD or PRIVATE: a
 * small part of the budget.  Only then it is LEFT, and for the first time goes
 * into the cache for that.
 */
#ifndef SQLITE_TENANT_H
#define SQLITE_TENANT_H

#include <stdbool.h>

#include "shared.h"

enum stub_state { STUB_FREE = 0, STUB_PRIVATE, STUB_HELD, STUB_LEFT };

struct stub {
	struct stub *next;	/* in its bucket, or free */
	struct page *page;	/* LEFT: not to be looked into */
	struct stub *older, *newer;	/* LEFT, or resting */
	struct seg_pin pin;	/* LEFT: the last one */
	uint32_t number;	/* of the page */
	uint8_t state;
	uint8_t resting;	/* 1: SQLite let go of it a moment ago */
};

/* In the order in which SQLite let go of them. */
struct stub_list {
	struct stub *oldest, *newest;
	uint32_t count;
};

enum { STUB_CHUNK = SEG_MIN_BYTES / sizeof(struct stub) };

struct tenant {
	/* written at creation */
	struct shared *shared;
	struct slots *slots;
	uint32_t page_bytes, extra_bytes;
	uint32_t weight;	/* of a page with all that goes with it */
	uint32_t id;
	bool purgeable;
	bool inside;		/* the page lies in the slot, too */
	/* under the lock of shared */
	struct tenant *next, **link;
	/* written by the connection */
	struct stub **bucket;
	uint32_t buckets;	/* a power of two */
	uint32_t stubs;		/* that are not free */
	uint32_t most;		/* pages, as SQLite wants it */
	uint32_t highest;	/* number of a page so far */
	struct stub **chunk;	/* arrays of STUB_CHUNK */
	uint32_t chunks;
	struct stub *free;
	struct stub_list resting, left;
	uint64_t most_resting;
	uint64_t room;		/* of shared_room(), asked for now and then */
	uint32_t room_good_for;		/* misses */
	/* read by others */
	atomic_uint held;	/* pages that SQLite holds */
	/* written by all: pages that there are, and 1 for the connection */
	atomic_uint references;
};

/* NULL: no memory. */
struct tenant *tenant_create(struct shared *s, int page_bytes, int extra_bytes,
			     bool purgeable);
/* Of all pages, held or not. */
void tenant_destroy(struct tenant *t);

/* s: the stub of that number, LEFT; or NULL. */
sqlite3_pcache_page *tenant_fetch_slowly(struct tenant *t, struct stub *s,
					 uint32_t number, int create);
void tenant_unpin_slowly(struct tenant *t, struct stub *s, bool discard);
/* No more than so many rest from now on. */
void tenant_rest_less(struct tenant *t, uint64_t most);
void tenant_rename(struct tenant *t, struct page *page, uint32_t from,
		   uint32_t to);
/* All pages from that number on, held or not. */
void tenant_truncate(struct tenant *t, uint32_t from);
void tenant_resize(struct tenant *t, uint32_t most);
/* All that SQLite does not hold. */
void tenant_shrink(struct tenant *t);

/* Any thread: frees what the cache, or the tenant, has let go of. */
void tenant_free_page(struct page *page);

static inline uint32_t tenant_pages(struct tenant *t)
{
	/* relaxed: a number that may be old */
	return atomic_load_explicit(&t->references, memory_order_relaxed) - 1;
}

static inline uint32_t tenant_held(struct tenant *t)
{
	/* relaxed: only the connection writes it */
	return atomic_load_explicit(&t->held, memory_order_relaxed);
}

static inline void tenant_count_held(struct tenant *t, uint32_t more)
{
	/* relaxed: only the connection writes it; others read a sum */
	atomic_store_explicit(&t->held, tenant_held(t) + more,
			      memory_order_relaxed);
}

static inline uint64_t tenant_pinned_bytes(struct tenant *t)
{
	/* relaxed: a sum that may be old */
	return (uint64_t)t->weight *
	       atomic_load_explicit(&t->held, memory_order_relaxed);
}

static inline struct stub *tenant_find(const struct tenant *t, uint32_t number)
{
	struct stub *s = t->bucket[number & (t->buckets - 1)];

	while (s && s->number != number)
		s = s->next;
	return s;
}

static inline void stub_append(struct stub_list *list, struct stub *s)
{
	s->newer = NULL;
	s->older = list->newest;
	*(s->older ? &s->older->newer : &list->oldest) = s;
	list->newest = s;
	list->count++;
}

static inline void stub_remove(struct stub_list *list, struct stub *s)
{
	*(s->older ? &s->older->newer : &list->oldest) = s->newer;
	*(s->newer ? &s->newer->older : &list->newest) = s->older;
	list->count--;
}

/* The way of most calls: to what SQLite has, or what rests. */
static inline sqlite3_pcache_page *tenant_fetch(struct tenant *t,
						uint32_t number, int create)
{
	struct stub *s = tenant_find(t, number);

	if (!s || s->state == STUB_LEFT)
		return tenant_fetch_slowly(t, s, number, create);
	if (s->resting) {
		s->resting = 0;
		stub_remove(&t->resting, s);
		tenant_count_held(t, 1);
	}
	return &s->page->sqlite;
}

static inline void tenant_unpin(struct tenant *t, struct page *page,
				bool discard)
{
	struct stub *s = page->stub;

	if (discard || !t->purgeable || tenant_pages(t) > t->most) {
		tenant_unpin_slowly(t, s, discard);
		return;
	}
	s->resting = 1;
	stub_append(&t->resting, s);
	tenant_count_held(t, (uint32_t)-1);
	if (t->resting.count > t->most_resting)
		tenant_rest_less(t, t->most_resting);
}

#endif
