/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the scenarios of the index share: one index, which begins with one
 * bucket and is split when a scenario says so.  An entry's value tells the key
 * and the use that it is of.
 */
#ifndef INDEXES_H
#define INDEXES_H

#include "cache_index.h"
#include "explore.h"

/* Keys by the lowest bits of their hash. */
enum {
	KEY_000 = 2,
	KEY_000B = 9,
	KEY_100 = 1,
	KEY_100B = 10,
	KEY_010 = 13,
	KEY_110 = 5,
	KEY_001 = 4,
};

extern struct cache_index the_index;

/* For twins: the change is raised when the key is written; the version stays,
 * as if nobody compared it. */
extern bool indexes_late_change;
extern bool indexes_same_version;

/* Setup: empty, with one bucket.  Post: it is valid. */
void indexes_open(void);
void indexes_check(void);

/* Setup: the same with four buckets; a dead entry, to be filled. */
struct cache_entry *indexes_open_four(void);

/* ---- under the lock, which one thread stands for ---- */

/* A dead entry begins, not yet in the index; the same, of new memory. */
void indexes_fill(struct cache_entry *e, uint64_t key);
struct cache_entry *indexes_make(uint64_t key);

/* Without a split; and as if so many were in: splits that are due are done. */
void indexes_insert(struct cache_entry *e);
void indexes_insert_as_if(struct cache_entry *e, uint32_t in);
/* Makes and inserts one. */
struct cache_entry *indexes_add(uint64_t key);

/* Out and dead.  False: it is pinned, and stays. */
bool indexes_remove(struct cache_entry *e);
/* At once for that key; not if it is pinned. */
void indexes_use_again(struct cache_entry *e, uint64_t key);

/* ---- look-ups, and what is found has the key ---- */

/* Pin, look, unpin; false: a miss. */
bool indexes_get(uint64_t key);
/* It is in during the whole call. */
void indexes_find(uint64_t key);
/* As a short read at the first look, and with all of them (NULL: a miss). */
void indexes_peek(uint64_t key);
void *indexes_look(uint64_t key);

#endif
