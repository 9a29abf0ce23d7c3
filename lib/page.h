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
	struct atomic_u64 reads;	/* cache_migrate.c: by whom; 0: none */
	struct {
		struct atomic_ptr segment;	/* see page_relocate.h */
		uint64_t region, generation;	/* of its handle */
	} part[SEG_PAGE_PARTS];
	uint32_t bytes[SEG_PAGE_PARTS];
	union {
		/* where the parts will be */
		struct atomic_ptr next[SEG_PAGE_PARTS];
		/* of an object that only carries parts to their release */
		struct {
			struct work work;
			void *ctx;
		} carrier;
	};
};

static inline void *page_segment(const struct seg_page *page, unsigned part)
{
	/* acquire <- page_arrive(): what was copied there */
	return ptr_load_acquire(&page->part[part].segment);
}

/* By which the part is released. */
static inline struct seg_handle page_handle(const struct seg_page *page,
					    unsigned part)
{
	return (struct seg_handle){
		.segment = page_segment(page, part),
		.region = page->part[part].region,
		.generation = page->part[part].generation,
	};
}

/* By who has the page for itself. */
void page_set_handle(struct seg_page *page, unsigned part,
		     const struct seg_handle *handle);

/* The handle of a segment just allocated.  Should another thread have released
 * it by mistake already, then one of nobody's, which takes nothing from
 * anybody. */
struct seg_handle page_handle_of(struct seg_pool *p, void *segment);

/* Releases what it has. */
void page_release_parts(struct seg_page *page);

/* False: it was not `from`'s; nothing happened. */
bool page_move(struct seg_page *page, enum page_owner from, enum page_owner to);

/* Releases the page of that owner; false: it was not that owner's. */
bool page_release(struct seg_page *page, enum page_owner owner);

/* -ESTALE or -EBUSY, reported as misuse. */
int page_misuse(struct seg_page *page);

#endif
