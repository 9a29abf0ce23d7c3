/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the parts of cachebench share.  A subject is one cache (or bare table)
 * under measurement.  Its loops are compiled with its own operations inlined
 * (cachebench_loops.h): a call through a pointer for each operation would cost
 * as much as a hit, and make all look alike.
 */
#ifndef CACHEBENCH_H
#define CACHEBENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
	BENCH_THREADS_MOST = 8,
	BENCH_ROUNDS_MOST = 99,
	BENCH_KEYS = 1 << 20,	/* drawn in advance for each thread */
	BENCH_WEIGHT = 4096,	/* of an entry */
};

/* What is done in a row of the table. */
enum bench_loop {
	LOOP_HIT,	/* look up, read the value; nothing is held after */
	LOOP_PIN,	/* get a reference, read the value, give it back */
	LOOP_INSERT,	/* a new key: a miss, an insert, an eviction */
	LOOP_MIX,	/* 95 hits (misses are inserted) to 5 new keys */
	LOOPS,
};

/* What a loop found, of all threads or of one. */
struct bench_count {
	uint64_t ops, gets, hits;
	uintptr_t sum;		/* of what was read, so that it is read */
};

struct bench_worker {
	const uint64_t *keys;	/* BENCH_KEYS of them */
	size_t at;		/* the next of them */
	uint64_t fresh;		/* the next key that nobody had before */
	uint64_t most;		/* operations; then it ends */
	const int *stop;	/* or when this is set */
	struct bench_count count;
};

/* What a subject is set up for. */
struct bench_setup {
	uint64_t entries;	/* that are put, and then looked up */
	uint64_t capacity;	/* in entries, all of BENCH_WEIGHT */
	bool evicting;		/* the rows that follow insert */
};

/* One measurement, for those that run in a process of their own. */
struct bench_run {
	enum bench_loop loop;
	int keys;		/* enum bench_keys */
	int threads;
	uint64_t entries;
	double seconds;		/* 0: until `most` operations */
	uint64_t most;
};

struct bench_result {
	double ops, wall, cpu;	/* seconds; cpu: of all threads */
	double hit_ratio;
};

struct bench_subject {
	const char *name;	/* for --only, and in tables */
	unsigned loops;		/* bits 1 << enum bench_loop that it can do */
	/* NULL, or why it can't take part */
	const char *(*absent)(void);
	void *(*setup)(const struct bench_setup *setup);
	void (*teardown)(void *state);
	void (*put)(void *state, uint64_t key);
	void (*loop[LOOPS])(void *state, struct bench_worker *worker);
	/* instead of put and loop */
	bool (*remote)(void *state, const struct bench_run *run,
		       struct bench_result *result);
};

extern const struct bench_subject bench_seg, bench_seg_pin, bench_index,
	bench_index_inlined, bench_lfht, bench_shards, bench_rocksdb_lru,
	bench_rocksdb_hcc, bench_caffeine;

/* ------------------------------------------------------------ measuring */

enum bench_keys { KEYS_UNIFORM, KEYS_ZIPF, KEYS_ONE, KEYS_KINDS };
extern const char *const bench_keys_names[KEYS_KINDS];

/* A bijection that scrambles (splitmix64's). */
static inline uint64_t bench_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return x ^ (x >> 31);
}

/* The key of an entry: scrambled, so that no order helps. */
static inline uint64_t bench_key(uint64_t number)
{
	return bench_mix(number);
}

/* Draws the keys of so many threads, always the same for a seed. */
void bench_draw(enum bench_keys kind, uint64_t entries, int threads,
		uint64_t seed);

/*
 * Runs a loop: for a while to warm up, then for the time wanted.  False: the
 * subject went away.
 */
bool bench_measure(const struct bench_subject *subject, void *state,
		   const struct bench_run *run, struct bench_result *result);

double bench_now(void);
void bench_die(const char *what) __attribute__((noreturn));

/* ------------------------------------------------------ the other words */

/* The value is main's. */
int bench_traces(int argc, char **argv);
int bench_lines(void);

#ifdef __cplusplus
}
#endif
#endif
