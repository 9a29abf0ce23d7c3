/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the scenarios of the cache share: one cache, made and ended by the
 * library's own functions, whose values are race-checked cells: to be read
 * under a pin and written by the listener.  A value that is released twice, or
 * while somebody reads it, is a use after free or a data race.
 */
#ifndef CACHES_H
#define CACHES_H

#include "cache_leave.h"
#include "explore.h"

enum { VALUES = 8 };

extern struct seg_cache *cache;

/* Setup: empty.  Values are 0 to VALUES - 1, each to be put once at most. */
void caches_open(uint64_t max_weight, bool short_reads);

/* A new value; it stands for one that the thread has just written. */
void *caches_value(uint64_t key, unsigned number);

/* Puts it under the key, weight 1; it is the cache's then.  Must succeed. */
void caches_put(uint64_t key, unsigned number);
/* The same, of another weight. */
void caches_put_heavy(uint64_t key, unsigned number, uint64_t weight);
/* The same of weight 1, pinned. */
void caches_put_pinned(uint64_t key, unsigned number, struct seg_pin *ret_pin);
void caches_replace(uint64_t key, unsigned number);

/* What a reader does with it. */
void caches_read(const void *value);

/* Get, read, unpin; false: a miss. */
bool caches_get(uint64_t key);
void caches_unpin(struct seg_pin *pin);

/* Peek and read in one section; false: a miss. */
bool caches_peek(uint64_t key);
/* That it is of that key and weight. */
void caches_check(const void *value, uint64_t key, uint64_t weight);

/* What its owner does to a value that it took. */
void caches_free(void *value);

/* Post: the figures are right, the weight is within the maximum; then the cache
 * is destroyed, and each value that was put left once. */
void caches_close(void);

/* Post: the last of it alone. */
void caches_all_left(void);

#endif
