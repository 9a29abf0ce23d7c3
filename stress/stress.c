/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See stress.h. */
#define _GNU_SOURCE
#include "stress.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "poison.h"

#ifdef SEG_VALGRIND
#include <valgrind/valgrind.h>
#define on_valgrind() RUNNING_ON_VALGRIND
#else
#define on_valgrind() 0
#endif

static const char *program;
static double seconds = 5;
static uint64_t seed = 1;
static _Atomic bool over;

/* ------------------------------------------------------- begin and end */

static const char *checker(void)
{
#if defined(SEG_TSAN)
	return ", under ThreadSanitizer";
#elif defined(SEG_ASAN)
	return ", under AddressSanitizer";
#else
	return on_valgrind() ? ", under Valgrind" : "";
#endif
}

unsigned stress_scale(unsigned full, unsigned reduced)
{
#ifdef SEG_TSAN
	return reduced < full ? reduced : full;
#else
	return on_valgrind() ? reduced : full;
#endif
}

_Noreturn static void bad_usage(const char *name, const char *value)
{
	fprintf(stderr, "%s: bad value of %s: '%s'\n", program, name, value);
	exit(2);
}

static void read_seconds(void)
{
	const char *text = getenv("STRESS_SECONDS");
	char *end;

	if (!text || !*text)
		return;
	seconds = strtod(text, &end);
	if (*end || !(seconds > 0 && seconds <= 1000000))
		bad_usage("STRESS_SECONDS", text);
}

static void read_seed(void)
{
	const char *text = getenv("SEED");
	char *end;

	if (!text || !*text)
		return;
	seed = strtoull(text, &end, 0);
	if (*end)
		bad_usage("SEED", text);
}

/* Only what a signal handler may call. */
static void hung(int signal)
{
	static const char text[] = "FAILED: it hangs\n";

	(void)signal;
	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

void stress_begin(const char *name)
{
	program = name;
	read_seconds();
	read_seed();
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGALRM, hung);
	alarm(120 + 10 * (unsigned)seconds);
	printf("%s: seed %" PRIu64 ", %g s%s\n", program, seed, seconds,
	       checker());
}

int stress_end(void)
{
	printf("%s: all held\n", program);
	return 0;
}

_Noreturn void stress_fail(const char *format, ...)
{
	va_list args;

	flockfile(stderr);
	fprintf(stderr, "%s: FAILED (seed %" PRIu64 "): ", program, seed);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(stdout);
	_exit(1);
}

double stress_seconds(void)
{
	return seconds;
}

uint64_t stress_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void stress_sleep_ns(uint64_t ns)
{
	uint64_t at = stress_now_ns() + ns;
	struct timespec until = {
		.tv_sec = (time_t)(at / 1000000000u),
		.tv_nsec = (long)(at % 1000000000u),
	};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) ==
	       EINTR)
		;
}

/* ------------------------------------------------------------- choices */

static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return x ^ x >> 31;
}

struct stress_random stress_random_of(uint64_t stream)
{
	/* | 1: an xorshift of 0 stays 0 */
	return (struct stress_random){ mix(seed + mix(stream + 1)) | 1 };
}

uint64_t stress_next(struct stress_random *random)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return random->state * 0x2545f4914f6cdd1du;
}

uint32_t stress_below(struct stress_random *random, uint32_t n)
{
	return (uint32_t)((stress_next(random) >> 32) * n >> 32);
}

/* ------------------------------------------------------------- threads */

void stress_run_for(double for_seconds)
{
	stress_sleep_ns((uint64_t)(for_seconds * 1e9));
	atomic_store_explicit(&over, true, memory_order_relaxed);
}

bool stress_over(void)
{
	return atomic_load_explicit(&over, memory_order_relaxed);
}

void stress_again(void)
{
	atomic_store_explicit(&over, false, memory_order_relaxed);
}

pthread_t stress_start(void *(*main)(void *), void *arg)
{
	pthread_t thread;
	int error = pthread_create(&thread, NULL, main, arg);

	stress_check(!error, "no thread: %s", strerror(error));
	return thread;
}

void stress_join(pthread_t thread)
{
	int error = pthread_join(thread, NULL);

	stress_check(!error, "cannot join: %s", strerror(error));
}

uint64_t stress_add(stress_count *count, uint64_t by)
{
	return atomic_fetch_add_explicit(count, by, memory_order_relaxed);
}

uint64_t stress_value(stress_count *count)
{
	return atomic_load_explicit(count, memory_order_relaxed);
}

void stress_raise(stress_count *most, uint64_t value)
{
	uint64_t old = stress_value(most);

	while (old < value &&
	       !atomic_compare_exchange_weak_explicit(most, &old, value,
						      memory_order_relaxed,
						      memory_order_relaxed))
		;
}

/* ------------------------------------------------------------ contents */

enum { WORD = sizeof(uint64_t) };

static uint64_t pattern_of(const void *memory, uint64_t owner)
{
	return mix(owner ^ mix((uintptr_t)memory));
}

void stress_fill(void *memory, size_t bytes, uint64_t owner)
{
	uint64_t pattern = pattern_of(memory, owner);
	uint64_t *word = memory;

	for (size_t i = 0; i < bytes / WORD; i++)
		word[i] = pattern + i;
}

