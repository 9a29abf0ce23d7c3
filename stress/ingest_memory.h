/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where ingest gets its pages, intent logs and caches: from libseg, or
 * (--before) from a model of the old way.  A variant is a file or two, each
 * ending in one struct of functions; the calls here add the clock.
 */
#ifndef INGEST_MEMORY_H
#define INGEST_MEMORY_H

#include <pthread.h>
#include <seg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define MEM_PARTS 2		/* of a page, at the most */

struct mem_page;
struct mem_log;
struct mem_cache;

struct mem_options {
	uint64_t budget_bytes;
	unsigned decay_ms;
	unsigned wait_ms;
	FILE *log;		/* NULL: none */
	bool log_segments;
};

/* One look at the memory; bytes where no other unit is named. */
struct figures {
	uint64_t limit;
	uint64_t charged;
	uint64_t peak_charged;
	uint64_t mapped;
	uint64_t peak_mapped;
	uint64_t active;		/* segments */
	uint64_t active_bytes;
	uint64_t deferred;
	uint64_t regions;
	uint64_t regions_mapped;	/* growing counts from here on */
	uint64_t regions_unmapped;
	uint64_t allocations;
	uint64_t allocations_of[SEG_CLASSES];
	uint64_t releases;
	uint64_t refusals;
	uint64_t waits;
	uint64_t misuses;
};

typedef int mem_write_fn(void *ctx, uint64_t key,
			 const struct mem_page *complete,
			 const struct mem_page *modified);

/* An int is 0 or a negative errno, as in seg.h. */
struct mem_ops {
	const char *name;
	int (*open)(const struct mem_options *options, void **ret_state);
	const char *(*close)(void *state);	/* NULL, or what was wrong */
	int (*page_create)(void *state, const size_t *bytes, unsigned parts,
			   struct mem_page **ret_page);
	void *(*page_part)(const struct mem_page *page, unsigned part);
	size_t (*page_part_bytes)(const struct mem_page *page, unsigned part);
	int (*page_grow)(struct mem_page *page, unsigned part, size_t bytes);
	int (*page_release)(struct mem_page *page);
	int (*log_create)(void *state, size_t pairs, struct mem_log **ret_log);
	int (*log_put)(struct mem_log *log, uint64_t key,
		       struct mem_page *complete, struct mem_page *modified);
	size_t (*log_count)(const struct mem_log *log);
	int (*log_commit)(struct mem_log *log, mem_write_fn *write, void *ctx);
	int (*log_abort)(struct mem_log *log);
	void (*log_destroy)(struct mem_log *log);
	void (*figures)(void *state, struct figures *ret);
	/* one line on who held the memory when it was refused; or NULL */
	void (*print_refusal)(void *state);
};

extern const struct mem_ops mem_seg;
extern const struct mem_ops mem_before;

struct mem_cache_options {
	const char *name;
	uint64_t max_weight;
	FILE *log;		/* NULL: none */
	bool short_reads;
};

struct cache_figures {
	uint64_t max_weight;
	uint64_t weight;		/* of what is not pinned */
	uint64_t pinned;		/* of what is */
	uint64_t deferred;		/* left, waiting for a grace period */
	uint64_t held;			/* what it really keeps of the memory */
	uint64_t entries;
	uint64_t hits;			/* growing counts from here on */
	uint64_t misses;
	uint64_t loads;
	uint64_t evictions;
	uint64_t reclaims;
	uint64_t removals;
	uint64_t takes;
	uint64_t misuses;
	uint64_t released;		/* values given to the listener */
	uint64_t heard;			/* calls of the listener, as it says */
	uint64_t heard_evicted;		/* of these: evicted or reclaimed */
};

/* A pin of either variant. */
struct mem_pin {
	struct mem_cache *cache;
	struct seg_pin seg;
	void *entry;
};

typedef int mem_load_fn(void *ctx, uint64_t key, struct mem_page **ret_page);

/* Caches of pages; as the functions of seg.h. */
struct mem_cache_ops {
	int (*open)(void *state, const struct mem_cache_options *options,
		    struct mem_cache **ret_cache);
	const char *(*close)(struct mem_cache *cache);
	int (*get)(struct mem_cache *cache, uint64_t key, mem_load_fn *load,
		   void *ctx, struct mem_pin *ret_pin);
	struct mem_page *(*pinned)(const struct mem_pin *pin);
	int (*tag)(struct mem_pin *pin, uint64_t tag);
	int (*unpin)(struct mem_pin *pin);
	int (*peek)(struct mem_cache *cache, uint64_t key,
		    struct mem_page **ret_page);
	int (*take)(struct mem_cache *cache, uint64_t key,
		    struct mem_page **ret_page);
	int (*remove)(struct mem_cache *cache, uint64_t key);
	void (*clear)(struct mem_cache *cache);
	void (*figures)(struct mem_cache *cache, struct cache_figures *ret);
	void (*print_pins)(struct mem_cache *cache);
};

extern const struct mem_cache_ops cache_seg;
extern const struct mem_cache_ops cache_before;

struct mem {
	const struct mem_ops *ops;
	const struct mem_cache_ops *cache_ops;
	void *state;
	bool all_classes;		/* at random, see mem_dice() */
	_Atomic uint64_t dice;
	_Atomic uint64_t longest_ns;	/* of one allocate that succeeded */
	_Atomic uint64_t refused_ns;	/* the longest that was refused */
};

/* As the functions of the variant, with the time of each call taken. */
int mem_page_create(struct mem *mem, const size_t *bytes, unsigned parts,
		    struct mem_page **ret_page);
int mem_page_grow(struct mem *mem, struct mem_page *page, unsigned part,
		  size_t bytes);

/*
 * A random number for the size of a segment; which thread gets which one of
 * the sequence is up to chance.
 */
uint64_t mem_dice(struct mem *mem);

/* CLOCK_MONOTONIC */
uint64_t now_ns(void);
struct timespec time_in_ms(unsigned ms);

/*
 * Opens a file to be written and writes its head, if any, at once: what cannot
 * be written is known before the work begins.  Errors: what open() or write()
 * say.
 */
int stream_open(const char *name, const char *head, FILE **ret);

/* Closes a file that was written.  Errors: what a write of it said. */
int stream_close(FILE *file);

/* A condition whose timed waits use that clock. */
void cond_open(pthread_cond_t *cond);

#endif
