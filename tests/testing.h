/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the unit tests share.  Assertions of cmocka's belong to the main thread:
 * other threads return what they saw, and the main thread judges it.  A test
 * that waits for ever (a lost wake-up) is ended by run_group()'s watchdog.
 */
#ifndef SEG_TESTS_TESTING_H
#define SEG_TESTS_TESTING_H

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "poison.h"
#include "seg.h"

enum { TESTING_MOST_SECONDS = 300, TESTING_SKIPPED = 77 };

/* By SIGKILL: who waits for a grace period has all other signals blocked. */
static inline void watchdog_start(void)
{
	struct sigevent kill = { .sigev_notify = SIGEV_SIGNAL,
				 .sigev_signo = SIGKILL };
	struct itimerspec when = { .it_value.tv_sec = TESTING_MOST_SECONDS };
	timer_t timer;

	if (timer_create(CLOCK_MONOTONIC, &kill, &timer) ||
	    timer_settime(timer, 0, &when, NULL))
		abort();
}

/* Whether an emulator runs this (./dev arm64), under which something can't be
 * tested: why. */
static inline bool emulated(const char *why)
{
	const char *emulator = getenv("EMULATOR");

	if (emulator)
		print_message("not under %s: %s\n", emulator, why);
	return emulator != NULL;
}

#define run_group(tests)                                                       \
	(watchdog_start(), cmocka_run_group_tests((tests), NULL, NULL))

/* ------------------------------------------------------ budgets and pools */

static inline struct seg_budget *new_budget(uint64_t bytes)
{
	struct seg_budget_options o = { .size = sizeof(o),
					.limit_bytes = bytes };
	struct seg_budget *b = NULL;

	assert_int_equal(seg_budget_create(&o, &b), 0);
	assert_non_null(b);
	return b;
}

static inline struct seg_budget_stats budget_stats(struct seg_budget *b)
{
	struct seg_budget_stats s = { .size = sizeof(s) };

	assert_int_equal(seg_budget_stats(b, &s), 0);
	return s;
}

/* P2: nothing may be left charged. */
static inline void end_budget(struct seg_budget *b)
{
	assert_int_equal(budget_stats(b).charged_bytes, 0);
	assert_int_equal(seg_budget_destroy(b), 0);
}

/* Of a pool that never waits. */
static inline struct seg_pool_options pool_options(struct seg_budget *b)
{
	return (struct seg_pool_options){
		.size = sizeof(struct seg_pool_options),
		.budget = b,
		.wait_ms = SEG_NO_WAIT,
	};
}

static inline struct seg_pool *new_pool_with(const struct seg_pool_options *o)
{
	struct seg_pool *p = NULL;

	assert_int_equal(seg_pool_create(o, &p), 0);
	assert_non_null(p);
	return p;
}

static inline struct seg_pool *new_pool(struct seg_budget *b)
{
	struct seg_pool_options o = pool_options(b);

	return new_pool_with(&o);
}

static inline void end_pool(struct seg_pool *p)
{
	assert_true(seg_pool_is_valid(p));
	assert_int_equal(seg_pool_destroy(p), 0);
}

static inline struct seg_pool_stats pool_stats(struct seg_pool *p)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	assert_int_equal(seg_pool_stats(p, SEG_ALL, SEG_ALL, &s), 0);
	return s;
}

/* ---------------------------------------------------------- recorded lines */

enum { RECORDER_LINES = 64, RECORDER_WIDTH = 300 };

struct recorder {
	pthread_mutex_t lock;
	unsigned count;			/* of all lines, kept or not */
	char line[RECORDER_LINES][RECORDER_WIDTH];
	enum seg_log_level level[RECORDER_LINES];
};

#define RECORDER_INIT { .lock = PTHREAD_MUTEX_INITIALIZER }

/* A seg_log_fn; ctx is a recorder. */
static inline void recorder_log(void *ctx, enum seg_log_level level,
				const char *line)
{
	struct recorder *r = ctx;

	pthread_mutex_lock(&r->lock);
	if (r->count < RECORDER_LINES) {
		snprintf(r->line[r->count], RECORDER_WIDTH, "%s", line);
		r->level[r->count] = level;
	}
	r->count++;
	pthread_mutex_unlock(&r->lock);
}

static inline unsigned recorder_count(struct recorder *r)
{
	unsigned count;

	pthread_mutex_lock(&r->lock);
	count = r->count;
	pthread_mutex_unlock(&r->lock);
	return count;
}

/* How many of the kept lines contain the text. */
static inline unsigned recorder_has(struct recorder *r, const char *text)
{
	unsigned found = 0;

	pthread_mutex_lock(&r->lock);
	for (unsigned i = 0; i < r->count && i < RECORDER_LINES; i++)
		found += strstr(r->line[i], text) != NULL;
	pthread_mutex_unlock(&r->lock);
	return found;
}

/* ------------------------------------------------------------------ random */

/* splitmix64: every seed is as good as another. */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline uint64_t random_below(uint64_t *state, uint64_t n)
{
	return random_next(state) % n;
}

static inline uint64_t random_seed(uint64_t seed)
{
	print_message("seed %llu\n", (unsigned long long)seed);
	return seed;
}

/* How often something is repeated: TESTING_PERCENT of that, where a machine is
 * so slow that it would take minutes (tests/vm). */
static inline unsigned testing_rounds(unsigned full)
{
	const char *percent = getenv("TESTING_PERCENT");

	return percent ? full * (unsigned)atoi(percent) / 100 + 1 : full;
}

/* ----------------------------------------------------------------- threads */

enum { TESTING_MAX_THREADS = 64 };

struct threads {
	unsigned count;
	pthread_t id[TESTING_MAX_THREADS];
};

/* Thread i runs main(args + i * arg_bytes). */
static inline void threads_start(struct threads *t, unsigned count,
				 void *(*main)(void *), void *args,
				 size_t arg_bytes)
{
	assert_true(count <= TESTING_MAX_THREADS);
	t->count = count;
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(pthread_create(&t->id[i], NULL, main,
						(char *)args + i * arg_bytes),
				 0);
}

/* How many of the threads returned something else than NULL. */
static inline unsigned threads_join(struct threads *t)
{
	unsigned bad = 0;

	for (unsigned i = 0; i < t->count; i++) {
		void *result;

		assert_int_equal(pthread_join(t->id[i], &result), 0);
		bad += result != NULL;
	}
	return bad;
}

static inline void wait_for(sem_t *sem)
{
	while (sem_wait(sem))
		;
}

/*
 * Whether a thing happens in the next 30 ms that must not happen at all.  The
 * right code is never blamed, however slow the machine; the wrong is caught.
 */
static inline bool happens_soon(sem_t *sem)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 30 * 1000 * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	return sem_timedwait(sem, &until) == 0;
}

/* ------------------------------------------------------------------- forks */

/* Runs fn in a child; what waitpid() says.  Fork before starting threads. */
static inline int run_in_child(int (*fn)(void *ctx), void *ctx)
{
	int status = -1;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(fn(ctx));
	while (waitpid(child, &status, 0) != child)
		;
	return status;
}

#endif
