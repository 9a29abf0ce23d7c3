/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A page: segments owned as one, by a caller, by an intent log or by a cache,
 * never by two.
 *
 * | from   | to     | by                                       |
 * | none   | caller | seg_page_create()                        |
 * | caller | log    | seg_txlog_put()                          |
 * | log    | caller | seg_txlog_take()                         |
 * | caller | cache  | seg_cache_put(), _replace(), a load      |
 * | cache  | caller | seg_cache_take()                         |
 * | caller | none   | seg_page_release()                       |
 * | log    | none   | commit, abort, put of the key            |
 * | cache  | none   | eviction, every other way out of a cache |
 *
 * Each row is one compare-exchange of the owner, so of any number of releases
 * one wins, and it alone touches the segments.  It releases them by handle, so
 * that a part that the caller wrongly released itself is not taken from its
 * next owner.  Page objects are type-stable (slab.h): a stale pointer reads an
 * owner, not freed memory.
 */
#ifndef SEG_PAGE_H
#define SEG_PAGE_H

#include "pool.h"

enum page_owner {
	PAGE_NOBODY = 0,
	PAGE_CALLER = 1,
	PAGE_LOG = 2,
	PAGE_CACHE = 3
};

struct seg_page {
	struct slab_item item;
	struct atomic_u32 owner;	/* enum page_owner */
	unsigned parts;
	struct seg_pool *pool;
	struct {
		struct seg_handle handle;	/* by which it is released */
		size_t bytes;
	} part[SEG_PAGE_PARTS];
};

/* False: it was not `from`'s; nothing happened. */
bool page_move(struct seg_page *page, enum page_owner from, enum page_owner to);

/* Releases the page of that owner; false: it was not that owner's. */
bool page_release(struct seg_page *page, enum page_owner owner);

/* -ESTALE or -EBUSY, reported as misuse. */
int page_misuse(struct seg_page *page);

#endif