void stress_verify(const void *memory, size_t bytes, uint64_t owner)
{
	uint64_t pattern = pattern_of(memory, owner);
	const uint64_t *word = memory;

	for (size_t i = 0; i < bytes / WORD; i++)
		stress_check(word[i] == pattern + i,
			     "contents at %p + %zu of %zu: %#" PRIx64
			     " where owner %" PRIu64 " wrote %#" PRIx64,
			     memory, i * WORD, bytes, word[i], owner,
			     pattern + i);
}

void stress_verify_zero(const void *memory, size_t bytes)
{
	const uint64_t *word = memory;

	for (size_t i = 0; i < bytes / WORD; i++)
		stress_check(word[i] == 0,
			     "zeroed segment %p + %zu of %zu: %#" PRIx64,
			     memory, i * WORD, bytes, word[i]);
}

/* --------------------------------------------------- budgets and pools */

struct seg_budget *stress_budget(uint64_t limit_bytes)
{
	struct seg_budget_options options = {
		.size = sizeof(options),
		.limit_bytes = limit_bytes,
	};
	struct seg_budget *budget;
	int ret = seg_budget_create(&options, &budget);

	stress_check(!ret, "seg_budget_create: %s", strerror(-ret));
	return budget;
}

struct seg_pool *stress_pool(struct seg_pool_options options)
{
	struct seg_pool *pool;
	int ret;

	options.size = sizeof(options);
	ret = seg_pool_create(&options, &pool);
	stress_check(!ret, "seg_pool_create: %s", strerror(-ret));
	return pool;
}

struct seg_pool_stats stress_stats(struct seg_pool *pool)
{
	struct seg_pool_stats s = { .size = sizeof(s) };
	int ret = seg_pool_stats(pool, SEG_ALL, SEG_ALL, &s);

	stress_check(!ret, "seg_pool_stats: %s", strerror(-ret));
	return s;
}

struct seg_budget_stats stress_budget_stats(struct seg_budget *budget)
{
	struct seg_budget_stats s = { .size = sizeof(s) };
	int ret = seg_budget_stats(budget, &s);

	stress_check(!ret, "seg_budget_stats: %s", strerror(-ret));
	return s;
}

void stress_check_budget(struct seg_budget *budget)
{
	struct seg_budget_stats s = stress_budget_stats(budget);

	stress_check(s.charged_bytes <= s.limit_bytes,
		     "%" PRIu64 " bytes charged, %" PRIu64 " allowed",
		     s.charged_bytes, s.limit_bytes);
}

static void check_empty(struct seg_pool *pool)
{
	struct seg_pool_stats s = stress_stats(pool);

	stress_check(s.active == 0 && s.active_bytes == 0,
		     "%" PRIu64 " segments are still out", s.active);
	stress_check(s.cached + s.unused + s.decommitted == s.slices,
		     "%" PRIu64 " of %" PRIu64 " slices unused, %" PRIu64
		     " cached, %" PRIu64 " decommitted", s.unused, s.slices,
		     s.cached, s.decommitted);
	stress_check(s.allocations_total == s.releases_total,
		     "%" PRIu64 " allocations, %" PRIu64 " releases",
		     s.allocations_total, s.releases_total);
}

static void check_trimmed(struct seg_pool *pool)
{
	struct seg_pool_stats s = stress_stats(pool);

	stress_check(s.regions == 0 && s.deferred_regions == 0 &&
		     s.mapped_bytes == 0 && s.deferred_bytes == 0,
		     "after a trim: %" PRIu64 " regions, %" PRIu64
		     " deferred, %" PRIu64 " bytes mapped", s.regions,
		     s.deferred_regions, s.mapped_bytes);
	stress_check(s.cached == 0 && s.slices == 0, "after a trim: %" PRIu64
		     " slices cached of %" PRIu64, s.cached, s.slices);
	stress_check(s.regions_mapped_total == s.regions_retired_total &&
		     s.regions_mapped_total == s.regions_unmapped_total,
		     "%" PRIu64 " regions mapped, %" PRIu64 " retired, %" PRIu64
		     " unmapped", s.regions_mapped_total,
		     s.regions_retired_total, s.regions_unmapped_total);
}

void stress_pool_end(struct seg_pool *pool)
{
	int ret;

	stress_check(seg_pool_is_valid(pool), "the pool is not valid");
	check_empty(pool);
	ret = seg_pool_trim(pool, NULL);
	stress_check(!ret, "seg_pool_trim: %s", strerror(-ret));
	check_trimmed(pool);
	stress_check(seg_pool_is_valid(pool), "not valid after a trim");
	ret = seg_pool_destroy(pool);
	stress_check(!ret, "seg_pool_destroy: %s", strerror(-ret));
}

void stress_budget_end(struct seg_budget *budget)
{
	struct seg_budget_stats s = stress_budget_stats(budget);
	int ret;

	stress_check(s.charged_bytes == 0 && s.waiters == 0 && s.pools == 0,
		     "at the end %" PRIu64 " bytes charged, %" PRIu64
		     " waiters, %" PRIu64 " pools", s.charged_bytes, s.waiters,
		     s.pools);
	ret = seg_budget_destroy(budget);
	stress_check(!ret, "seg_budget_destroy: %s", strerror(-ret));
}
