/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The two caches in front of the page store.  PageCache has fragments as they
 * are in the store, by fragment_key(); RecordPageCache has whole pages, by
 * their number.  What is in them is committed and never changes there: a page
 * that is continued is taken out first, and is then its intent log's alone.
 */
#ifndef INGEST_CACHE_H
#define INGEST_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "ingest_memory.h"

struct job;

struct caches {
	struct mem_cache *fragments;	/* PageCache */
	struct mem_cache *pages;	/* RecordPageCache */
};

static inline uint64_t fragment_key(uint64_t key, uint32_t number)
{
	return key << 2 | number;
}

/* Errors: as seg_cache_create(); nothing is left. */
int caches_open(struct job *job, FILE *log);

/* NULL, or what was wrong. */
const char *caches_close(struct job *job);

/*
 * Pins the whole page, from the caches or the store.  The tag names the pins
 * that are held on the way, and the one that is given.  MT-Safe.
 * Errors: -ENOMEM; else as fragment_read() and fragments_combine().
 */
int caches_get(struct job *job, uint64_t key, uint64_t tag,
	       struct mem_pin *ret_pin);

/*
 * Takes the page and its fragments out of both caches; the whole page is the
 * caller's, from the cache, or put together from its fragments.  For the one
 * writer that the page belongs to.
 * Errors: as caches_get(); the page is in no cache then either.
 */
int caches_take(struct job *job, uint64_t key, struct mem_page **ret_page);

/* There is a new fragment: no load that began before this stays.  MT-Safe. */
void caches_changed(struct job *job, uint64_t key);

/*
 * At the end of a pass, with no other thread left: checks that nothing is
 * pinned or too heavy, and clears both.
 */
void caches_clear(struct job *job);

#endif
