/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* See limit.h. */
#include "limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
	PAGE_BYTES = 4096,
	SAMPLE_EVERY = 16,	/* allocations */
	DECAY_MS = 600000,	/* nothing goes unless it is needed */
	MS = 1000000,
};

struct held {
	void *segment;
	int class_index;
};

/* ------------------------------------------------------------- helpers */

clockid_t bench_clock = CLOCK_MONOTONIC;

uint64_t bench_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t bench_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

_Noreturn void bench_die(const char *what)
{
	fprintf(stderr, "limit: %s\n", what);
	exit(1);
}

/* Twice as much room for what is full. */
static void *grown(void *items, size_t *room, size_t item_bytes)
{
	*room = *room ? 2 * *room : 4096;
	items = realloc(items, *room * item_bytes);
	if (!items)
		bench_die("out of memory");
	return items;
}

struct seg_pool_stats bench_pool_stats(struct seg_pool *pool)
{
	struct seg_pool_stats s = { .size = sizeof(s) };

	if (seg_pool_stats(pool, SEG_ALL, SEG_ALL, &s))
		bench_die("no figures of the pool");
	return s;
}

struct seg_budget_stats bench_budget_stats(struct seg_budget *budget)
{
	struct seg_budget_stats s = { .size = sizeof(s) };

	if (seg_budget_stats(budget, &s))
		bench_die("no figures of the budget");
	return s;
}

/* --------------------------------------------------------------- times */

