/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the stress programs share: seed and duration, threads, deterministic
 * choices, contents that are filled and checked, the end of a pool.
 *
 *   SEED            the seed of all choices (default 1; printed)
 *   STRESS_SECONDS  how long to run (default 5; fractions allowed)
 *
 * The first broken promise ends the process with a message and status 1;
 * status 2 is wrong usage.  Under ThreadSanitizer and Valgrind there are fewer
 * threads; what is checked is the same.
 */
#ifndef STRESS_H
#define STRESS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "seg.h"

/* Reads the environment and prints a line that says what runs.  A watchdog
 * ends a program that hangs. */
void stress_begin(const char *name);

/* Prints that all went well; the value is main's. */
int stress_end(void);

_Noreturn void stress_fail(const char *format, ...)
	__attribute__((format(printf, 1, 2)));

/* A promise: the text says what was broken. */
#define stress_check(expr, ...)                                                \
	do {                                                                   \
		if (!(expr))                                                   \
			stress_fail(__VA_ARGS__);                              \
	} while (0)

double stress_seconds(void);

/* The first number, or the second where a checker makes things slow. */
unsigned stress_scale(unsigned full, unsigned reduced);

uint64_t stress_now_ns(void);
void stress_sleep_ns(uint64_t ns);

/* ---------------------------------------------------------------- choices */

/* One thread's own; the same seed and stream give the same choices. */
struct stress_random {
	uint64_t state;
};

struct stress_random stress_random_of(uint64_t stream);
uint64_t stress_next(struct stress_random *random);

/* 0 to n - 1. */
uint32_t stress_below(struct stress_random *random, uint32_t n);

/* ---------------------------------------------------------------- threads */

/* Lets the threads run for so long, then stress_over() is true. */
void stress_run_for(double seconds);
bool stress_over(void);

/* The next round begins: stress_over() is false again. */
void stress_again(void);

pthread_t stress_start(void *(*main)(void *), void *arg);
void stress_join(pthread_t thread);

/* A figure that threads add to. */
typedef _Atomic uint64_t stress_count;

uint64_t stress_add(stress_count *count, uint64_t by);
uint64_t stress_value(stress_count *count);
void stress_raise(stress_count *most, uint64_t value);

/* --------------------------------------------------------------- contents */

/* Fills all bytes with a pattern of the owner and the address. */
void stress_fill(void *memory, size_t bytes, uint64_t owner);

/* Fails unless every byte is as the owner filled it. */
void stress_verify(const void *memory, size_t bytes, uint64_t owner);

/* Fails unless all bytes are 0. */
void stress_verify_zero(const void *memory, size_t bytes);

/* ------------------------------------------------------ budgets and pools */

struct seg_budget *stress_budget(uint64_t limit_bytes);
struct seg_pool *stress_pool(struct seg_pool_options options);
struct seg_pool_stats stress_stats(struct seg_pool *pool);
struct seg_budget_stats stress_budget_stats(struct seg_budget *budget);

/* Fails if more is charged than allowed now. */
void stress_check_budget(struct seg_budget *budget);

/* Nothing is out any more: the walk, the equations, trim, destroy. */
void stress_pool_end(struct seg_pool *pool);
void stress_budget_end(struct seg_budget *budget);

#endif
