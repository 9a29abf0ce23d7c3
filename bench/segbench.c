/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Figures of libseg, beside two peers that need no library: glibc's
 * aligned_alloc()/free(), and a list of free buffers under a mutex.
 *
 *   segbench           prints Markdown; see README.md for how to read it
 *   BENCH_MS           about so long for one measurement (default 10)
 *
 * The measurements of all allocators are interleaved in rounds, so that noise
 * of the machine hits all of them; shown is the median of the rounds.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "seg.h"

enum {
	ROUNDS = 7,
	CALIBRATIONS = 4,
	THREADS_MOST = 8,
	BATCH = 64,
	REGION_BYTES = 64 << 20,
	PAGE_BYTES = 4096,
	LONGEST_PAIRS = 500000,
};

static const int thread_counts[] = { 1, 2, 4, 8 };
enum { COUNTS = sizeof(thread_counts) / sizeof(*thread_counts) };

static double target_ns = 10e6;
static int cores;
static struct seg_budget *budget;
static struct seg_pool *pool;

_Noreturn static void die(const char *what)
{
	fprintf(stderr, "segbench: %s: %s\n", what, strerror(errno));
	exit(1);
}

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static struct seg_pool *make_pool(void)
{
	struct seg_pool_options options = {
		.size = sizeof(options),
		.budget = budget,
		.region_bytes = REGION_BYTES,
		.decay_ms = 60000,	/* nothing is unmapped unless asked */
	};
	struct seg_pool *made;
	int ret = seg_pool_create(&options, &made);

	errno = -ret;
	if (ret)
		die("seg_pool_create");
	return made;
}

/* ---------------------------------------------------------- allocators */

struct peer {
	const char *name;
	void *(*get)(size_t bytes);
	void (*put)(void *buffer, size_t bytes);
};

static void *libseg_get(size_t bytes)
{
	return seg_alloc(pool, bytes);
}

static void libseg_put(void *buffer, size_t bytes)
{
	(void)bytes;
	seg_release(pool, buffer);
}

static void *glibc_get(size_t bytes)
{
	return aligned_alloc(PAGE_BYTES, bytes);
}

static void glibc_put(void *buffer, size_t bytes)
{
	(void)bytes;
	free(buffer);
}

/* What one writes in an afternoon: never gives memory back, has no limit. */
static struct {
	pthread_mutex_t lock;
	void *first;
	size_t bytes;		/* of the buffers in it */
} list = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void *list_get(size_t bytes)
{
	void *buffer;

	pthread_mutex_lock(&list.lock);
	buffer = list.first;
	if (buffer)
		memcpy(&list.first, buffer, sizeof(list.first));
	pthread_mutex_unlock(&list.lock);
	return buffer ? buffer : aligned_alloc(PAGE_BYTES, bytes);
}

static void list_put(void *buffer, size_t bytes)
{
	(void)bytes;
	pthread_mutex_lock(&list.lock);
	memcpy(buffer, &list.first, sizeof(list.first));
	list.first = buffer;
	pthread_mutex_unlock(&list.lock);
}

/* Buffers of one size only. */
static void list_prepare(size_t bytes)
{
	while (list.first && list.bytes != bytes) {
		void *buffer = list.first;

		memcpy(&list.first, buffer, sizeof(list.first));
		free(buffer);
	}
	list.bytes = bytes;
}

static const struct peer peers[] = {
	{ "libseg", libseg_get, libseg_put },
	{ "glibc", glibc_get, glibc_put },
	{ "mutex list", list_get, list_put },
};
enum { PEERS = sizeof(peers) / sizeof(*peers) };

/* ----------------------------------------------- so many pairs, threads */

struct job {
	const struct peer *peer;
	size_t bytes;
	int threads;
	unsigned batch;		/* buffers out at once */
	uint64_t repeats;	/* batches of each thread */
	pthread_barrier_t start;
	_Atomic bool failed;
	struct runner {
		struct job *job;
		pthread_t thread;
		double began, ended;
	} runner[THREADS_MOST];
};

static void run_repeats(struct job *job)
{
	void *out[BATCH];

	for (uint64_t n = 0; n < job->repeats; n++) {
		for (unsigned i = 0; i < job->batch; i++) {
			out[i] = job->peer->get(job->bytes);
			if (!out[i])
				atomic_store(&job->failed, true);
		}
		for (unsigned i = 0; i < job->batch; i++)
			if (out[i])
				job->peer->put(out[i], job->bytes);
	}
}

