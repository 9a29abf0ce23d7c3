/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * How long a single allocate takes, in the steady state of two threads: the
 * clock is read around each.  What the clock itself takes is in each figure,
 * and printed.  Slow ones are told apart: those in which the thread was not
 * running or had a page fault, by the kernel's own counts, and the rest.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "segbench_work.h"

enum { SAMPLES = 100000, LIVE = 256, THREADS = 2 };
static const double slow_ns = 5000;

struct tail {
	double alloc[SAMPLES];	/* ns */
	unsigned slow, slow_switched, slow_faulted;
	double longest_own;	/* neither switched nor faulted */
	long switches, faults;	/* as they were last seen */
	struct {
		char *segment;
		size_t bytes;
	} slot[LIVE];
};

struct tails {
	double scale;		/* ns of a tick */
	struct tail of[THREADS];
	double all[THREADS * SAMPLES];
};

#if defined(__x86_64__)
#include <x86intrin.h>
/* Nothing before it is still under way, nothing after it has begun. */
static inline double ticks(void)
{
	uint64_t now;

	_mm_lfence();
	now = __rdtsc();
	_mm_lfence();
	return (double)now;
}
#else
static inline double ticks(void)
{
	return now_ns();
}
#endif

static double ns_per_tick(void)
{
	double ns = now_ns(), t = ticks();

	while (now_ns() < ns + 2e6)
		;
	return (now_ns() - ns) / (ticks() - t);
}

static void look(struct tail *tail, bool *switched, bool *faulted)
{
	struct rusage usage;
	long switches, faults;

	getrusage(RUSAGE_THREAD, &usage);
	switches = usage.ru_nivcsw + usage.ru_nvcsw;
	faults = usage.ru_minflt + usage.ru_majflt;
	*switched = switches != tail->switches;
	*faulted = faults != tail->faults;
	tail->switches = switches;
	tail->faults = faults;
}

/* Something that happened since the slow one before counts for this one. */
static void note_slow(struct tail *tail, double ns)
{
	bool switched, faulted;

	look(tail, &switched, &faulted);
	tail->slow++;
	tail->slow_switched += switched;
	tail->slow_faulted += faulted && !switched;
	if (!switched && !faulted && ns > tail->longest_own)
		tail->longest_own = ns;
}

INLINED uint64_t tail_loop(struct worker *w, enum calls calls)
{
	const struct peer p = *peer;
	const double scale = ((struct tails *)w->crew->shared)->scale;
	struct tail *tail = w->own;
	bool ignored[2];

	look(tail, &ignored[0], &ignored[1]);
	for (unsigned i = 0; i < SAMPLES; i++) {
		unsigned at = (unsigned)(draw(&w->random) >> 32) % LIVE;
		size_t bytes = w->sizes[i % SIZES];
		double began, ended;

		put(&p, calls, tail->slot[at].segment, tail->slot[at].bytes);
		began = ticks();
		tail->slot[at].segment = get(&p, calls, bytes);
		ended = ticks();
		tail->slot[at].bytes = bytes;
		tail->alloc[i] = (ended - began) * scale;
		if (tail->alloc[i] > slow_ns)
			note_slow(tail, tail->alloc[i]);
	}
	return SAMPLES;
}
COMPILED(tail)

/*
 * Fills the set, and replaces each a few times: the steady state.  Our own
 * memory has no faults left.
 */
static void prepare_tail(struct worker *w)
{
	struct tail *tail = &((struct tails *)w->crew->shared)->of[w->index];

	w->own = tail;
	memset(tail->alloc, 1, sizeof(tail->alloc));
	for (unsigned i = 0; i < LIVE * 16; i++) {
		unsigned at = i % LIVE;

		if (tail->slot[at].segment)
			peer_put(tail->slot[at].segment, tail->slot[at].bytes);
		tail->slot[at].bytes = w->sizes[i % SIZES];
		tail->slot[at].segment = peer_get(tail->slot[at].bytes);
	}
}

static void finish_tail(struct worker *w)
{
	struct tail *tail = w->own;

	for (unsigned i = 0; i < LIVE; i++)
		peer_put(tail->slot[i].segment, tail->slot[i].bytes);
}

static int compare(const void *a, const void *b)
{
	const double *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static double clock_cost(double scale)
{
	enum { LOOKS = 1001 };
	double ns[LOOKS];

	for (int i = 0; i < LOOKS; i++) {
		double began = ticks();

		ns[i] = (ticks() - began) * scale;
	}
	qsort(ns, LOOKS, sizeof(*ns), compare);
	return ns[LOOKS / 2];
}

static void print_tails(struct tails *tails)
{
	enum { ALL = THREADS * SAMPLES };
	double own = 0, slow = 0, switched = 0, faulted = 0, *all = tails->all;

	for (int t = 0; t < THREADS; t++) {
		struct tail *tail = &tails->of[t];

		memcpy(&all[t * SAMPLES], tail->alloc, sizeof(tail->alloc));
		own = tail->longest_own > own ? tail->longest_own : own;
		slow += tail->slow;
		switched += tail->slow_switched;
		faulted += tail->slow_faulted;
	}
	qsort(all, ALL, sizeof(*all), compare);
	print_figure("tail-clock", MIXED, THREADS, clock_cost(tails->scale));
	print_figure("tail-p50", MIXED, THREADS, all[ALL / 2]);
	print_figure("tail-p99", MIXED, THREADS, all[ALL / 100 * 99]);
	print_figure("tail-p99.9", MIXED, THREADS, all[ALL / 1000 * 999]);
	print_figure("tail-max", MIXED, THREADS, all[ALL - 1]);
	print_figure("tail-max-own", MIXED, THREADS, own);
	print_figure("tail-slow", MIXED, THREADS, slow);
	print_figure("tail-slow-switched", MIXED, THREADS, switched);
	print_figure("tail-slow-faulted", MIXED, THREADS, faulted);
}

void tail_workload(void)
{
	struct tails *tails = calloc(1, sizeof(*tails));
	struct crew crew = { .kind = MIXED, .threads = THREADS,
			     .shared = tails, .prepare = prepare_tail,
			     .run = tail_run, .finish = finish_tail };

	if (!tails)
		die("calloc");
	tails->scale = ns_per_tick();
	crew_once(&crew);
	print_tails(tails);
	free(tails);
}
