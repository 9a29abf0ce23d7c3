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

/* In the order in which SQLite let go of them: a ring, whose end is none. */
struct stub_list {
	struct stub end;	/* newer: the oldest; older: the newest */
	atomic_uint count;	/* others read it */
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
	uint32_t mask;		/* buckets less 1; a power of two less 1 */
	uint32_t stubs;		/* that are not free */
	uint32_t most;		/* pages, as SQLite wants it */
	uint32_t full;		/* most + 1; 0: none is let go of */
	uint32_t highest;	/* number of a page so far */
	struct stub **chunk;	/* arrays of STUB_CHUNK */
	uint32_t chunks;
	struct stub *free;
	struct stub_list resting, left;
	uint64_t most_resting;
	uint64_t room;		/* of shared_room(), asked for now and then */
	uint32_t room_good_for;		/* misses */
	uint32_t misses;	/* since the last upkeep */
	/* read by others */
	atomic_uint near;	/* pages that SQLite holds, or that rest */
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

/* In the child of a fork: all calls take the slow way, and do nothing. */
void tenant_forked(struct tenant *t);

/* Any thread: frees what the cache, or the tenant, has let go of. */
void tenant_free_page(struct page *page);

static inline uint32_t tenant_pages(struct tenant *t)
{
	/* relaxed: a number that may be old */
	return atomic_load_explicit(&t->references, memory_order_relaxed) - 1;
}

/* What only the connection writes, and others read for a sum. */
static inline uint32_t tenant_load(atomic_uint *count)
{
	/* relaxed: a number that may be old */
	return atomic_load_explicit(count, memory_order_relaxed);
}

static inline uint32_t tenant_add(atomic_uint *count, uint32_t more)
{
	more += tenant_load(count);
	/* relaxed: as above */
	atomic_store_explicit(count, more, memory_order_relaxed);
	return more;
}

/* Pages that SQLite holds; of another one about so many. */
static inline uint32_t tenant_held(struct tenant *t)
{
	uint32_t near = tenant_load(&t->near);
	uint32_t resting = tenant_load(&t->resting.count);

	return near > resting ? near - resting : 0;
}

static inline uint64_t tenant_pinned_bytes(struct tenant *t)
{
	return (uint64_t)t->weight * tenant_held(t);
}

static inline struct stub *tenant_find(const struct tenant *t, uint32_t number)
{
	struct stub *s = t->bucket[number & t->mask];

	while (s && s->number != number)
		s = s->next;
	return s;
}

/* Returns how many there are now. */
static inline uint32_t stub_append(struct stub_list *list, struct stub *s)
{
	struct stub *newest = list->end.older;

	s->newer = &list->end;
	s->older = newest;
	newest->newer = s;
	list->end.older = s;
	return tenant_add(&list->count, 1);
}

static inline void stub_remove(struct stub_list *list, struct stub *s)
{
	s->older->newer = s->newer;
	s->newer->older = s->older;
	tenant_add(&list->count, (uint32_t)-1);
}

/* The way of most calls: to what SQLite has, or what rests.  In the child of a
 * fork it ends where nothing is found. */
static inline sqlite3_pcache_page *tenant_fetch(struct tenant *t,
						uint32_t number, int create)
{
	struct stub *s = tenant_find(t, number);

	if (!s || s->state == STUB_LEFT)
		return tenant_fetch_slowly(t, s, number, create);
	if (s->resting) {
		s->resting = 0;
		stub_remove(&t->resting, s);
	}
	return &s->page->sqlite;
}

static inline void tenant_unpin(struct tenant *t, struct page *page,
				bool discard)
{
	struct stub *s = page->stub;

	if (discard || tenant_pages(t) >= t->full) {
		tenant_unpin_slowly(t, s, discard);
		return;
	}
	s->resting = 1;
	if (stub_append(&t->resting, s) > t->most_resting)
		tenant_rest_less(t, t->most_resting);
}

#endif