static void *run_thread(void *arg)
{
	struct runner *runner = arg;

	pthread_barrier_wait(&runner->job->start);
	runner->began = now_ns();
	run_repeats(runner->job);
	runner->ended = now_ns();
	return NULL;
}

/* The wall time from the first start to the last end. */
static double run_job(struct job *job)
{
	double began = 0, ended = 0;
	struct runner *r;

	pthread_barrier_init(&job->start, NULL, (unsigned)job->threads);
	for (r = job->runner; r < job->runner + job->threads; r++) {
		r->job = job;
		if (pthread_create(&r->thread, NULL, run_thread, r))
			die("pthread_create");
	}
	for (r = job->runner; r < job->runner + job->threads; r++) {
		pthread_join(r->thread, NULL);
		if (r == job->runner || r->began < began)
			began = r->began;
		if (r->ended > ended)
			ended = r->ended;
	}
	pthread_barrier_destroy(&job->start);
	if (job->failed)
		die("out of memory");
	return ended - began;
}

/*
 * Enough repeats for the target time; also warms up.  The best of a few runs
 * decides, so that a disturbance does not make the measurement too short.
 */
static void calibrate(struct job *job)
{
	double ns;

	job->repeats = 8;
	while ((ns = run_job(job)) < target_ns / 4)
		job->repeats *= 4;
	for (int i = 0; i < CALIBRATIONS; i++) {
		double again = run_job(job);

		ns = again < ns ? again : ns;
	}
	job->repeats = (uint64_t)((double)job->repeats * target_ns / ns) + 1;
}

/* Time of the cores that the threads can have, for one pair. */
static double core_ns_of_pair(struct job *job)
{
	int busy = job->threads < cores ? job->threads : cores;
	double ns = run_job(job);

	return ns * busy / ((double)job->repeats * job->batch * job->threads);
}

/* -------------------------------------------------------------- tables */

struct figure {
	double rounds[ROUNDS];
};

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double median(struct figure *f)
{
	qsort(f->rounds, ROUNDS, sizeof(*f->rounds), compare);
	return f->rounds[ROUNDS / 2];
}

static void measure(size_t bytes, int threads, unsigned batch,
		    struct figure *figures)
{
	struct job job[PEERS];

	list_prepare(bytes);
	for (int p = 0; p < PEERS; p++) {
		memset(&job[p], 0, sizeof(job[p]));
		job[p].peer = &peers[p];
		job[p].bytes = bytes;
		job[p].threads = threads;
		job[p].batch = batch;
		calibrate(&job[p]);
	}
	for (int round = 0; round < ROUNDS; round++)
		for (int p = 0; p < PEERS; p++)
			figures[p].rounds[round] = core_ns_of_pair(&job[p]);
}

/* libseg with its range, the peers with how much more they take. */
static void print_row(size_t bytes, int threads, struct figure *figures)
{
	double own = median(&figures[0]);

	printf("| %zu KiB | %d | %.1f | %.1f to %.1f |", bytes / 1024, threads,
	       own, figures[0].rounds[0], figures[0].rounds[ROUNDS - 1]);
	for (int p = 1; p < PEERS; p++) {
		double theirs = median(&figures[p]);

		printf(" %.1f | %.2f |", theirs, theirs / own);
	}
	printf("\n");
}

static void print_pairs_head(const char *title)
{
	printf("\n### %s\n\n| size | threads | libseg | min to max |", title);
	for (int p = 1; p < PEERS; p++)
		printf(" %s | ratio |", peers[p].name);
	printf("\n|---|---|---|---|");
	for (int p = 1; p < PEERS; p++)
		printf("---|---|");
	printf("\n");
}

static void bench_pairs(void)
{
	struct figure figures[PEERS];

	print_pairs_head("Allocate and release, core-ns per pair");
	for (int c = 0; c < SEG_CLASSES; c++)
		for (int t = 0; t < COUNTS; t++) {
			size_t bytes = (size_t)SEG_MIN_BYTES << c;

			measure(bytes, thread_counts[t], 1, figures);
			print_row(bytes, thread_counts[t], figures);
		}
}

static void bench_batches(void)
{
	struct figure figures[PEERS];

	print_pairs_head("64 out, then 64 back, core-ns per pair");
	for (int t = 0; t < COUNTS; t++) {
		measure(64 << 10, thread_counts[t], BATCH, figures);
		print_row(64 << 10, thread_counts[t], figures);
	}
}

/* ------------------------------------------------------ map and unmap */

struct map_figures {
	struct figure map, touch, unmap;
};

static void touch_region(void **out, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		for (size_t at = 0; at < SEG_MAX_BYTES; at += PAGE_BYTES)
			((char *)out[i])[at] = 1;
}

