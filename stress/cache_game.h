/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of stress/cache share; see cache.c. */
#ifndef STRESS_CACHE_GAME_H
#define STRESS_CACHE_GAME_H

#include "stress.h"

enum {
	KEYS = 20,
	WORKERS_MOST = 8,	/* each has a key of its own above KEYS */
	HELD = 3,		/* pins that a thread holds at most */
	SLOTS = 4,		/* pins that are handed over to any thread */
	BODY = 5,
	WEIGHT_MOST = 40,
	WEIGHT_LEAST_MAX = 80,	/* of the maximum */
	WEIGHT_TOO_HEAVY = 1000,
	PINS_SHOWN = 8,
};

enum paper { PAPER_MINE = 0x11, PAPER_CACHE = 0x22, PAPER_GONE = 0x33 };

struct item {
	uint64_t body[BODY];
	uint64_t key, weight;
	_Atomic unsigned owner;		/* enum paper */
	_Atomic unsigned pins;
};

struct held {
	struct seg_pin pin;
	struct item *item;
};

struct game;

struct worker {
	struct game *game;
	unsigned index;
	struct stress_random random;
	struct held held[HELD];
	unsigned holds;
	pthread_t thread;
};

typedef void op_fn(struct worker *w);

struct mix {
	const char *name;
	op_fn *const *ops;
	unsigned count;
	bool removes;
	bool pins;
};

/* What was done, to be compared with what the cache says. */
struct tally {
	stress_count made, puts, replaces, loaded, lost, heavy, refused;
	stress_count gets, peeks, asks, waits;
	stress_count loaders, failures, side_by_side, deadlocks;
	stress_count taken, busy, none, removed, handed;
	stress_count left[SEG_CAUSE_DESTROYED + 1];
	stress_count hidden_deaths, unpin_evictions, in_listener;
	stress_count pins[PINS_SHOWN + 1];
	stress_count weight, pinned;	/* of what is in, and of it pinned */
	stress_count sections, pinned_rests, parked;
};

struct game {
	const struct mix *mix;
	struct seg_cache *cache;
	bool short_reads;
	unsigned threads;
	bool ends;
	bool drops;		/* pins are given back at the section's end */
	pthread_barrier_t barrier;
	struct tally tally;
	_Atomic unsigned loading[KEYS + WORKERS_MOST];
	_Atomic(struct held *) slot[SLOTS];
};

/* The calling worker; NULL in the library's own thread. */
extern _Thread_local struct worker *stress_self;

static inline void did(stress_count *count)
{
	stress_add(count, 1);
}

/* cache_papers.c: a value and who owns it */
struct item *item_make(struct worker *w, uint64_t key);
void item_check(const struct item *item, uint64_t key);

/* Before it is put: from then on it may leave at any time. */
void item_offer(struct game *g, struct item *item);

/* It is the caller's again, and ends. */
void item_taken(struct game *g, struct item *item);

/* Checks and counts a pin that was got, and one that is given back. */
struct held hold(struct game *g, struct seg_pin pin, uint64_t key);
void let_go(struct game *g, struct held *held);

/* Unpins it now, or later, or has another thread do so. */
void use(struct worker *w, struct held held);
void drop_one(struct worker *w);

seg_cache_listener_fn on_leave;

/* cache_ops.c */
extern const struct mix stress_mixes[];
extern const unsigned stress_mix_count;
struct seg_cache_stats stats_of(struct game *g);
void replace_any(struct worker *w);

#endif
