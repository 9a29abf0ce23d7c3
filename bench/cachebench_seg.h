/* SPDX-License-Identifier: LGPL-2.1-or-later */
#ifndef CACHEBENCH_SEG_H
#define CACHEBENCH_SEG_H

#include <stdbool.h>
#include <stdint.h>

struct seg_cache;

/* A cache of pointers to nothing.  Ends the process if it can't be made. */
struct seg_cache *bench_cache(uint64_t max_weight, bool short_reads);

/* Puts the key, if it is not there: its value is the cache. */
void bench_cache_put(struct seg_cache *cache, uint64_t key, uint64_t weight);

void bench_cache_end(void *cache);

#endif
