/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * From one thread to 1,024 that all have a stash; and thousands that come and
 * go.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "scale.h"

enum {
	THREADS_MOST = 1024,
	PAIRS = 4096,		/* of each thread, in a round */
	SHORT_LIVED = 4000,
	SEGMENT_BYTES = 65536,
};

static const unsigned counts[] = { 1, 8, 64, 256, THREADS_MOST };
static const char *const columns[] = { "1", "8", "64", "256", "1,024" };
enum { COLUMNS = sizeof(counts) / sizeof(*counts) };

static struct {
	struct seg_budget *budget;
	struct seg_pool *pool;
	pthread_barrier_t barrier;	/* begin and end of a round */
	bool over;
	pthread_t thread[THREADS_MOST];
	double ns[THREADS_MOST];
} t;

static void pairs(void *ctx, unsigned n)
{
	(void)ctx;
	for (unsigned i = 0; i < n; i++) {
		void *segment = seg_alloc(t.pool, SEG_MIN_BYTES);

		if (!segment || seg_release(t.pool, segment))
			die("seg_alloc() or seg_release()");
	}
}

/* -------------------------------------------------------------- all at once */

static void *crew(void *arg)
{
	double *ns = arg;

	pairs(NULL, 2);
	for (;;) {
		pthread_barrier_wait(&t.barrier);
		if (t.over)
			return NULL;
		*ns = least_ns(*ns, pairs, NULL, PAIRS);
		pthread_barrier_wait(&t.barrier);
	}
}

static void start(unsigned count, void *(*main)(void *))
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 << 10);
	for (unsigned i = 0; i < count; i++)
		if (pthread_create(&t.thread[i], &small, main, &t.ns[i]))
			die("pthread_create()");
	pthread_attr_destroy(&small);
}

static void join(unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		pthread_join(t.thread[i], NULL);
}

static void trim(void *ctx, unsigned n)
{
	(void)ctx;
	for (unsigned i = 0; i < n; i++)
		if (seg_pool_trim(t.pool, NULL))
			die("seg_pool_trim()");
}

struct figures {
	double mean, alone, steps, full, empty, metadata, resident;
};

static struct figures crew_of(unsigned count)
{
	struct figures f = { 0 };
	uint64_t metadata = stats_of(t.pool).metadata_bytes;
	uint64_t resident = resident_bytes();

	t.over = false;
	for (unsigned i = 0; i < count; i++)
		t.ns[i] = 0;
	pthread_barrier_init(&t.barrier, NULL, count + 1);
	start(count, crew);
	for (int round = 0; round < ROUNDS; round++) {
		pthread_barrier_wait(&t.barrier);
		pthread_barrier_wait(&t.barrier);
	}
	for (unsigned i = 0; i < count; i++)
		f.mean += t.ns[i] / count;
	f.metadata = (double)(stats_of(t.pool).metadata_bytes - metadata);
	f.resident = (double)(resident_bytes() - resident);
	for (int round = 0; round < ROUNDS; round++)
		f.alone = least_ns(f.alone, pairs, NULL, PAIRS);
	f.steps = steps_of(pairs, NULL, COUNTED);
	f.full = least_ns(0, trim, NULL, 1);
	for (int round = 0; round < ROUNDS; round++)
		f.empty = least_ns(f.empty, trim, NULL, 1);
	t.over = true;
	pthread_barrier_wait(&t.barrier);
	join(count);
	pthread_barrier_destroy(&t.barrier);
	return f;
}

static void table(const struct figures *f)
{
	double row[6][COLUMNS];

	for (unsigned i = 0; i < COLUMNS; i++) {
		row[0][i] = f[i].mean;
		row[1][i] = f[i].alone;
		row[2][i] = f[i].steps;
		row[3][i] = f[i].full / (counts[i] + 1);
		row[4][i] = f[i].empty / (counts[i] + 1);
	}
	table_begin("threads with a stash", columns, COLUMNS, 0);
	table_row("pair, by all of them", "ns", row[0], true);
	table_row("pair, by another one alone", "ns", row[1], true);
	if (row[2][0] > 0)
		table_row("", "instructions", row[2], true);
	table_row("trim, for each stash", "ns", row[3], false);
	table_row("the same, all empty", "ns", row[4], false);
}

/* -------------------------------------------------------------- short-lived */

/* All of them are there at the same time. */
static void *short_life(void *arg)
{
	void *segment = seg_alloc(t.pool, SEGMENT_BYTES);

	(void)arg;
	if (!segment || seg_release(t.pool, segment))
		die("seg_alloc() or seg_release()");
	pthread_barrier_wait(&t.barrier);
	return NULL;
}

static void *idle_life(void *arg)
{
	pthread_barrier_wait(&t.barrier);
	return arg;
}

static double ns_of_lives(void *(*life)(void *), unsigned count, unsigned times)
{
	uint64_t begin = process_ns();

	for (unsigned i = 0; i < times; i++) {
		start(count, life);
		join(count);
	}
	return (double)(process_ns() - begin) / times / count;
}

/* One after another, then a thousand at a time. */
static void lives(unsigned count)
{
	unsigned times = SHORT_LIVED / count;
	uint64_t metadata, resident;
	double none, ours;

	pthread_barrier_init(&t.barrier, NULL, count);
	ns_of_lives(short_life, count, 2);
	none = ns_of_lives(idle_life, count, times);
	metadata = stats_of(t.pool).metadata_bytes;
	resident = resident_bytes();
	ours = ns_of_lives(short_life, count, times);
	printf("| %u, %u at a time | %.1f | %.1f | %+lld | %+lld | %llu | "
	       "%s |\n", times * count, count, none / 1000, ours / 1000,
	       (long long)(stats_of(t.pool).metadata_bytes - metadata),
	       (long long)(resident_bytes() - resident),
	       (unsigned long long)stats_of(t.pool).cached,
	       verdict((double)(stats_of(t.pool).metadata_bytes - metadata),
		       0));
	pthread_barrier_destroy(&t.barrier);
}

/* The last column has that many more than the one before. */
static void print_stashes(const struct figures *f)
{
	double more = THREADS_MOST - counts[COLUMNS - 2];

	printf("\nFor each thread more: %.0f bytes of metadata_bytes, %.0f "
	       "bytes resident, its stack included.\n", f->metadata / more,
	       f->resident / more);
}

void scale_threads(void)
{
	struct figures f[COLUMNS];

	t.budget = new_budget(UINT64_C(4) << 30);
	t.pool = new_pool(t.budget, 0);
	pairs(NULL, 1);
	for (unsigned i = 0; i < COLUMNS; i++)
		f[i] = crew_of(counts[i]);
	table(f);
	print_stashes(&f[COLUMNS - 1]);
	end_pool(t.pool, t.budget);
	t.budget = new_budget(UINT64_C(4) << 30);
	t.pool = new_pool(t.budget, 0);
	printf("\n| threads that allocate once | us of an idle one | us | "
	       "metadata_bytes | resident | cached | |\n"
	       "|---|--:|--:|--:|--:|--:|---|\n");
	lives(1);
	lives(1000);
	end_pool(t.pool, t.budget);
}