/* The first allocation maps the region, the trim gives it back. */
static void map_once(struct seg_pool *p, bool touched, int round,
		     struct map_figures *f)
{
	enum { SLICES = REGION_BYTES / SEG_MAX_BYTES };
	void *out[SLICES];
	unsigned count = 0;
	double start = now_ns();

	out[count++] = seg_alloc(p, SEG_MAX_BYTES);
	f->map.rounds[round] = (now_ns() - start) / 1000;
	while (count < SLICES)
		out[count++] = seg_alloc(p, SEG_MAX_BYTES);
	for (unsigned i = 0; i < count; i++)
		if (!out[i])
			die("seg_alloc");
	start = now_ns();
	if (touched)
		touch_region(out, count);
	f->touch.rounds[round] = (now_ns() - start) / 1000;
	while (count)
		seg_release(p, out[--count]);
	start = now_ns();
	seg_pool_trim(p, NULL);
	f->unmap.rounds[round] = (now_ns() - start) / 1000;
}

static void print_map(const char *name, struct figure *f)
{
	double middle = median(f);

	printf("| %s | %.1f | %.1f to %.1f |\n", name, middle, f->rounds[0],
	       f->rounds[ROUNDS - 1]);
}

static void bench_map(void)
{
	struct map_figures untouched, touched;
	struct seg_pool *p = make_pool();

	for (int round = 0; round < ROUNDS; round++) {
		map_once(p, false, round, &untouched);
		map_once(p, true, round, &touched);
	}
	printf("\n### A region of 64 MiB, microseconds\n\n"
	       "| what | median | min to max |\n|---|---|---|\n");
	print_map("allocation that maps it", &untouched.map);
	print_map("trim that unmaps it, untouched", &untouched.unmap);
	print_map("first touch of all its pages", &touched.touch);
	print_map("trim that unmaps it, touched", &touched.unmap);
	if (seg_pool_destroy(p))
		die("seg_pool_destroy");
}

/* ------------------------------------------------------------- longest */

/* On its own: reading the clock is as long as a pair. */
static void *find_longest(void *arg)
{
	double *longest = arg;

	for (unsigned i = 0; i < LONGEST_PAIRS; i++) {
		size_t bytes = (size_t)SEG_MIN_BYTES << i % SEG_CLASSES;
		double start = now_ns();
		void *segment = seg_alloc(pool, bytes);
		double ns = now_ns() - start;

		*longest = ns > *longest ? ns : *longest;
		seg_release(pool, segment);
	}
	return NULL;
}

static void bench_longest(void)
{
	printf("\n### The longest single allocate, microseconds\n\n"
	       "| threads | longest of %d each |\n|---|---|\n", LONGEST_PAIRS);
	for (int t = 0; t < COUNTS; t++) {
		double longest[THREADS_MOST] = { 0 }, most = 0;
		pthread_t thread[THREADS_MOST];
		int n = thread_counts[t];

		for (int i = 0; i < n; i++)
			if (pthread_create(&thread[i], NULL, find_longest,
					   &longest[i]))
				die("pthread_create");
		for (int i = 0; i < n; i++) {
			pthread_join(thread[i], NULL);
			most = longest[i] > most ? longest[i] : most;
		}
		printf("| %d | %.1f |\n", n, most / 1000);
	}
}

static void read_environment(void)
{
	const char *text = getenv("BENCH_MS");
	char *end;

	if (!text || !*text)
		return;
	target_ns = strtod(text, &end) * 1e6;
	if (*end || !(target_ns > 0 && target_ns <= 1e12)) {
		fprintf(stderr, "segbench: bad value of BENCH_MS: '%s'\n",
			text);
		exit(2);
	}
}

int main(void)
{
	struct seg_budget_options options = {
		.size = sizeof(options),
		.limit_bytes = (uint64_t)1 << 30,
	};
	int ret = seg_budget_create(&options, &budget);

	errno = -ret;
	if (ret)
		die("seg_budget_create");
	read_environment();
	setvbuf(stdout, NULL, _IOLBF, 0);
	cores = (int)sysconf(_SC_NPROCESSORS_ONLN);
	printf("## libseg %s on %d cores\n", seg_version(), cores);
	pool = make_pool();
	bench_pairs();
	bench_batches();
	bench_map();
	bench_longest();
	list_prepare(0);
	if (!seg_pool_is_valid(pool) || seg_pool_destroy(pool) ||
	    seg_budget_destroy(budget)) {
		fprintf(stderr, "segbench: the pool is not valid at the end\n");
		return 1;
	}
	return 0;
}