void times_add(struct times *times, uint64_t ns)
{
	if (times->count == times->room)
		times->ns = grown(times->ns, &times->room, sizeof(*times->ns));
	times->ns[times->count++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

void times_merge(struct times *times, const struct times *others)
{
	for (size_t i = 0; i < others->count; i++)
		times_add(times, others->ns[i]);
}

static int compare(const void *a, const void *b)
{
	const uint32_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

void times_sort(struct times *times)
{
	if (times->count)
		qsort(times->ns, times->count, sizeof(*times->ns), compare);
}

double times_at(const struct times *times, unsigned share)
{
	if (!times->count)
		return 0;
	return times->ns[(times->count - 1) * share / 10000];
}

void times_free(struct times *times)
{
	free(times->ns);
	*times = (struct times){ 0 };
}

/* ------------------------------------------------------------- refusals */

/* The charge of what waits: what is left when all else is known. */
static struct refused look(struct seg_pool *pool, struct seg_budget *budget)
{
	struct seg_pool_stats p = bench_pool_stats(pool);
	struct seg_budget_stats b = bench_budget_stats(budget);
	struct refused now = {
		.active = p.active_bytes,
		.deferred = b.deferred_bytes,
		.room = b.limit_bytes - b.charged_bytes,
		.decommitted = p.decommitted_bytes,
		.metadata = p.metadata_bytes,
	};

	for (int c = 0; c < SEG_CLASSES; c++) {
		struct seg_pool_stats s = { .size = sizeof(s) };

		if (seg_pool_stats(pool, SEG_ALL, c, &s))
			bench_die("no figures of a class");
		now.unused += s.unused * (uint64_t)(SEG_MIN_BYTES << c);
	}
	return now;
}

void refused_note(struct refused *refused, struct seg_pool *pool,
		  struct seg_budget *budget, size_t slice)
{
	struct refused now = look(pool, budget);

	uint64_t named = now.active + now.unused + now.deferred + now.room;
	uint64_t limit = bench_budget_stats(budget).limit_bytes;
	uint64_t off = named > limit ? named - limit : limit - named;

	now.slice = slice;
	now.needless = refused->needless + (limit - now.active >= slice);
	now.count = refused->count + 1;
	now.unnamed = off > refused->unnamed ? off : refused->unnamed;
	if (refused->count && refused->active < now.active) {
		refused->count = now.count;
		refused->unnamed = now.unnamed;
		refused->needless = now.needless;
	} else {
		*refused = now;
	}
}

/* ------------------------------------------------------- open and close */

struct seg_budget *bench_budget(uint64_t limit)
{
	struct seg_budget_options options = {
		.size = sizeof(options), .limit_bytes = limit,
	};
	struct seg_budget *budget;

	if (seg_budget_create(&options, &budget))
		bench_die("no budget to be had");
	return budget;
}

struct seg_pool *bench_pool(struct seg_budget *budget, int wait_ms)
{
	struct seg_pool_options options = {
		.size = sizeof(options),
		.budget = budget,
		.decay_ms = DECAY_MS,
		.wait_ms = wait_ms,
	};
	struct seg_pool *pool;

	if (seg_pool_create(&options, &pool))
		bench_die("no pool to be had");
	return pool;
}

/* The pool is empty. */
bool bench_end(struct seg_pool *pool, struct seg_budget *budget)
{
	bool good = seg_pool_is_valid(pool) && !bench_pool_stats(pool).active;

	good &= !seg_pool_destroy(pool);
	good &= !bench_budget_stats(budget).charged_bytes;
	return good & !seg_budget_destroy(budget);
}

void trial_open(struct trial *trial, uint64_t limit, uint64_t seed,
		enum touch touch)
{
	*trial = (struct trial){
		.limit = limit, .random = seed, .touch = touch,
		.wait_ms = LIMIT_WAIT_MS,
	};
	trial->budget = bench_budget(limit);
	trial->pool = bench_pool(trial->budget, SEG_NO_WAIT);
}

bool trial_close(struct trial *trial)
{
	trial_release(trial, 100);
	free(trial->held);
	times_free(&trial->times);
	times_free(&trial->refusals);
	return bench_end(trial->pool, trial->budget);
}

/* ------------------------------------------------------------------ fill */

static void sample(struct trial *trial)
{
	struct seg_budget_stats s = bench_budget_stats(trial->budget);

	trial->samples++;
	if (s.charged_bytes > trial->most_charged)
		trial->most_charged = s.charged_bytes;
	if (s.peak_charged_bytes > trial->most_charged)
		trial->most_charged = s.peak_charged_bytes;
}

static void hold(struct trial *trial, void *segment, int class_index)
{
	size_t bytes = (size_t)SEG_MIN_BYTES << class_index;
	size_t step = trial->touch == TOUCH_ALL ? PAGE_BYTES : bytes;

	for (size_t at = 0; at < bytes; at += step)
		((char *)segment)[at] = 1;
	if (trial->count == trial->room)
		trial->held = grown(trial->held, &trial->room,
				    sizeof(*trial->held));
	trial->held[trial->count++] = (struct held){ segment, class_index };
	if (trial->count % SAMPLE_EVERY == 0)
		sample(trial);
}

static struct timespec time_in(unsigned ms)
{
	uint64_t ns = bench_ns(CLOCK_MONOTONIC) + (uint64_t)ms * MS;

	return (struct timespec){ .tv_sec = (time_t)(ns / 1000000000u),
				  .tv_nsec = (long)(ns % 1000000000u) };
}

/* False: refused.  Time 0 is past: no wait. */
static bool take(struct trial *trial, int class_index, unsigned wait_ms)
{
	size_t bytes = (size_t)SEG_MIN_BYTES << class_index;
	struct timespec until = wait_ms ? time_in(wait_ms) :
					  (struct timespec){ 0 };
	uint64_t ns = bench_ns(bench_clock);
	void *segment = seg_alloc_until(trial->pool, bytes, &until);

	ns = bench_ns(bench_clock) - ns;
	if (segment && trial->timed)
		times_add(&trial->times, ns);
	if (!segment && !wait_ms)
		times_add(&trial->refusals, ns);
	if (segment)
		hold(trial, segment, class_index);
	return segment != NULL;
}

/* The class that was refused. */
static int take_all(struct trial *trial, const int *classes, size_t count,
		    unsigned wait_ms)
{
	size_t i = 0;

	while (take(trial, classes[i % count], wait_ms))
		i++;
	return classes[i % count];
}

static void note(struct trial *trial, struct refused *refused, int class_index)
{
	sample(trial);
	refused_note(refused, trial->pool, trial->budget,
		     (size_t)SEG_MIN_BYTES << class_index);
}

void trial_fill(struct trial *trial, const int *classes, size_t count)
{
	int refused = take_all(trial, classes, count, 0);

	note(trial, &trial->at_once, refused);
	refused = take_all(trial, classes, count, trial->wait_ms);
	note(trial, &trial->waited, refused);
	trial->timed = true;
}

/* --------------------------------------------------------------- release */

static void give(struct trial *trial, size_t i)
{
	if (seg_release(trial->pool, trial->held[i].segment))
		bench_die("a segment could not be released");
	trial->held[i] = trial->held[--trial->count];
}

/* From the end, so that what moves was looked at already. */
void trial_release(struct trial *trial, unsigned percent)
{
	for (size_t i = trial->count; i-- > 0;)
		if (bench_random(&trial->random) % 100 < percent)
			give(trial, i);
}

static uint64_t region_of(struct trial *trial, size_t i)
{
	struct seg_handle handle;

	if (seg_handle_of(trial->pool, trial->held[i].segment, &handle))
		bench_die("a segment has no handle");
	return handle.region;
}

/* Regions are numbered as they are mapped, in the whole trial. */
void trial_keep_one_per_region(struct trial *trial)
{
	uint64_t most = bench_pool_stats(trial->pool).regions_mapped_total + 1;
	bool *kept = calloc(most + 1, sizeof(*kept));

	if (!kept)
		bench_die("out of memory");
	for (size_t i = trial->count; i-- > 0;) {
		uint64_t region = region_of(trial, i);

		if (region > most)
			bench_die("a region's number is out of range");
		if (kept[region])
			give(trial, i);
		kept[region] = true;
	}
	free(kept);
}
