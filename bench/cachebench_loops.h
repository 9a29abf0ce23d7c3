/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The loops, the same source for all subjects of this process.  Included by
 * each after it defined, as static inline functions of its state,
 *   const void *do_hit(state, key)     NULL: a miss
 *   const void *do_pin(state, key)     the same with a reference and its end
 *   void do_put(state, key)
 * With LOOPS_OF_A_TABLE only the first.
 */
#ifndef CACHEBENCH_LOOPS_H
#define CACHEBENCH_LOOPS_H

#include "cachebench.h"

enum { LOOP_BATCH = 80, LOOP_INSERTS = 20 /* one operation in so many */ };

static inline bool loop_goes_on(const struct bench_worker *worker)
{
	return worker->count.ops < worker->most &&
	       !__atomic_load_n(worker->stop, __ATOMIC_RELAXED);
}

static inline uint64_t loop_next(struct bench_worker *worker)
{
	return worker->keys[worker->at++ & (BENCH_KEYS - 1)];
}

static inline void loop_count(struct bench_worker *worker, const void *value)
{
	worker->count.gets++;
	worker->count.hits += value != NULL;
	worker->count.sum += (uintptr_t)value;
}

/* The worker is copied: what it counts stays in registers. */
#define LOOP(name, operation)                                                  \
	static void name(void *state, struct bench_worker *shared)             \
	{                                                                      \
		struct bench_worker worker = *shared;                          \
									       \
		do {                                                           \
			for (int i = 0; i < LOOP_BATCH; i++) {                 \
				operation                                      \
			}                                                      \
			worker.count.ops += LOOP_BATCH;                        \
		} while (loop_goes_on(&worker));                               \
		*shared = worker;                                              \
	}

LOOP(loop_hit, loop_count(&worker, do_hit(state, loop_next(&worker)));)

#ifndef LOOPS_OF_A_TABLE
LOOP(loop_pin, loop_count(&worker, do_pin(state, loop_next(&worker)));)

static void loop_put(void *state, uint64_t key)
{
	do_put(state, key);
}

static inline void loop_fresh(void *state, struct bench_worker *worker)
{
	uint64_t key = bench_mix(worker->fresh++);

	loop_count(worker, do_hit(state, key));
	do_put(state, key);
}

/* A one-time key is not a look-up that could have hit. */
static inline void loop_mixed(void *state, struct bench_worker *worker, int i)
{
	const void *value;
	uint64_t key;

	if (i % LOOP_INSERTS == 0) {
		do_put(state, bench_mix(worker->fresh++));
		return;
	}
	key = loop_next(worker);
	value = do_hit(state, key);
	loop_count(worker, value);
	if (!value)
		do_put(state, key);
}

LOOP(loop_insert, loop_fresh(state, &worker);)
LOOP(loop_mix, loop_mixed(state, &worker, i);)
#endif

#endif
